"""Which use counts in which budget: kinds of scopes, units, defaults, periods, raises, rolling windows."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.budgets import monitor as monitor_module
from models.budgets.calendar import PERIODS, period_of
from models.budgets.monitor import BudgetMonitor
from models.config import DAY_MS, HOUR_MS, MINUTE_MS, BudgetConfig, EngineConfig, Raise
from models.panes_merge import MergedPanes
from models.partials import unpacked
from models.scopes import Scope
from tests.models.budgets.test_calendar import ZONES
from tests.models.budgets.test_monitor import NOV, counters, levels, milestones, monitor, ms, restore, spend
from tests.panes import pane_columns

USD = 10**9
TEAM = Scope("team", "a")


def used(statuses):
    return {(s["budget"], s["period"]): s["spent_nano_usd"] for s in statuses}


@pytest.mark.parametrize(
    "scope",
    [
        Scope("team", "a"),
        Scope("model", model="m"),
        Scope("team_model", "a", "m"),
        Scope("agent", agent="x"),
        Scope("use_case", use_case="u"),
    ],
)
@pytest.mark.parametrize("level", [50, 80, 100])
def test_lesson_17_each_kind_of_scope_alerts_at_each_level(scope, level):
    watch = monitor(BudgetConfig("b", scope, 100 * USD))
    watch.add(scope, NOV, HOUR_MS, counters(level * USD))
    found = milestones(watch.advance(NOV, 0)[1])
    assert [(f["details"]["level_percent"], f["details"]["scope"]) for f in found] == [(str(level), scope.key)]
    assert (found[0]["team"], found[0]["model"], found[0]["agent"]) == (scope.team, scope.model, scope.agent)


def test_lesson_5_every_budget_of_an_event_is_evaluated():
    """The organisation's, its unit's, the team's two and that of the model: none hides another."""
    watch = monitor(
        BudgetConfig("all", Scope("organisation"), 40 * USD),
        BudgetConfig("unit", Scope("business_unit", "u"), 20 * USD, teams=("a", "b")),
        BudgetConfig("team", TEAM, 10 * USD),
        BudgetConfig("team week", TEAM, 10 * USD, period="week"),
        BudgetConfig("model", Scope("model", model="m"), 10 * USD),
    )
    for scope, usd in ((TEAM, 10), (Scope("team", "b"), 11), (Scope("team", "c"), 19), (Scope("model", model="m"), 10)):
        watch.add(scope, NOV, HOUR_MS, counters(usd * USD))
    statuses, findings = watch.advance(NOV, 0)
    assert used(statuses) == {
        ("all", "2026-11"): 40 * USD,
        ("unit", "2026-11"): 21 * USD,
        ("team", "2026-11"): 10 * USD,
        ("team week", "2026-W44"): 10 * USD,
        ("model", "2026-11"): 10 * USD,
    }
    assert {(f["scope_name"], f["details"]["level_percent"]) for f in milestones(findings)} == {
        (name, "100") for name in ("all", "unit", "team", "team week", "model")
    }
    assert {f["scope_name"]: f["team"] for f in findings} == {
        "all": "", "unit": "", "team": "a", "team week": "a", "model": "",
    }  # fmt: skip


def test_tokens_are_counted_and_valued_at_what_they_cost():
    watch = monitor(BudgetConfig("b", TEAM, 1_000, unit="tokens"), BudgetConfig("usd", TEAM, 100 * USD))
    spend(watch, "a", NOV, 4 * USD, tokens=800)
    statuses, findings = watch.advance(NOV + 15 * DAY_MS, 0)
    (status,) = (s for s in statuses if s["budget"] == "b")
    assert (status["unit"], status["spent_tokens"], status["limit_tokens"]) == ("tokens", 800, 1_000)
    assert (status["spent_nano_usd"], status["limit_nano_usd"], status["spent_ratio"]) == (4 * USD, 0, 0.8)
    (finding,) = milestones(findings)
    assert finding["reason"].startswith("Budget b has used 80 % of 1,000 tokens for 2026-11 with 50 % of the month")
    assert (finding["observed_nano_usd"], finding["expected_nano_usd"]) == (4 * USD, 2_500_000_000)


