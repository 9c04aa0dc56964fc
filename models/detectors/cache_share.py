"""Cache hit rate of a team's use of a model against its own past: a collapse that makes the same prompts dearer.

For each key and closed window with at least ``min_events`` events, over the prompt tokens T = input + reads + writes::

    read, write   share of reads and of writes in T
    weight        (1 - read - write) + a read + b write     what a prompt token costs against an input token
    usual         EW mean of read and write, gain 0.02 (1 / n at first)
    lowest        least read so far; drawn towards usual, half of the way in a day, 1 / n in each window at first
    low           read < ratio x usual read, and read < 0.7 lowest, where usual read is at least 0.1
    extra         cost x T x (weight - usual weight) / (T x weight + c x output tokens)

A run of ``windows`` low windows whose extra adds up to the dollar floor opens an incident. It is resolved after
``clear_windows`` that are not low, and 24 hours after its first low one anyway: then the new share is what is usual.
Windows with too few events neither teach nor end anything: their calls are in the hour's window.

Weights a, b and c come with the key: those of the model's list prices, or where it has none those most models ask. Of a
model whose reads cost as much as its input a collapse costs nothing and opens nothing. Low windows teach nothing.
A key whose share goes up and down by itself has a low record and is left in peace.

``guard`` makes a key's low lower: each verdict "false" by a quarter of the ratio, "true" takes that back.

Scoring never learns: ``score`` leaves the state alone. Cost: 160 bytes a key; a key and window as docs/detectors.md has
it. Source: detector notes 5.4. Called by models.cache_watch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.config import DAY_MS, CacheShareConfig
from models.counters import CACHE_READ, CACHE_WRITE, COST, COUNTERS, EVENTS, INPUT, OUTPUT
from models.detectors.key_rows import KeyRows
from models.peer_group import TOKEN_WEIGHTS

READ, WRITE, LOWEST, GUARD, RUN_COST, RUN_INPUT, RUN_READS, RUN_WRITES, RUN_READ, RUN_USUAL, A, B, C = range(13)
"""RUN_*: of the low windows since the first of them: nano-USD spent, of each of PARTS in excess, shares of reads."""
RUN = slice(RUN_COST, RUN_USUAL + 1)
RUN_EXTRA = slice(RUN_INPUT, RUN_WRITES + 1)
WINDOWS, LOW, COOL, OPEN, SEEN_MS, RUN_START_MS, LAST_LOW_MS = range(7)
GAIN = 0.02
BELOW_LOWEST = 0.7
"""Of the record."""
MIN_SHARE = 0.1
"""A usual share of reads below this is not worth watching."""
GUARD_STEP, MAX_GUARD = 0.25, 3.0
LASTING_MS = LOWEST_HALF_MS = DAY_MS
FORGOTTEN_MS = 35 * DAY_MS
PARTS = ("input", "cache reads", "cache writes")
USUAL_WEIGHTS = tuple(TOKEN_WEIGHTS[at] for at in (CACHE_READ, CACHE_WRITE, OUTPUT))
"""Of a read, a write and an output token, against an input token."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one window of all keys looks like; arrays of n keys.

    windows int64[n] that were known before; the others bool[n]. What an incident has come to is in ``values``.
    """

    low: np.ndarray
    windows: np.ndarray
    opening: np.ndarray
    closing: np.ndarray
    open: np.ndarray


class CacheShare(KeyRows):
    """Past of all keys: one row each, added by the caller, in order.

    >>> watch = CacheShare(CacheShareConfig(), 60_000)
    >>> watch.add(1)
    >>> usual, bad = [[10**9, 0, 50, 0, 2_000, 8_000, 0, 100]], [[4 * 10**9, 0, 50, 0, 10_000, 0, 0, 100]]
    >>> for minute in range(40):
    ...     judged = watch.judge(np.array(usual), minute * 60_000)
    >>> for minute in range(40, 42):
    ...     judged = watch.judge(np.array(bad), minute * 60_000)
    >>> bool(judged.opening[0]), round(float(watch.values[0, RUN_EXTRA].sum()) / 1e9, 2)
    (True, 5.49)
    """

    _ARRAYS = ("counts", "values")
    __slots__ = _ARRAYS

    def __init__(self, config: CacheShareConfig, window_ms: int):
        super().__init__(config, window_ms)
        self.values = np.zeros((16, 13), np.float64)
        self.counts = np.zeros((16, 7), np.int64)

    def add(self, keys: int, weights: Sequence[tuple[float, float, float]] = ()) -> None:
        """Rows for new keys, with their weights of read, write and output tokens; USUAL_WEIGHTS if not given."""
        super().add(keys)
        if keys:
            self.values[self._n - keys : self._n, A:] = weights or USUAL_WEIGHTS

    def score(self, totals: np.ndarray) -> tuple[np.ndarray, ...]:
        """(known bool[n], low bool[n], share of reads float64[n], excess of PARTS float64[n, 3]) of one window.

        totals: int64[n, 8] counters of the window; known: with enough events. Changes nothing.
        """
        values, counts = self.values[: self._n], self.counts[: self._n]
        totals = np.clip(totals, 0, None).astype(np.float64)
        prompt = totals[:, INPUT] + totals[:, CACHE_READ] + totals[:, CACHE_WRITE]
        known = (totals[:, EVENTS] >= self.config.min_events) & (prompt > 0)
        whole = np.maximum(prompt, 1.0)
        read, write = totals[:, CACHE_READ] / whole, totals[:, CACHE_WRITE] / whole
        usual = values[:, READ]
        ratio = self.config.ratio * np.clip(1.0 - GUARD_STEP * values[:, GUARD], 0.0, 1.0)
        low = known & (counts[:, WINDOWS] >= self.config.warm_up_windows) & (usual >= MIN_SHARE)
        low &= (read < ratio * usual) & (read < BELOW_LOWEST * values[:, LOWEST])
        more_read, more_write = read - usual, write - values[:, WRITE]
        shares = np.stack([-more_read - more_write, more_read, more_write], axis=1)
        weights = np.concatenate([np.ones((self._n, 1)), values[:, A:]], axis=1)
        weighed = (weights * totals[:, [INPUT, CACHE_READ, CACHE_WRITE, OUTPUT]]).sum(axis=1)
        price = totals[:, COST] / np.maximum(weighed, 1.0)
        return known, low, read, shares * weights[:, :3] * (price * prompt)[:, None]

    def judge(self, totals: np.ndarray, window_start_ms: int) -> Judgement:
        """Score one closed window of all keys, move their incidents on, then learn from it; windows come in order."""
        n, config = self._n, self.config
        known, low, read, parts = self.score(totals)
        values, counts = self.values[:n], self.counts[:n]
        windows = counts[:, WINDOWS].copy()
        was_open = counts[:, OPEN] > 0
        fine = known & ~low
        begins = low & ~was_open & (counts[:, LOW] == 0)
        values[begins, RUN] = 0.0
        values[begins, RUN_USUAL] = values[begins, READ]
        counts[begins, RUN_START_MS] = window_start_ms
        counts[:, LOW] = np.where(low, counts[:, LOW] + 1, np.where(fine, 0, counts[:, LOW]))
        counts[low, LAST_LOW_MS] = window_start_ms
        values[low, RUN_COST] += np.maximum(totals[low, COST], 0)
        values[low, RUN_EXTRA] += parts[low]
        values[low, RUN_READ] = read[low]
        opening = ~was_open & (counts[:, LOW] >= config.windows)
        opening &= values[:, RUN_EXTRA].sum(axis=1) >= config.min_excess_nano_usd
        counts[:, COOL] = np.where(was_open & fine, counts[:, COOL] + 1, np.where(low, 0, counts[:, COOL]))
        counts[:, OPEN] = np.where(was_open | opening, counts[:, OPEN] + 1, 0)
        lasting = (counts[:, LOW] > 0) & (window_start_ms - counts[:, RUN_START_MS] >= LASTING_MS)
        closing = was_open & ((counts[:, COOL] >= config.clear_windows) | lasting)
        counts[np.ix_(closing, (OPEN, COOL, LOW))] = 0
        self._learn(totals, known, low, read, window_start_ms)
        values[lasting, READ] = values[lasting, RUN_READ]
        values[lasting, LOWEST] = values[lasting, RUN_READ]
        counts[lasting, LOW] = 0
        return Judgement(low, windows, opening, closing, counts[:, OPEN] > 0)

    def _learn(self, totals: np.ndarray, known: np.ndarray, low: np.ndarray, read: np.ndarray, start_ms: int) -> None:
        values, counts = self.values[: self._n], self.counts[: self._n]
        counts[totals[:, EVENTS] > 0, SEEN_MS] = start_ms
        counts[:, WINDOWS] += known
        prompt = np.maximum(totals[:, INPUT] + totals[:, CACHE_READ] + totals[:, CACHE_WRITE], 1)
        teaches = known & ~low
        windows = np.maximum(counts[:, WINDOWS], 1)
        gain = np.maximum(GAIN, 1.0 / windows) * teaches
        values[:, READ] += gain * (read - values[:, READ])
        rise = np.maximum(1.0 - 0.5 ** (self.window_ms / LOWEST_HALF_MS), 1.0 / windows) * teaches
        values[:, LOWEST] += rise * (values[:, READ] - values[:, LOWEST])
        values[:, LOWEST] = np.where(teaches, np.minimum(values[:, LOWEST], read), values[:, LOWEST])
        values[:, WRITE] += gain * (np.clip(totals[:, CACHE_WRITE] / prompt, 0.0, 1.0) - values[:, WRITE])

    def verdict(self, row: int, steps: int) -> None:
        """What people say of an incident of this key moves its guard."""
        self.values[row, GUARD] = min(max(self.values[row, GUARD] + steps, 0.0), MAX_GUARD)

    def calm(self) -> bool:
        """No key is in a run of low windows or in an incident: a window without events would change nothing."""
        return not self.counts[: self._n, (LOW, OPEN)].any()

    def silent(self, time_ms: int) -> np.ndarray:
        """bool[n]: keys without an incident that have not been seen for five weeks."""
        counts = self.counts[: self._n]
        return (counts[:, SEEN_MS] < time_ms - FORGOTTEN_MS) & (counts[:, OPEN] == 0)


def empty(keys: int) -> np.ndarray:
    """Totals int64[keys, 8] of a window without events."""
    return np.zeros((keys, len(COUNTERS)), np.int64)
