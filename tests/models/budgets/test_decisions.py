"""Decisions: the strictest budget of a scope, a function of what was used, with an end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.budgets.decisions import ACTIONS
from models.config import DAY_MS, HOUR_MS, MINUTE_MS, BudgetConfig, Enforcement, Raise
from models.scopes import Scope
from tests.models.budgets.test_monitor import NOV, counters, monitor, ms, restore, spend

USD = 10**9
TEAM = Scope("team", "a")
RULES = Enforcement(throttle_percent=80, route_percent=50, route_to="small", block_percent=100)


def budget(name="b", scope=TEAM, usd=100, **fields):
    return BudgetConfig(name, scope, usd * USD, **{"enforcement": RULES, **fields})


def decided(watch, watermark_ms):
    watch.advance(watermark_ms, 0)
    return {one["scope"]: one for one in watch.decisions()}


def test_actions_become_stricter_as_the_budget_is_used():
    watch, seen = monitor(budget()), []
    for usd in (49, 1, 29, 1, 19, 1):
        spend(watch, "a", NOV, usd * USD)
        for decision in decided(watch, NOV + DAY_MS).values():
            seen.append((decision["action"], decision["route_to"], decision["rate_per_hour"], decision["version"]))
    # 29 days of 24 hours are left, and 20 % of $100.
    rate, last = 20 * USD // (29 * 24), USD // (29 * 24)
    assert seen == [
        ("allow", "", None, 1),
        ("route", "small", None, 2),
        ("throttle", "small", rate, 3),
        ("throttle", "small", last, 4),
        ("block", "", None, 5),
    ]


def test_a_decision_says_why_by_which_budget_and_until_when():
    watch = monitor(budget("a 2026"))
    spend(watch, "a", NOV, 120 * USD)
    assert decided(watch, NOV + DAY_MS)["team:a"] == {
        "scope": "team:a",
        "action": "block",
        "rate_per_hour": None,
        "unit": "nano_usd",
        "route_to": "",
        "reason": "Budget a 2026 has used 100 % or more of $100.00 for 2026-11.",
        "budget": "a 2026",
        "period": "2026-11",
        "expires": ms(2026, 12, 1),
        "fail": "open",
        "version": 1,
    }
    assert decided(watch, ms(2026, 12, 1))["team:a"]["action"] == "allow"


def test_lesson_5_a_team_is_stopped_by_every_budget_above_it():
    allow = budget("own", usd=1_000)
    for above in (
        budget("all", Scope("organisation"), usd=10),
        budget("unit", Scope("business_unit", "u"), usd=10, teams=("a", "z")),
    ):
        watch = monitor(allow, above)
        watch.add(Scope("team", "z"), NOV, HOUR_MS, counters(10 * USD))
        decisions = decided(watch, NOV)
        assert {decisions[key]["action"] for key in ("team:a", "team:z", above.scope.key)} == {"block"}
        assert decisions["team:a"]["budget"] == above.name


def test_lesson_3_a_scope_is_decided_on_before_its_first_event():
    watch = monitor(budget(), budget("m", Scope("model", model="m")))
    assert {key: one["action"] for key, one in decided(watch, NOV).items()} == {"team:a": "allow", "model:m": "allow"}


def test_the_strictest_failure_mode_of_the_budgets_counts():
    closed = Enforcement(block_percent=100, fail="closed")
    assert decided(monitor(budget(), budget("c", enforcement=closed)), NOV)["team:a"]["fail"] == "closed"
    assert decided(monitor(budget()), NOV)["team:a"]["fail"] == "open"
    assert decided(monitor(budget(enforcement=None)), NOV) == {}


def test_lesson_4_each_kind_of_scope_really_blocks():
    for scope in (
        TEAM,
        Scope("model", model="m"),
        Scope("team_model", "a", "m"),
        Scope("agent", agent="x"),
        Scope("use_case", use_case="u"),
    ):
        watch = monitor(budget(scope=scope))
        watch.add(scope, NOV, HOUR_MS, counters(100 * USD))
        assert decided(watch, NOV)[scope.key]["action"] == "block"


def test_lesson_7_a_raise_lifts_a_block_and_a_new_version_says_so():
    until = NOV + 3 * DAY_MS
    watch = monitor(budget(raises=(Raise(100 * USD, NOV + 2 * DAY_MS, until),)))
    spend(watch, "a", NOV, 100 * USD)
    seen = [decided(watch, NOV + day * DAY_MS)["team:a"] for day in (1, 2, 3)]
    assert [(one["action"], one["version"]) for one in seen] == [("block", 1), ("route", 2), ("block", 3)]


def test_a_budget_that_is_taken_back_lifts_its_block():
    """The topic is compacted: what it says last is what gateways do."""
    watch = monitor(budget())
    spend(watch, "a", NOV, 100 * USD)
    assert decided(watch, NOV)["team:a"]["action"] == "block"
    watch = restore(watch)
    freed = decided(watch, NOV)["team:a"]
    assert (freed["action"], freed["version"], freed["fail"]) == ("allow", 2, "open")
    assert decided(watch, NOV + HOUR_MS) == {}
    watch = restore(watch, budget(usd=50))
    spend(watch, "a", NOV, 100 * USD)
    again = decided(watch, NOV + HOUR_MS)["team:a"]
    assert (again["action"], again["version"]) == ("block", 3)


def test_a_block_of_a_rolling_window_ends_when_the_use_has_left_it():
    watch = monitor(budget(period="rolling", rolling_ms=DAY_MS))
    spend(watch, "a", NOV, 60 * USD)
    spend(watch, "a", NOV + 5 * HOUR_MS, 60 * USD)
    decision = decided(watch, NOV + 6 * HOUR_MS)["team:a"]
    assert (decision["action"], decision["expires"]) == ("block", NOV + DAY_MS)
    assert decided(watch, decision["expires"] - MINUTE_MS).get("team:a", decision)["action"] == "block"
    after = decided(watch, decision["expires"])["team:a"]
    assert (after["action"], after["expires"]) == ("route", NOV + 5 * HOUR_MS + DAY_MS)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40 * USD), st.integers(0, 40)), max_size=12))
def test_decisions_are_a_function_of_what_was_used(steps):
    """Whatever the way to it, and across restarts; only the version counts the changes seen."""
    above = budget("all", Scope("organisation"), usd=150)
    budgets = (budget(), budget("of b", Scope("team", "b")), above, budget("day", usd=60, period="day"))
    often, once, last, latest = monitor(*budgets), monitor(*budgets), NOV, {}
    for team, nano_usd, hours in steps:
        last += hours * HOUR_MS
        for watch in (often, once):
            watch.add(Scope("team", team), last, HOUR_MS, counters(nano_usd))
        often = restore(often, *budgets)
        latest |= decided(often, last)
    latest |= decided(often, last)
    final = decided(once, last)

    def facts(decisions):
        return {key: {**one, "version": 0} for key, one in decisions.items()}

    assert facts(latest) == facts(final)
    assert decided(often, last) == {}, "said once"
    assert {one["action"] for one in final.values()} <= set(ACTIONS)


@pytest.mark.parametrize("unit", ["nano_usd", "tokens"])
def test_a_throttled_scope_keeps_a_rate(unit):
    watch = monitor(budget(usd=1, unit=unit, enforcement=Enforcement(throttle_percent=90)))
    spend(watch, "a", NOV, 5 * USD, tokens=5 * USD)
    decision = decided(watch, ms(2026, 11, 30, 23, 30))["team:a"]
    assert (decision["action"], decision["unit"], decision["rate_per_hour"]) == ("throttle", unit, USD // 100)
