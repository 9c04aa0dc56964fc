"""Burn-rate pairs: scaling with the month, both windows, the guards and the way back."""

import pytest

from models.budgets.burn import PairState, pairs
from models.config import DAY_MS, HOUR_MS, MINUTE_MS

FAST, MEDIUM, SLOW = pairs(30 * DAY_MS)


def test_windows_scale_with_the_period_and_factors_stay():
    assert [(p.long_ms, p.short_ms, p.factor) for p in pairs(30 * DAY_MS)] == [
        (HOUR_MS, 5 * MINUTE_MS, 14.4),
        (6 * HOUR_MS, 30 * MINUTE_MS, 6.0),
        (3 * DAY_MS, 6 * HOUR_MS, 1.2),
    ]
    assert [p.long_ms // MINUTE_MS for p in pairs(31 * DAY_MS)] == [62, 372, 4464]
    assert [p.long_ms // MINUTE_MS for p in pairs(743 * HOUR_MS)] == [62, 372, 4458]


@pytest.mark.parametrize("length_ms", [28 * DAY_MS, 743 * HOUR_MS, 31 * DAY_MS])
def test_what_a_firing_long_window_has_used_does_not_depend_on_the_month(length_ms):
    """2, 5 and 12 % of the budget: factor x long window / period."""
    used = [pair.factor * pair.long_ms / length_ms for pair in pairs(length_ms)]
    assert used == pytest.approx([0.02, 0.05, 0.12], rel=0.02)


def test_windows_are_at_least_a_minute():
    assert {pair.short_ms for pair in pairs(DAY_MS // 24)} == {MINUTE_MS}


@pytest.mark.parametrize(
    ("long_burn", "short_burn", "fires"),
    [(15, 15, True), (15, 14.4, False), (14.4, 15, False), (100, 0, False), (0, 100, False)],
)
def test_both_windows_must_exceed(long_burn, short_burn, fires):
    assert PairState().evaluate(FAST, long_burn, short_burn, True, True) == fires


def test_a_cheap_window_never_fires():
    assert not PairState().evaluate(FAST, 1e6, 1e6, enough=False, overrun=True)
    assert PairState().evaluate(FAST, 1e6, 1e6, enough=True, overrun=True)


def test_the_slow_rule_needs_a_projected_overrun():
    """A money budget is meant to be spent: 1.3x for three days after a quiet start is fine."""
    assert not PairState().evaluate(SLOW, 1.3, 1.3, True, overrun=False)
    assert PairState().evaluate(SLOW, 1.3, 1.3, True, overrun=True)
    assert PairState().evaluate(MEDIUM, 6.5, 6.5, True, overrun=False)


def test_lesson_15_it_resolves_after_two_calm_evaluations_in_a_row():
    state = PairState()
    calm, between = 0.79 * 14.4, 0.81 * 14.4
    assert state.evaluate(FAST, 20, 20, True, True)
    shorts = [calm, between, calm, calm, between, calm]
    assert [state.evaluate(FAST, 20, short, True, True) for short in shorts] == [True, True, True, False, False, False]
    assert state.evaluate(FAST, 20, 20, True, True), "and may fire again"
