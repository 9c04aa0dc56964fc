"""Spend per window of a team or model against its own past: rates that break their pattern, and silence.

For each key and closed window of spend x (zero windows of a silent key included)::

    offset   = 0.1 EW mean(x)                   scales with the key: a fixed one inflates the variance of quiet keys
    pred     = level + season(time)             24 hours of the day; 168 of the week after three weeks; interpolated
    r        = ln(x + offset) - pred            how far above its usual
    u        = r - peak                         above its own records: peak is the decaying maximum of r
    j        = (r - fast) - jump                the same for jumps against the last half hour
    hot      : u > 0.7 + guard, or j > 0.45 + guard and r > 0.4
    mild     : u > 0.35 + guard

and, of both, x > m + 3 sd in plain dollars, EW over eight hours: where spend comes in bursts sd is wide

All against what this key does anyway, so that one rule fits steady and bursty keys: a key that often triples has
a peak of ln 3. ``guard`` grows by 0.6 with every incident that opens and halves in two weeks, so a key that keeps
alarming raises its own threshold (adaptive conformal inference in its simplest form); a verdict "true" takes that
back, "false" adds as much again. Keys younger than a day have up to 0.1 more.

A hot window of five minutes or more, or ``windows`` hot or mild ones in a row, open an incident if x is also above
``ratio`` times what is expected (for jumps: what the last half hour makes expected) and above it by a dollar floor. It
is resolved after
``clear_windows`` below u = 0.25, and after 24 hours anyway: then the new level is what is usual.

A level shift too small for that is found by CUSUM over hours of r above 0.35, against the key's own record again.

Silence: a dense key below a tenth of what is expected, for a quarter longer than it twice has been in the last weeks
and 20 minutes at least, with the dollar floor missing in sum.

Learning is winsorised, four times slower while hot and while far below: neither an incident nor an outage becomes
usual by itself. A key begins with the median and the median deviation of its first 15 windows, of which the first is
never a whole one; until then it is not judged. A season learns from whole visits of its hour, once per visit and in
proportion to the part of the hour seen: inside an hour it stands still, so it can hide nothing that happens within
it, and with one hour of history it is zero.

Keys active in less than 95 % of their windows are sparse: only the hour sums of a second instance may alert, and one
hour alone only with ten times the dollar floor.

Scoring never learns: ``score`` leaves the state alone and ``update`` is told what was hot. Cost: 2.6 kB a key, 0.1 to
0.3 us a key and window. Late amendments of a window that was judged do not judge it again.
Measured in docs/rates.md.

Sources: winsorised EWMA with seasonal slots after Holt and Winters; Page, Continuous Inspection Schemes, Biometrika
1954 (CUSUM); Gibbs and Candes, Adaptive Conformal Inference Under Distribution Shift, NeurIPS 2021. Called by
models.rate_watch and models.series.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from models.config import DAY_MS, HOUR_MS, MINUTE_MS, SpendRateConfig
from models.detectors.key_rows import KeyRows

(
    MEAN,
    LEVEL,
    VAR,
    ACTIVE,
    VISIT_SUM,
    VISIT_WEIGHT,
    FAST,
    PEAK,
    JUMP,
    GUARD,
    SHIFT,
    SHIFT_PEAK,
    RUN_PEAK,
    RUN_USUAL,
    RUN_SPENT,
    USD_MEAN,
    USD_VAR,
    RUN_LONGEST,
    SHIFT_TOP,
) = range(19)
WINDOWS, HOUR, LAST_ACTIVE_HOUR, LOW_RUN = range(4)
MILD, COOL, OPEN, REFRACTORY, SILENT = range(5)
CALM, RISING, BURSTING = range(3)
"""What ``score`` says of a window: below the clearing line, between, mild or more."""

BURN_IN = 15
"""Windows that a key begins with."""
BURN_IN_TRIMMED = 3
"""The largest of them that its first mean leaves out: one spike must not widen the offset for hours."""
MAD_TO_SD = 1.4826
SLOW = 0.25
"""Learning of hot windows and of outages, relative to others."""
WINSOR = 3.0
MIN_SD = 0.15
LEAST_SD = 0.02
"""The same for ``surprise``, which compares points of one series and needs no floor for money."""
OFFSET_SHARE = 0.1
MIN_OFFSET = 1_000.0
"""Nano-USD: keeps ln defined for a key that has never spent anything."""
MAX_SPEND = 1e18
MIN_ACTIVE = 0.95
OUTAGE_RUN = 3
"""Windows far below what is expected, after which empty ones are an outage and do not make a key sparse."""
ACTIVE_GAIN = 0.002
"""Weight in the share of active windows: some 500 windows decide whether a key is sparse."""
SEASON_GAIN = 0.3
WEEK_SLOTS_AFTER_MS = 21 * DAY_MS
SILENT_HOURS = 35 * 24
"""A key that has been silent for this long is forgotten."""

HOT_MARGIN = 0.7
MILD_MARGIN = 0.35
JUMP_MARGIN = 0.45
USD_Z = 3.0
"""Standard deviations of plain spend."""
USD_CAP = 12.0
"""Standard deviations that one window counts for at most: one freak must not hide the next."""
JUMP_MIN = 0.4
"""A jump counts only above usual: coming back from a low is none."""
CLEAR_MARGIN = 0.25
YOUNG_GUARD = 0.1
"""For a new key; gone after a day."""
GUARD_STEP = 0.6
RECORD_STEP = 0.5
"""What one window can add to a record: one freak must not hide the next.
In incidents, and for what is clearly above the record of a new key, a quarter of it per RECORD_MS."""
RECORD_MS = 10 * MINUTE_MS
SHIFT_REST = 0.35
"""ln 1.42: what CUSUM takes for noise of the level."""
SHIFT_MARGIN = 9.0
"""Hours times ln: a day at twice the usual, 14 hours at three times and more."""
LOW_SHARE = 0.1
RUN_FACTOR = 1.25
MIN_RUN_MS = 20 * MINUTE_MS
AT_ONCE_MS = 5 * MINUTE_MS
"""One window this long is more than one large call; of shorter ones it takes ``windows``."""
SPARSE_FLOORS = 10
"""Dollar floors that one window of a sparse key must exceed to open at once: whoever comes rarely is always news."""
LASTING_MS = DAY_MS
"""An incident is over after this: what lasts is usual."""

LEVEL_MS = 33 * HOUR_MS
FAST_MS = 28 * MINUTE_MS
USD_MS = 8 * HOUR_MS
PEAK_HALF_MS = 12 * HOUR_MS
JUMP_HALF_MS = 5 * DAY_MS
GUARD_HALF_MS = 14 * DAY_MS


def pace(window_ms: int) -> np.ndarray:
    """float64[7]: gain of level and of fast, decay of peak, jump and guard, hours; all per window."""
    ends = [1 - math.exp(-window_ms / span) for span in (LEVEL_MS, FAST_MS, USD_MS)]
    halves = [0.5 ** (window_ms / half) for half in (PEAK_HALF_MS, JUMP_HALF_MS, GUARD_HALF_MS)]
    return np.array([*ends[:2], *halves, window_ms / HOUR_MS, ends[2]])


@njit(cache=True, nogil=True)
def _predict(values, windows, day, week, week_visits, start_ms, window_ms):
    """(offset, prediction, sd) of one key's window that begins at ``start_ms``."""
    offset = max(OFFSET_SHARE * values[MEAN], MIN_OFFSET)
    hour = start_ms // HOUR_MS
    other, share = hour, 0.0
    if window_ms < HOUR_MS:
        # Slots hold the middle of their hour: before it, the hour before is the nearer neighbour.
        middle = (start_ms % HOUR_MS + window_ms / 2) / HOUR_MS - 0.5
        other = hour + 1 if middle > 0 else hour - 1
        share = abs(middle)
    season = 0.0
    for at, part in ((hour, 1.0 - share), (other, share)):
        slot = (at + 72) % 168  # 1970-01-01 was a Thursday: slot 0 is Monday 00 UTC
        if windows * window_ms >= WEEK_SLOTS_AFTER_MS and week_visits[slot] > 0:
            season += part * week[slot]
        else:
            season += part * day[at % 24]
    return offset, values[LEVEL] + season, max(math.sqrt(values[VAR]), MIN_SD)


