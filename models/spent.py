"""What one partition has spent on what since somebody last asked: for metrics, which are read once in a while.

Kept as the combined rows of batches (models.windows.Leaves), some 2 us a batch; names and plain numbers are made when
they are asked for. Not state: a successor counts what it applied itself. Called by models.engine.
"""

from collections.abc import Callable

import numpy as np

from models.asked_once import AskedOnce
from models.combos import Combos
from models.windows import Leaves
from schemas.columns import KINDS

MAX_ROWS = 1 << 16
"""Waiting: then they are added up, so there are never more than these and one row for each combo and kind."""
_KINDS = 16
Bounded = Callable[[str, str, str], tuple[str, str, str]]
"""Names of a team, a model and a provider for metrics, which have room for a bounded number of each."""


class Spent:
    def __init__(self):
        self._numbers: dict[tuple[str, str, str], int] = {}
        """Of the names that were given, in order."""
        self._series_of = AskedOnce()
        self._clear()

    def _clear(self) -> None:
        self._keys: list[np.ndarray] = []
        self._sums: list[np.ndarray] = []
        self._waiting = 0

    def add(self, leaves: Leaves) -> None:
        """Take a batch in; copies what it needs."""
        n = leaves.count
        if n:
            self._keys.append(leaves.combo[:n].astype(np.int64) * _KINDS + leaves.kind[:n])
            self._sums.append(leaves.sums[:n].copy())
            self._waiting += n
            if self._waiting > MAX_ROWS:
                self._add_up()

    def _add_up(self) -> None:
        keys, sums = _summed(np.concatenate(self._keys), np.concatenate(self._sums))
        self._keys, self._sums, self._waiting = [keys], [sums], 0

    def take(self, combos: Combos, bounded: Bounded) -> list[tuple[str, str, str, str, list[int]]]:
        """(team, model, provider, kind, counters) since the last call, by what ``bounded`` says of the names."""
        if not self._keys:
            return []
        keys, sums = np.concatenate(self._keys), np.concatenate(self._sums)
        self._clear()
        series = self._series_of.of(combos.names, keys // _KINDS, lambda names: self._number(bounded, names))
        keys, sums = _summed(series * _KINDS + keys % _KINDS, sums)
        given = list(self._numbers)
        return [
            (*given[key // _KINDS], KINDS[key % _KINDS], counters)
            for key, counters in zip(keys.tolist(), sums.tolist(), strict=True)
        ]

    def _number(self, bounded: Bounded, names: tuple[str, ...]) -> int:
        """Of what the names of a combo count as."""
        team, _, _, model, provider = names
        return self._numbers.setdefault(bounded(team, model, provider), len(self._numbers))


def _summed(keys: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct ``keys`` int64[k], ascending, and the sums int64[k, 8] of the rows of each."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[starts], np.add.reduceat(sums[order], starts, axis=0)
