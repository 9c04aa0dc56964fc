"""Event identities seen lately: a bounded set of two generations.

An event is a duplicate if its identity, the mix of the hashes of source and event_id, is in either
generation. New identities go into the current one; when that holds ``limit``, the older is emptied and
becomes current. So at least the last ``limit`` distinct events are remembered, at most twice that, and
memory is fixed: 32 bytes per remembered event at full size. A retry that comes later than that counts again.

The chance that two different identities collide among the last 2 M is 2e-7 over the whole set.
"""

import numpy as np
from numba import njit

from models.hashtable import EMPTY, mix

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
def mark_fresh(generations, state, limit, status, source, event_id, fresh):
    """Set ``fresh`` bool[n] for rows whose status is 0 and whose identity is new; remember those.

    generations uint64[2, cap] with cap >= 2 * limit; state int64[2] = (current generation, entries in it);
    source, event_id uint64[n]. Returns the number of duplicates.
    """
    duplicates = 0
    for i in range(len(status)):
        fresh[i] = False
        if status[i] != 0:
            continue
        key = mix(source[i], event_id[i])
        current = state[0]
        if _contains(generations[1 - current], key):
            duplicates += 1
            continue
        if not _add(generations[current], key):
            duplicates += 1
            continue
        fresh[i] = True
        state[1] += 1
        if state[1] >= limit:
            generations[1 - current, :] = EMPTY
            state[0] = 1 - current
            state[1] = 0
    return duplicates


@njit(cache=True, nogil=True)
def _rehash(old, new):
    for key in old:
        if key != EMPTY:
            _add(new, key)


class DedupeSet:
    """The two generations of one input partition; starts small and grows to its bound."""

    __slots__ = ("generations", "limit", "state")

    def __init__(self, limit: int):
        if limit < 1:
            raise ValueError(f"dedupe_events must be at least 1, got {limit}")
        self.limit = limit
        self.generations = np.zeros((2, FIRST_CAPACITY), np.uint64)
        self.state = np.zeros(2, np.int64)

    def mark(self, status: np.ndarray, source: np.ndarray, event_id: np.ndarray) -> tuple[np.ndarray, int]:
        """(fresh bool[n], duplicates) of one batch, in row order."""
        self._reserve(min(int(self.state[1]) + len(status), self.limit))
        fresh = np.empty(len(status), np.bool_)
        duplicates = mark_fresh(self.generations, self.state, self.limit, status, source, event_id, fresh)
        return fresh, int(duplicates)

    def _reserve(self, entries: int) -> None:
        capacity = self.generations.shape[1]
        if entries * 2 <= capacity:
            return
        while capacity < entries * 2:
            capacity *= 2
        bigger = np.zeros((2, capacity), np.uint64)
        for generation in (0, 1):
            _rehash(self.generations[generation], bigger[generation])
        self.generations = bigger

    def snapshot(self) -> dict:
        """Arrays that ``restore`` takes back: only the remembered identities."""
        current = int(self.state[0])
        return {
            "current": self.generations[current][self.generations[current] != EMPTY],
            "previous": self.generations[1 - current][self.generations[1 - current] != EMPTY],
        }

    @classmethod
    def restore(cls, limit: int, snapshot: dict) -> "DedupeSet":
        """The set of a ``snapshot``; a smaller ``limit`` than before keeps what it was given until it rotates."""
        self = cls(limit)
        entries = max(len(snapshot["current"]), len(snapshot["previous"]))
        capacity = FIRST_CAPACITY
        while capacity < 2 * max(entries + 1, 1):
            capacity *= 2
        self.generations = np.zeros((2, capacity), np.uint64)
        _rehash(np.asarray(snapshot["current"], np.uint64), self.generations[0])
        _rehash(np.asarray(snapshot["previous"], np.uint64), self.generations[1])
        self.state[1] = len(snapshot["current"])
        return self
