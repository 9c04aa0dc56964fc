"""The watch list: what the most suspicious live sessions of a partition do, call by call.

A session is watched once it has cost, or called, three times what its peers usually do (models.baselines sets the
thresholds). From then on its slot adds up what it spends by combo and kind, keeps the ids of its dearest events, and
looks for the signature of an agent that runs away (detector notes 5.1, 5.5; anthropics/claude-code#72732):

REPEATS   the same call again: kind, provider, model, tokens, cost and tags equal one of the last RING calls. A leaky
          counter, +2 for a repeat and -1 for any other call, so that a loop of several tools counts as well.
GROWING   model calls in a row whose prompt is no shorter than the one before and whose answer is short.
AGENTS    a bitmap of 64 hashed agent names: how many sub-agents work under one root session (linear counting).

Bounds: MAX_SLOTS slots of 640 bytes, 2.6 MB a partition. When all are taken a dearer session takes a cheaper one's
slot: one is looked at per event, in turn. What a session did before it was watched is not known by part.
Cost: unwatched events pay one load; watched ones some 60 ns. Saved by rolling deltas. Called by models.sessions.
"""

import numpy as np
from numba import njit

from models.counters import CACHE_READ, CACHE_WRITE, COST, ESTIMATED, INPUT, OUTPUT
from models.hashtable import grown, mix
from models.rolling import due

MAX_SLOTS = 4096
CELLS = 12
"""Parts that a session's spend is split into; what comes after they are all taken goes to the last one."""
EXAMPLES = 3
EXAMPLE_BYTES = 64
"""An event with a longer id is no example."""
RING = 8

ROW, REPEATS, GROWING, PROMPT, AGENTS, AT = range(6)
_RING = 6
_EXAMPLE_COST = _RING + RING
_CELL = _EXAMPLE_COST + EXAMPLES
_CELL_FIELDS = 3
"""Combo x 16 + kind + 1 (0: free, OTHER: what has no cell), cost in nano-USD, events."""
WIDTH = _CELL + CELLS * _CELL_FIELDS
OTHER = -1
_LLM = 0
_REPEAT_STEP = 2


@njit(cache=True, nogil=True, inline="always")
def signature(kind, provider, model, counters, payload, start, length):
    """What makes two calls the same: everything but their identity and time. counters int64[8] of the event."""
    key = mix(provider + np.uint64(kind), model)
    for c in (COST, ESTIMATED, INPUT, CACHE_READ, CACHE_WRITE, OUTPUT):
        key = mix(key, np.uint64(counters[c]))
    text = np.uint64(14695981039346656037)
    for b in range(length):
        text = (text ^ np.uint64(payload[start + b])) * np.uint64(1099511628211)
    return np.int64(mix(key, text))


@njit(cache=True, nogil=True)
def note(watch, short_output, combo, kind, same, agent, counters, payload, start, length, ids):
    """Add one event to its session's slot: watch int64[WIDTH], ids uint8[EXAMPLES, 1 + EXAMPLE_BYTES].

    same: ``signature``; agent: hash of the agent's name; start, length: the event id in payload.
    """
    repeated = False
    for r in range(RING):
        if watch[_RING + r] == same:
            repeated = True
    if repeated:
        watch[REPEATS] += _REPEAT_STEP
    else:
        watch[REPEATS] = max(watch[REPEATS] - 1, 0)
        watch[_RING + watch[AT]] = same
        watch[AT] = (watch[AT] + 1) % RING
    prompt = counters[INPUT] + counters[CACHE_READ] + counters[CACHE_WRITE]
    if kind == _LLM and prompt > 0:
        if prompt >= watch[PROMPT] and counters[OUTPUT] < short_output:
            watch[GROWING] += 1
        else:
            watch[GROWING] = 0
        watch[PROMPT] = prompt
    watch[AGENTS] |= np.int64(1) << np.int64(agent >> np.uint64(58))

    name = np.int64(combo) * 16 + kind + 1
    at = CELLS - 1
    for cell in range(CELLS):
        known = watch[_CELL + cell * _CELL_FIELDS]
        if known == name or (known == 0 and cell < CELLS - 1):
            at = cell
            break
    if at == CELLS - 1:
        name = OTHER
    watch[_CELL + at * _CELL_FIELDS] = name
    watch[_CELL + at * _CELL_FIELDS + 1] += counters[COST]
    watch[_CELL + at * _CELL_FIELDS + 2] += 1

    if length > EXAMPLE_BYTES:
        return
    cheapest = 0
    for e in range(1, EXAMPLES):
        if watch[_EXAMPLE_COST + e] < watch[_EXAMPLE_COST + cheapest]:
            cheapest = e
    if counters[COST] > watch[_EXAMPLE_COST + cheapest]:
        watch[_EXAMPLE_COST + cheapest] = counters[COST]
        ids[cheapest, 0] = length
        for b in range(length):
            ids[cheapest, 1 + b] = payload[start + b]


