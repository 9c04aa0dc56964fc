"""Event-time panes and the watermark of one input partition.

Guarantee: each counted event is added exactly once to the minute pane and the hour pane of its event time, in
each of the five scopes of its combo. Counters are cumulative, so publishing a pane again is harmless. A batch
is first combined per (combo, kind, minute), then those few rows are folded into ten panes each, so an event
costs one probe, not ten.

Bounds: minute panes are kept ``minute_retention_ms`` behind the watermark, hour panes ``hour_retention_ms``.
An event whose minute pane is gone still counts in its hour pane; one whose hour pane is gone is rejected as
too_old before it gets here. Saved by rolling deltas (models.rolling): a row is a pane until it is freed.
Called by models.engine only.
"""

import numpy as np
from numba import njit

from models.combos import SKIPPED, Combos
from models.config import HOUR_MS, MINUTE_MS, WindowConfig
from models.counters import COUNTERS
from models.hashtable import EMPTY, Index, find, grown, mix, put, remove_rows
from models.rolling import due

NO_WATERMARK = -1
SIZES_MS = np.array([MINUTE_MS, HOUR_MS], np.int64)


class Watermark:
    """Newest believable event time minus the allowed lateness; never goes back."""

    __slots__ = ("config", "value_ms")

    def __init__(self, config: WindowConfig):
        self.config = config
        self.value_ms = NO_WATERMARK

    def advance(self, event_time_ms: np.ndarray, now_ms: int) -> None:
        """Take a batch of event times in; those beyond now + max_future_skew_ms are not believed."""
        believable = event_time_ms[event_time_ms <= now_ms + self.config.max_future_skew_ms]
        if len(believable):
            self.value_ms = max(self.value_ms, int(believable.max()) - self.config.lateness_ms)


@njit(cache=True, nogil=True)
def combine(combo, kind, event_time_ms, counters, keys, rows, leaf_of, leaf_kind, leaf_minute, leaf_sums):
    """Sum counters int64[n, 8] per (combo, kind, minute) into leaves; returns how many there are.

    keys, rows: an empty index with room for n; leaf_* have room for n rows, their sums are overwritten.
    """
    leaves = 0
    last_key = np.uint64(0)
    leaf = np.int32(0)
    for i in range(len(combo)):
        if combo[i] == SKIPPED:
            continue
        minute = event_time_ms[i] // MINUTE_MS
        key = mix(np.uint64(combo[i]) * np.uint64(16) + np.uint64(kind[i]), np.uint64(minute))
        if key != last_key:
            last_key = key
            leaf = find(keys, rows, key)
            if leaf < 0:
                leaf = np.int32(leaves)
                leaves += 1
                put(keys, rows, key, leaf)
                leaf_of[leaf] = combo[i]
                leaf_kind[leaf] = kind[i]
                leaf_minute[leaf] = minute * MINUTE_MS
                leaf_sums[leaf, :] = 0
        for c in range(counters.shape[1]):
            leaf_sums[leaf, c] += counters[i, c]
    return leaves


@njit(cache=True, nogil=True)
def fold(
    leaves,
    oldest_minute_ms,
    leaf_of,
    leaf_minute,
    leaf_sums,
    scope,
    sizes,
    keys,
    rows,
    pane_key,
    pane_scope,
    pane_start,
    pane_size,
    sums,
    dirty,
    dirty_rows,
    changed,
    free,
    counts,
):
    """Add leaves to the panes of their scopes. counts int64[3] = (rows ever used, dirty panes, free rows), updated.

    The caller has reserved 2 * 5 * leaves more panes.
    """
    for leaf in range(leaves):
        for s in range(scope.shape[1]):
            number = scope[leaf_of[leaf], s]
            for size in range(len(sizes)):
                if size == 0 and leaf_minute[leaf] < oldest_minute_ms:
                    continue
                start = leaf_minute[leaf] - leaf_minute[leaf] % sizes[size]
                key = mix(np.uint64(number) * np.uint64(2) + np.uint64(size), np.uint64(start))
                row = find(keys, rows, key)
                if row < 0:
                    if counts[2] > 0:
                        counts[2] -= 1
                        row = free[counts[2]]
                    else:
                        row = np.int32(counts[0])
                        counts[0] += 1
                    put(keys, rows, key, row)
                    pane_key[row] = key
                    pane_scope[row] = number
                    pane_start[row] = start
                    pane_size[row] = sizes[size]
                    sums[row, :] = 0
                    dirty[row] = False
                for c in range(leaf_sums.shape[1]):
                    sums[row, c] += leaf_sums[leaf, c]
                changed[row] = True
                if not dirty[row]:
                    dirty[row] = True
                    dirty_rows[counts[1]] = row
                    counts[1] += 1


class Leaves:
    """The combined rows of the last batch, for metrics; valid until the next one."""

    __slots__ = ("combo", "count", "kind", "minute_ms", "sums")

    def __init__(self):
        self.count = 0
        self._allocate(1024)

    def _allocate(self, n: int) -> None:
        self.combo = np.empty(n, np.int32)
        self.kind = np.empty(n, np.int8)
        self.minute_ms = np.empty(n, np.int64)
        self.sums = np.empty((n, len(COUNTERS)), np.int64)

    def reserve(self, n: int) -> None:
        if n > len(self.combo):
            self._allocate(2 * n)


