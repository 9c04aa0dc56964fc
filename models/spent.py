"""What one partition has spent on what since somebody last asked: for metrics, which are read once in a while.

Kept as the combined rows of batches (models.windows.Leaves), some 2 us a batch; names and plain numbers are made when
they are asked for. Not state: a successor counts what it applied itself. Called by models.engine.
"""

import numpy as np

from models.combos import Combos
from models.counters import COUNTERS
from models.windows import Leaves
from schemas.columns import KINDS

MAX_ROWS = 1 << 16
"""Waiting: then they are added up, so there are never more than these and one row for each combo and kind."""
_KINDS = 16


class Spent:
    def __init__(self):
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
        keys, place = np.unique(np.concatenate(self._keys), return_inverse=True)
        sums = np.zeros((len(keys), len(COUNTERS)), np.int64)
        np.add.at(sums, place, np.concatenate(self._sums))
        self._keys, self._sums, self._waiting = [keys], [sums], 0

    def take(self, combos: Combos) -> list[tuple[str, str, str, str, list[int]]]:
        """(team, model, provider, kind, counters) since the last call."""
        if not self._keys:
            return []
        self._add_up()
        (keys,), (sums,) = self._keys, self._sums
        self._clear()
        rows = []
        for key, counters in zip(keys.tolist(), sums.tolist(), strict=True):
            team, _, _, model, provider = combos.names[key // _KINDS]
            rows.append((team, model, provider, KINDS[key % _KINDS], counters))
        return rows
