"""Spend per window of a team or model against its own past.

For each key and closed window of spend x (zero windows of a silent key included)::

    offset = 0.25 EW mean(x)                  scales with the key: a fixed one inflates the variance of quiet keys
    y      = ln(x + offset)
    pred   = level + season[slot]             24 hours of the day; 168 hours of the week after three weeks
    sd     = max(sqrt(EW variance of y - pred), 0.15)
    z      = (y - pred) / sd,   expected = exp(pred) - offset

A window is hot if z > 4 and x > 2 expected and x - expected exceeds a dollar floor. Two hot windows in a row open
an incident, six with z < 2 resolve it, and for six more none opens. Learning is winsorised at 3 sd, and four
times slower while hot.

A key begins with the median and the median deviation of its first 15 windows, of which the first is never a whole
one; until then it is not judged and nothing is expected of it. Started from a single window instead, a key needs
hours to forget it: on an hour of real traffic a lasting fourfold step then stayed below z = 2.3. Later windows weigh
1/n until n is 50.

A season learns from whole visits of its hour, once per visit and in proportion to the part of the hour seen: inside
an hour it stands still, so it can hide nothing that happens within it, and with one hour of history it is zero.

Keys active in less than 95 % of their windows are sparse: per-minute judgements of them are noise, so only the hour
sums of a second instance may alert. Measured limits (14 days, 115 real tenants, 10-minute windows): 0.4 background
incidents per steady tenant and week; a threefold hour is found in 30 % of the cases, a tenfold one in 75 %; in
bursty tenants a threefold hour is not detectable by any rule of this kind: that is what budgets are for.

Scoring never learns: ``score`` leaves the state alone and ``update`` is told what was hot. Cost: 2.8 kB a key, about
50 ns a key and window for each of the two kernels. Late amendments of a window that was judged do not judge it again.
Source: the winsorised EWMA and seasonal slots of the detector notes, 5.2; seasonal smoothing after Holt and Winters.
Called by models.rate_watch only.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from models.config import DAY_MS, HOUR_MS, SpendRateConfig

MEAN, LEVEL, VAR, ACTIVE, VISIT_SUM, VISIT_WEIGHT = range(6)
WINDOWS, HOUR, LAST_ACTIVE_HOUR = range(3)
HOT, COOL, OPEN, REFRACTORY = range(4)

GAIN = 0.02
"""Weight of a new window in level, variance and mean, once there are 50."""
ACTIVE_GAIN = 0.002
"""Weight in the share of active windows: some 500 windows decide whether a key is sparse."""
SEASON_GAIN = 0.3
BURN_IN = 15
"""Windows that a key begins with."""
BURN_IN_TRIMMED = 3
"""The largest of them that its first mean leaves out: one spike must not widen the offset for hours."""
MAD_TO_SD = 1.4826
SLOW = 0.25
"""Learning of hot windows, relative to others."""
WINSOR = 3.0
MIN_SD = 0.15
OFFSET_SHARE = 0.25
MIN_OFFSET = 1_000.0
"""Nano-USD: keeps ln defined for a key that has never spent anything."""
MAX_SPEND = 1e18
MIN_ACTIVE = 0.95
WEEK_SLOTS_AFTER_MS = 21 * DAY_MS
SILENT_HOURS = 35 * 24
"""A key that has been silent for this long is forgotten."""


@njit(cache=True, nogil=True)
def _predict(values, windows, day, week, week_visits, hour, window_ms):
    """(offset, prediction, sd) of one key's next window in absolute hour ``hour``."""
    offset = max(OFFSET_SHARE * values[MEAN], MIN_OFFSET)
    slot = (hour + 72) % 168  # 1970-01-01 was a Thursday: slot 0 is Monday 00 UTC
    season = day[hour % 24]
    if windows * window_ms >= WEEK_SLOTS_AFTER_MS and week_visits[slot] > 0:
        season = week[slot]
    return offset, values[LEVEL] + season, max(math.sqrt(values[VAR]), MIN_SD)


@njit(cache=True, nogil=True)
def score(spend, hour, window_ms, values, counts, day, week, week_visits, z, expected):
    """Fill z float64[n] and expected float64[n] (nano-USD) for one window of all keys; changes no state.

    spend: float64[n] nano-USD; hour: hours since 1970; the rest is the state of SpendRate. A key with less than
    BURN_IN windows has z = 0 and expects nothing.
    """
    for i in range(len(spend)):
        z[i] = 0.0
        expected[i] = 0.0
        if counts[i, WINDOWS] < BURN_IN:
            continue
        x = spend[i] if spend[i] > 0.0 else 0.0
        x = min(x, MAX_SPEND)
        offset, pred, sd = _predict(values[i], counts[i, WINDOWS], day[i], week[i], week_visits[i], hour, window_ms)
        z[i] = (math.log(x + offset) - pred) / sd
        expected[i] = max(math.exp(pred) - offset, 0.0)


