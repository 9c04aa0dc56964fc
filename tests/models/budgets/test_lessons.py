"""What broke budgets in other systems, tried on the whole way from events to what a budget says.

Lessons 1 and 2 ask for a reservation before each call. That is a gateway's to make: Tenfold reads what was used, and
says so (docs/budgets.md). What is left of them here: however many use a budget at once, all of it counts.
"""

import random
from datetime import UTC, datetime
from pathlib import Path

from loadtest.builders import columns_of
from models.config import DAY_MS, HOUR_MS, MINUTE_MS, USD, BudgetConfig, Enforcement, EngineConfig
from models.engine import UsageEngine
from models.pricing import PriceTable
from models.rolling import EVERYTHING
from models.rollup import RollupEngine
from models.scopes import Scope

START = int(datetime(2026, 11, 10, 12, tzinfo=UTC).timestamp() * 1000)
BUDGET = BudgetConfig("b", Scope("team", "t"), 100 * USD, enforcement=Enforcement(block_percent=100))
CONFIG = EngineConfig(budgets=(BUDGET,), dedupe_events=10_000)


def event(number, at_ms, cost=USD, **more):
    return {"event_id": f"e{number}", "source": "test", "event_time": at_ms, "team": "t", "model": "m",
            "cost_nano_usd": cost, **more}  # fmt: skip


def sources(count):
    return [UsageEngine(CONFIG, partition, PriceTable()) for partition in range(count)]


def send(source, events, now_ms):
    first = source.next_offset
    return source.apply(columns_of(events, first), first + len(events), now_ms)


def milestones(findings):
    return [f for f in findings if f["detector"] == "budget_milestone"]


def test_lesson_1_6_what_many_use_at_once_counts_once_each():
    """Four partitions at the same time, their partials repeated and in any order, the owner restored on the way."""
    rng, found, spent, statuses = random.Random(6), [], 0, {}
    rollup, uses = RollupEngine(CONFIG), sources(4)
    for step in range(25):
        now = START + step * MINUTE_MS
        partials = []
        for source in uses:
            events = [event(f"{source.partition}-{step}-{n}", now + n) for n in range(rng.randrange(3))]
            send(source, events, now)
            spent += len(events) * USD
            partials += [source.flush()] * rng.randrange(1, 4)
        rng.shuffle(partials)
        for one in partials:
            rollup.apply(one, now)
        if step % 5 == 4:
            rollup = RollupEngine.restore(CONFIG, [rollup.take_delta(EVERYTHING)])
        out = rollup.advance(now)
        found += milestones(out.findings)
        statuses |= {status["period"]: status for status in out.budgets}
    out = rollup.finish(START + HOUR_MS)
    statuses |= {status["period"]: status for status in out.budgets}
    assert statuses["2026-11"]["spent_nano_usd"] == spent > 80 * USD
    opened = [f["id"] for f in (*found, *milestones(out.findings)) if f["status"] == "open"]
    assert len(opened) == len(set(opened)) > 0


def test_lesson_2_47_what_has_no_price_counts_as_zero_and_is_never_nothing():
    rollup, (source,) = RollupEngine(CONFIG), sources(1)
    send(source, [event(n, START + n, None, model="nobody's", input_tokens=10**6) for n in range(3)], START)
    rollup.apply(source.flush(), START)
    out = rollup.finish(START)
    (status,) = out.budgets
    assert (status["spent_nano_usd"], status["spent_ratio"]) == (0, 0.0)
    assert out.decisions[-1]["action"] == "allow"
    window = next(row for row in out.spend if row["scope_kind"] == "team")
    assert window["unpriced_events"] == 3 and window["estimated_nano_usd"] > 0


def test_lesson_11_the_written_policy_is_what_happens():
    """docs/guarantees.md chooses: nothing is lost, and what is sent twice counts once."""
    said = " ".join(Path("docs/guarantees.md").read_text().split()).lower()
    assert "lost" in said and "twice" in said
    rollup, (source,) = RollupEngine(CONFIG), sources(1)
    events = [event(n, START + n) for n in range(40)]
    counted = [send(source, part, START) for part in (events, events[10:30], events)]
    assert [(out.counted, out.duplicates) for out in counted] == [(40, 0), (0, 20), (0, 40)]
    rollup.apply(source.flush(), START)
    assert rollup.finish(START).budgets[-1]["spent_nano_usd"] == 40 * USD


def test_lesson_40_50_a_producer_whose_clock_is_ahead_costs_nobody_a_milestone():
    """Its use counts in its own period; the watermark, and with it everybody's month, does not move."""
    rollup, (source,) = RollupEngine(CONFIG), sources(1)
    send(source, [event("fast", START + 400 * DAY_MS)], START)
    out = send(source, [event(n, START + n) for n in range(60)], START)
    assert (out.counted, out.late, out.rejected) == (60, 0, 0)
    assert source.watermark.value_ms <= START + HOUR_MS
    rollup.apply(source.flush(), START)
    out = rollup.finish(START)
    spent = {status["period"]: status["spent_nano_usd"] for status in out.budgets}
    assert spent == {"2026-11": 60 * USD, "2027-12": USD}
    assert [(f["details"]["period"], f["severity"], f["details"]["why"]) for f in milestones(out.findings)] == [
        ("2026-11", "info", "reached")
    ]