def test_lesson_3_the_first_event_of_a_scope_never_seen_counts_in_its_default_budget():
    default = BudgetConfig("each team", Scope("team"), 10 * USD, default=True)
    watch = monitor(default, BudgetConfig("own", Scope("team", "rich"), 1_000 * USD))
    for team in ("new", "rich", "other"):
        spend(watch, team, NOV, 9 * USD)
    statuses, findings = watch.advance(NOV, 0)
    assert used(statuses) == {(name, "2026-11"): 9 * USD for name in ("own", "each team/new", "each team/other")}
    assert {f["scope_name"] for f in findings} == {"each team/new", "each team/other"}
    restored = restore(watch, default, BudgetConfig("own", Scope("team", "rich"), 1_000 * USD))
    for one in (watch, restored):
        spend(one, "new", NOV, USD)
    assert restored.advance(NOV, 0) == watch.advance(NOV, 0)


def test_defaults_are_given_to_a_bounded_number_of_scopes_and_after_a_restart_to_the_same(monkeypatch):
    monkeypatch.setattr(monitor_module, "MAX_DEFAULTED", 2)
    default = BudgetConfig("d", Scope("team"), 10 * USD, default=True)
    watch = monitor(default)
    for team in "zyx":
        spend(watch, team, NOV, USD)
    assert [status["budget"] for status in watch.advance(NOV, 0)[0]] == ["d/z", "d/y"]
    restored = restore(watch, default)
    spend(restored, "x", NOV, USD)
    spend(restored, "z", NOV, USD)
    assert [status["budget"] for status in restored.advance(NOV, 0)[0]] == ["d/z"]


# ---------------------------------------------------------------- periods


@settings(deadline=None)
@given(st.integers(0, ms(2060, 1, 1)), st.sampled_from(ZONES), st.sampled_from(PERIODS), st.integers(1, 12))
def test_lesson_39_periods_follow_each_other_without_gap_or_overlap(time_ms, zone, kind, first_month):
    period = period_of(time_ms, zone, kind, first_month)
    assert period.start_ms <= time_ms < period.end_ms
    assert period_of(period.end_ms - 1, zone, kind, first_month) == period
    after = period_of(period.end_ms, zone, kind, first_month)
    assert after.start_ms == period.end_ms and after.id > period.id


@pytest.mark.parametrize(
    ("when", "zone", "kind", "first_month", "id", "hours"),
    [
        ((2026, 3, 29, 12), "Europe/Berlin", "day", 1, "2026-03-29", 23),
        ((2026, 10, 25, 12), "Europe/Berlin", "day", 1, "2026-10-25", 25),
        ((2026, 10, 25, 12), "Europe/Berlin", "week", 1, "2026-W43", 169),
        ((2026, 12, 31, 12), "UTC", "week", 1, "2026-W53", 168),
        ((2026, 11, 1, 12), "America/New_York", "quarter", 1, "2026-Q4", 92 * 24 + 1),
        ((2026, 2, 1), "UTC", "quarter", 2, "FY2027-Q1", 89 * 24),
        ((2026, 1, 31), "UTC", "year", 2, "FY2026", 365 * 24),
        ((2028, 5, 1), "Asia/Kolkata", "year", 1, "2028", 366 * 24),
    ],
)
def test_lesson_39_true_lengths_and_names(when, zone, kind, first_month, id, hours):
    period = period_of(ms(*when), zone, kind, first_month)
    assert (period.id, period.length_ms) == (id, hours * HOUR_MS)


def test_lesson_8_a_day_and_a_month_of_one_team_are_never_mixed():
    watch = monitor(BudgetConfig("day", TEAM, 10 * USD, period="day"), BudgetConfig("month", TEAM, 10 * USD))
    for day in range(3):
        spend(watch, "a", NOV + day * DAY_MS, 3 * USD)
        statuses, findings = watch.advance(NOV + day * DAY_MS, 0)
    assert used(statuses).items() >= {("day", "2026-11-03"): 3 * USD, ("month", "2026-11"): 9 * USD}.items()
    assert [(f["details"]["budget"], f["details"]["period"]) for f in milestones(findings)] == [("month", "2026-11")]


# ---------------------------------------------------------------- raises