@njit(cache=True, nogil=True)
def _clean(x):
    return min(x if x > 0.0 else 0.0, MAX_SPEND)


@njit(cache=True, nogil=True)
def _youth(windows, window_ms):
    return YOUNG_GUARD * max(0.0, 1.0 - windows * window_ms / DAY_MS)


@njit(cache=True, nogil=True)
def score(
    spend, start_ms, window_ms, pace, margin, ratio, values, counts, day, week, week_visits, strength, state, expected
):
    """Fill strength float64[n], state int64[n] and expected float64[n] (nano-USD) for one window of all keys.

    spend: float64[n] nano-USD; margin: multiplies all margins; the rest is the state of SpendRate and is not changed.
    strength is 1 where a window is just hot. A key with less than BURN_IN windows has 0 and expects nothing.
    """
    for i in range(len(spend)):
        strength[i], state[i], expected[i] = 0.0, CALM, 0.0
        windows = counts[i, WINDOWS]
        if windows < BURN_IN:
            continue
        x = _clean(spend[i])
        offset, pred, _ = _predict(values[i], windows, day[i], week[i], week_visits[i], start_ms, window_ms)
        usual = max(math.exp(pred) - offset, 0.0)
        expected[i] = usual
        r = math.log(x + offset) - pred
        guard = values[i, GUARD] + _youth(windows, window_ms)
        above = r - values[i, PEAK]
        if above > CLEAR_MARGIN * margin:
            state[i] = RISING
        wild = x > values[i, USD_MEAN] + USD_Z * margin * math.sqrt(values[i, USD_VAR])
        if wild and x > ratio * usual:
            strength[i] = above / (HOT_MARGIN * margin + guard)
            if above > MILD_MARGIN * margin + guard:
                state[i] = BURSTING
        jump = r - values[i, FAST] - values[i, JUMP]
        if wild and r > JUMP_MIN and x > ratio * (math.exp(pred + values[i, FAST]) - offset):
            strength[i] = max(strength[i], jump / (JUMP_MARGIN * margin + guard))
        shift = values[i, SHIFT] + (min(r, 1.0) - SHIFT_REST) * pace[5]
        if r > SHIFT_REST:
            strength[i] = max(
                strength[i], shift / (SHIFT_MARGIN * margin * (1.0 + guard) + RUN_FACTOR * values[i, SHIFT_PEAK])
            )
        strength[i] = max(strength[i], 0.0)


