"""The session kernels: a batch added to its sessions event by event, and the limits each session is held against.

One pass per event: find or begin the run, add its counters, compare it with its peer group's limits, and copy it out
if it crosses one. Constants here are shared by models.sessions (the arrays) and models.baselines (the limits).
Budget: 150 ns an event (loadtest/results). Called by models.sessions only.
"""

import math

import numpy as np
from numba import njit

from models.counters import COST, COUNTERS, EVENTS
from models.hashtable import AHEAD, EMPTY, find, prefetch, prefetch_slot, put, remove
from models.watch import AGENTS, GROWING, REPEATS, note, signature, take_slot
from schemas.columns import string_index

INLINE_ID_BYTES = 40
"""Ids up to this length (a UUID is 36) are stored inline."""

WARNING, CRITICAL = 1, 2
CALLS, REPEATED, GREW, ACCELERATED, FANNED_OUT, PROJECTED, RUNAWAY = (1 << bit for bit in range(7))
"""Signals of a session. RUNAWAY: it has been reported as a runaway agent; PROJECTED: as on course for an outlier."""
NEVER = np.iinfo(np.int64).max
"""Threshold of a group whose sessions cannot be flagged."""

STEPS = 10
"""Calls at which a session's cost is remembered: 1, 2, 4, ... 512."""
BINS = 64
BIN_LN_WIDTH = math.log(1.35)
LOWEST_COST_NANO_USD = 10_000
"""Lower edge of bin 0: a thousandth of a cent; the last of 64 bins begins at about $1,600."""
COST_EDGES = np.ceil(LOWEST_COST_NANO_USD * np.exp(BIN_LN_WIDTH * np.arange(1, BINS))).astype(np.int64)
"""int64[63]: the bin of a cost is the number of edges at or below it."""
FIRST_ACCELERATION_STEP = 4
"""The first calls of a session are too uneven to tell: it takes 16 of them."""

LIMIT_WARN, LIMIT_PAGE, LIMIT_WATCH_COST, LIMIT_WATCH_CALLS, LIMIT_CALLS, LIMIT_STEP = range(6)
LIMITS = LIMIT_STEP + STEPS
"""Columns of a peer group's limits: nano-USD, calls, and from LIMIT_STEP on nano-USD at each step."""

START, FIRST, LAST = 0, 1, 2
_SESSION, _EVENT_ID = string_index("session_id"), string_index("event_id")
_AGENT, _PROVIDER, _MODEL = string_index("agent"), string_index("provider"), string_index("model")
MIN_COST, REPEATS_LIMIT, GROWING_LIMIT, SHORT_OUTPUT, AGENTS_LIMIT, ACCELERATION_BINS = range(6)
"""Rules of a runaway agent, int64[6]: see models.config.RunawayConfig; AGENTS_LIMIT is a number of bits."""


