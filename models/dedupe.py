"""Event identities seen lately: a bounded set of two generations.

An event is a duplicate if its identity, the mix of the hashes of source and event_id, is in either
generation. New identities go into the current one; when that holds ``limit``, the older is emptied and
becomes current. So at least the last ``limit`` distinct events are remembered, at most twice that, and
memory is fixed: 48 bytes per remembered event at full size. A retry that comes later than that counts again.

Beside its hash set each generation keeps its identities in the order they came. That log is what is saved, by rolling
deltas (models.rolling), since it only grows.

The chance that two different identities collide among the last 2 M is 2e-7 over the whole set.
"""

import numpy as np
from numba import njit

from models.hashtable import AHEAD, EMPTY, mix, prefetch_slot
from models.rolling import EVERYTHING, SLICES, due_of_log

FIRST_CAPACITY = 1 << 15


@njit(cache=True, nogil=True, inline="always")
def _contains(slots, key):
    mask = np.uint64(len(slots) - 1)
    slot = key & mask
    while slots[slot] != EMPTY:
        if slots[slot] == key:
            return True
        slot = (slot + np.uint64(1)) & mask
    return False


@njit(cache=True, nogil=True, inline="always")
def _add(slots, key):
    mask = np.uint64(len(slots) - 1)
    slot = key & mask
    while slots[slot] != EMPTY:
        if slots[slot] == key:
            return False
        slot = (slot + np.uint64(1)) & mask
    slots[slot] = key
    return True


@njit(cache=True, nogil=True)
def mark_fresh(generations, logs, state, limit, status, source, event_id, fresh):
    """Set ``fresh`` bool[n] for rows whose status is 0 and whose identity is new; remember those.

    generations uint64[2, cap] hash sets, logs uint64[2, cap / 2] the same identities in order; state int64[3] =
    (number of the current generation, entries in it, entries in the one before); generation g is in row g % 2.
    source, event_id uint64[n]. Returns the number of duplicates.
    """
    duplicates = 0
    n = len(status)
    for i in range(n):
        if i + AHEAD < n:
            key = mix(source[i + AHEAD], event_id[i + AHEAD])
            prefetch_slot(generations[0], key)
            prefetch_slot(generations[1], key)
        fresh[i] = False
        if status[i] != 0:
            continue
        key = mix(source[i], event_id[i])
        current = state[0] % 2
        if _contains(generations[1 - current], key):
            duplicates += 1
            continue
        if not _add(generations[current], key):
            duplicates += 1
            continue
        fresh[i] = True
        logs[current, state[1]] = key
        state[1] += 1
        if state[1] >= limit:
            generations[1 - current, :] = EMPTY
            state[0] += 1
            state[2] = state[1]
            state[1] = 0
    return duplicates


@njit(cache=True, nogil=True)
def _fill(log, slots):
    for i in range(len(log)):
        if i + AHEAD < len(log):
            prefetch_slot(slots, log[i + AHEAD])
        _add(slots, log[i])


class DedupeSet:
    """The two generations of one input partition; starts small and grows to its bound."""

    __slots__ = ("_saved", "generations", "limit", "logs", "state")

    def __init__(self, limit: int):
        if limit < 1:
            raise ValueError(f"dedupe_events must be at least 1, got {limit}")
        self.limit = limit
        self.generations = np.zeros((2, FIRST_CAPACITY), np.uint64)
        self.logs = np.zeros((2, FIRST_CAPACITY // 2), np.uint64)
        self.state = np.zeros(3, np.int64)
        self._saved = (0, 0)
        """Generation and entries of it that the last delta went up to."""

    def __len__(self) -> int:
        """Identities remembered."""
        return int(self.state[1] + self.state[2])

    def mark(self, status: np.ndarray, source: np.ndarray, event_id: np.ndarray) -> tuple[np.ndarray, int]:
        """(fresh bool[n], duplicates) of one batch, in row order."""
        entries = int(self.state[1])
        self._reserve(max(min(entries + len(status), self.limit), entries + 1))
        fresh = np.empty(len(status), np.bool_)
        duplicates = mark_fresh(self.generations, self.logs, self.state, self.limit, status, source, event_id, fresh)
        return fresh, int(duplicates)

    def _reserve(self, entries: int) -> None:
        capacity = self.generations.shape[1]
        if entries * 2 <= capacity:
            return
        while capacity < entries * 2:
            capacity *= 2
        logs = np.zeros((2, capacity // 2), np.uint64)
        logs[:, : self.logs.shape[1]] = self.logs
        self.logs = logs
        self._index(capacity)

    def _index(self, capacity: int) -> None:
        self.generations = np.zeros((2, capacity), np.uint64)
        current, entries, before = (int(number) for number in self.state)
        _fill(self.logs[current % 2, :entries], self.generations[current % 2])
        _fill(self.logs[1 - current % 2, :before], self.generations[1 - current % 2])

    def take_delta(self, slice_number: int) -> dict:
        """Copies of the identities that are due (models.rolling), by generation."""
        current, entries, before = (int(number) for number in self.state)
        generations = []
        for generation, count in ((current, entries), (current - 1, before)):
            saved = count if generation < self._saved[0] else 0
            if generation == self._saved[0]:
                saved = self._saved[1]
            if slice_number == EVERYTHING:
                saved = 0
            log = self.logs[generation % 2]
            keys = np.concatenate([log[max(slice_number, 0) : saved : SLICES], log[saved:count]])
            generations.append({"number": generation, "count": count, "saved": saved, "keys": keys})
        self._saved = (current, entries)
        return {"slice": slice_number, "generations": generations}

    def load_delta(self, delta: dict) -> None:
        """Take one delta over the state so far; ``rebuild`` after the last."""
        current, previous = delta["generations"]
        self.state[:] = current["number"], current["count"], previous["count"]
        capacity = self.logs.shape[1]
        while capacity < max(current["count"], previous["count"]) + 1:
            capacity *= 2
        if capacity > self.logs.shape[1]:
            logs = np.zeros((2, capacity), np.uint64)
            logs[:, : self.logs.shape[1]] = self.logs
            self.logs = logs
        for generation in (current, previous):
            rows = due_of_log(generation["saved"], generation["count"], delta["slice"])
            self.logs[generation["number"] % 2][rows] = generation["keys"]

    def rebuild(self) -> None:
        """Index what the deltas brought; a smaller limit than before keeps what there is until it rotates."""
        self._saved = (int(self.state[0]), int(self.state[1]))
        self._index(2 * self.logs.shape[1])
