"""The forecast of a period's total: exact where spend repeats itself, ordered and bounded whatever comes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.budgets.forecast import MAX_NANO_USD, MIN_DAYS, forecast

USD = 10**9
MONDAY = 4 * 24
"""1970-01-05, in hours since 1970."""


def test_a_rhythm_that_repeats_is_continued_hour_by_hour():
    day = np.array([1] * 8 + [10] * 12 + [1] * 4) * USD
    history = np.tile(day, 60)
    for now in (0, 5, 13):
        hours = history[: 20 * 24 + now]
        said = forecast(hours, MONDAY, MONDAY + 21 * 24, int(hours.sum()))
        actual = int(history[: 21 * 24].sum())
        # The shape is drawn towards flat, by a tenth of one day.
        assert said.total == pytest.approx(actual, rel=0.01)


def test_weekends_count_after_two_weeks():
    week = np.repeat([10, 10, 10, 10, 10, 1, 1], 24) * USD
    history = np.tile(week, 8)
    hours = history[: 4 * 168 + 5 * 24]
    said = forecast(hours, MONDAY, MONDAY + 5 * 168, int(hours.sum()))
    assert said.total - int(hours.sum()) < 24 * 2 * 6 * USD, "the two days that are left are a weekend"


def test_little_history_says_nothing():
    hours = np.full(MIN_DAYS * 24 - 1, USD)
    assert forecast(hours, 0, 30 * 24, int(hours.sum())) is None
    assert forecast(np.zeros(0, np.int64), 0, 30 * 24, 0) is None


def test_no_spend_and_a_period_that_is_over_leave_nothing_to_doubt():
    assert forecast(np.zeros(100, np.int64), 0, 300, 0).high95 == 0
    hours = np.full(100, USD)
    said = forecast(hours, 0, 100, int(hours.sum()))
    assert said.low95 == said.total == said.high95 == 100 * USD


def test_a_bursty_team_gets_a_wider_band_than_a_steady_one():
    rng = np.random.default_rng(3)
    steady = np.rint(USD * np.exp(rng.normal(0, 0.1, 240))).astype(np.int64)
    bursty = np.rint(USD * np.exp(np.repeat(rng.normal(0, 1.5, 10), 24))).astype(np.int64)
    widths = []
    for hours in (steady, bursty):
        said = forecast(hours, 0, 720, int(hours.sum()))
        widths.append(said.high80 / said.low80)
    assert widths[0] < 2.5
    assert widths[1] > 2 * widths[0]


def test_ten_days_ahead_are_less_sure_than_one_and_no_surer_than_ninety():
    hours = np.rint(USD * np.exp(np.random.default_rng(4).normal(0, 0.3, 240))).astype(np.int64)
    ahead = [forecast(hours, 0, 240 + 24 * days, 0) for days in (1, 10, 90)]
    day, ten, ninety = (said.high95 / said.total for said in ahead)
    assert day < ten == pytest.approx(ninety, rel=0.01)
    assert all(0 < said.low95 < said.low80 for said in ahead)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.integers(-5, 10**12), st.just(2**62), st.just(0)), min_size=72, max_size=200),
    st.integers(0, 10**6),
    st.integers(-50, 2000),
    st.integers(0, 2**62),
)
def test_bands_are_ordered_and_never_below_what_is_spent(hours, first_hour, left, spent):
    said = forecast(np.array(hours, np.int64), first_hour, first_hour + len(hours) + left, spent)
    assert spent <= said.low95 <= said.low80 <= said.total <= said.high80 <= said.high95 <= MAX_NANO_USD
