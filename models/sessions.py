"""Live sessions of one input partition: what each has cost so far, and which have just become outliers.

Guarantee: each counted event with a session id is added to exactly one run of its session. A run ends when the
watermark is ``idle_ms`` past its last event, or when an event comes more than ``idle_ms`` after it: usage after
that begins another run. So where a run ends depends on event times alone, not on when anybody looked.

The kernel compares each session with the limits of its peer group after every event and reports crossings
as candidates, in event order, so a session is flagged while it still runs: its cost against the threshold for
outliers; at call 1, 2, 4, ... its cost against that of its peers at the same call; its number of calls; and for
watched sessions the signatures of a runaway agent (models.watch). It never learns: baselines are fed with ended runs
only (models.baselines).

Costs 190 bytes per live session at a million of them: 64 counters, 24 times, 75 identity, flags, inline id (longer
ids live in a dict) and cost by call, and 19 to 38 of index. Saved by rolling deltas (models.rolling): a row is a
session until it is freed.
"""

import math
from dataclasses import dataclass

import numpy as np

from models.config import RunawayConfig, SessionConfig
from models.counters import COUNTERS
from models.hashtable import EMPTY, Index, grown, zeros
from models.rolling import due
from models.session_kernels import (
    BIN_LN_WIDTH,
    COST_EDGES,
    INLINE_ID_BYTES,
    PROJECTED,
    RUNAWAY,
    STEPS,
    apply_events,
    end_idle,
)
from models.watch import WIDTH, Watch
from schemas.columns import Columns


@dataclass(slots=True)
class Candidates:
    """Sessions that crossed a limit in a batch, in event order, as they were at that event; length k.

    event int32 (row of the batch), flags int16[k, 4] (level and signals before it and after it), combo
    int32, times int64[k, 3], sums int64[k, 8], watch int64[k, WIDTH] (all 0: not watched), watch_ids
    uint8[k, EXAMPLES, 1 + EXAMPLE_BYTES].
    """

    session_id: list[str]
    event: np.ndarray
    flags: np.ndarray
    combo: np.ndarray
    times: np.ndarray
    sums: np.ndarray
    watch: np.ndarray
    watch_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.session_id)


@dataclass(slots=True)
class EndedRuns:
    """Runs that ended, copied out; arrays of length k. path: uint8[k, STEPS], up to the number of events; watch and
    watch_ids as in Candidates, for the runs that were flagged (``watched`` int64[k]: row there, or -1)."""

    session_id: list[str]
    combo: np.ndarray
    sums: np.ndarray
    times: np.ndarray
    level: np.ndarray
    signals: np.ndarray
    path: np.ndarray
    watched: np.ndarray
    watch: np.ndarray
    watch_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.session_id)


