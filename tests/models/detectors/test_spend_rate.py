"""The spend-rate detector: kernels against a plain-Python twin, and what it must and must not flag."""

import json
import math
import random
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import HOUR_MS, MINUTE_MS, SpendRateConfig
from models.detectors import spend_rate as sr
from models.detectors.spend_rate import SpendRate

USD = 1e9
EVERYONE = np.ones(1, np.bool_)


class Twin:
    """One key, in plain Python, written from the docstring of the module."""

    def __init__(self, window_ms):
        self.window_ms = window_ms
        self.mean = self.level = self.var = self.active = self.visit_sum = self.visit_weight = 0.0
        self.fast = self.peak = self.jump = self.guard = self.shift = self.shift_peak = 0.0
        self.run_peak = self.run_usual = self.run_spent = 0.0
        self.usd_mean = self.usd_var = self.run_longest = self.shift_top = 0.0
        self.windows = self.hour = self.last_active = self.low_run = 0
        self.day, self.day_visits = [0.0] * 24, [0] * 24
        self.week, self.week_visits = [0.0] * 168, [0] * 168
        self.young = []
        hours = window_ms / HOUR_MS
        self.level_gain, self.fast_gain = 1 - math.exp(-hours / 33), 1 - math.exp(-window_ms / (28 * MINUTE_MS))
        self.peak_decay, self.jump_decay, self.guard_decay = (0.5 ** (hours / h) for h in (12, 5 * 24, 14 * 24))

    @property
    def youth(self):
        return 0.1 * max(0.0, 1.0 - self.windows * self.window_ms / (24 * HOUR_MS))

    def season(self, hour):
        slot = (hour + 72) % 168
        if self.windows * self.window_ms >= 21 * 24 * HOUR_MS and self.week_visits[slot] > 0:
            return self.week[slot]
        return self.day[hour % 24]

    def predict(self, start_ms):
        offset = max(0.1 * self.mean, 1000.0)
        hour, other, share = start_ms // HOUR_MS, start_ms // HOUR_MS, 0.0
        if self.window_ms < HOUR_MS:
            middle = (start_ms % HOUR_MS + self.window_ms / 2) / HOUR_MS - 0.5
            other, share = (hour + 1 if middle > 0 else hour - 1), abs(middle)
        season = (1.0 - share) * self.season(hour) + share * self.season(other)
        return offset, self.level + season, max(math.sqrt(self.var), 0.15)

    @staticmethod
    def clean(x):
        return min(x if x > 0.0 else 0.0, 1e18)

    def score(self, x, start_ms):
        """(strength, state, expected) with margin 1 and ratio 2."""
        if self.windows < 15:
            return 0.0, 0, 0.0
        x = self.clean(x)
        offset, pred, _ = self.predict(start_ms)
        usual = max(math.exp(pred) - offset, 0.0)
        r, guard = math.log(x + offset) - pred, self.guard + self.youth
        above, state, strength = r - self.peak, 0, 0.0
        if above > 0.25:
            state = 1
        wild = x > self.usd_mean + 3.0 * math.sqrt(self.usd_var)
        if wild and x > 2.0 * usual:
            strength = above / (0.7 + guard)
            state = 2 if above > 0.35 + guard else state
        if wild and r > 0.4 and x > 2.0 * (math.exp(pred + self.fast) - offset):
            strength = max(strength, (r - self.fast - self.jump) / (0.45 + guard))
        if r > 0.35:
            shift = self.shift + (min(r, 1.0) - 0.35) * (self.window_ms / HOUR_MS)
            strength = max(strength, shift / (sr.SHIFT_MARGIN * (1.0 + guard) + 1.25 * self.shift_peak))
        return max(strength, 0.0), state, usual

    def begin(self):
        total = 0.0
        for young in sorted(self.young)[:12]:
            total += young
        self.mean = self.usd_mean = total / 12
        logs = sorted(math.log(young + max(0.1 * self.mean, 1000.0)) for young in self.young)
        self.level = statistics.median(logs)
        self.peak = min(logs[-1] - self.level, 0.5)
        self.var = (1.4826 * statistics.median([abs(log - self.level) for log in logs])) ** 2

    def update(self, x, start_ms, hot):
        x, hour = self.clean(x), start_ms // HOUR_MS
        if x > 0.0 or self.windows == 0:
            self.last_active = hour
        if x > 0.0 or self.low_run < 3:
            self.active += max(0.002, 1.0 / (self.windows + 1)) * (float(x > 0) - self.active)
        if self.windows < 15:
            self.young.append(x)
            self.hour = hour
            self.windows += 1
            if self.windows == 15:
                self.begin()
            return
        if self.hour != hour:
            if self.visit_weight > 0:
                seen = min(self.visit_weight * self.window_ms / HOUR_MS, 1.0)
                target = self.visit_sum / self.visit_weight
                for slots, visits, slot in (
                    (self.day, self.day_visits, self.hour % 24),
                    (self.week, self.week_visits, (self.hour + 72) % 168),
                ):
                    visits[slot] += 1
                    slots[slot] += max(0.3, 1.0 / visits[slot]) * seen * (target - slots[slot])
            self.visit_sum = self.visit_weight = 0.0
            self.hour = hour
        offset, pred, sd = self.predict(start_ms)
        usual = max(math.exp(pred) - offset, 0.0)
        r = math.log(x + offset) - pred
        gain = max(1 - math.exp(-self.window_ms / (8 * HOUR_MS)), 1.0 / (self.windows + 1))
        off, most = x - self.usd_mean, 12.0 * max(math.sqrt(self.usd_var), 0.15 * max(usual, 1000.0))
        if off > most:
            gain, off = 1 - math.exp(-self.window_ms / (8 * HOUR_MS)), most
        self.usd_mean += gain * off
        self.usd_var += gain * (off * off - self.usd_var)
        clipped = min(max(r, -3.0 * sd), 3.0 * sd)
        learn = 0.25 if hot or r < -3.0 * sd else 1.0
        weight = learn * max(self.level_gain, 1.0 / (self.windows + 1))
        tame = max(math.exp(pred + clipped) - offset, 0.0) if r > clipped else x
        self.visit_sum += learn * (pred + (0.0 if hot else clipped) - self.level)
        self.visit_weight += learn
        self.mean += weight * (tame - self.mean)
        self.level += weight * clipped
        self.var += weight * (clipped * clipped - self.var)

        slow = 0.5 * 0.25 * min(1.0, self.window_ms / (10 * MINUTE_MS))
        clear = 0.35 - self.youth if self.youth > 0.0 else math.inf
        above, leap = r - self.peak, r - self.fast
        jump = leap - self.jump
        self.peak *= self.peak_decay
        if above > 0.0:
            self.peak += min(above, slow if hot or above > clear else 0.5)
        self.jump *= self.jump_decay
        if jump > 0.0:
            self.jump += min(jump, slow if hot or jump > clear else 0.5)
        follow = self.fast_gain * (0.25 if hot else 1.0) * (0.05 if leap < -max(0.7, 3.0 * sd) else 1.0)
        self.fast += follow * min(max(leap, -1.0), 1.0)
        self.guard *= self.guard_decay
        self.shift_peak *= self.guard_decay
        self.shift = max(0.0, self.shift + (min(r, 1.0) - 0.35) * (self.window_ms / HOUR_MS))
        self.shift_top = max(self.shift_top, self.shift)
        if self.shift == 0.0:
            self.shift_peak = max(self.shift_peak, min(self.shift_top, sr.SHIFT_MARGIN))
            self.shift_top = 0.0
        self.run_peak *= self.guard_decay
        self.run_longest *= self.guard_decay
        if usual > 0.0 and x < 0.1 * usual:
            self.low_run += 1
            self.run_usual += usual
            self.run_spent += x
        else:
            self.run_peak = max(self.run_peak, min(self.low_run, self.run_longest))
            self.run_longest = max(self.run_longest, self.low_run)
            self.low_run, self.run_usual, self.run_spent = 0, 0.0, 0.0
        self.windows += 1

    def values(self):
        return [
            *(self.mean, self.level, self.var, self.active, self.visit_sum, self.visit_weight, self.fast, self.peak),
            *(self.jump, self.guard, self.shift, self.shift_peak, self.run_peak, self.run_usual, self.run_spent),
            *(self.usd_mean, self.usd_var, self.run_longest, self.shift_top),
        ]


