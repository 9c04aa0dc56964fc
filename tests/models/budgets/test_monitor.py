"""Budgets against a plain-Python oracle: months, milestones, burn, late usage."""

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.budgets.monitor import BudgetMonitor
from models.budgets.series import SpendSeries, Trailing
from models.config import DAY_MS, HOUR_MS, MINUTE_MS, BudgetConfig, Enforcement, EngineConfig, Raise
from models.counters import COST, COUNTERS, ESTIMATED, EVENTS, INPUT
from models.panes_merge import MergedPanes
from models.partials import unpacked
from models.scopes import Scope
from streams.state import codec
from tests.panes import pane_columns

USD = 10**9


def ms(*when, zone=UTC):
    return int(datetime(*when, tzinfo=zone).timestamp() * 1000)


NOV = ms(2026, 11, 1)


def monitor(*budgets):
    return BudgetMonitor(EngineConfig(budgets=budgets))


def spend(watch, team, time_ms, nano_usd, estimated=0, *, tokens=0, scope=None):
    """One event as its minute and hour windows."""
    for size in (MINUTE_MS, HOUR_MS):
        row = counters(nano_usd, estimated, tokens)
        watch.add(scope or Scope("team", team), time_ms - time_ms % size, size, row)


def counters(nano_usd, estimated=0, tokens=0):
    """One event's row."""
    row = [0] * len(COUNTERS)
    row[COST], row[ESTIMATED], row[EVENTS], row[INPUT] = nano_usd, estimated, 1, tokens
    return row


def milestones(findings):
    return [f for f in findings if f["detector"] == "budget_milestone"]


def levels(findings):
    return [(int(f["details"]["level_percent"]), f["status"]) for f in milestones(findings)]


# ---------------------------------------------------------------- oracle over months

BUDGETS = (
    BudgetConfig("berlin", Scope("team", "a"), 1000 * USD, "Europe/Berlin"),
    BudgetConfig("new york", Scope("team", "a"), 700 * USD, "America/New_York"),
    BudgetConfig("kolkata", Scope("team", "b"), 900 * USD, "Asia/Kolkata"),
    BudgetConfig("kathmandu", Scope("team", "b"), 500 * USD, "Asia/Kathmandu"),
    BudgetConfig("never seen", Scope("team", "nobody"), 5 * USD),
)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32))
def test_lesson_39_41_spent_equals_the_sum_by_local_month_of_event_time(seed):
    """Four months around both clock changes; a fifth of the events come late, up to five weeks."""
    watch, rng, truth, arrivals = monitor(*BUDGETS), random.Random(seed), Counter(), []
    statuses, fired = {}, Counter()
    for _ in range(400):
        time_ms = rng.randrange(ms(2026, 9, 28), ms(2027, 1, 3))
        edge = rng.choice([None, ms(2026, 10, 31, 18), ms(2026, 11, 1, 4), ms(2026, 10, 31, 22)])
        time_ms = time_ms if edge is None else edge + rng.randrange(-HOUR_MS, 2 * HOUR_MS)
        late = rng.randrange(35 * DAY_MS) if rng.random() < 0.2 else 0
        arrivals.append((time_ms + late, time_ms, rng.choice("ab"), rng.randrange(20 * USD)))
    for arrival, time_ms, team, nano_usd in sorted(arrivals):
        spend(watch, team, time_ms, nano_usd)
        for budget in BUDGETS:
            if budget.scope.team == team:
                local = datetime.fromtimestamp(time_ms / 1000, ZoneInfo(budget.timezone))
                truth[budget.name, f"{local:%Y-%m}"] += nano_usd
        out, findings = watch.advance(arrival, arrival)
        for status in out:
            key = (status["budget"], status["period"])
            assert status["revision"] == statuses.get(key, {"revision": 0})["revision"] + 1
            statuses[key] = status
        for finding in milestones(findings):
            fired[finding["details"]["budget"], finding["details"]["period"], finding["status"], finding["id"]] += 1
    assert {key: status["spent_nano_usd"] for key, status in statuses.items() if status["spent_nano_usd"]} == truth
    assert set(fired.values()) <= {1}, "lesson 15, 16: once per (budget, period, level)"
    for (name, period), spent in truth.items():
        limit = next(budget.limit for budget in BUDGETS if budget.name == name)
        reached = [level for level in (50, 80, 100) if spent * 100 >= level * limit]
        assert statuses[name, period]["milestone_percent"] == (reached[-1] if reached else 0)
        opened = [key for key in fired if key[:3] == (name, period, "open")]
        assert bool(opened) == bool(reached)
        assert len(opened) <= len(reached)