class Sessions:
    """Struct-of-arrays of live sessions; freed rows are used again."""

    __slots__ = (
        "_changed",
        "_index",
        "_long_ids",
        "_no_runs",
        "_rules",
        "_state",
        "combo",
        "config",
        "id_length",
        "id_text",
        "key",
        "level",
        "path",
        "reported",
        "signals",
        "slot",
        "sums",
        "times",
        "watch",
    )

    _SAVED = (
        *("key", "sums", "times", "combo", "level", "signals", "reported", "path", "slot"),
        *("id_text", "id_length"),
    )

    def __init__(self, config: SessionConfig, runaway: RunawayConfig):
        self.config = config
        self._rules = np.array(
            [
                runaway.min_cost_nano_usd,
                runaway.repeats,
                runaway.growing_calls,
                runaway.short_output_tokens,
                round(64 * (1 - math.exp(-runaway.agents / 64))),
                math.ceil(math.log(runaway.acceleration) / BIN_LN_WIDTH),
            ],
            np.int64,
        )
        rows = 1024
        self.key = np.zeros(rows, np.uint64)
        self.sums = np.zeros((rows, len(COUNTERS)), np.int64)
        self.times = np.zeros((rows, 3), np.int64)
        self.combo = np.zeros(rows, np.int32)
        self.level = np.zeros(rows, np.int8)
        self.signals = np.zeros(rows, np.uint8)
        self.reported = np.zeros(rows, np.float32)
        self.path = np.zeros((rows, STEPS), np.uint8)
        self.slot = np.zeros(rows, np.uint16)
        self.id_text = np.zeros((rows, INLINE_ID_BYTES), np.uint8)
        self.id_length = np.zeros(rows, np.uint16)
        self._changed = np.zeros(rows, np.bool_)
        self._state = np.zeros(7, np.int64)
        self._index = Index()
        self._long_ids: dict[int, str] = {}
        self.watch = Watch()
        self._no_runs = self._copied(np.empty(0, np.int32), np.empty(0, np.int64))

    def __len__(self) -> int:
        """Live sessions."""
        return int(self._state[0] - self._state[1])

    @property
    def changed(self) -> int:
        """Rows with new content since the last delta."""
        return int(self._state[5])

    def apply(
        self,
        columns: Columns,
        combo: np.ndarray,
        counters: np.ndarray,
        combo_has_model: np.ndarray,
        group_of: np.ndarray,
        limits: np.ndarray,
    ) -> tuple[Candidates, EndedRuns]:
        """Count a batch; combo int32[n], counters int64[n, 8], limits int64[groups, LIMITS] (models.baselines)."""
        n = len(combo)
        self._reserve(n)
        ended = np.empty(n, np.int32)
        long_ids = np.empty((n, 2), np.int32)
        cand_row, cand_event = np.empty(n, np.int32), np.empty(n, np.int32)
        cand_flags, cand_combo = np.empty((n, 4), np.int16), np.empty(n, np.int32)
        cand_times, cand_sums = np.empty((n, 3), np.int64), np.empty((n, len(COUNTERS)), np.int64)
        cand_watch = np.empty((n, WIDTH), np.int64)
        cand_ids = np.empty((n, *self.watch.ids.shape[1:]), np.uint8)
        apply_events(
            combo,
            columns.kind,
            columns.hash,
            columns.start,
            columns.length,
            columns.payload,
            columns.tags_start,
            columns.tags_length,
            columns.event_time_ms,
            counters,
            combo_has_model,
            group_of,
            limits,
            self._rules,
            COST_EDGES,
            self.config.idle_ms,
            self._index.keys,
            self._index.rows,
            self.key,
            self.sums,
            self.times,
            self.combo,
            self.level,
            self.signals,
            self.reported,
            self.path,
            self.id_text,
            self.id_length,
            self.slot,
            self._changed,
            self._state,
            self.watch.slots,
            self.watch.ids,
            self.watch.state,
            self.watch.changed,
            ended,
            long_ids,
            cand_row,
            cand_event,
            cand_flags,
            cand_combo,
            cand_times,
            cand_sums,
            cand_watch,
            cand_ids,
        )
        ended_count, long_count, candidates = (int(v) for v in self._state[2:5])
        for row, event in long_ids[:long_count].tolist():
            self._long_ids[row] = columns.text(event, "session_id")
        found = Candidates(
            # Read now: a run that ended later in the batch gives its row away.
            [self.session_id(row) for row in cand_row[:candidates].tolist()],
            cand_event[:candidates],
            cand_flags[:candidates],
            cand_combo[:candidates],
            cand_times[:candidates],
            cand_sums[:candidates],
            cand_watch[:candidates],
            cand_ids[:candidates],
        )
        return found, self._take_out(ended[:ended_count])

    def end_idle(self, watermark_ms: int) -> EndedRuns:
        """End the runs that no timely event can join any more."""
        used = int(self._state[0])
        ended = zeros(used, np.int32)
        count = end_idle(
            watermark_ms, self.config.idle_ms, self._index.keys, self._index.rows, self.key, self.times, used, ended
        )
        return self._take_out(ended[:count])

    def session_id(self, row: int) -> str:
        length = int(self.id_length[row])
        if length > INLINE_ID_BYTES:
            return self._long_ids[row]
        return bytes(self.id_text[row, :length]).decode()

    def _take_out(self, rows: np.ndarray) -> EndedRuns:
        """Copy ended runs out and free their rows, which the index no longer points to."""
        if not len(rows):
            return self._no_runs
        slots = self.slot[rows].astype(np.int64)
        runs = self._copied(rows, slots)
        self.watch.free(slots[slots > 0])
        for row in rows.tolist():
            self._long_ids.pop(row, None)
        self.key[rows] = EMPTY
        self.slot[rows] = 0
        self._changed[rows] = True
        self._link_free(rows)
        return runs

    def _copied(self, rows: np.ndarray, slots: np.ndarray) -> EndedRuns:
        flagged = (self.level[rows] > 0) | (self.signals[rows] & (PROJECTED | RUNAWAY) > 0)
        told = np.flatnonzero(flagged & (slots > 0))
        watched = np.full(len(rows), -1)
        watched[told] = np.arange(len(told))
        return EndedRuns(
            session_id=[self.session_id(row) for row in rows.tolist()],
            combo=self.combo[rows],
            sums=self.sums[rows],
            times=self.times[rows],
            level=self.level[rows],
            signals=self.signals[rows],
            path=self.path[rows],
            watched=watched,
            watch=self.watch.slots[slots[told] - 1],
            watch_ids=self.watch.ids[slots[told] - 1],
        )

    def _link_free(self, rows: np.ndarray) -> None:
        """Put rows on the list of free ones: each names the next in ``combo``."""
        if len(rows):
            self.combo[rows[1:]] = rows[:-1]
            self.combo[rows[0]] = self._state[6]
            self._state[6] = rows[-1]
            self._state[1] += len(rows)

    def _reserve(self, more: int) -> None:
        rows = int(self._state[0]) + more
        if rows - int(self._state[1]) > len(self.key):
            self._grow(rows)
        self._index.reserve(len(self) + more, self.key, int(self._state[0]))
        self.watch.reserve(more)

    def _grow(self, rows: int) -> None:
        for name in (*self._SAVED, "_changed"):
            setattr(self, name, grown(getattr(self, name), rows))

    def take_delta(self, slice_number: int) -> dict:
        """Copies of the rows that are due (models.rolling); their columns, and which rows are free."""
        used = int(self._state[0])
        rows = due(self._changed, used, slice_number)
        self._state[5] = 0
        live = self.key[rows] != EMPTY
        freed, rows = rows[~live], rows[live]
        delta = {name: getattr(self, name).take(rows, axis=0) for name in self._SAVED}
        long = rows[delta["id_length"] > INLINE_ID_BYTES].tolist()
        return {
            "used": used,
            "freed": freed.astype(np.int32),
            "rows": rows.astype(np.int32),
            **delta,
            "long_ids": [[row, self._long_ids[row]] for row in long],
            "watch": self.watch.take_delta(slice_number),
        }

    def load_delta(self, delta: dict) -> None:
        """Take one delta over the state so far; ``rebuild`` after the last."""
        self._grow(delta["used"])
        self._state[0] = delta["used"]
        self.key[delta["freed"]] = EMPTY
        self.slot[delta["freed"]] = 0
        for name in self._SAVED:
            getattr(self, name)[delta["rows"]] = delta[name]
        self._long_ids.update({row: text for row, text in delta["long_ids"]})
        self.watch.load_delta(delta["watch"])

    def rebuild(self) -> None:
        """Index what the deltas brought; the rows are as they were when the last one was taken."""
        used = int(self._state[0])
        self._state[1] = 0
        self._link_free(np.flatnonzero(self.key[:used] == EMPTY))
        self._index.rebuild(len(self), self.key, used)
        self._long_ids = {
            row: text
            for row, text in self._long_ids.items()
            if self.key[row] != EMPTY and self.id_length[row] > INLINE_ID_BYTES
        }