def run(watch, spend, start_ms=0):
    """Judgements of one key's windows, in order."""
    if not len(watch):
        watch.add(1)
    return [watch.judge(np.array([float(x)]), start_ms + i * watch.window_ms, EVERYONE) for i, x in enumerate(spend)]


def noisy(n, usual=1.0, seed=1, sd=0.2):
    rng = random.Random(seed)
    return [usual * USD * math.exp(rng.gauss(0, sd)) for _ in range(n)]


spends = st.one_of(
    st.floats(0, 1e12), st.just(0.0), st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 1e300, 5e-324, 1e18])
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(spends, st.booleans()), min_size=1, max_size=150),
    st.sampled_from([MINUTE_MS, 10 * MINUTE_MS, HOUR_MS]),
    st.integers(0, 400_000),
)
def test_kernels_match_the_twin_bit_for_bit(windows, window_ms, first_hour):
    watch, twin = SpendRate(SpendRateConfig(), window_ms), Twin(window_ms)
    watch.add(3)
    for i, (x, hot) in enumerate(windows):
        start_ms = first_hour * HOUR_MS + i * window_ms
        row = np.array([1.0, x, 2.0])
        before = watch.values.copy()
        strength, state, expected = watch.score(row, start_ms)
        assert np.array_equal(before, watch.values), "scoring learns nothing"
        assert (strength[1], state[1], expected[1]) == twin.score(x, start_ms)
        watch._update(row, start_ms, np.array([False, hot, True]))
        twin.update(x, start_ms, hot)
        assert watch.values[1].tolist() == twin.values()
        assert watch.counts[1].tolist() == [twin.windows, twin.hour, twin.last_active, twin.low_run]
        assert np.isfinite(watch.values).all()
    assert watch.day[1].tolist() == twin.day
    assert watch.week[1].tolist() == twin.week


