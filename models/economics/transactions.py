"""How many transactions began in each hour, counted exactly, from the ids that source partitions report.

A transaction counts once, in the hour of its earliest event, whatever sessions, partitions and days it goes through;
an earlier event that comes late moves it. So the transactions of several days add up, and cost over transactions is
what one costs. Usage reports (type, hour, 64-bit hash of the id), once or more often: a repeat changes nothing, nor
does the order. The chance that two of ten million ids share a hash is 3e-6.

Bounds: a transaction is forgotten ``remember_ms`` after its last event, what comes for it then begins another one; and
at most MAX_TRANSACTIONS are remembered, of which the longest silent go first. Counts stay. Some 40 bytes each. Saved by
rolling deltas (models.rolling). Called by models.economics only.
"""

from collections.abc import Iterable

import numpy as np
from numba import njit

from models.config import DAY_MS, HOUR_MS
from models.hashtable import Index, find, mix, put, remove_rows
from models.table import Table

MAX_TRANSACTIONS = 4_000_000
REMEMBER_MS = 31 * DAY_MS


@njit(cache=True, nogil=True)
def _merge(type_number, hour, id_hash, keys, rows, key, type_of, first, last, live, changed, free, state, moved):
    """Take reports in; the table's arrays are updated.

    moved int64[2 n, 3]: (type, hour, +1 or -1) of each change of a count. Returns how many there are.
    """
    moves = 0
    for i in range(len(hour)):
        wanted = mix(id_hash[i], np.uint64(type_number[i]))
        row = find(keys, rows, wanted)
        if row < 0:
            if state[1] > 0:
                state[1] -= 1
                row = free[state[1]]
            else:
                row = np.int32(state[0])
                state[0] += 1
            put(keys, rows, wanted, row)
            key[row] = wanted
            live[row] = True
            type_of[row] = type_number[i]
            first[row] = last[row] = hour[i]
        elif hour[i] < first[row]:
            moved[moves, 0], moved[moves, 1], moved[moves, 2] = type_of[row], first[row], -1
            moves += 1
            first[row] = hour[i]
        else:
            if hour[i] > last[row]:
                last[row] = hour[i]
                changed[row] = True
            continue
        changed[row] = True
        moved[moves, 0], moved[moves, 1], moved[moves, 2] = type_of[row], hour[i], 1
        moves += 1
    return moves


class Transactions:
    """All types of one rollup partition; hours are whole hours since 1970."""

    def __init__(self, limit: int = MAX_TRANSACTIONS, remember_ms: int = REMEMBER_MS):
        self.limit, self.remember_ms = limit, remember_ms
        self._types: dict[str, int] = {}
        self._count: dict[tuple[int, int], int] = {}
        """(type number, hour) -> transactions that began."""
        self._index = Index()
        self._table = Table(
            {"key": (np.uint64, ()), "type": (np.int32, ()), "first": (np.int32, ()), "last": (np.int32, ())}, {}
        )

    def __len__(self) -> int:
        return len(self._table)

    def merge(self, types: list[str], type_of: np.ndarray, hours: np.ndarray, ids: np.ndarray) -> set[int]:
        """Take reports in: type_of int[n] places in ``types``, hours int[n], ids uint64[n].

        Returns the hours (starts, ms) whose count has changed.
        """
        n = len(ids)
        if not n:
            return set()
        numbers = np.array([self._types.setdefault(name, len(self._types)) for name in types], np.int32)[type_of]
        table = self._table
        table.reserve(n)
        self._index.reserve(len(self) + n, table["key"], table.used)
        moved = np.empty((2 * n, 3), np.int64)
        moves = _merge(
            numbers,
            hours,
            ids,
            self._index.keys,
            self._index.rows,
            *table.all.values(),
            table.live,
            table.changed,
            table.free_rows,
            table.state,
            moved,
        )
        places, at = np.unique(moved[:moves, :2], axis=0, return_inverse=True)
        sums = np.bincount(at.ravel(), moved[:moves, 2], len(places)).astype(np.int64)
        for (number, hour), change in zip(places.tolist(), sums.tolist(), strict=True):
            self._count[number, hour] = self._count.get((number, hour), 0) + change
        if len(self) > self.limit:
            self._forget_oldest()
        return {hour * HOUR_MS for (_, hour), change in zip(places.tolist(), sums.tolist(), strict=True) if change}

    def began(self, name: str, starts: Iterable[int]) -> int:
        """Transactions of a type that began in the hours with these starts (ms)."""
        number = self._types.get(name)
        return sum(self._count.get((number, start // HOUR_MS), 0) for start in starts)

    def expire(self, watermark_ms: int, oldest_ms: int) -> None:
        """Forget transactions that have been silent for long, and counts of hours before ``oldest_ms``."""
        self._forget((watermark_ms - self.remember_ms) // HOUR_MS)
        self._count = {place: count for place, count in self._count.items() if place[1] * HOUR_MS >= oldest_ms}

    def _forget_oldest(self) -> None:
        last = self._table["last"][self._table.live]
        self._forget(np.partition(last, self.limit // 4)[self.limit // 4] + 1)

    def _forget(self, before_hour: int) -> None:
        """The transactions whose last event was before an hour."""
        table = self._table
        rows = np.flatnonzero(table.live & (table["last"] < before_hour)).astype(np.int32)
        if len(rows):
            remove_rows(self._index.keys, self._index.rows, table["key"], rows)
            table.free(rows)

    def take_delta(self, slice_number: int) -> dict:
        """Copies of the transactions that are due (models.rolling), and all counts."""
        return {
            "table": self._table.take_delta(slice_number),
            "types": list(self._types),
            "counts": [[*place, count] for place, count in self._count.items()],
        }

    def load_delta(self, delta: dict) -> None:
        """Take one delta over the state so far; ``rebuild`` after the last."""
        self._table.load_delta(delta["table"])
        self._types = {name: number for number, name in enumerate(delta["types"])}
        self._count = {(number, hour): count for number, hour, count in delta["counts"]}

    def rebuild(self) -> None:
        """Index what the deltas brought."""
        table = self._table
        table.rebuild()
        self._index.rebuild(len(self), table["key"], table.used)