@njit(cache=True, nogil=True)
def surprise(spend, start_ms, window_ms, values, counts, day, week, week_visits, out):
    """Fill out float64[n]: see SpendRate.surprise."""
    for i in range(len(spend)):
        out[i] = 0.0
        x, v = _clean(spend[i]), values[i]
        if counts[i, WINDOWS] < BURN_IN or x <= v[USD_MEAN] + USD_Z * math.sqrt(v[USD_VAR]):
            continue
        offset, pred, _ = _predict(v, counts[i, WINDOWS], day[i], week[i], week_visits[i], start_ms, window_ms)
        r = math.log(x + offset) - pred
        out[i] = max(r - v[PEAK], r - v[FAST] - v[JUMP], 0.0) / max(math.sqrt(v[VAR]), LEAST_SD)


@njit(cache=True, nogil=True)
def _begin(young, values):
    """Mean, level, variance and peak from a key's first windows; ``young`` float64[BURN_IN] is sorted."""
    young.sort()
    total = 0.0
    for k in range(BURN_IN - BURN_IN_TRIMMED):
        total += young[k]
    values[MEAN] = total / (BURN_IN - BURN_IN_TRIMMED)
    offset = max(OFFSET_SHARE * values[MEAN], MIN_OFFSET)
    for k in range(BURN_IN):
        young[k] = math.log(young[k] + offset)
    values[LEVEL] = young[BURN_IN // 2]
    values[USD_MEAN] = values[MEAN]
    values[PEAK] = min(young[BURN_IN - 1] - values[LEVEL], RECORD_STEP)
    for k in range(BURN_IN):
        young[k] = abs(young[k] - values[LEVEL])
    young.sort()
    values[VAR] = (MAD_TO_SD * young[BURN_IN // 2]) ** 2


@njit(cache=True, nogil=True)
def update(spend, start_ms, window_ms, pace, hot, values, counts, young, day, day_visits, week, week_visits):
    """Learn one window of all keys: spend float64[n] nano-USD, hot bool[n]; the rest is the state of SpendRate."""
    hour = start_ms // HOUR_MS
    for i in range(len(spend)):
        x = _clean(spend[i])
        v = values[i]
        windows = counts[i, WINDOWS]
        if x > 0.0 or windows == 0:
            counts[i, LAST_ACTIVE_HOUR] = hour
        counts[i, WINDOWS] = windows + 1
        if x > 0.0 or counts[i, LOW_RUN] < OUTAGE_RUN:
            activity = max(ACTIVE_GAIN, 1.0 / (windows + 1))
            v[ACTIVE] += activity * ((1.0 if x > 0.0 else 0.0) - v[ACTIVE])
        if windows < BURN_IN:
            young[i, windows] = x
            counts[i, HOUR] = hour
            if windows == BURN_IN - 1:
                _begin(young[i], v)
            continue
        if counts[i, HOUR] != hour:
            weight = v[VISIT_WEIGHT]
            if weight > 0.0:
                seen = min(weight * window_ms / HOUR_MS, 1.0)
                target = v[VISIT_SUM] / weight
                slot = counts[i, HOUR] % 24
                day_visits[i, slot] += 1
                day[i, slot] += max(SEASON_GAIN, 1.0 / day_visits[i, slot]) * seen * (target - day[i, slot])
                slot = (counts[i, HOUR] + 72) % 168
                week_visits[i, slot] += 1
                week[i, slot] += max(SEASON_GAIN, 1.0 / week_visits[i, slot]) * seen * (target - week[i, slot])
            v[VISIT_SUM] = 0.0
            v[VISIT_WEIGHT] = 0.0
            counts[i, HOUR] = hour
        offset, pred, sd = _predict(v, windows, day[i], week[i], week_visits[i], start_ms, window_ms)
        r = math.log(x + offset) - pred
        usual = max(math.exp(pred) - offset, 0.0)
        gain, off = max(pace[6], 1.0 / (windows + 1)), x - v[USD_MEAN]
        most = USD_CAP * max(math.sqrt(v[USD_VAR]), MIN_SD * max(usual, MIN_OFFSET))
        if off > most:
            gain, off = pace[6], most
        v[USD_MEAN] += gain * off
        v[USD_VAR] += gain * (off * off - v[USD_VAR])
        clipped = min(max(r, -WINSOR * sd), WINSOR * sd)
        learn = SLOW if hot[i] or r < -WINSOR * sd else 1.0
        weight = learn * max(pace[0], 1.0 / (windows + 1))
        tame = x
        if r > clipped:
            tame = max(math.exp(pred + clipped) - offset, 0.0)
        # In an incident the season stands still: what lasts is the level's to learn.
        v[VISIT_SUM] += learn * (pred + (0.0 if hot[i] else clipped) - v[LEVEL])
        v[VISIT_WEIGHT] += learn
        v[MEAN] += weight * (tame - v[MEAN])
        v[LEVEL] += weight * clipped
        v[VAR] += weight * (clipped * clipped - v[VAR])

        slow = RECORD_STEP * SLOW * min(1.0, window_ms / RECORD_MS)
        youth = _youth(windows, window_ms)
        clear = MILD_MARGIN - youth if youth > 0.0 else math.inf
        above, leap = r - v[PEAK], r - v[FAST]
        jump = leap - v[JUMP]
        v[PEAK] *= pace[2]
        if above > 0.0:
            v[PEAK] += min(above, slow if hot[i] or above > clear else RECORD_STEP)
        v[JUMP] *= pace[3]
        if jump > 0.0:
            v[JUMP] += min(jump, slow if hot[i] or jump > clear else RECORD_STEP)
        follow = pace[1]
        if hot[i]:
            follow *= SLOW
        if leap < -max(0.7, WINSOR * sd):
            follow *= 0.05  # An outage is no new level: what ends it is no jump.
        v[FAST] += follow * min(max(leap, -1.0), 1.0)
        v[GUARD] *= pace[4]
        v[SHIFT_PEAK] *= pace[4]
        v[SHIFT] = max(0.0, v[SHIFT] + (min(r, 1.0) - SHIFT_REST) * pace[5])
        v[SHIFT_TOP] = max(v[SHIFT_TOP], v[SHIFT])
        if v[SHIFT] == 0.0:
            v[SHIFT_PEAK] = max(v[SHIFT_PEAK], min(v[SHIFT_TOP], SHIFT_MARGIN))
            v[SHIFT_TOP] = 0.0

        v[RUN_PEAK] *= pace[4]
        v[RUN_LONGEST] *= pace[4]
        if usual > 0.0 and x < LOW_SHARE * usual:
            counts[i, LOW_RUN] += 1
            v[RUN_USUAL] += usual
            v[RUN_SPENT] += x
        else:
            # One outage must not hide the next: it takes two of a length to make it usual.
            run = counts[i, LOW_RUN] * 1.0
            v[RUN_PEAK] = max(v[RUN_PEAK], min(run, v[RUN_LONGEST]))
            v[RUN_LONGEST] = max(v[RUN_LONGEST], run)
            counts[i, LOW_RUN] = 0
            v[RUN_USUAL] = 0.0
            v[RUN_SPENT] = 0.0


@njit(cache=True, nogil=True)
def update_silent(silent, start_ms, window_ms, pace, values, counts, young, day, day_visits, week, week_visits):
    """``update`` with no spend in any key, ``silent`` times over, all within one hour."""
    spend = np.zeros(len(values))
    hot = np.zeros(len(values), np.bool_)
    for k in range(silent):
        at_ms = start_ms + k * window_ms
        update(spend, at_ms, window_ms, pace, hot, values, counts, young, day, day_visits, week, week_visits)


@dataclass(frozen=True, slots=True)
class Judgement:
    """One window of all keys, in the order of their rows; arrays of length n."""

    spend: np.ndarray
    """float64, nano-USD"""
    strength: np.ndarray
    """float64: 1 where a window is just hot"""
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
    silent: np.ndarray
    """bool: should spend and does not"""
    stopped: np.ndarray
    """bool: silent for the first window"""


class SpendRate(KeyRows):
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
    __slots__ = ("_pace", *_ARRAYS)

    def __init__(self, config: SpendRateConfig, window_ms: int):
        super().__init__(config, window_ms)
        self._pace = pace(window_ms)
        self.values = np.zeros((16, 19), np.float64)
        self.counts = np.zeros((16, 4), np.int64)
        self.flags = np.zeros((16, 5), np.int64)
        self.young = np.zeros((16, BURN_IN), np.float64)
        self.day = np.zeros((16, 24), np.float64)
        self.day_visits = np.zeros((16, 24), np.int32)
        self.week = np.zeros((16, 168), np.float64)
        self.week_visits = np.zeros((16, 168), np.int32)

    def sparse(self) -> np.ndarray:
        """bool[n]: keys with too many empty windows to be judged window by window."""
        return self.values[: self._n, ACTIVE] < MIN_ACTIVE

    def judge(self, spend: np.ndarray, window_start_ms: int, eligible: np.ndarray) -> Judgement:
        """Score one closed window of all keys, move their incidents on, then learn from it.

        spend: float64[n] nano-USD; eligible: bool[n], keys that may open an incident. Windows come in order.
        """
        n, config = self._n, self.config
        strength, state, expected = self.score(spend, window_start_ms)
        values, counts, flags = self.values[:n], self.counts[:n], self.flags[:n]
        windows = counts[:, WINDOWS].copy()

        was_open = flags[:, OPEN] > 0
        may = (windows >= config.warm_up_windows) & (spend - expected > config.min_excess_nano_usd)
        hot = may & (strength >= 1.0)
        mild = hot | (may & (state == BURSTING))
        large = spend - expected > SPARSE_FLOORS * config.min_excess_nano_usd
        at_once = (self.window_ms >= AT_ONCE_MS) & (large | ~self.sparse())
        flags[:, MILD] = np.where(mild & eligible, flags[:, MILD] + 1, 0)
        opening = (
            ~was_open & (flags[:, REFRACTORY] == 0) & eligible & ((hot & at_once) | (flags[:, MILD] >= config.windows))
        )
        flags[:, COOL] = np.where(was_open & (state == CALM), flags[:, COOL] + 1, 0)
        flags[:, OPEN] = np.where(was_open | opening, flags[:, OPEN] + 1, 0)
        lasting = flags[:, OPEN] * self.window_ms > LASTING_MS
        closing = was_open & ((flags[:, COOL] >= config.clear_windows) | lasting)
        flags[closing, OPEN] = 0
        flags[:, REFRACTORY] = np.where(closing, config.clear_windows, np.maximum(flags[:, REFRACTORY] - 1, 0))
        flags[closing, COOL] = 0

        unusual = (strength >= 1.0) | (state == BURSTING)
        self._update(spend, window_start_ms, unusual | was_open)
        # The first day's rhythm is news to a new key: that is no reason to trust it less.
        values[opening, GUARD] += GUARD_STEP * np.minimum(windows[opening] * self.window_ms / DAY_MS, 1.0)
        values[closing | opening, SHIFT] = 0.0
        self._settle(np.flatnonzero(closing & lasting))
        silent, stopped = self._silence()
        return Judgement(spend, strength, expected, windows, opening, closing, flags[:, OPEN] > 0, silent, stopped)

    def score(self, spend: np.ndarray, window_start_ms: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(strength float64[n], state int64[n], expected float64[n] nano-USD); changes nothing."""
        n, config = self._n, self.config
        strength, state, expected = np.empty(n), np.empty(n, np.int64), np.empty(n)
        past = (self.values[:n], self.counts[:n], self.day[:n], self.week[:n], self.week_visits[:n])
        knobs = (self.window_ms, self._pace, config.margin, config.ratio)
        score(spend, window_start_ms, *knobs, *past, strength, state, expected)
        return strength, state, expected

    def surprise(self, spend: np.ndarray, window_start_ms: int) -> np.ndarray:
        """float64[n]: how far above its records each key is, in its own standard deviations; changes nothing.

        0 where it is not above its records, or not three standard deviations above its mean in plain dollars.
        """
        n = self._n
        values, out = self.values[:n], np.zeros(n)
        surprise(spend, window_start_ms, self.window_ms, values, *(self._past()[i] for i in (1, 3, 5, 6)), out)
        return out

    def _update(self, spend: np.ndarray, start_ms: int, hot: np.ndarray) -> None:
        update(spend, start_ms, self.window_ms, self._pace, hot, *self._past())

    def _past(self) -> tuple[np.ndarray, ...]:
        names = ("values", "counts", "young", "day", "day_visits", "week", "week_visits")
        return tuple(getattr(self, name)[: self._n] for name in names)

    def _settle(self, rows: np.ndarray) -> None:
        """What these keys do now is usual from here on."""
        values = self.values
        values[rows, LEVEL] += values[rows, FAST]
        values[rows, MEAN] *= np.exp(np.clip(values[rows, FAST], -5.0, 5.0))
        values[np.ix_(rows, (FAST, PEAK, SHIFT))] = 0.0

    def _silence(self) -> tuple[np.ndarray, np.ndarray]:
        n = self._n
        values, flags = self.values[:n], self.flags[:n]
        run = self.counts[:n, LOW_RUN]
        long = (run * self.window_ms >= MIN_RUN_MS) & (run > RUN_FACTOR * values[:, RUN_PEAK])
        missed = values[:, RUN_USUAL] - values[:, RUN_SPENT] > self.config.min_excess_nano_usd
        begins = long & missed & ~self.sparse() & (self.counts[:n, WINDOWS] >= self.config.warm_up_windows)
        was = flags[:, SILENT] > 0
        lasting = flags[:, SILENT] * self.window_ms > LASTING_MS
        begins &= flags[:, SILENT] == 0
        silent = (was | begins) & (run > 0) & ~lasting
        # -1: what lasts has been told once.
        told = np.where((run > 0) & (lasting | (flags[:, SILENT] < 0)), -1, 0)
        flags[:, SILENT] = np.where(silent, flags[:, SILENT] + 1, told)
        return silent, silent & ~was

    def verdict(self, row: int, steps: int) -> None:
        """What people say of an incident of this key moves its guard; it is never below 0."""
        self.values[row, GUARD] = max(self.values[row, GUARD] + steps * GUARD_STEP, 0.0)

    def calm(self) -> bool:
        """No key is in an incident."""
        flags = self.flags[: self._n]
        return not (flags[:, OPEN] > 0).any() and not (flags[:, SILENT] > 0).any()

    def pass_silence(self, start_ms: int, silent: int) -> None:
        """What ``judge`` does in so many windows without any spend, all within one hour, while ``calm``."""
        n = self._n
        self.flags[:n, MILD] = 0
        self.flags[:n, REFRACTORY] = np.maximum(self.flags[:n, REFRACTORY] - silent, 0)
        update_silent(silent, start_ms, self.window_ms, self._pace, *self._past())

    def silent(self, hour: int) -> np.ndarray:
        """bool[n]: keys without an incident that have spent nothing for five weeks."""
        flags = self.flags[: self._n]
        unseen = self.counts[: self._n, LAST_ACTIVE_HOUR] < hour - SILENT_HOURS
        return unseen & (flags[:, OPEN] == 0) & (flags[:, SILENT] <= 0)
