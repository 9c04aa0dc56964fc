"""A year of three teams in three time zones against a plain-Python oracle: milestones, burns, projections, decisions.

Clocks change both ways in Berlin and New York; Kolkata is half an hour off. Use comes late, up to twenty days; limits
are changed, raised for a while, budgets added and taken away. The engine is restored from its deltas on the way.
"""

import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from models.config import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    BudgetConfig,
    Enforcement,
    EngineConfig,
    LearnerConfig,
    Raise,
    SpendRateConfig,
)
from models.counters import COUNTERS
from models.rolling import EVERYTHING
from models.rollup import RollupEngine
from models.scopes import Scope
from tests.models.budgets.year_oracle import Oracle
from tests.panes import pane_columns

USD = 10**9
STEPS_PER_HOUR = 6
RULES = Enforcement(route_percent=60, route_to="small", throttle_percent=85, block_percent=100, fail="closed")


def at(*when):
    return int(datetime(2026, *when, tzinfo=UTC).timestamp() * 1000)


BERLIN, YORK, KOLKATA = (Scope("team", name) for name in ("berlin", "york", "kolkata"))
BUDGETS = (
    BudgetConfig("berlin month", BERLIN, 3_000 * USD, "Europe/Berlin", enforcement=RULES),
    BudgetConfig("berlin day", BERLIN, 300 * USD, "Europe/Berlin", (25, 35, 100), period="day"),
    BudgetConfig("york week", YORK, 700 * USD, "America/New_York", period="week", enforcement=RULES),
    BudgetConfig("york rolling", YORK, 320 * USD, period="rolling", rolling_ms=3 * DAY_MS, enforcement=RULES),
    BudgetConfig(
        "kolkata quarter", KOLKATA, 9_000_000, "Asia/Kolkata", (50, 90, 100), "tokens", "quarter", 4, enforcement=RULES
    ),
    BudgetConfig("all year", Scope("organisation"), 100_000 * USD, "UTC", period="year", enforcement=RULES),
)
CHANGES = {
    at(3, 10): lambda b: change(b, "berlin month", limit=2_500 * USD),
    at(3, 19): lambda b: change(b, "york week", milestones_percent=(40, 80, 100)),
    at(6, 5): lambda b: change(b, "york week", raises=(Raise(400 * USD, at(6, 10), at(6, 24)),)),
    at(8, 20): lambda b: (*b, BudgetConfig("york month", YORK, 3_100 * USD, "America/New_York")),
    at(10, 3): lambda b: tuple(one for one in b if one.name != "berlin day"),
    at(11, 12): lambda b: change(b, "kolkata quarter", limit=6_000_000),
}


def change(budgets, name, **changes):
    return tuple(replace(one, **changes) if one.name == name else one for one in budgets)