@njit(cache=True, nogil=True)
def _begin(young, values):
    """Mean, level and variance from a key's first windows; ``young`` float64[BURN_IN] is sorted."""
    young.sort()
    total = 0.0
    for k in range(BURN_IN - BURN_IN_TRIMMED):
        total += young[k]
    values[MEAN] = total / (BURN_IN - BURN_IN_TRIMMED)
    offset = max(OFFSET_SHARE * values[MEAN], MIN_OFFSET)
    for k in range(BURN_IN):
        young[k] = math.log(young[k] + offset)
    values[LEVEL] = young[BURN_IN // 2]
    for k in range(BURN_IN):
        young[k] = abs(young[k] - values[LEVEL])
    young.sort()
    values[VAR] = (MAD_TO_SD * young[BURN_IN // 2]) ** 2


@njit(cache=True, nogil=True)
def update(spend, hour, window_ms, hot, values, counts, young, day, day_visits, week, week_visits):
    """Learn one window of all keys: spend float64[n] nano-USD, hot bool[n]; the rest is the state of SpendRate."""
    for i in range(len(spend)):
        x = spend[i] if spend[i] > 0.0 else 0.0
        x = min(x, MAX_SPEND)
        windows = counts[i, WINDOWS]
        if x > 0.0 or windows == 0:
            counts[i, LAST_ACTIVE_HOUR] = hour
        counts[i, WINDOWS] = windows + 1
        activity = max(ACTIVE_GAIN, 1.0 / (windows + 1))
        values[i, ACTIVE] += activity * ((1.0 if x > 0.0 else 0.0) - values[i, ACTIVE])
        if windows < BURN_IN:
            young[i, windows] = x
            counts[i, HOUR] = hour
            if windows == BURN_IN - 1:
                _begin(young[i], values[i])
            continue
        if counts[i, HOUR] != hour:
            weight = values[i, VISIT_WEIGHT]
            if weight > 0.0:
                seen = min(weight * window_ms / HOUR_MS, 1.0)
                target = values[i, VISIT_SUM] / weight
                slot = counts[i, HOUR] % 24
                day_visits[i, slot] += 1
                day[i, slot] += max(SEASON_GAIN, 1.0 / day_visits[i, slot]) * seen * (target - day[i, slot])
                slot = (counts[i, HOUR] + 72) % 168
                week_visits[i, slot] += 1
                week[i, slot] += max(SEASON_GAIN, 1.0 / week_visits[i, slot]) * seen * (target - week[i, slot])
            values[i, VISIT_SUM] = 0.0
            values[i, VISIT_WEIGHT] = 0.0
            counts[i, HOUR] = hour
        offset, pred, sd = _predict(values[i], windows, day[i], week[i], week_visits[i], hour, window_ms)
        residual = math.log(x + offset) - pred
        clipped = min(max(residual, -WINSOR * sd), WINSOR * sd)
        learn = SLOW if hot[i] else 1.0
        weight = learn * max(GAIN, 1.0 / (windows + 1))
        tame = x
        if residual > clipped:
            tame = max(math.exp(pred + clipped) - offset, 0.0)
        values[i, VISIT_SUM] += learn * (pred + clipped - values[i, LEVEL])
        values[i, VISIT_WEIGHT] += learn
        values[i, MEAN] += weight * (tame - values[i, MEAN])
        values[i, LEVEL] += weight * clipped
        values[i, VAR] += weight * (clipped * clipped - values[i, VAR])


@njit(cache=True, nogil=True)
def update_silent(silent, hour, window_ms, values, counts, young, day, day_visits, week, week_visits):
    """``update`` with no spend in any key, ``silent`` times over, all within one hour."""
    spend = np.zeros(len(values))
    hot = np.zeros(len(values), np.bool_)
    for _ in range(silent):
        update(spend, hour, window_ms, hot, values, counts, young, day, day_visits, week, week_visits)


@dataclass(frozen=True, slots=True)
class Judgement:
    """One window of all keys, in the order of their rows; arrays of length n."""

    spend: np.ndarray
    """float64, nano-USD"""
    z: np.ndarray
    expected: np.ndarray
    """float64, nano-USD"""
    windows: np.ndarray
    """int64: windows behind the expectation"""
    opening: np.ndarray
    """bool"""
    closing: np.ndarray
    """bool"""
    open: np.ndarray
    """bool: in an incident, those just opening included and those closing not"""


class SpendRate:
    """Past of all keys: struct-of-arrays, one row per key. Keys are added by the caller, in order.

    >>> watch = SpendRate(SpendRateConfig(), 60_000)
    >>> watch.add(1)
    >>> everyone = np.ones(1, np.bool_)
    >>> for minute in range(60):
    ...     judged = watch.judge(np.array([1e9 + minute % 7 * 1e7]), minute * 60_000, everyone)
    >>> for minute in range(60, 62):
    ...     judged = watch.judge(np.array([8e9]), minute * 60_000, everyone)
    >>> bool(judged.opening[0]), round(float(judged.expected[0]) / 1e9, 1)
    (True, 1.0)
    """

    _ARRAYS = ("counts", "day", "day_visits", "flags", "values", "week", "week_visits", "young")
    __slots__ = ("_n", "config", "window_ms", *_ARRAYS)

    def __init__(self, config: SpendRateConfig, window_ms: int):
        self.config = config
        self.window_ms = window_ms
        self._n = 0
        self.values = np.zeros((16, 6), np.float64)
        self.counts = np.zeros((16, 3), np.int64)
        self.flags = np.zeros((16, 4), np.int64)
        self.young = np.zeros((16, BURN_IN), np.float64)
        self.day = np.zeros((16, 24), np.float64)
        self.day_visits = np.zeros((16, 24), np.int32)
        self.week = np.zeros((16, 168), np.float64)
        self.week_visits = np.zeros((16, 168), np.int32)

    def __len__(self) -> int:
        return self._n

    def add(self, keys: int) -> None:
        """Rows for new keys."""
        n = self._n + keys
        capacity = len(self.values)
        if n > capacity:
            for name in self._ARRAYS:
                array = getattr(self, name)
                spare = np.zeros((max(n, 2 * capacity) - capacity, *array.shape[1:]), array.dtype)
                setattr(self, name, np.concatenate([array, spare]))
        self._n = n

    def sparse(self) -> np.ndarray:
        """bool[n]: keys with too many empty windows to be judged window by window."""
        return self.values[: self._n, ACTIVE] < MIN_ACTIVE

    def judge(self, spend: np.ndarray, window_start_ms: int, eligible: np.ndarray) -> Judgement:
        """Score one closed window of all keys, move their incidents on, then learn from it.

        spend: float64[n] nano-USD; eligible: bool[n], keys that may open an incident. Windows come in order.
        """
        n, config = self._n, self.config
        hour = window_start_ms // HOUR_MS
        values, counts, flags = self.values[:n], self.counts[:n], self.flags[:n]
        day, week, week_visits = self.day[:n], self.week[:n], self.week_visits[:n]
        z, expected = np.empty(n), np.empty(n)
        score(spend, hour, self.window_ms, values, counts, day, week, week_visits, z, expected)
        windows = counts[:, WINDOWS].copy()

        was_open = flags[:, OPEN] > 0
        over = (spend > config.ratio * expected) & (spend - expected > config.min_excess_nano_usd)
        hot = (z > config.z) & over & (windows >= config.warm_up_windows)
        flags[:, HOT] = np.where(hot & eligible, flags[:, HOT] + 1, 0)
        opening = ~was_open & (flags[:, REFRACTORY] == 0) & (flags[:, HOT] >= config.windows)
        flags[:, COOL] = np.where(was_open & (z < config.clear_z), flags[:, COOL] + 1, 0)
        closing = flags[:, COOL] >= config.clear_windows
        is_open = (was_open | opening) & ~closing
        flags[:, OPEN] = is_open
        flags[:, REFRACTORY] = np.where(closing, config.clear_windows, np.maximum(flags[:, REFRACTORY] - 1, 0))
        flags[closing, COOL] = 0

        update(
            spend,
            hour,
            self.window_ms,
            hot | was_open,
            values,
            counts,
            self.young[:n],
            day,
            self.day_visits[:n],
            week,
            week_visits,
        )
        return Judgement(spend, z, expected, windows, opening, closing, is_open)

    def calm(self) -> bool:
        """No key is in an incident."""
        return not self.flags[: self._n, OPEN].any()

    def pass_silence(self, start_ms: int, silent: int) -> None:
        """What ``judge`` does in so many windows without any spend, all within one hour, while ``calm``."""
        n = self._n
        self.flags[:n, HOT] = 0
        self.flags[:n, REFRACTORY] = np.maximum(self.flags[:n, REFRACTORY] - silent, 0)
        update_silent(
            silent,
            start_ms // HOUR_MS,
            self.window_ms,
            self.values[:n],
            self.counts[:n],
            self.young[:n],
            self.day[:n],
            self.day_visits[:n],
            self.week[:n],
            self.week_visits[:n],
        )

    def silent(self, hour: int) -> np.ndarray:
        """bool[n]: keys without an incident that have spent nothing for five weeks."""
        n = self._n
        return (self.counts[:n, LAST_ACTIVE_HOUR] < hour - SILENT_HOURS) & (self.flags[:n, OPEN] == 0)

    def keep(self, mask: np.ndarray) -> None:
        """Forget the keys outside ``mask`` bool[n]; the others move up, in order."""
        kept = np.flatnonzero(mask)
        for name in self._ARRAYS:
            array = getattr(self, name)
            array[: len(kept)] = array[kept]
            array[len(kept) : self._n] = 0
        self._n = len(kept)

    def snapshot(self) -> dict:
        return {name: getattr(self, name)[: self._n].copy() for name in self._ARRAYS}

    @classmethod
    def restore(cls, config: SpendRateConfig, window_ms: int, snapshot: dict) -> "SpendRate":
        self = cls(config, window_ms)
        self.add(len(snapshot["values"]))
        for name in cls._ARRAYS:
            getattr(self, name)[: self._n] = snapshot[name]
        return self
