"""Named columns that grow together, with rows that are freed and used again; saved by rolling deltas (models.rolling).

Whoever changes a row sets ``changed``. Kernels take and use the arrays themselves: ``state`` int64[2] is (rows ever
used, free rows), ``free_rows`` a stack, ``live`` says which rows are in use. Used by models.panes_merge and
models.economics.transactions.
"""

import numpy as np

from models.hashtable import grown
from models.rolling import due

Columns = dict[str, tuple[type, tuple[int, ...]]]


class Table:
    """``saved`` columns are in deltas; ``derived`` ones are made anew by whoever restores. By name: dtype, shape."""

    def __init__(self, saved: Columns, derived: Columns):
        self._saved = tuple(saved)
        self.all = {name: np.zeros((64, *shape), dtype) for name, (dtype, shape) in (saved | derived).items()}
        self.live, self.changed = np.zeros(64, np.bool_), np.zeros(64, np.bool_)
        self.free_rows = np.zeros(64, np.int32)
        self.state = np.zeros(2, np.int64)

    def __len__(self) -> int:
        return int(self.state[0] - self.state[1])

    def __getitem__(self, name: str) -> np.ndarray:
        return self.all[name]

    @property
    def used(self) -> int:
        """Rows ever used."""
        return int(self.state[0])

    def reserve(self, more: int) -> None:
        """Room for ``more`` rows, before a kernel takes them."""
        self._grow(self.used + max(0, more - int(self.state[1])))

    def _grow(self, rows: int) -> None:
        if rows > len(self.live):
            self.all = {name: grown(column, rows) for name, column in self.all.items()}
            self.live, self.changed = grown(self.live, rows), grown(self.changed, rows)
            self.free_rows = grown(self.free_rows, rows)

    def free(self, rows: np.ndarray) -> None:
        for column in self.all.values():
            column[rows] = 0
        self.live[rows] = False
        self.changed[rows] = True
        count = int(self.state[1])
        self.free_rows[count : count + len(rows)] = rows
        self.state[1] += len(rows)

    def take_delta(self, slice_number: int) -> dict:
        """Copies of the rows that are due."""
        rows = due(self.changed, self.used, slice_number)
        return {
            "used": self.used,
            "rows": rows.astype(np.int32),
            "live": self.live[rows],
            "columns": {name: self.all[name].take(rows, axis=0) for name in self._saved},
        }

    def load_delta(self, delta: dict) -> None:
        """Take one delta over the state so far; ``rebuild`` after the last."""
        self._grow(delta["used"])
        self.state[0] = delta["used"]
        self.live[delta["rows"]] = delta["live"]
        for name in self._saved:
            self.all[name][delta["rows"]] = delta["columns"][name]

    def rebuild(self) -> np.ndarray:
        """The live rows int64[k], ascending."""
        free = np.flatnonzero(~self.live[: self.used])
        self.free_rows[: len(free)] = free
        self.state[1] = len(free)
        return np.flatnonzero(self.live[: self.used])