@njit(cache=True, nogil=True)
def apply_events(
    combo,
    kind,
    hashes,
    start,
    length,
    payload,
    tags_start,
    tags_length,
    event_time_ms,
    counters,
    combo_has_model,
    group_of,
    limits,
    rules,
    edges,
    idle_ms,
    keys,
    rows,
    row_key,
    sums,
    times,
    row_combo,
    level,
    signals,
    reported,
    path,
    id_text,
    id_length_of,
    slot_of,
    changed,
    state,
    watch,
    watch_ids,
    watch_state,
    watch_changed,
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
):
    """Add a batch to its sessions.

    combo int32[n] (negative: leave out), kind int8[n], hashes uint64[n, 16], start/length int32[n, 16], payload uint8,
    counters int64[n, 8]; group_of int32[combos], limits int64[groups, LIMITS], rules int64[6], edges int64[63].
    state int64[7]: rows ever used, free rows, ended runs, long ids, candidates (these three are reset), rows changed
    since the last delta, first free row (the next one is in row_combo).
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
            prefetch(signals, row)
            prefetch(slot_of, row)
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
                row = np.int32(state[6])
                state[6] = row_combo[row]
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
            signals[row] = 0
            reported[row] = 0
            slot_of[row] = 0
            size = length[i, _SESSION]
            id_length_of[row] = size
            if size <= INLINE_ID_BYTES:
                for b in range(size):
                    id_text[row, b] = payload[start[i, _SESSION] + b]
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
        events = sums[row, EVENTS]
        group = group_of[row_combo[row]]
        seen = np.int64(signals[row])
        if events & (events - 1) == 0 and events < 1 << STEPS:
            step = 0
            while events >> (step + 1):
                step += 1
            path[row, step] = np.searchsorted(edges, cost, side="right")
            if cost >= limits[group, LIMIT_STEP + step] and level[row] == 0:
                seen |= PROJECTED
            if (
                step >= FIRST_ACCELERATION_STEP
                and path[row, step] - np.int64(path[row, step - 1]) >= rules[ACCELERATION_BINS]
            ):
                seen |= ACCELERATED
        slot = np.int64(slot_of[row])
        suspicious = cost >= limits[group, LIMIT_WATCH_COST] or events >= limits[group, LIMIT_WATCH_CALLS]
        if slot == 0 and suspicious:
            slot = take_slot(watch, watch_ids, watch_state, watch_changed, slot_of, sums, changed, row)
            slot_of[row] = slot
        if slot > 0:
            watched = watch[slot - 1]
            watch_changed[slot - 1] = True
            same = signature(
                kind[i],
                hashes[i, _PROVIDER],
                hashes[i, _MODEL],
                counters[i],
                payload,
                tags_start[i],
                tags_length[i],
            )
            note(
                watched,
                rules[SHORT_OUTPUT],
                combo[i],
                kind[i],
                same,
                hashes[i, _AGENT],
                counters[i],
                payload,
                start[i, _EVENT_ID],
                length[i, _EVENT_ID],
                watch_ids[slot - 1],
            )
            if watched[REPEATS] >= rules[REPEATS_LIMIT]:
                seen |= REPEATED
            if watched[GROWING] >= rules[GROWING_LIMIT]:
                seen |= GREW
            if _bits(watched[AGENTS]) >= rules[AGENTS_LIMIT]:
                seen |= FANNED_OUT
        reached = level[row]
        if cost >= limits[group, LIMIT_PAGE]:
            reached = np.int8(CRITICAL)
        elif cost >= limits[group, LIMIT_WARN] and reached < WARNING:
            reached = np.int8(WARNING)
        if events >= limits[group, LIMIT_CALLS]:
            seen |= CALLS
        loops = (
            seen & (REPEATED | GREW | ACCELERATED | FANNED_OUT) > 0
            and cost >= max(limits[group, LIMIT_WATCH_COST], rules[MIN_COST])
            and events >= limits[group, LIMIT_WATCH_CALLS]
        )
        # One finding per event: that of the cost first.
        if (seen & CALLS > 0 or loops) and reached == 0 and (seen & ~signals[row]) & PROJECTED == 0:
            seen |= RUNAWAY
        news = (seen & ~signals[row]) & (PROJECTED | RUNAWAY)
        told = signals[row] & RUNAWAY > 0 or (level[row] > 0 and cost >= limits[group, LIMIT_WARN])
        if reached > level[row] or news > 0 or (told and _doubled(cost, reported[row])):
            at = state[4]
            cand_flags[at, 0] = level[row]
            cand_flags[at, 1] = reached
            cand_flags[at, 2] = signals[row]
            cand_flags[at, 3] = seen
            level[row] = reached
            reported[row] = cost
            cand_row[at] = row
            cand_event[at] = i
            cand_combo[at] = row_combo[row]
            cand_times[at, :] = times[row, :]
            cand_sums[at, :] = sums[row, :]
            if slot > 0:
                cand_watch[at, :] = watch[slot - 1]
                cand_ids[at, :, :] = watch_ids[slot - 1]
            else:
                cand_watch[at, :] = 0
            state[4] += 1
        signals[row] = seen


@njit(cache=True, nogil=True, inline="always")
def _doubled(cost, reported):
    return cost >= 2 * np.int64(reported) and cost > np.int64(reported)


@njit(cache=True, nogil=True, inline="always")
def _bits(word):
    """Number of set bits of an int64."""
    count = 0
    rest = np.uint64(word)
    while rest:
        rest &= rest - np.uint64(1)
        count += 1
    return count


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
