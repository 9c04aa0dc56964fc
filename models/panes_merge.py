"""Windows merged over source partitions, from cumulative partials.

Guarantee: for each (scope, window, source partition) the greatest (next_offset, counters) wins, so repeats,
reordering and replays change nothing; a window's totals are the sum over its sources, kept up to date by
differences. Each change gives the window a higher revision; a window is emitted once more as final when the
watermark passes its end, and again, final and with a higher revision, for every late amendment.

Contract with the source: it sends cumulative counters of a pane for as long as it accepts events for it. A window
whose end lies its retention behind the watermark is forgotten here, and a row that comes for such a window later is
dropped (``expired_rows`` counts them): starting it anew from one source would publish a window smaller than the one
published before. A row for a window that is kept is never dropped, however late.

Saved by rolling deltas (models.rolling) of windows, of their sources and of scopes, each a table of its own.

Cost: see ``tenfold bench stages``; some 250 bytes a window and 200 for each of its sources. Called by models.rollup
only.
"""

import heapq
from collections.abc import Iterator

import numpy as np

from models.asked_once import AskedOnce
from models.config import HOUR_MS, WindowConfig
from models.counters import COUNTERS
from models.hashtable import Index, remove_rows
from models.merge_kernels import link, lookup, merge_rows, window_keys
from models.partials import PaneColumns, PartialsError
from models.rolling import due_of_log
from models.scopes import SCOPE_KINDS, Scope
from models.spend import ChangedWindows
from models.table import Table

_NEVER = -1


