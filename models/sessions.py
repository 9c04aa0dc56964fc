"""Live sessions of one input partition: what each has cost so far, and which have just become outliers.

Guarantee: each counted event with a session id is added to exactly one run of its session. A run ends when the
watermark is ``idle_ms`` past its last event, or when an event comes more than ``idle_ms`` after it: usage after
that begins another run. So where a run ends depends on event times alone, not on when anybody looked.

The kernel compares each session with the thresholds of its peer group after every event and reports crossings
as candidates, in event order, so a session is flagged while it still runs. It never learns: baselines are fed
with ended runs only (models.baselines).

Costs about 190 bytes per live session: 64 counters, 24 times, 58 identity and flags, 41 inline id (longer ids
live in a dict), and the index. Saved by rolling deltas (models.rolling): a row is a session until it is freed.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from models.config import SessionConfig
from models.counters import COST, COUNTERS
from models.hashtable import AHEAD, EMPTY, Index, find, grown, prefetch, prefetch_slot, put, remove
from models.rolling import due
from schemas.columns import Columns, string_index

INLINE_ID_BYTES = 40
"""Ids up to this length (a UUID is 36) are stored inline."""

WARNING, CRITICAL = 1, 2
NEVER = np.iinfo(np.int64).max
"""Threshold of a group whose sessions cannot be flagged."""

START, FIRST, LAST = 0, 1, 2
_SESSION = string_index("session_id")
_MODEL = string_index("model")


@njit(cache=True, nogil=True)
def apply_events(
    combo,
    hashes,
    id_start,
    id_length,
    payload,
    event_time_ms,
    counters,
    combo_has_model,
    group_of,
    warn,
    page,
    idle_ms,
    keys,
    rows,
    row_key,
    sums,
    times,
    row_combo,
    level,
    revision,
    reported,
    id_text,
    id_length_of,
    changed,
    free,
    state,
    ended,
    long_ids,
    cand_row,
    cand_event,
    cand_level,
    cand_revision,
    cand_combo,
    cand_times,
    cand_sums,
):
    """Add a batch to its sessions.

    combo int32[n] (negative: leave out), hashes uint64[n, 16], id_start/id_length int32[n], payload uint8,
    counters int64[n, 8]; group_of int32[combos], warn/page int64[groups] nano-USD.
    state int64[6]: rows ever used, free rows, ended runs, long ids, candidates (these three are reset), rows changed
    since the last delta.
    ended int32[], long_ids int32[n, 2] (row, event), cand_* room for n. The caller has reserved n more rows.
    """
    state[2] = 0
    state[3] = 0
    state[4] = 0
    n = len(combo)
    for i in range(n):
        # Slots first; once they are here, what the rows they lead to hold: lines come in while others are worked on.
        if i + 2 * AHEAD < n:
            prefetch_slot(keys, hashes[i + 2 * AHEAD, _SESSION])
            prefetch_slot(rows, hashes[i + 2 * AHEAD, _SESSION])
        if i + AHEAD < n:
            row = find(keys, rows, hashes[i + AHEAD, _SESSION])
            prefetch(sums, row)
            prefetch(sums, row + 1)  # A row may lie across two lines.
            prefetch(times, row)
            prefetch(row_combo, row)
            prefetch(level, row)
            prefetch(reported, row)
            prefetch(changed, row)
        if combo[i] < 0:
            continue
        key = hashes[i, _SESSION]
        if key == EMPTY:
            continue
        time = event_time_ms[i]
        row = find(keys, rows, key)
        if row >= 0 and time > times[row, LAST] + idle_ms:
            ended[state[2]] = row
            state[2] += 1
            row = np.int32(-1)
        if row < 0:
            if state[1] > 0:
                state[1] -= 1
                row = free[state[1]]
            else:
                row = np.int32(state[0])
                state[0] += 1
            put(keys, rows, key, row)
            row_key[row] = key
            sums[row, :] = 0
            times[row, START] = time
            times[row, FIRST] = time
            times[row, LAST] = time
            row_combo[row] = combo[i]
            level[row] = 0
            revision[row] = 0
            reported[row] = 0
            length = id_length[i]
            id_length_of[row] = length
            if length <= INLINE_ID_BYTES:
                for b in range(length):
                    id_text[row, b] = payload[id_start[i] + b]
            else:
                long_ids[state[3], 0] = row
                long_ids[state[3], 1] = i
                state[3] += 1
        elif not combo_has_model[row_combo[row]] and combo_has_model[combo[i]]:
            row_combo[row] = combo[i]
        if not changed[row]:
            changed[row] = True
            state[5] += 1
        for c in range(len(COUNTERS)):
            sums[row, c] += counters[i, c]
        if time < times[row, FIRST]:
            times[row, FIRST] = time
        if time > times[row, LAST]:
            times[row, LAST] = time
        cost = sums[row, COST]
        group = group_of[row_combo[row]]
        reached = level[row]
        if cost >= page[group]:
            reached = np.int8(CRITICAL)
        elif cost >= warn[group] and reached < WARNING:
            reached = np.int8(WARNING)
        grown = level[row] > 0 and cost >= 2 * reported[row] and cost >= warn[group]
        if reached > level[row] or grown:
            level[row] = reached
            revision[row] += 1
            reported[row] = cost
            at = state[4]
            cand_row[at] = row
            cand_event[at] = i
            cand_level[at] = reached
            cand_revision[at] = revision[row]
            cand_combo[at] = row_combo[row]
            cand_times[at, :] = times[row, :]
            cand_sums[at, :] = sums[row, :]
            state[4] += 1


@njit(cache=True, nogil=True)
def end_idle(watermark_ms, idle_ms, keys, rows, row_key, times, used, ended):
    """Unlink the sessions whose last event is idle_ms behind the watermark; their rows into ``ended`` int32[]."""
    count = 0
    for row in range(used):
        if row_key[row] != EMPTY and times[row, LAST] + idle_ms < watermark_ms:
            if find(keys, rows, row_key[row]) == row:
                remove(keys, rows, row_key[row])
            ended[count] = row
            count += 1
    return count


@dataclass(slots=True)
class Candidates:
    """Sessions that crossed a threshold in a batch, in event order, as they were at that event; length k.

    event int32 (row of the batch), level int8, revision int16, combo int32, times int64[k, 3], sums int64[k, 8].
    """

    session_id: list[str]
    event: np.ndarray
    level: np.ndarray
    revision: np.ndarray
    combo: np.ndarray
    times: np.ndarray
    sums: np.ndarray

    def __len__(self) -> int:
        return len(self.session_id)


@dataclass(slots=True)
class EndedRuns:
    """Runs that ended, copied out; arrays of length k."""

    session_id: list[str]
    combo: np.ndarray
    sums: np.ndarray
    times: np.ndarray
    level: np.ndarray
    revision: np.ndarray

    def __len__(self) -> int:
        return len(self.session_id)


class Sessions:
    """Struct-of-arrays of live sessions; freed rows are used again."""

    __slots__ = (
        "_changed",
        "_free",
        "_index",
        "_long_ids",
        "_state",
        "combo",
        "config",
        "id_length",
        "id_text",
        "key",
        "level",
        "reported",
        "revision",
        "sums",
        "times",
    )

    _SAVED = ("key", "sums", "times", "combo", "level", "revision", "reported", "id_text", "id_length")

    def __init__(self, config: SessionConfig):
        self.config = config
        rows = 1024
        self.key = np.zeros(rows, np.uint64)
        self.sums = np.zeros((rows, len(COUNTERS)), np.int64)
        self.times = np.zeros((rows, 3), np.int64)
        self.combo = np.zeros(rows, np.int32)
        self.level = np.zeros(rows, np.int8)
        self.revision = np.zeros(rows, np.int16)
        self.reported = np.zeros(rows, np.int64)
        self.id_text = np.zeros((rows, INLINE_ID_BYTES), np.uint8)
        self.id_length = np.zeros(rows, np.int32)
        self._changed = np.zeros(rows, np.bool_)
        self._free = np.zeros(rows, np.int32)
        self._state = np.zeros(6, np.int64)
        self._index = Index()
        self._long_ids: dict[int, str] = {}

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
        warn: np.ndarray,
        page: np.ndarray,
    ) -> tuple[Candidates, EndedRuns]:
        """Count a batch; combo int32[n], counters int64[n, 8], thresholds int64[groups] nano-USD."""
        n = len(combo)
        self._reserve(n)
        ended = np.empty(n, np.int32)
        long_ids = np.empty((n, 2), np.int32)
        cand_row, cand_event = np.empty(n, np.int32), np.empty(n, np.int32)
        cand_level, cand_revision, cand_combo = np.empty(n, np.int8), np.empty(n, np.int16), np.empty(n, np.int32)
        cand_times, cand_sums = np.empty((n, 3), np.int64), np.empty((n, len(COUNTERS)), np.int64)
        apply_events(
            combo,
            columns.hash,
            columns.start[:, _SESSION],
            columns.length[:, _SESSION],
            columns.payload,
            columns.event_time_ms,
            counters,
            combo_has_model,
            group_of,
            warn,
            page,
            self.config.idle_ms,
            self._index.keys,
            self._index.rows,
            self.key,
            self.sums,
            self.times,
            self.combo,
            self.level,
            self.revision,
            self.reported,
            self.id_text,
            self.id_length,
            self._changed,
            self._free,
            self._state,
            ended,
            long_ids,
            cand_row,
            cand_event,
            cand_level,
            cand_revision,
            cand_combo,
            cand_times,
            cand_sums,
        )
        ended_count, long_count, candidates = (int(v) for v in self._state[2:5])
        for row, event in long_ids[:long_count].tolist():
            self._long_ids[row] = columns.text(event, "session_id")
        found = Candidates(
            # Read now: a run that ended later in the batch gives its row away.
            [self.session_id(row) for row in cand_row[:candidates].tolist()],
            cand_event[:candidates],
            cand_level[:candidates],
            cand_revision[:candidates],
            cand_combo[:candidates],
            cand_times[:candidates],
            cand_sums[:candidates],
        )
        return found, self._take_out(ended[:ended_count])

    def end_idle(self, watermark_ms: int) -> EndedRuns:
        """End the runs that no timely event can join any more."""
        used = int(self._state[0])
        ended = np.empty(used, np.int32)
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
        runs = EndedRuns(
            session_id=[self.session_id(row) for row in rows.tolist()],
            combo=self.combo[rows],
            sums=self.sums[rows],
            times=self.times[rows],
            level=self.level[rows],
            revision=self.revision[rows],
        )
        for row in rows.tolist():
            self._long_ids.pop(row, None)
        self.key[rows] = EMPTY
        self._changed[rows] = True
        first = int(self._state[1])
        self._free[first : first + len(rows)] = rows
        self._state[1] = first + len(rows)
        return runs

    def _reserve(self, more: int) -> None:
        rows = int(self._state[0]) + more
        if rows - int(self._state[1]) > len(self.key):
            self._grow(rows)
        self._index.reserve(len(self) + more, self.key, int(self._state[0]))

    def _grow(self, rows: int) -> None:
        for name in (*self._SAVED, "_changed", "_free"):
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
        }

    def load_delta(self, delta: dict) -> None:
        """Take one delta over the state so far; ``rebuild`` after the last."""
        self._grow(delta["used"])
        self._state[0] = delta["used"]
        self.key[delta["freed"]] = EMPTY
        for name in self._SAVED:
            getattr(self, name)[delta["rows"]] = delta[name]
        self._long_ids.update({row: text for row, text in delta["long_ids"]})

    def rebuild(self) -> None:
        """Index what the deltas brought; the rows are as they were when the last one was taken."""
        used = int(self._state[0])
        free = np.flatnonzero(self.key[:used] == EMPTY)
        self._free[: len(free)] = free
        self._state[1] = len(free)
        self._index.reserve(len(self), self.key, 0)
        self._index.reset(len(self._index.keys), self.key, used)
        self._long_ids = {
            row: text
            for row, text in self._long_ids.items()
            if self.key[row] != EMPTY and self.id_length[row] > INLINE_ID_BYTES
        }