def test_lesson_3_a_team_never_seen_has_a_status_with_zero():
    out, findings = monitor(BudgetConfig("b", Scope("team", "nobody"), USD)).advance(NOV + HOUR_MS, 0)
    assert [(s["budget"], s["period"], s["spent_nano_usd"], s["spent_ratio"]) for s in out] == [
        ("b", "2026-11", 0, 0.0)
    ]
    assert (out[0]["projected_exhaustion"], findings) == (None, [])


def test_the_hour_that_two_months_share_is_divided_by_minutes():
    watch = monitor(BudgetConfig("b", Scope("team", "a"), 100 * USD, "Asia/Kolkata"))
    spend(watch, "a", ms(2026, 10, 31, 18, 29), 3 * USD)
    spend(watch, "a", ms(2026, 10, 31, 18, 30), 5 * USD)
    out, _ = watch.advance(NOV, 0)
    assert {s["period"]: s["spent_nano_usd"] for s in out} == {"2026-10": 3 * USD, "2026-11": 5 * USD}
    watch.add(Scope("team", "a"), ms(2026, 10, 31, 18), HOUR_MS, counters(USD))
    out, _ = watch.advance(NOV, 0)
    assert {s["period"]: s["spent_nano_usd"] for s in out} == {"2026-10": 4 * USD}, "too late for a minute window"


# ---------------------------------------------------------------- milestones


def test_lesson_15_a_milestone_fires_on_the_transition_only():
    watch, seen = monitor(BudgetConfig("b", Scope("team", "a"), 100 * USD)), []
    for step in range(120):
        time_ms = NOV + step * HOUR_MS
        spend(watch, "a", time_ms, USD)
        for _ in range(3):
            seen += levels(watch.advance(time_ms, 0)[1])
    assert seen == [(50, "open"), (80, "open"), (100, "open")]


def test_lesson_17_19_each_budget_of_a_team_and_each_level_of_ones_own():
    watch = monitor(
        BudgetConfig("one", Scope("team", "a"), 100 * USD, milestones_percent=(95, 85)),
        BudgetConfig("two", Scope("team", "a"), 10 * USD),
    )
    spend(watch, "a", NOV, 9 * USD)
    found = milestones(watch.advance(NOV, 0)[1])
    assert [(f["scope_name"], f["details"]["level_percent"]) for f in found] == [("two", "80")]
    spend(watch, "a", NOV, 77 * USD)
    found = milestones(watch.advance(NOV, 0)[1])
    assert [(f["scope_name"], f["details"]["level_percent"]) for f in found] == [("one", "85"), ("two", "100")]


def test_a_jump_over_several_levels_speaks_once_and_says_so():
    watch = monitor(BudgetConfig("coding", Scope("team", "a"), 100 * USD))
    spend(watch, "a", NOV + DAY_MS, 120 * USD)
    (finding,) = milestones(watch.advance(NOV + DAY_MS, 0)[1])
    assert (finding["severity"], finding["details"]["level_percent"]) == ("critical", "100")
    assert "50 % and 80 % passed in the same step" in finding["reason"]
    spend(watch, "a", NOV + DAY_MS, USD)
    assert milestones(watch.advance(NOV + 2 * DAY_MS, 0)[1]) == []


def test_severity_follows_the_level():
    watch, severities = monitor(BudgetConfig("b", Scope("team", "a"), 100 * USD)), []
    for nano_usd in (50 * USD, 30 * USD, 20 * USD):
        spend(watch, "a", NOV, nano_usd)
        severities += [f["severity"] for f in milestones(watch.advance(NOV, 0)[1])]
    assert severities == ["info", "warning", "critical"]