@njit(cache=True, nogil=True)
def take_slot(watch, ids, state, changed, slot_of, sums, row_changed, row):
    """A slot for session ``row``, numbered from 1; 0 if all are taken and the next in turn is of a dearer session.

    state int64[3]: slots ever used, free slots (linked by ROW, 0 ends), the next in turn. slot_of uint16[rows];
    row_changed bool[rows] marks the session that loses its slot.
    """
    if state[1] > 0:
        slot = state[1]
        state[1] = watch[slot - 1, ROW]
    elif state[0] < len(watch):
        state[0] += 1
        slot = state[0]
    else:
        state[2] = state[2] % len(watch) + 1
        slot = state[2]
        owner = watch[slot - 1, ROW]
        if sums[owner, COST] >= sums[row, COST]:
            return 0
        slot_of[owner] = 0
        row_changed[owner] = True
    watch[slot - 1, :] = 0
    watch[slot - 1, ROW] = row
    ids[slot - 1, :, 0] = 0
    changed[slot - 1] = True
    return slot


def agents(watch: np.ndarray) -> int:
    """Distinct agents that a slot has seen, about: linear counting (Whang et al. 1990), at most 266."""
    seen = int(watch[AGENTS]) & (2**64 - 1)
    zeros = 64 - seen.bit_count()
    return round(-64 * np.log(max(zeros, 1) / 64))


def cells(watch: np.ndarray) -> list[tuple[int, int, int, int]]:
    """(combo, kind, cost in nano-USD, events) of each part; combo -1 for what has no cell."""
    parts = []
    for name, cost, events in watch[_CELL:].reshape(CELLS, _CELL_FIELDS).tolist():
        if name:
            parts.append((-1, -1, cost, events) if name == OTHER else ((name - 1) // 16, (name - 1) % 16, cost, events))
    return parts


def examples(watch: np.ndarray, ids: np.ndarray) -> list[str]:
    """Ids of the dearest events, dearest first."""
    costs = watch[_EXAMPLE_COST : _EXAMPLE_COST + EXAMPLES].tolist()
    order = sorted((e for e in range(EXAMPLES) if costs[e] > 0), key=lambda e: -costs[e])
    return [bytes(ids[e, 1 : 1 + ids[e, 0]]).decode() for e in order]


class Watch:
    """The slots of one partition."""

    __slots__ = ("changed", "ids", "slots", "state")

    def __init__(self):
        self.state = np.zeros(3, np.int64)
        self._allocate(64)

    def _allocate(self, slots: int) -> None:
        self.slots = np.zeros((slots, WIDTH), np.int64)
        self.ids = np.zeros((slots, EXAMPLES, 1 + EXAMPLE_BYTES), np.uint8)
        self.changed = np.zeros(slots, np.bool_)

    def reserve(self, more: int) -> None:
        """Room for ``more`` sessions, as far as the bound allows."""
        slots = min(int(self.state[0]) + more, MAX_SLOTS)
        if slots > len(self.slots):
            slots = min(max(slots, 2 * len(self.slots)), MAX_SLOTS)
            self.slots, self.ids = grown(self.slots, slots)[:slots], grown(self.ids, slots)[:slots]
            self.changed = grown(self.changed, slots)[:slots]

    def free(self, slots: np.ndarray) -> None:
        """Give slots (numbered from 1) back."""
        for slot in slots.tolist():
            self.slots[slot - 1, ROW] = self.state[1]
            self.state[1] = slot
            self.changed[slot - 1] = True

    def take_delta(self, slice_number: int) -> dict:
        """Copies of the slots that are due (models.rolling)."""
        rows = due(self.changed, int(self.state[0]), slice_number)
        return {"rows": rows, "slots": self.slots[rows], "ids": self.ids[rows], "state": self.state.copy()}

    def load_delta(self, delta: dict) -> None:
        """Take one delta over the state so far."""
        self.state[:] = delta["state"]
        self.reserve(0)
        self.slots[delta["rows"]] = delta["slots"]
        self.ids[delta["rows"]] = delta["ids"]