class Panes:
    """The panes of one input partition, one row per (scope, start, size); freed rows are used again."""

    __slots__ = (
        "_changed",
        "_counts",
        "_dirty",
        "_dirty_rows",
        "_expired_minute",
        "_free",
        "_index",
        "_key",
        "_leaf_index",
        "_scope",
        "_size",
        "_start",
        "config",
        "leaves",
        "sums",
    )

    _SAVED = ("_key", "_scope", "_start", "_size", "sums")

    def __init__(self, config: WindowConfig):
        self.config = config
        self.leaves = Leaves()
        self._leaf_index = Index()
        self._index = Index()
        self._counts = np.zeros(3, np.int64)
        self._key = np.zeros(1024, np.uint64)
        self._scope = np.zeros(1024, np.int32)
        self._start = np.zeros(1024, np.int64)
        self._size = np.zeros(1024, np.int64)
        self._dirty = np.zeros(1024, np.bool_)
        self._dirty_rows = np.zeros(1024, np.int32)
        self._changed = np.zeros(1024, np.bool_)
        self._free = np.zeros(1024, np.int32)
        self._expired_minute = NO_WATERMARK
        self.sums = np.zeros((1024, len(COUNTERS)), np.int64)

    def __len__(self) -> int:
        return int(self._counts[0] - self._counts[2])

    def live(self) -> np.ndarray:
        """Rows int64[k] of all panes."""
        return np.flatnonzero(self._key[: self._counts[0]] != EMPTY)

    def add(
        self,
        combos: Combos,
        combo: np.ndarray,
        kind: np.ndarray,
        event_time_ms: np.ndarray,
        counters: np.ndarray,
        watermark_ms: int,
    ) -> None:
        """Count one batch: combo int32[n] (SKIPPED rows are left out), counters int64[n, 8]."""
        n = len(combo)
        leaves = self.leaves
        leaves.reserve(n)
        capacity = len(self._leaf_index.keys)
        while capacity < 2 * n:
            capacity *= 2
        self._leaf_index.reset(capacity, self._key, 0)
        leaves.count = combine(
            combo,
            kind,
            event_time_ms,
            counters,
            self._leaf_index.keys,
            self._leaf_index.rows,
            leaves.combo,
            leaves.kind,
            leaves.minute_ms,
            leaves.sums,
        )
        self._reserve(leaves.count * combos.scope.shape[1] * len(SIZES_MS))
        oldest_minute_ms = watermark_ms - self.config.minute_retention_ms
        fold(
            leaves.count,
            oldest_minute_ms,
            leaves.combo,
            leaves.minute_ms,
            leaves.sums,
            combos.scope,
            SIZES_MS,
            self._index.keys,
            self._index.rows,
            self._key,
            self._scope,
            self._start,
            self._size,
            self.sums,
            self._dirty,
            self._dirty_rows,
            self._changed,
            self._free,
            self._counts,
        )

    def _reserve(self, more: int) -> None:
        used = int(self._counts[0])
        self._grow(max(used, len(self) + more))
        self._index.reserve(len(self) + more, self._key, used)

    def _grow(self, rows: int) -> None:
        if rows > len(self._key):
            for name in (*self._SAVED, "_dirty", "_dirty_rows", "_changed", "_free"):
                setattr(self, name, grown(getattr(self, name), rows))

    def take_dirty(self) -> np.ndarray:
        """Rows int32[k] changed since the last call."""
        rows = self._dirty_rows[: self._counts[1]].copy()
        self._dirty[rows] = False
        self._counts[1] = 0
        return rows

    def columns(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(scope number int32[k], start ms, size ms int64[k], counters int64[k, 8]) of ``rows``: copies."""
        return self._scope[rows], self._start[rows], self._size[rows], self.sums[rows]

    def expire(self, watermark_ms: int) -> int:
        """Drop panes past their retention that are published; looks once a minute. Returns how many went."""
        minute = watermark_ms // MINUTE_MS
        if minute == self._expired_minute:
            return 0
        used, dirty = int(self._counts[0]), int(self._counts[1])
        if not dirty:
            self._expired_minute = minute
        size, start = self._size[:used], self._start[:used]
        kept_ms = np.where(size == MINUTE_MS, self.config.minute_retention_ms, self.config.hour_retention_ms)
        old = (start + size + kept_ms <= watermark_ms) & ~self._dirty[:used] & (self._key[:used] != EMPTY)
        gone = np.flatnonzero(old).astype(np.int32)
        if len(gone):
            remove_rows(self._index.keys, self._index.rows, self._key, gone)
            self._changed[gone] = True
            free = int(self._counts[2])
            self._free[free : free + len(gone)] = gone
            self._counts[2] += len(gone)
        return len(gone)

    def take_delta(self, slice_number: int) -> dict:
        """Copies of the rows that are due (models.rolling), which rows are free, and which are not published yet."""
        used = int(self._counts[0])
        rows = due(self._changed, used, slice_number)
        live = self._key[rows] != EMPTY
        freed, rows = rows[~live], rows[live]
        return {
            "used": used,
            "freed": freed.astype(np.int32),
            "rows": rows.astype(np.int32),
            **{name.removeprefix("_"): getattr(self, name).take(rows, axis=0) for name in self._SAVED},
            "dirty": self._dirty_rows[: self._counts[1]].copy(),
        }

    def load_delta(self, delta: dict) -> None:
        """Take one delta over the state so far; ``rebuild`` after the last."""
        used = delta["used"]
        self._grow(used)
        self._counts[0] = used
        self._key[delta["freed"]] = EMPTY
        for name in self._SAVED:
            getattr(self, name)[delta["rows"]] = delta[name.removeprefix("_")]
        dirty = delta["dirty"]
        self._counts[1] = len(dirty)
        self._dirty_rows[: len(dirty)] = dirty

    def rebuild(self) -> None:
        """Index what the deltas brought; what was not yet published is published again."""
        used = int(self._counts[0])
        self._dirty[self._dirty_rows[: self._counts[1]]] = True
        free = np.flatnonzero(self._key[:used] == EMPTY)
        self._free[: len(free)] = free
        self._counts[2] = len(free)
        self._index.rebuild(len(self), self._key, used)