def test_lesson_8_every_ratio_carries_its_budget_and_period():
    watch = monitor(BudgetConfig("coding", Scope("team", "a"), 12_000 * USD))
    day = 26 * HOUR_MS // 10
    for step in range(66):
        spend(watch, "a", NOV + step * day, 151 * USD)
        out, findings = watch.advance(NOV + step * day + MINUTE_MS, 0)
        if levels(findings) == [(80, "open")]:
            break
    (finding,) = milestones(findings)
    assert finding["reason"].startswith(
        "Budget coding has used 80 % of $12,000.00 for 2026-11 with 23 % of the month gone; at"
    )
    assert " it is exhausted on 2026-11-" in finding["reason"]
    details = finding["details"]
    assert (details["budget"], details["period"], details["limit"]) == ("coding", "2026-11", "$12,000.00")
    assert (finding["scope_kind"], finding["scope_name"], finding["team"]) == ("budget", "coding", "a")
    (status,) = out
    assert (status["budget"], status["period"], status["milestone_percent"]) == ("coding", "2026-11", 80)


def test_exactly_the_level_counts_and_a_nano_dollar_less_does_not():
    watch = monitor(BudgetConfig("b", Scope("team", "a"), 3_333_333_333_333_333))
    spend(watch, "a", NOV, 1_666_666_666_666_666)
    assert levels(watch.advance(NOV, 0)[1]) == []
    spend(watch, "a", NOV, 1)
    assert levels(watch.advance(NOV, 0)[1]) == [(50, "open")]


def test_a_new_period_arms_again_and_settles_the_old_one():
    watch = monitor(BudgetConfig("b", Scope("team", "a"), 100 * USD))
    spend(watch, "a", NOV, 60 * USD)
    (first,) = milestones(watch.advance(NOV, 0)[1])
    (settled,) = milestones(watch.advance(ms(2026, 12, 1), 0)[1])
    assert (settled["id"], settled["status"], settled["revision"]) == (first["id"], "resolved", 2)
    assert "ended 2026-11 with $60.00 used, 60 % of $100.00" in settled["reason"]
    spend(watch, "a", ms(2026, 12, 2), 60 * USD)
    (second,) = milestones(watch.advance(ms(2026, 12, 2), 0)[1])
    assert second["id"] != first["id"]


def test_lesson_41_late_usage_adjusts_a_month_that_is_over_and_pages_nobody():
    watch = monitor(BudgetConfig("b", Scope("team", "a"), 100 * USD))
    watch.advance(ms(2026, 12, 2), 0)
    spend(watch, "a", NOV, 200 * USD)
    out, findings = watch.advance(ms(2026, 12, 2), 0)
    assert {s["period"]: s["spent_nano_usd"] for s in out} == {"2026-11": 200 * USD}
    finding, settled = findings
    assert (finding["severity"], finding["details"]["why"]) == ("info", "late_usage")
    assert (settled["id"], settled["status"], settled["revision"]) == (finding["id"], "resolved", 2), (
        "nothing else would"
    )
    assert finding["reason"].startswith("Adjustment: late usage brought budget b to 200 % of $100.00 for 2026-11")


def test_lesson_40_a_month_that_lies_ahead_is_counted_but_not_announced():
    watch = monitor(BudgetConfig("b", Scope("team", "a"), 100 * USD))
    spend(watch, "a", ms(2031, 5, 5), 500 * USD)
    out, findings = watch.advance(NOV + DAY_MS, 0)
    assert {s["period"]: s["spent_nano_usd"] for s in out} == {"2026-11": 0, "2031-05": 500 * USD}
    assert findings == []


def test_lesson_47_what_has_no_price_is_named_and_not_counted():
    watch = monitor(BudgetConfig("b", Scope("team", "a"), 100 * USD))
    spend(watch, "a", NOV, 50 * USD, estimated=7 * USD)
    (finding,) = milestones(watch.advance(NOV, 0)[1])
    assert finding["observed_nano_usd"] == 50 * USD
    assert "not counting about $7.00 without a known price" in finding["reason"]


# ---------------------------------------------------------------- burn


def burns(findings):
    return [f for f in findings if f["detector"] == "budget_burn"]


def steady(watch, first_ms, last_ms, usd_per_hour, team="a"):
    """Even spend by the minute; all findings and the last status."""
    findings, statuses, end = [], [], first_ms
    while end < last_ms:
        spend(watch, team, end, round(usd_per_hour * USD / 60))
        end += MINUTE_MS
        out, found = watch.advance(end, end)
        findings += found
        statuses += out
    return findings, statuses[-1]


