"""Kernels of models.panes_merge: find a window and its source, take the newer counters, pass on the difference.

``row_columns`` are scope, start, size, totals, revision, dirty, key, first and ``slot_columns`` row, source, version,
counters, key, next, in the order of models.panes_merge; ``*_table`` are live, changed, free_rows, state of a Table.
Called by models.panes_merge only, which reserves room for every row before.
"""

import numpy as np
from numba import njit

from models.config import HOUR_MS
from models.hashtable import find, mix, put

NEVER = -1


@njit(cache=True, nogil=True, inline="always")
def window_key(scope, start_ms, size_ms):
    return mix(mix(np.uint64(scope), np.uint64(start_ms)), np.uint64(size_ms))


@njit(cache=True, nogil=True, inline="always")
def slot_key(row_key, source):
    return mix(row_key, np.uint64(source))


@njit(cache=True, nogil=True, inline="always")
def _take(table):
    live, changed, free_rows, state = table
    if state[1] > 0:
        state[1] -= 1
        row = np.int64(free_rows[state[1]])
    else:
        row = state[0]
        state[0] += 1
    live[row] = True
    changed[row] = True
    return row


@njit(cache=True, nogil=True)
def merge_rows(
    source,
    next_offset,
    numbers,
    scope,
    start_ms,
    size_ms,
    counters,
    expired_ms,
    minute_kept_ms,
    hour_kept_ms,
    row_index,
    row_columns,
    row_table,
    slot_index,
    slot_columns,
    slot_table,
    out_rows,
    out_delta,
    new_rows,
    dirty_rows,
    counts,
):
    """Merge n panes of one source, each compared with what its window has from that source.

    numbers int64[k]: the number of each of the message's scopes; scope int32[n], start_ms, size_ms int64[n], counters
    int64[n, 8]. Filled: out_rows, out_delta with what was added where, new_rows, dirty_rows (not published since),
    each int64 with room for n; counts int64[4]: how many of these three, and of panes past their retention.
    """
    row_scope, row_start, row_size, totals, revision, dirty, row_keys, first = row_columns
    slot_row, slot_source, version, stored, slot_keys, following = slot_columns
    row_changed, slot_changed = row_table[1], slot_table[1]
    for i in range(len(scope)):
        number = numbers[scope[i]]
        key = window_key(number, start_ms[i], size_ms[i])
        row = np.int64(find(row_index[0], row_index[1], key))
        if row < 0:
            kept = minute_kept_ms if size_ms[i] < HOUR_MS else hour_kept_ms
            if start_ms[i] + size_ms[i] + kept <= expired_ms:
                counts[3] += 1
                continue
            row = _take(row_table)
            put(row_index[0], row_index[1], key, np.int32(row))
            row_scope[row], row_start[row], row_size[row], row_keys[row] = number, start_ms[i], size_ms[i], key
            new_rows[counts[1]] = row
            counts[1] += 1
        of_source = slot_key(key, source)
        slot = np.int64(find(slot_index[0], slot_index[1], of_source))
        if slot < 0:
            slot = _take(slot_table)
            put(slot_index[0], slot_index[1], of_source, np.int32(slot))
            slot_row[slot], slot_source[slot], slot_keys[slot] = row, source, of_source
            version[slot] = NEVER
            following[slot] = first[row]
            first[row] = np.int32(slot + 1)
        differs = False
        newer = version[slot] < next_offset
        for c in range(counters.shape[1]):
            if counters[i, c] != stored[slot, c]:
                if not differs and version[slot] == next_offset:
                    newer = counters[i, c] > stored[slot, c]
                differs = True
        if not newer:
            continue
        version[slot] = next_offset
        slot_changed[slot] = True
        # A window that is new and empty must be published too: revision 0 says that it never was.
        if not differs and revision[row] > 0:
            continue
        for c in range(counters.shape[1]):
            added = counters[i, c] - stored[slot, c]
            out_delta[counts[0], c] = added
            totals[row, c] += added
            stored[slot, c] = counters[i, c]
        out_rows[counts[0]] = row
        counts[0] += 1
        row_changed[row] = True
        if not dirty[row]:
            dirty[row] = True
            dirty_rows[counts[2]] = row
            counts[2] += 1


@njit(cache=True, nogil=True)
def window_keys(rows, scope, start_ms, size_ms, keys):
    """Set the keys of ``rows`` int64[k]."""
    for row in rows:
        keys[row] = window_key(scope[row], start_ms[row], size_ms[row])


@njit(cache=True, nogil=True)
def link(slots, slot_row, slot_source, row_keys, first, following, keys):
    """Set the keys of ``slots`` int64[k], and chain those of each window."""
    for slot in slots:
        row = slot_row[slot]
        keys[slot] = slot_key(row_keys[row], slot_source[slot])
        following[slot] = first[row]
        first[row] = np.int32(slot + 1)


@njit(cache=True, nogil=True)
def lookup(number, windows, keys, rows):
    """Rows int64[k] of one scope's windows, -1 where it has none. windows int64[k, 2]: start ms, size ms."""
    out = np.empty(len(windows), np.int64)
    for i in range(len(windows)):
        out[i] = find(keys, rows, window_key(number, windows[i, 0], windows[i, 1]))
    return out