class MergedPanes:
    """All windows of one rollup partition."""

    def __init__(self, config: WindowConfig):
        self.config = config
        self.scopes: list[Scope] = []
        self.expired_rows = 0
        self._spoken = AskedOnce()
        """By number: whether windows of the scope are published."""
        self._numbers: dict[str, int] = {}
        """Key of a scope -> its place in ``scopes``."""
        self._buckets: dict[tuple[int, int], list[np.ndarray]] = {}
        """(start ms, size ms) -> the rows of its windows, in one or more pieces."""
        self._ends: list[tuple[int, int, int]] = []
        self._expiries: list[tuple[int, int, int]] = []
        self._dirty: list[np.ndarray] = []
        self._closed_ms = _NEVER
        self._expired_ms = _NEVER
        counters = (np.int64, (len(COUNTERS),))
        one = (np.int64, ())
        self._rows = Table(
            {"scope": one, "start": one, "size": one, "totals": counters, "revision": one, "dirty": (np.bool_, ())},
            {"key": (np.uint64, ()), "first": (np.int32, ())},
        )
        """Windows. ``first``: one more than the slot of one of its sources."""
        self._slots = Table(
            {"row": one, "source": one, "version": one, "counters": counters},
            {"key": (np.uint64, ()), "next": (np.int32, ())},
        )
        """Sources of windows. ``next``: one more than the slot of another source of the same window."""
        self._row_index, self._slot_index = Index(), Index()
        self._saved_scopes = 0
        self._loaded_scopes: dict[int, list[str]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def merge(self, source: int, next_offset: int, panes: PaneColumns) -> tuple[np.ndarray, np.ndarray]:
        """Take panes of one source in; raises PartialsError, with nothing taken, for what is no key of a scope.

        Returns (rows int64[k], delta int64[k, 8]): what was added to which window; see ``where``.
        """
        numbers = np.array([self.number(key) for key in panes.scopes], np.int64)
        n = len(panes)
        rows, slots = self._rows, self._slots
        rows.reserve(n)
        slots.reserve(n)
        self._row_index.reserve(len(rows) + n, rows["key"], rows.used)
        self._slot_index.reserve(len(slots) + n, slots["key"], slots.used)
        changed, delta = np.empty(n, np.int64), np.empty((n, len(COUNTERS)), np.int64)
        new, dirty, counts = np.empty(n, np.int64), np.empty(n, np.int64), np.zeros(4, np.int64)
        merge_rows(
            source,
            next_offset,
            numbers,
            panes.scope,
            panes.start_ms,
            panes.size_ms,
            panes.counters,
            self._expired_ms,
            self._retention_ms(0),
            self._retention_ms(HOUR_MS),
            (self._row_index.keys, self._row_index.rows),
            tuple(rows.all.values()),
            (rows.live, rows.changed, rows.free_rows, rows.state),
            (self._slot_index.keys, self._slot_index.rows),
            tuple(slots.all.values()),
            (slots.live, slots.changed, slots.free_rows, slots.state),
            changed,
            delta,
            new,
            dirty,
            counts,
        )
        published, fresh, marked, expired = counts.tolist()
        self.expired_rows += expired
        self._dirty.append(dirty[:marked])
        self._file(new[:fresh])
        return changed[:published], delta[:published]

    def _file(self, rows: np.ndarray) -> None:
        """Put new rows where windows of their time are found."""
        while len(rows):
            start, size = int(self._rows["start"][rows[0]]), int(self._rows["size"][rows[0]])
            same = (self._rows["start"][rows] == start) & (self._rows["size"][rows] == size)
            if (start, size) not in self._buckets:
                self._buckets[start, size] = []
                heapq.heappush(self._expiries, (start + size + self._retention_ms(size), start, size))
                if start + size > self._closed_ms:
                    heapq.heappush(self._ends, (start + size, start, size))
            self._buckets[start, size].append(rows[same])
            rows = rows[~same]

    def _mark(self, rows: np.ndarray) -> None:
        rows = rows[~self._rows["dirty"][rows]]
        self._rows["dirty"][rows] = True
        self._rows.changed[rows] = True
        self._dirty.append(rows)

    def number(self, key: str) -> int:
        """The scope's number: its place in ``scopes``; raises PartialsError for what is no key of a scope."""
        number = self._numbers.get(key)
        if number is None:
            try:
                scope = Scope.parse(key)
            except ValueError as error:
                raise PartialsError(str(error)) from error
            number = self._numbers[key] = len(self.scopes)
            self.scopes.append(scope)
        return number

    def where(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(scope numbers, window starts, window sizes) of rows returned by ``merge``: int64[k] each."""
        return self._rows["scope"][rows], self._rows["start"][rows], self._rows["size"][rows]

    def window(self, start_ms: int, size_ms: int) -> tuple[np.ndarray, np.ndarray]:
        """(scope numbers int64[k], totals int64[k, 8]) of the windows that begin at ``start_ms``."""
        rows = self._rows_of(start_ms, size_ms)
        return self._rows["scope"][rows], self._rows["totals"][rows]

    def _rows_of(self, start_ms: int, size_ms: int) -> np.ndarray:
        pieces = self._buckets.get((start_ms, size_ms))
        if not pieces:
            return np.empty(0, np.int64)
        if len(pieces) > 1:
            pieces[:] = [np.concatenate(pieces)]
        return pieces[0]

    def any(self, start_ms: int, size_ms: int) -> bool:
        """Whether any scope has a window that begins at ``start_ms``."""
        return (start_ms, size_ms) in self._buckets

    def history(self, scope: Scope) -> Iterator[tuple[int, int, list[int]]]:
        """(start ms, size ms, counters) of every window of one scope."""
        number = self._numbers.get(scope.key)
        if number is None or not self._buckets:
            return
        windows = np.array(list(self._buckets), np.int64)
        rows = lookup(number, windows, self._row_index.keys, self._row_index.rows)
        for (start, size), row in zip(windows.tolist(), rows.tolist(), strict=True):
            if row >= 0:
                yield start, size, self._rows["totals"][row].tolist()

    def starts(self, size_ms: int) -> list[int]:
        """Where the windows of one size begin, ascending."""
        return sorted(start for start, size in self._buckets if size == size_ms)

    def take_changed(self, watermark_ms: int) -> ChangedWindows:
        """The windows of SCOPE_KINDS that changed or became final, ordered by time."""
        while self._ends and self._ends[0][0] <= watermark_ms:
            _, start, size = heapq.heappop(self._ends)
            self._mark(self._rows_of(start, size))
        self._closed_ms = max(self._closed_ms, watermark_ms)
        rows = np.concatenate(self._dirty) if self._dirty else np.empty(0, np.int64)
        self._dirty = []
        table = self._rows
        table["dirty"][rows] = False
        table.changed[rows] = True
        table["revision"][rows] += 1
        spoken = self._spoken.of(self.scopes, table["scope"][rows], lambda scope: scope.kind in SCOPE_KINDS)
        rows = rows[spoken == 1]
        rows = rows[np.lexsort((table["scope"][rows], table["size"][rows], table["start"][rows]))]
        return ChangedWindows(
            self.scopes, *self.where(rows), table["totals"][rows], table["revision"][rows], watermark_ms
        )

    def expire(self, watermark_ms: int) -> int:
        """Forget windows whose retention is over; returns how many. Call after ``take_changed``."""
        self._expired_ms = max(self._expired_ms, watermark_ms)
        gone = 0
        while self._expiries and self._expiries[0][0] <= watermark_ms:
            _, start, size = heapq.heappop(self._expiries)
            rows = self._rows_of(start, size)
            del self._buckets[start, size]
            gone += len(rows)
            slots = [self._rows["first"][rows] - 1]
            while len(slots[-1]):
                slots.append(self._slots["next"][slots[-1]] - 1)
                slots[-1] = slots[-1][slots[-1] >= 0]
            for index, table, numbers in (
                (self._row_index, self._rows, rows),
                (self._slot_index, self._slots, np.concatenate(slots).astype(np.int64)),
            ):
                remove_rows(index.keys, index.rows, table["key"], numbers)
                table.free(numbers)
        return gone

    def _retention_ms(self, size_ms: int) -> int:
        return self.config.minute_retention_ms if size_ms < HOUR_MS else self.config.hour_retention_ms

    def take_delta(self, slice_number: int) -> dict:
        """Copies of the windows, their sources and the scopes that are due (models.rolling), and plain values."""
        scopes = due_of_log(self._saved_scopes, len(self.scopes), slice_number)
        self._saved_scopes = len(self.scopes)
        return {
            "rows": self._rows.take_delta(slice_number),
            "slots": self._slots.take_delta(slice_number),
            "scope_rows": scopes,
            "scopes": [list(self.scopes[number]) for number in scopes.tolist()],
            "closed_ms": self._closed_ms,
            "expired_ms": self._expired_ms,
            "expired_rows": self.expired_rows,
        }

    def load_delta(self, delta: dict) -> None:
        """Take one delta over the state so far; ``rebuild`` after the last."""
        self._rows.load_delta(delta["rows"])
        self._slots.load_delta(delta["slots"])
        self._loaded_scopes.update(zip(delta["scope_rows"].tolist(), delta["scopes"], strict=True))
        self._closed_ms, self._expired_ms = delta["closed_ms"], delta["expired_ms"]
        self.expired_rows = delta["expired_rows"]

    def rebuild(self) -> None:
        """Index what the deltas brought; what was not yet published is published again."""
        for number in range(len(self._loaded_scopes)):
            self.number(Scope(*self._loaded_scopes[number]).key)
        self._loaded_scopes = {}
        self._saved_scopes = len(self.scopes)
        rows, slots = self._rows, self._slots
        live, live_slots = rows.rebuild(), slots.rebuild()
        window_keys(live, rows["scope"], rows["start"], rows["size"], rows["key"])
        link(live_slots, slots["row"], slots["source"], rows["key"], rows["first"], slots["next"], slots["key"])
        for index, table in ((self._row_index, rows), (self._slot_index, slots)):
            index.rebuild(len(table), table["key"], table.used)
        order = np.lexsort((rows["size"][live], rows["start"][live]))
        self._file_all(live[order])
        self._dirty = [live[rows["dirty"][live]]]

    def _file_all(self, rows: np.ndarray) -> None:
        """``_file`` for many windows, ordered by time."""
        start, size = self._rows["start"][rows], self._rows["size"][rows]
        cuts = np.flatnonzero((np.diff(start) != 0) | (np.diff(size) != 0)) + 1
        for piece in np.split(rows, cuts):
            self._file(piece)