def test_lesson_9_a_raise_is_a_function_of_the_budget_and_the_event_time():
    raised = BudgetConfig("b", TEAM, 100 * USD, raises=(Raise(100 * USD, NOV + DAY_MS, NOV + 3 * DAY_MS),))
    watch, seen = monitor(raised), []
    for day, usd in enumerate((60, 0, 40, 0, 0)):
        spend(watch, "a", NOV + day * DAY_MS, usd * USD)
        watch = restore(watch, raised)
        statuses, findings = watch.advance(NOV + day * DAY_MS, 0)
        seen.append((day, [s["limit_nano_usd"] // USD for s in statuses], levels(findings)))
    assert seen == [
        (0, [100], [(50, "open")]),
        (1, [200], [(50, "resolved")]),
        (2, [200], [(50, "open")]),
        (3, [100], [(100, "open")]),
        (4, [100], []),
    ]


def test_a_raise_that_ends_after_its_period_holds_for_that_period():
    raised = BudgetConfig("b", TEAM, 100 * USD, raises=(Raise(100 * USD, NOV, ms(2026, 12, 15)),))
    watch = monitor(raised)
    spend(watch, "a", NOV, 90 * USD)
    watch.advance(NOV, 0)
    watch.advance(ms(2026, 12, 20), 0)
    spend(watch, "a", NOV, 20 * USD)
    statuses, findings = watch.advance(ms(2026, 12, 20), 0)
    assert [(s["period"], s["limit_nano_usd"]) for s in statuses] == [("2026-11", 200 * USD)]
    assert [(f["severity"], f["details"]["why"]) for f in findings] == [
        ("info", "late_usage"),
        ("info", "period_over"),
    ]


# ---------------------------------------------------------------- rolling windows


def test_lesson_20_a_rolling_window_forgets_and_speaks_again():
    watch, seen = monitor(BudgetConfig("b", TEAM, 100 * USD, period="rolling", rolling_ms=DAY_MS)), []
    for hour in range(24 * 4):
        spend(watch, "a", NOV + hour * HOUR_MS, (6 if hour < 12 or hour >= 60 else 1) * USD)
        statuses, findings = watch.advance(NOV + hour * HOUR_MS + 59 * MINUTE_MS, 0)
        seen += [(hour, *one) for one in levels(findings)]
        now = sum((6 if h < 12 or h >= 60 else 1) for h in range(max(hour - 23, 0), hour + 1))
        for status in statuses:
            assert (status["period"], status["spent_nano_usd"]) == ("rolling-1d", now * USD)
    assert seen == [
        (8, 50, "open"),
        (19, 80, "open"),
        (26, 80, "resolved"),
        (31, 50, "resolved"),
        (65, 50, "open"),
        (71, 80, "open"),
        (75, 100, "open"),
    ]


# ---------------------------------------------------------------- what a budget counts changes


@pytest.mark.parametrize(
    "change",
    [{"period": "week"}, {"timezone": "Asia/Tokyo"}, {"unit": "tokens"}, {"scope": Scope("organisation")}],
)
def test_a_budget_that_counts_something_else_is_filled_anew(change):
    budget = BudgetConfig("b", TEAM, 100 * USD)
    config = EngineConfig(budgets=(budget,))
    panes, watch = MergedPanes(config.windows), BudgetMonitor(config)
    for day in (2, 10, 20):
        rows = [
            {"scope_kind": "team", "team": "a", "model": "", "agent": "", "use_case": "", "window_ms": HOUR_MS}
            | {"window_start": NOV + day * DAY_MS, "cost_nano_usd": 7 * USD, "input_tokens": 5, "output_tokens": 6}
            | dict.fromkeys(("estimated_nano_usd", "events", "unpriced_events"), 0)
            | dict.fromkeys(("cache_read_tokens", "cache_write_tokens"), 0)
        ]
        _, delta = panes.merge(0, day, unpacked(pane_columns(rows)))
        for counts in delta.tolist():
            watch.add(TEAM, NOV + day * DAY_MS, HOUR_MS, counts)
    watch.advance(NOV + 20 * DAY_MS, 0)
    changed = replace(budget, **change)
    statuses, _ = restore(watch, changed, panes=panes).advance(NOV + 20 * DAY_MS, 0)
    assert sum(status["spent_nano_usd"] for status in statuses) == 21 * USD
    assert datetime.fromtimestamp(statuses[-1]["watermark"] / 1000, UTC).day == 21