def test_an_even_pace_never_burns_and_a_twentyfold_one_pages_and_resolves():
    limit = 7_200
    watch = monitor(BudgetConfig("b", Scope("team", "a"), limit * USD))
    start = NOV + 10 * DAY_MS
    calm, status = steady(watch, start, start + 8 * HOUR_MS, 10)
    assert burns(calm) == []
    assert [rate["long_burn"] for rate in status["burn"]][:2] == pytest.approx([1.0, 1.0])
    hot, status = steady(watch, start + 8 * HOUR_MS, start + 10 * HOUR_MS, 200)
    opened = burns(hot)
    assert [(f["severity"], f["details"]["rule"], f["status"]) for f in opened] == [("critical", "page", "open")]
    assert opened[0]["details"]["pair"] == "fast"
    assert opened[0]["observed_nano_usd"] == pytest.approx(144 * USD, rel=0.03), "2 % of the month in an hour"
    assert [rate["firing"] for rate in status["burn"]] == [True, True, False]
    after, status = steady(watch, start + 10 * HOUR_MS, start + 14 * HOUR_MS, 1)
    (resolved,) = burns(after)
    assert (resolved["id"], resolved["status"], resolved["revision"]) == (opened[0]["id"], "resolved", 2)
    assert [rate["firing"] for rate in status["burn"]] == [False, False, False]


def test_burn_findings_say_how_long_the_money_lasts():
    watch = monitor(BudgetConfig("coding", Scope("team", "a"), 7_200 * USD))
    start = NOV + 3 * DAY_MS
    findings, status = steady(watch, start, start + HOUR_MS, 600)
    (finding,) = burns(findings)
    end = finding["last_event_time"] + 1
    spent = round((end - start) / HOUR_MS * 600 * USD)
    assert finding["observed_nano_usd"] == spent
    assert finding["expected_nano_usd"] == 7_200 * USD * finding["window_ms"] // (30 * DAY_MS)
    assert finding["reason"].startswith("Budget coding spent $")
    assert (
        "of $7,200.00 for 2026-11 with 10 % of the month gone; at the rate of the last hour it is exhausted on 2026-11-"
        in (finding["reason"])
    )
    rest = 7_200 * USD - status["spent_nano_usd"]
    assert status["projected_exhaustion"] == pytest.approx(start + HOUR_MS + rest / (600 * USD) * HOUR_MS, abs=2)


def test_the_slow_rule_opens_a_ticket_only_if_the_month_will_be_overrun():
    budget = BudgetConfig("b", Scope("team", "a"), 720 * USD)

    def tickets(day):
        watch, found = monitor(budget), []
        start = NOV + day * DAY_MS
        for minute in range(0, 4 * 24 * 60, 5):
            spend(watch, "a", start + minute * MINUTE_MS, round(1.5 * USD / 12))
            found += burns(watch.advance(start + (minute + 5) * MINUTE_MS, 0)[1])
        return [(f["severity"], f["details"]["rule"]) for f in found]

    assert tickets(1) == [("warning", "ticket")]
    assert tickets(24) == [], "nothing was spent until the 25th: 1.5x an even pace is affordable"