def test_the_twin_agrees_through_weeks_where_weekly_slots_take_over():
    watch, twin = SpendRate(SpendRateConfig(margin=1e9), HOUR_MS), Twin(HOUR_MS)
    watch.add(1)
    rng = random.Random(5)
    for hour in range(26 * 24):
        x = USD * math.exp(rng.gauss(0, 0.3)) * (5 if 8 <= hour % 24 < 18 and hour // 24 % 7 < 5 else 1)
        _, _, expected = watch.score(np.array([x]), hour * HOUR_MS)
        assert expected[0] == twin.score(x, hour * HOUR_MS)[2]
        watch._update(np.array([x]), hour * HOUR_MS, np.zeros(1, np.bool_))
        twin.update(x, hour * HOUR_MS, False)
        if hour > 25 * 24 and hour % 24 == 12:
            weekday = hour // 24 % 7 < 5
            assert (expected[0] > 3 * USD) == weekday, "Sunday noon is not expected to look like Monday noon"


def test_a_tenfold_minute_pair_opens_and_six_calm_minutes_resolve():
    watch = SpendRate(SpendRateConfig(), MINUTE_MS)
    judged = run(watch, noisy(60) + [12 * USD] * 3 + [USD] * 12)
    assert [i for i, j in enumerate(judged) if j.opening[0]] == [61]
    assert [i for i, j in enumerate(judged) if j.closing[0]] == [68]
    assert judged[61].expected[0] == pytest.approx(USD, rel=0.3)


def test_one_hour_of_history_neither_breaks_nor_hides_an_incident_across_the_hour():
    """The demo: an hour of minutes, then a spike that begins in the next hour of the day."""
    start = 18 * HOUR_MS + 20 * MINUTE_MS
    for calm in (35, 40, 44, 60):
        watch = SpendRate(SpendRateConfig(), MINUTE_MS)
        judged = run(watch, noisy(calm) + [6.1 * USD] * 20, start)
        assert [i for i, j in enumerate(judged) if j.opening[0]] == [calm + 1]
        assert all(j.open[0] for j in judged[calm + 1 :]), "twenty minutes at six times the usual stay an incident"
        assert judged[-1].expected[0] < 2 * USD


SUPPORT_CENTS = """
    19 145 145 178 171 186 150 164 158 174 160 178 183 175 155 166 149 158 156 181
    167 184 216 212 191 219 210 226 250 213 214 240 230 193 158 157 166 137 148 140
    149 137 162 163 163 179 194 151 312 484 553 539 541 497 512 518 513 489
"""
"""An hour of a real service by the minute; the first is cut, the last ten are four times its rate."""


def test_a_lasting_fourfold_step_of_real_traffic_is_found_although_the_first_minute_was_cut():
    judged = run(
        SpendRate(SpendRateConfig(), MINUTE_MS), [cents * USD / 100 for cents in map(int, SUPPORT_CENTS.split())]
    )
    opened = [i for i, j in enumerate(judged) if j.opening[0]]
    assert opened == [51], "in the third minute at the full new rate: an hour old key is not yet trusted with two"


def test_nothing_opens_before_warm_up_is_over():
    watch = SpendRate(SpendRateConfig(), MINUTE_MS)
    judged = run(watch, noisy(20) + [50 * USD] * 5 + noisy(4, seed=3) + [50 * USD] * 1)
    assert not any(j.opening[0] for j in judged)
    judged = run(watch, [50 * USD] * 3, 30 * MINUTE_MS)
    assert any(j.opening[0] for j in judged)


def test_an_excess_below_the_floor_is_nobodys_business():
    assert not any(
        j.opening[0] for j in run(SpendRate(SpendRateConfig(), MINUTE_MS), noisy(60, 0.001) + [0.5 * USD] * 9)
    )


def test_a_single_hot_window_is_not_enough():
    watch = SpendRate(SpendRateConfig(), MINUTE_MS)
    assert not any(j.opening[0] for j in run(watch, [*noisy(60), 30 * USD, *noisy(5), 30 * USD, *noisy(5)]))


def test_refractory_windows_after_a_resolution():
    watch = SpendRate(SpendRateConfig(), MINUTE_MS)
    judged = run(watch, noisy(60) + [20 * USD] * 2 + noisy(6, seed=4) + [20 * USD] * 12)
    opened = [i for i, j in enumerate(judged) if j.opening[0]]
    closed = next(i for i, j in enumerate(judged) if j.closing[0])
    assert opened[0] == 61
    assert closed == 67
    assert opened[1] == closed + 7, "six refractory windows, then the incident that is still going on"


def test_a_spike_does_not_mask_the_next_one():
    watch = SpendRate(SpendRateConfig(), MINUTE_MS)
    judged = run(watch, noisy(120) + [1000 * USD] * 10 + noisy(30, seed=6) + [8 * USD] * 3)
    assert [i for i, j in enumerate(judged) if j.opening[0]] == [121, 161]


def test_a_lasting_shift_becomes_the_new_normal():
    watch = SpendRate(SpendRateConfig(), MINUTE_MS)
    judged = run(watch, noisy(300) + noisy(1500, 4.0, seed=7))
    assert sum(bool(j.opening[0]) for j in judged) == 1
    assert not judged[-1].open[0]
    assert judged[-1].expected[0] == pytest.approx(4 * USD, rel=0.3)


def test_silent_windows_are_learnt_and_make_a_key_sparse():
    watch = SpendRate(SpendRateConfig(), MINUTE_MS)
    run(watch, noisy(200))
    assert not watch.sparse()[0]
    run(watch, [0.0, USD] * 15, 200 * MINUTE_MS)
    assert watch.sparse()[0]


def test_an_outage_does_not_make_a_key_sparse():
    watch = SpendRate(SpendRateConfig(), MINUTE_MS)
    run(watch, noisy(200) + [0.0] * 60)
    assert not watch.sparse()[0]


def test_a_key_silent_for_five_weeks_is_forgotten_and_the_others_keep_their_past():
    watch = SpendRate(SpendRateConfig(), HOUR_MS)
    watch.add(2)
    for hour in range(36 * 24):
        watch.judge(np.array([USD if hour == 0 else 0.0, USD * (1 + hour % 3)]), hour * HOUR_MS, np.ones(2, np.bool_))
    assert watch.silent(36 * 24).tolist() == [True, False]
    past = watch.values[1].copy()
    watch.keep(~watch.silent(36 * 24))
    assert len(watch) == 1
    assert np.array_equal(watch.values[0], past)
    watch.add(1)
    assert not watch.values[1].any(), "a new key finds no leftovers"


@settings(max_examples=25, deadline=None)
@given(st.lists(spends, max_size=60), st.lists(spends, min_size=1, max_size=60))
def test_a_restored_detector_goes_on_the_same(before, after):
    config = SpendRateConfig(warm_up_windows=5)
    watch = SpendRate(config, MINUTE_MS)
    run(watch, before)
    plain = json.loads(json.dumps({name: array.tolist() for name, array in watch.snapshot().items()}))
    arrays = {name: np.array(plain[name], array.dtype).reshape(array.shape) for name, array in watch.snapshot().items()}
    again = SpendRate.restore(config, MINUTE_MS, arrays)
    start = len(before) * MINUTE_MS
    for one, other in zip(run(watch, after, start), run(again, after, start), strict=True):
        assert (one.strength[0], one.expected[0], one.open[0]) == (other.strength[0], other.expected[0], other.open[0])


def test_no_false_alarm_in_two_calm_weeks_with_daily_rhythm():
    """Background on 20 keys with a lognormal noise of sd 0.3 and a threefold day: fewer than 0.2 a key and week."""
    rng = np.random.default_rng(11)
    watch = SpendRate(SpendRateConfig(window_ms=10 * MINUTE_MS), 10 * MINUTE_MS)
    watch.add(20)
    opened = 0
    for window in range(14 * 144):
        rhythm = 2 + math.sin(2 * math.pi * window / 144)
        spend = 10 * USD * rhythm * np.exp(rng.normal(0, 0.3, 20))
        opened += int(watch.judge(spend, window * 10 * MINUTE_MS, np.ones(20, np.bool_)).opening.sum())
    assert opened <= 8


def opened_by(judged):
    return [i for i, j in enumerate(judged) if j.opening[0]]


def test_one_hot_window_of_ten_minutes_is_enough():
    watch = SpendRate(SpendRateConfig(window_ms=10 * MINUTE_MS), 10 * MINUTE_MS)
    assert opened_by(run(watch, [*noisy(300), 8 * USD])) == [300]


def test_a_key_that_often_triples_is_held_to_that():
    """Ten-minute bursts to three times the usual, four a day: after two days of them no more news, but 20x is."""
    spend = noisy(6 * 144, sd=0.1)
    for i in range(100, len(spend), 36):
        spend[i] = 3 * USD
    watch = SpendRate(SpendRateConfig(), 10 * MINUTE_MS)
    judged = run(watch, [*spend, 20 * USD])
    assert all(i < 3 * 144 for i in opened_by(judged)[:-1])
    assert opened_by(judged)[-1] == len(spend)


def test_what_comes_back_after_an_outage_is_no_jump():
    watch = SpendRate(SpendRateConfig(), 10 * MINUTE_MS)
    judged = run(watch, noisy(300, sd=0.05) + [0.0] * 20 + noisy(50, seed=2, sd=0.05))
    assert opened_by(judged) == []
    assert [i for i, j in enumerate(judged) if j.stopped[0]] == [301], "but the outage itself is silence"
    assert [i for i, j in enumerate(judged) if j.silent[0]] == list(range(301, 320))


def test_silence_needs_money_that_is_missing():
    small = [x / 100 for x in noisy(300)]
    judged = run(SpendRate(SpendRateConfig(), 10 * MINUTE_MS), small + [0.0] * 144)
    (stopped,) = [i for i, j in enumerate(judged) if j.stopped[0]]
    assert 395 <= stopped <= 410, "a cent a window: a dollar after some 100"


def test_nights_without_spend_are_no_silence():
    day = [10 * USD] * 60 + [0.0] * 84
    judged = run(SpendRate(SpendRateConfig(), 10 * MINUTE_MS), day * 10)
    assert not any(j.stopped[0] for j in judged[3 * 144 :])


def test_a_silence_that_lasts_a_day_is_over():
    judged = run(SpendRate(SpendRateConfig(), 10 * MINUTE_MS), noisy(300) + [0.0] * 300)
    silent = [i for i, j in enumerate(judged) if j.silent[0]]
    assert silent == list(range(301, 301 + len(silent)))
    assert 144 <= len(silent) <= 148


def test_every_incident_raises_the_bar_and_a_true_one_takes_that_back():
    spiky = noisy(300, sd=0.05) + [4 * USD] * 2 + noisy(12, seed=3, sd=0.05)
    for steps, guard in ((0, 0.6), (-1, 0.0), (1, 1.2), (-5, 0.0)):
        watch = SpendRate(SpendRateConfig(), 10 * MINUTE_MS)
        run(watch, spiky)
        watch.verdict(0, steps)
        assert watch.values[0, sr.GUARD] == pytest.approx(guard, abs=0.01)


def test_a_slow_shift_that_stays_is_found_by_its_sum():
    """Up to four times within six hours: no jump, and each window's record is hardly above the last."""
    ramp = [1 + 3 * min(i / 36, 1.0) for i in range(216)]
    spend = noisy(7 * 144, 10.0, sd=0.05) + [x * y for x, y in zip(noisy(216, 10.0, 5, sd=0.05), ramp, strict=True)]
    watch = SpendRate(SpendRateConfig(), 10 * MINUTE_MS)
    assert not opened_by(run(watch, spend[: 7 * 144]))
    assert opened_by(run(watch, spend[7 * 144 :], 7 * 24 * HOUR_MS))
