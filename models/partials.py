"""Panes as columns: how cumulative counters travel from usage to rollup.

A flush has a row for each window of each scope that changed, a thousand for a hundred teams. As dicts they cost more
than counting the events did; as columns a row costs some 0.2 us to write and to read, and a scope, named once for all
its rows, another 0.2.

``PaneColumns`` is what a row is made of; ``packed`` and ``unpacked`` turn it into the ``panes`` of a Partials record
and back. Written by models.engine, cut to size by streams.agents.usage, read by models.rollup.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from models.counters import COUNTERS
from models.scopes import Scope


class PartialsError(ValueError):
    """What claims to be partials is not."""


@dataclass(frozen=True, slots=True)
class PaneColumns:
    """n panes of k scopes."""

    scopes: list[str]
    """Keys of scopes, each once."""
    scope: np.ndarray
    """int32[n], places in ``scopes``."""
    start_ms: np.ndarray
    """int64[n]"""
    size_ms: np.ndarray
    """int64[n]"""
    counters: np.ndarray
    """int64[n, 8]"""

    def __len__(self) -> int:
        return len(self.scope)

    def take(self, rows: np.ndarray | slice) -> "PaneColumns":
        """Some of the rows, and the scopes that they need."""
        used, scope = np.unique(self.scope[rows], return_inverse=True)
        return PaneColumns(
            [self.scopes[place] for place in used.tolist()],
            scope.astype(np.int32),
            self.start_ms[rows],
            self.size_ms[rows],
            self.counters[rows],
        )


def joined(one: PaneColumns, other: PaneColumns) -> PaneColumns:
    """The panes of both, which have no scope in common."""
    return PaneColumns(
        one.scopes + other.scopes,
        np.concatenate([one.scope, other.scope + np.int32(len(one.scopes))]),
        np.concatenate([one.start_ms, other.start_ms]),
        np.concatenate([one.size_ms, other.size_ms]),
        np.concatenate([one.counters, other.counters]),
    )


def packed(panes: PaneColumns) -> dict:
    """The record that schemas/partials.avsc calls PaneColumns."""
    return {
        "scopes": panes.scopes,
        "scope": panes.scope.astype("<i4", copy=False).tobytes(),
        "window_start": panes.start_ms.astype("<i8", copy=False).tobytes(),
        "window_ms": panes.size_ms.astype("<i8", copy=False).tobytes(),
        "counters": panes.counters.astype("<i8", copy=False).tobytes(),
    }


def unpacked(record: dict) -> PaneColumns:
    """The columns of ``packed``, which keep its bytes and cannot be written to.

    Raises PartialsError if they do not fit together.
    """
    scope = np.frombuffer(record["scope"], "<i4")
    start = np.frombuffer(record["window_start"], "<i8")
    size = np.frombuffer(record["window_ms"], "<i8")
    counters = np.frombuffer(record["counters"], "<i8")
    n = len(scope)
    if (len(start), len(size), len(counters)) != (n, n, len(COUNTERS) * n):
        raise PartialsError("the columns of the panes differ in length")
    if n and not 0 <= scope.min() <= scope.max() < len(record["scopes"]):
        raise PartialsError("a pane refers to a scope that is not there")
    if n and size.min() <= 0:
        raise PartialsError("a pane has no length")
    return PaneColumns(record["scopes"], scope, start, size, counters.reshape(n, len(COUNTERS)))


def columns(rows: Iterable[tuple[Scope, int, int, Iterable[int]]]) -> PaneColumns:
    """From (scope, start ms, size ms, counters) of each pane: for who has few of them."""
    rows = list(rows)
    places: dict[str, int] = {}
    scope = [places.setdefault(scope.key, len(places)) for scope, *_ in rows]
    return PaneColumns(
        list(places),
        np.array(scope, np.int32),
        np.array([start for _, start, _, _ in rows], np.int64),
        np.array([size for _, _, size, _ in rows], np.int64),
        np.array([list(sums) for *_, sums in rows], np.int64).reshape(len(rows), len(COUNTERS)),
    )