def usage(rng, start, hours):
    """(arrival, team, time, nano-USD, tokens, has a minute window) in order of arrival."""
    rows, burst = [], {}
    for hour in range(hours):
        for team, shift in (("berlin", 1), ("york", -5), ("kolkata", 5)):
            if rng.random() < 0.004:
                burst[team] = (hour + rng.randrange(2, 30), rng.choice((4, 8, 30)))
            until, factor = burst.get(team, (0, 1))
            local = (hour + shift) % 24
            busy = (3.0 if 8 <= local < 19 else 0.5) * (
                0.3 if ((start + hour * HOUR_MS) // DAY_MS + 3) % 7 >= 5 else 1.0
            )
            for step in range(STEPS_PER_HOUR):
                time_ms = start + hour * HOUR_MS + step * HOUR_MS // STEPS_PER_HOUR + rng.randrange(MINUTE_MS)
                size = busy * rng.uniform(0.5, 1.5) * (factor if hour < until else 1)
                late = rng.choice((10 * HOUR_MS, 3 * DAY_MS, 20 * DAY_MS)) if rng.random() < 0.01 else 0
                late = rng.randrange(late) if late else 0
                rows.append((time_ms + late, team, time_ms, round(size * USD / 2), round(size * 1_500)))
    for day in range(10, hours // 24, 30):  # A bill that comes when its day is long over, and takes it past its limit.
        time_ms = start + day * DAY_MS + 9 * HOUR_MS
        rows.append((time_ms + 12 * DAY_MS, "berlin", time_ms, 400 * USD, 1_000))
    return [(*row, row[0] - row[2] < 20 * HOUR_MS) for row in sorted(rows)]


class Feed:
    """Cumulative partials of one source, as the usage agent publishes them."""

    def __init__(self):
        self.windows, self.offset, self.dirty = {}, 0, set()

    def count(self, team, time_ms, nano_usd, tokens, with_minute):
        for size in (HOUR_MS, MINUTE_MS)[: 1 + with_minute]:
            key = (team, time_ms - time_ms % size, size)
            row = self.windows.setdefault(key, [0, 0, 0])
            for i, amount in enumerate((nano_usd, tokens, 5)):
                row[i] += amount
            self.dirty.add(key)

    def flush(self, watermark_ms):
        self.offset += 1
        panes = []
        for key in sorted(self.dirty):
            team, start, size = key
            cost, tokens, events = self.windows[key]
            panes.append(
                {"scope_kind": "team", "team": team, "model": "", "agent": "", "use_case": "", "window_start": start}
                | {"window_ms": size, **dict.fromkeys(COUNTERS, 0)}
                | {"cost_nano_usd": cost, "events": events, "input_tokens": tokens - 7, "output_tokens": 7}
            )
        self.dirty.clear()
        return {"source_partition": 0, "next_offset": self.offset, "watermark": watermark_ms, "idle": False,
                "panes": pane_columns(panes), "baselines": []}  # fmt: skip


def run(start, days, seed):
    rng = random.Random(seed)
    budgets = BUDGETS
    quiet = {"spend_rate": SpendRateConfig(window_ms=DAY_MS), "learner": LearnerConfig(n_trees=1, height=1)}
    engine = RollupEngine(EngineConfig(budgets=budgets, **quiet))
    oracle, feed = Oracle(budgets, start), Feed()
    oracle.evaluated = start - MINUTE_MS
    statuses, decisions, seen = {}, {}, {"milestone": 0, "burn": 0, "decision": 0, "late": 0, "band": 0, "remaining": 0}
    arrivals, pending = usage(rng, start, days * 24), sorted(CHANGES)
    watermark, next_row = start, 0
    while watermark < start + days * DAY_MS:
        watermark += rng.choice((HOUR_MS, 5 * HOUR_MS, 9 * HOUR_MS, 23 * HOUR_MS)) + rng.randrange(HOUR_MS)
        while next_row < len(arrivals) and arrivals[next_row][0] < watermark + MINUTE_MS:
            _, team, time_ms, nano_usd, tokens, with_minute = arrivals[next_row]
            feed.count(team, time_ms, nano_usd, tokens, with_minute)
            oracle.use(team, time_ms, nano_usd, tokens, 5, with_minute)
            next_row += 1
        engine.apply(feed.flush(watermark), watermark)
        if pending and watermark >= pending[0]:
            budgets = CHANGES[pending.pop(0)](budgets)
            engine.set_budgets(budgets)
            oracle.change(budgets)
        if rng.random() < 0.02:
            engine = RollupEngine.restore(engine.config, [engine.take_delta(EVERYTHING)])
        out = engine.advance(watermark)
        compare_findings(out.findings, *oracle.advance(watermark), seen)
        statuses |= {(row["budget"], row["period"]): row for row in out.budgets}
        decisions |= {row["scope"]: row for row in out.decisions}
        compare_statuses(statuses, oracle.statuses, seen)
        have = {
            scope: (row["action"], row["expires"], row["budget"], row["rate_per_hour"], row["period"])
            for scope, row in decisions.items()
        }
        assert have == oracle.decisions
        seen["decision"] += len(out.decisions)
    return seen


def compare_findings(findings, milestones, burns, seen):
    have = [
        (d["budget"], d["period"], int(d["level_percent"]), f["status"], d["why"], f["revision"])
        for f, d in ((f, f["details"]) for f in findings if f["detector"] == "budget_milestone")
        if d["why"] != "removed"
    ]
    assert sorted(have) == sorted(row[:-1] for row in milestones)
    have = [
        (f["details"]["budget"], f["details"]["rule"], f["status"], f["last_event_time"] + 1, f["details"]["period"])
        for f in findings
        if f["detector"] == "budget_burn" and "was removed" not in f["reason"]
    ]
    want = [(b["budget"], b["kind"], b["status"], b["end"], b["period"]) for b in burns]
    assert sorted(have) == sorted(want)
    seen["milestone"] += len(milestones)
    seen["late"] += sum(why == "late_usage" for *_, why, _, _ in milestones)
    seen["burn"] += len(burns)
    seen["remaining"] += sum(b["kind"] == "remaining" for b in burns)


def compare_statuses(statuses, oracle, seen):
    for key, want in oracle.items():
        row = statuses[key]
        in_tokens = row["unit"] == "tokens"
        assert (row["spent_tokens"] if in_tokens else row["spent_nano_usd"]) == want["spent"], key
        assert (row["limit_tokens"] if in_tokens else row["limit_nano_usd"]) == want["limit"], key
        assert row["milestone_percent"] == want["level"], key
        assert [(rate["firing"]) for rate in row["burn"]] == [firing for *_, firing in want["burn"]], key
        for rate, (_, long_burn, short_burn, _) in zip(row["burn"], want["burn"], strict=True):
            assert (rate["long_burn"], rate["short_burn"]) == pytest.approx((long_burn, short_burn), rel=1e-9, abs=1e-9)
        if want["exhaustion"] is None:
            assert row["projected_exhaustion"] is None, key
        else:
            assert row["projected_exhaustion"] == pytest.approx(want["exhaustion"], abs=5), key
        made = want["projection"]
        assert (row["projection"] is None) == (made is None)
        if made is not None:
            assert all(row["projection"][name] == getattr(made, name) for name in made.__slots__), key
            seen["band"] += 1


def test_lesson_39_41_spring_equals_the_oracle():
    """Both zones change their clocks, a limit is changed; three weeks make a season on the way."""
    seen = run(at(2, 26), days=40, seed=2)
    assert min(seen["milestone"], seen["burn"], seen["decision"], seen["band"], seen["late"], seen["remaining"]) > 0


@pytest.mark.year
def test_lesson_39_41_a_year_equals_the_oracle():
    seen = run(at(1, 1), days=365, seed=1)
    print(seen)
    assert seen["milestone"] > 500 and seen["burn"] > 100 and seen["decision"] > 300
    assert seen["late"] > 0 and seen["band"] > 500 and seen["remaining"] > 20