def test_one_dear_call_of_a_tiny_budget_is_no_burn():
    watch = monitor(BudgetConfig("b", Scope("team", "a"), 2 * USD))
    spend(watch, "a", NOV + DAY_MS, 9 * USD // 10)
    findings = watch.advance(NOV + DAY_MS + 2 * MINUTE_MS, 0)[1]
    assert burns(findings) == []


def test_burn_does_not_depend_on_how_often_advance_is_called():
    def run(every):
        watch, found, rng = monitor(BudgetConfig("b", Scope("team", "a"), 7_200 * USD)), [], random.Random(4)
        for minute in range(600):
            time_ms = NOV + 5 * DAY_MS + minute * MINUTE_MS
            spend(watch, "a", time_ms, rng.randrange(USD) * (30 if 200 < minute < 290 else 1))
            if minute % every == every - 1:
                found += burns(watch.advance(time_ms + MINUTE_MS, 0)[1])
        return [(f["details"]["rule"], f["status"], f["id"], f["score"], f["window_start"]) for f in found]

    assert run(1) == run(15) == run(600)
    assert [one[:2] for one in run(1)] == [("page", "open"), ("ticket", "open"), ("page", "resolved")]


@given(
    st.lists(st.tuples(st.integers(0, 5 * 24 * 60 - 1), st.integers(0, 10**12)), max_size=50),
    st.integers(4 * 24 * 60, 5 * 24 * 60),
    st.sampled_from([1, 5, 62, 372, 420, 421, 4320, 4464]),
)
def test_trailing_sums_equal_a_plain_sum(events, end_minute, length):
    series = SpendSeries()
    for minute, nano_usd in events:
        series.add(NOV + minute * MINUTE_MS, MINUTE_MS, nano_usd)
        series.add(NOV + minute // 60 * HOUR_MS, HOUR_MS, nano_usd)
    end = NOV + end_minute * MINUTE_MS
    trailing = Trailing(series, end - 3 * MINUTE_MS, end)
    (_, spent), (_, true_ms) = trailing.spent(np.array([end - 3 * MINUTE_MS, end]), length * MINUTE_MS)
    start_minute = end_minute - true_ms // MINUTE_MS
    assert length <= true_ms // MINUTE_MS < length + 60
    assert spent == sum(nano_usd for minute, nano_usd in events if start_minute <= minute < end_minute)


# ---------------------------------------------------------------- settings that change


def restore(watch, *budgets, panes=None):
    config = EngineConfig(budgets=budgets)
    return BudgetMonitor.restore(config, watch.snapshot(), panes or MergedPanes(config.windows))


def test_a_raised_limit_settles_what_is_no_longer_reached_and_arms_it_again():
    watch = monitor(BudgetConfig("b", Scope("team", "a"), 100 * USD))
    for nano_usd in (60 * USD, 25 * USD):
        spend(watch, "a", NOV, nano_usd)
        opened = milestones(watch.advance(NOV, 0)[1])
    watch = restore(watch, BudgetConfig("b", Scope("team", "a"), 150 * USD))
    (settled,) = milestones(watch.advance(NOV, 0)[1])
    assert (settled["id"], settled["status"], settled["revision"]) == (opened[0]["id"], "resolved", 2)
    spend(watch, "a", NOV, 40 * USD)
    (again,) = milestones(watch.advance(NOV, 0)[1])
    assert (again["id"], again["status"], again["revision"]) == (opened[0]["id"], "open", 3)


def test_a_budget_that_is_new_is_filled_from_the_windows_kept():
    config = EngineConfig()
    panes = MergedPanes(config.windows)
    rows = [
        {"scope_kind": "team", "team": "a", "model": "", "agent": "", "use_case": "", "window_start": start}
        | dict.fromkeys(("estimated_nano_usd", "events", "unpriced_events", "input_tokens", "cache_read_tokens"), 0)
        | {"cache_write_tokens": 0, "output_tokens": 0, "window_ms": size, "cost_nano_usd": 7 * USD}
        for start, size in ((NOV, HOUR_MS), (NOV, MINUTE_MS), (NOV - HOUR_MS, HOUR_MS))
    ]
    panes.merge(0, 1, unpacked(pane_columns(rows)))
    watch = monitor()
    watch.advance(NOV + HOUR_MS, 0)
    watch = restore(watch, BudgetConfig("b", Scope("team", "a"), 10 * USD), panes=panes)
    out, findings = watch.advance(NOV + HOUR_MS, 0)
    assert {s["period"]: s["spent_nano_usd"] for s in out} == {"2026-10": 7 * USD, "2026-11": 7 * USD}
    (finding,) = findings
    assert (finding["details"]["period"], finding["details"]["level_percent"]) == ("2026-11", "50")


def test_a_month_that_passes_within_one_step_is_reported_and_settled():
    """Replay of a small file: all of it lies before the first watermark."""
    watch = monitor(BudgetConfig("b", Scope("team", "a"), 100 * USD))
    spend(watch, "a", NOV, 120 * USD)
    found = milestones(watch.advance(ms(2026, 12, 9), 0)[1])
    assert [(f["status"], f["severity"], f["details"]["why"]) for f in found] == [
        ("open", "critical", "reached"),
        ("resolved", "critical", "period_over"),
    ]


def hot(*budgets):
    """A monitor whose team a has passed 50 % of a month and burns; and its findings, which are open."""
    watch, open_now = monitor(*budgets), {}
    for minute in range(90):
        time_ms = NOV + 10 * DAY_MS + minute * MINUTE_MS
        spend(watch, "a", time_ms, 7 * USD)
        open_now |= {f["id"]: f for f in watch.advance(time_ms + MINUTE_MS, 0)[1] if f["status"] == "open"}
    return watch, open_now


def through_bytes(watch):
    """What a restart has of it."""
    return codec.decode(codec.encode({"budgets": watch.snapshot()}))["budgets"]


BUDGET = BudgetConfig("b", Scope("team", "a"), 1_000 * USD, raises=(Raise(5 * USD, NOV, NOV + 20 * DAY_MS),))
NOW = NOV + 10 * DAY_MS + 90 * MINUTE_MS


@pytest.mark.parametrize(
    "after",
    [
        (),
        (replace(BUDGET, name="of another name"),),
        (replace(BUDGET, unit="tokens"),),
        (replace(BUDGET, timezone="Asia/Tokyo"),),
        (replace(BUDGET, scope=Scope("model", model="m")),),
        (replace(BUDGET, enforcement=Enforcement(block_percent=100), scope=Scope("team", "b")),),
    ],
)
def test_a_budget_that_is_gone_or_counts_something_else_after_a_restart_leaves_nothing_open(after):
    watch, open_now = hot(BUDGET)
    assert {f["detector"] for f in open_now.values()} == {"budget_milestone", "budget_burn"}
    config = EngineConfig(budgets=after)
    watch = BudgetMonitor.restore(config, through_bytes(watch), MergedPanes(config.windows))
    watch = BudgetMonitor.restore(config, through_bytes(watch), MergedPanes(config.windows))
    _, findings = watch.advance(NOW, 77)
    resolved = {f["id"]: f for f in findings if f["status"] == "resolved"}
    assert resolved.keys() == open_now.keys()
    assert all(f["revision"] > open_now[id]["revision"] and f["detection_time"] == 77 for id, f in resolved.items())
    assert not any(f["status"] == "resolved" for f in watch.advance(NOW + MINUTE_MS, 0)[1]), "once"


def test_a_milestone_that_is_no_longer_one_is_settled():
    watch, open_now = hot(BUDGET)
    (fifty,) = (f for f in open_now.values() if f["detector"] == "budget_milestone")
    watch = restore(watch, replace(BUDGET, milestones_percent=(80, 100)))
    statuses, findings = watch.advance(NOW, 0)
    (settled,) = milestones(findings)
    assert (settled["id"], settled["status"], settled["revision"]) == (fifty["id"], "resolved", 2)
    assert "no longer has a milestone of 50 %" in settled["reason"]
    assert [s["milestone_percent"] for s in statuses] == [0]


def test_a_budget_that_comes_back_within_its_period_is_heard_again():
    """Under the same id: with a revision that was said before it would be taken for a repeat."""
    config = EngineConfig(budgets=(BUDGET,))
    panes = MergedPanes(config.windows)
    row = {"scope_kind": "team", "team": "a", "model": "", "agent": "", "use_case": "", "window_ms": HOUR_MS}
    row |= dict.fromkeys(("estimated_nano_usd", "events", "unpriced_events", "input_tokens", "cache_read_tokens"), 0)
    row |= {"cache_write_tokens": 0, "output_tokens": 0, "window_start": NOV + 10 * DAY_MS, "cost_nano_usd": 630 * USD}
    panes.merge(0, 1, unpacked(pane_columns([row])))
    watch, open_now = hot(BUDGET)
    (fifty,) = (f for f in open_now.values() if f["detector"] == "budget_milestone")
    said = [fifty]
    for budgets in ((), (BUDGET,), (replace(BUDGET, timezone="Asia/Tokyo"),)):
        watch = restore(watch, *budgets, panes=panes)
        said += milestones(watch.advance(NOW, 0)[1])
    assert {f["id"] for f in said} == {fifty["id"]}
    assert [f["status"] for f in said] == ["open", "resolved", "open", "resolved", "open"]
    revisions = [f["revision"] for f in said]
    assert revisions == sorted(set(revisions))
    for _ in range(2):
        watch.advance(NOW + 200 * DAY_MS, 0)
    assert watch.snapshot()["told"] == [], "remembered as long as usage may come late"


# ---------------------------------------------------------------- what is left


def remaining(findings):
    return [f for f in burns(findings) if f["details"]["rule"] == "remaining"]


def used_up_early(watch, until_day=20, then_usd_per_day=2.4, used_usd=50):
    """Most of $100 of a month on one day, and from then on a little less than an even pace."""
    found = []
    for step in range(24):
        spend(watch, "a", NOV + DAY_MS + step * HOUR_MS, used_usd * USD // 24)
        found += watch.advance(NOV + DAY_MS + step * HOUR_MS + MINUTE_MS, 0)[1]
    for minute in range(0, (until_day - 2) * 1440, 30):
        spend(watch, "a", NOV + 2 * DAY_MS + minute * MINUTE_MS, round(then_usd_per_day * USD / 48))
        found += watch.advance(NOV + 2 * DAY_MS + (minute + 30) * MINUTE_MS, 0)[1]
    return found


def test_a_budget_that_was_used_up_early_and_goes_on_as_usual_is_told_of():
    """No pair says so: nothing burns any more."""
    watch = monitor(BudgetConfig("b", Scope("team", "a"), 100 * USD))
    found = used_up_early(watch, until_day=30)
    opened, over = remaining(found)
    assert (opened["severity"], opened["status"], opened["team"]) == ("warning", "open", "a")
    last_burn = max(f["last_event_time"] for f in burns(found) if f["details"]["rule"] != "remaining")
    assert opened["last_event_time"] >= last_burn, "not beside a burn"
    assert 1.5 < opened["score"] < 1.6
    assert opened["observed_nano_usd"] > 1.5 * opened["expected_nano_usd"] > 0
    assert opened["reason"].startswith("Budget b has $34.45 left of $100.00 for 2026-11 with 28 % ")
    assert ", which uses it up by 2026-11-" in opened["reason"]
    assert (over["id"], over["status"], over["revision"]) == (opened["id"], "resolved", 2)
    assert (over["reason"], over["last_event_time"]) == ("2026-11 of budget b is over.", ms(2026, 12, 1) - 1)


def test_it_is_over_when_the_pace_falls_the_limit_rises_or_a_burn_speaks():
    budget = BudgetConfig("b", Scope("team", "a"), 100 * USD)
    watch = monitor(budget)
    (opened,) = remaining(used_up_early(watch))
    at = NOV + 20 * DAY_MS
    raised = restore(watch, replace(budget, limit=300 * USD))
    (over,) = remaining(raised.advance(at + 5 * MINUTE_MS, 0)[1])
    assert (over["id"], over["status"], over["reason"]) == (
        opened["id"], "resolved", "What is left of budget b lasts for 2026-11 again.",
    )  # fmt: skip
    calm = restore(watch, budget)
    (over,) = remaining(calm.advance(at + 3 * DAY_MS, 0)[1])
    assert over["reason"] == "What is left of budget b lasts for 2026-11 again."
    hot = restore(watch, budget)
    found, _ = steady(hot, at, at + 30 * MINUTE_MS, 60)
    said = [(f["details"]["rule"], f["status"]) for f in burns(found)]
    assert said[:2] == [("page", "open"), ("remaining", "resolved")], "never beside a burn of the same budget"
    assert ("remaining", "open") not in said


def test_it_stays_when_the_limit_is_reached_and_ends_with_the_budget():
    budget = BudgetConfig("b", Scope("team", "a"), 100 * USD)
    watch = monitor(budget)
    found = used_up_early(watch, until_day=29, used_usd=60)
    assert [f["status"] for f in remaining(found)] == ["open"]
    assert (100, "open") in levels(found)
    (over,) = remaining(restore(watch).advance(NOV + 29 * DAY_MS, 0)[1])
    assert (over["status"], over["reason"]) == ("resolved", "Budget b was removed.")


def test_an_even_use_few_events_and_the_last_cents_are_not_told_of():
    def told(usd_per_day, every_minutes=30, limit_usd=100):
        watch, found = monitor(BudgetConfig("b", Scope("team", "a"), limit_usd * USD)), []
        for minute in range(0, 30 * 1440, every_minutes):
            spend(watch, "a", NOV + minute * MINUTE_MS, round(usd_per_day * USD * every_minutes / 1440))
            found += watch.advance(NOV + (minute + every_minutes) * MINUTE_MS, 0)[1]
        return [(f["details"]["rule"], f["status"]) for f in burns(found)]

    assert told(100 / 30) == []
    assert told(101 / 30) == [], "near the end a cent too much is many times what is left"
    assert told(115 / 30)[0] == ("remaining", "open"), "too little for the slow pair, and too much for the month"
    assert told(115 / 30, every_minutes=360) == [], "two events in six hours are no pace"
    assert told(0.115 / 30, limit_usd=0.1) == [], "a dollar in the long window"
