"""What one partition has spent on what since somebody last asked: for metrics, which are read once in a while.

Kept as the combined rows of batches (models.windows.Leaves), some 2 us a batch; names and plain numbers are made when
they are asked for. Not state: a successor counts what it applied itself. Called by models.engine.
"""

from collections.abc import Callable

import numpy as np

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
        self._names: list[tuple[str, str, str]] = []
        self._numbers: dict[tuple[str, str, str], int] = {}
        self._series_of = np.empty(0, np.int64)
        """Place in ``_names`` of each combo."""
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
        keys, sums = _summed(self._series(keys // _KINDS, combos, bounded) * _KINDS + keys % _KINDS, sums)
        return [
            (*self._names[key // _KINDS], KINDS[key % _KINDS], counters)
            for key, counters in zip(keys.tolist(), sums.tolist(), strict=True)
        ]

    def _series(self, combo: np.ndarray, combos: Combos, bounded: Bounded) -> np.ndarray:
        """int64[k] places in ``_names``; ``bounded`` is asked once for a combo, so that a million of them are cheap."""
        first = len(self._series_of)
        if len(combos) > first:
            numbers = []
            for team, _, _, model, provider in combos.names[first:]:
                names = bounded(team, model, provider)
                if names not in self._numbers:
                    self._numbers[names] = len(self._names)
                    self._names.append(names)
                numbers.append(self._numbers[names])
            self._series_of = np.concatenate([self._series_of, np.array(numbers, np.int64)])
        return self._series_of[combo]


def _summed(keys: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct ``keys`` int64[k], ascending, and the sums int64[k, 8] of the rows of each."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[starts], np.add.reduceat(sums[order], starts, axis=0)
