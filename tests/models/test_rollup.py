"""Rollup against plain-Python oracles: merging, watermark, baselines, findings, state."""

import json
import random
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import DAY_MS, HOUR_MS, MINUTE_MS, BudgetConfig, EngineConfig, SpendRateConfig, WindowConfig
from models.counters import COUNTERS
from models.detectors.spend_rate import GUARD
from models.peer_group import BINS, SUMS
from models.rolling import EVERYTHING, SLICES
from models.rollup import RollupEngine
from models.scopes import Scope
from schemas.codec import decode, encode
from tests.panes import pane_columns, pane_rows

USD = 10**9
T0 = 1_795_500_000_000 // HOUR_MS * HOUR_MS
SCHEMAS = {"spend": "window_spend", "budgets": "budget_status", "baselines": "baseline", "findings": "finding"}


def pane(scope, start, cost, size=MINUTE_MS, events=1, **counters):
    kind, *names = scope
    names = {"team": "", "model": "", "agent": "", "use_case": "", **dict(names)}
    values = {**dict.fromkeys(COUNTERS, 0), "cost_nano_usd": cost, "events": events, **counters}
    return {"scope_kind": kind, **names, "window_start": start, "window_ms": size, **values}


def team(name):
    return ("team", ("team", name))


def partials(source, next_offset, watermark, panes=(), baselines=(), idle=False):
    return {
        "source_partition": source,
        "next_offset": next_offset,
        "watermark": watermark,
        "idle": idle,
        "panes": pane_columns(panes),
        "baselines": list(baselines),
    }


def usage(team_name, model, start, cost):
    """The panes of one event, as the usage engine would send them."""
    scopes = (
        ("team", ("team", team_name)),
        ("model", ("model", model)),
        ("team_model", ("team", team_name), ("model", model)),
    )
    hour = start - start % HOUR_MS
    return [pane(s, start, cost) for s in scopes] + [pane(s, hour, cost, HOUR_MS) for s in scopes]


class Source:
    """Cumulative counters of one partition, flushed as a usage engine does."""

    def __init__(self, partition=0):
        self.partition, self.offset = partition, 0
        self.sums = defaultdict(lambda: defaultdict(int))

    def spend(self, team_name, model, start, cost):
        for row in usage(team_name, model, start, cost):
            key = tuple(
                row[k] for k in ("scope_kind", "team", "model", "agent", "use_case", "window_start", "window_ms")
            )
            for counter in COUNTERS:
                self.sums[key][counter] += row[counter]
        self.offset += 1

    def flush(self, watermark):
        names = ("scope_kind", "team", "model", "agent", "use_case", "window_start", "window_ms")
        rows = [{**dict(zip(names, key, strict=True)), **sums} for key, sums in self.sums.items()]
        return partials(self.partition, self.offset, watermark, rows)


def valid(out):
    """Outputs that encode and decode as what they are."""
    for name, schema in SCHEMAS.items():
        for record in getattr(out, name):
            assert decode(schema, encode(schema, record)) == record
    return out


def window(row):
    scope = Scope(row["scope_kind"], row["team"], row["model"], row["agent"], row["use_case"])
    return scope, row["window_start"], row["window_ms"]


# ---------------------------------------------------------------- merging

messages = st.lists(
    st.tuples(
        st.integers(0, 2),  # source
        st.integers(1, 6),  # next_offset
        st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2)), max_size=4),
    ),
    max_size=12,
)


def build(source, next_offset, chosen):
    """Counters are a function of (source, next_offset, pane), as cumulative counters are; a pane may repeat."""
    panes = [
        pane(team(name), T0 + minute * MINUTE_MS, 10**source * next_offset + minute, events=next_offset)
        for name, minute in chosen
    ]
    return partials(source, next_offset, T0 + next_offset * MINUTE_MS, panes)


def oracle(sent):
    newest = {}
    for source, next_offset, chosen in sent:
        for row in pane_rows(build(source, next_offset, chosen)):
            key = (window(row), source)
            if key not in newest or next_offset >= newest[key][0]:
                newest[key] = (next_offset, row["cost_nano_usd"], row["events"])
    totals = defaultdict(lambda: [0, 0])
    for (key, _), (_, cost, events) in newest.items():
        totals[key][0] += cost
        totals[key][1] += events
    return dict(totals)


@settings(deadline=None)
@given(messages, st.randoms())
def test_repeats_and_any_order_give_the_same_totals(sent, rng):
    """Lesson 7, lesson 12: one owner of state, versioned by offset, deduplicated before it is added up."""
    shuffled = sent + [m for m in sent if rng.random() < 0.5]
    rng.shuffle(shuffled)
    engine, published = RollupEngine(EngineConfig()), {}
    for message in shuffled:
        engine.apply(build(*message), 0)
        if rng.random() < 0.3:
            published |= {window(row): row for row in valid(engine.advance(0)).spend}
    published |= {window(row): row for row in engine.advance(0).spend}
    assert {key: [row["cost_nano_usd"], row["events"]] for key, row in published.items()} == oracle(sent)


def test_a_repeat_publishes_nothing():
    engine = RollupEngine(EngineConfig())
    message = build(0, 3, [("a", 0), ("b", 1)])
    engine.apply(message, 0)
    assert len(engine.advance(0).spend) == 2
    engine.apply(message, 0)
    engine.apply(build(0, 2, [("a", 0)]), 0)
    out = engine.advance(0)
    assert (list(out.spend), out.baselines, out.findings) == ([], [], [])


def test_revisions_grow_and_late_amendments_reopen_a_final_window():
    engine = RollupEngine(EngineConfig())
    engine.apply(partials(0, 1, T0, [pane(team("a"), T0, 5)]), 0)
    (first,) = engine.advance(0).spend
    assert (first["revision"], first["final"], first["watermark"]) == (1, False, T0)
    engine.apply(partials(0, 2, T0 + MINUTE_MS), 0)
    (final,) = engine.advance(0).spend
    assert (final["revision"], final["final"], final["cost_nano_usd"]) == (2, True, 5)
    engine.apply(partials(0, 3, T0 + MINUTE_MS, [pane(team("a"), T0, 7)]), 0)
    (late,) = engine.advance(0).spend
    assert (late["revision"], late["final"], late["cost_nano_usd"]) == (3, True, 7)
    assert list(engine.advance(0).spend) == []


def test_a_new_window_that_is_late_is_final_at_once():
    engine = RollupEngine(EngineConfig())
    engine.apply(partials(0, 1, T0), 0)
    engine.advance(0)
    engine.apply(partials(0, 2, T0, [pane(team("a"), T0 - HOUR_MS, 5)]), 0)
    (late,) = engine.advance(0).spend
    assert (late["revision"], late["final"]) == (1, True)


def test_an_expired_window_is_never_published_smaller():
    engine = RollupEngine(EngineConfig(windows=WindowConfig(minute_retention_ms=HOUR_MS)))
    engine.apply(partials(0, 1, T0, [pane(team("a"), T0 - MINUTE_MS, 100)]), 0)
    engine.apply(partials(1, 1, T0, [pane(team("a"), T0 - MINUTE_MS, 7)]), 0)
    (row,) = engine.advance(0).spend
    assert row["cost_nano_usd"] == 107
    for source in (0, 1):
        engine.apply(partials(source, 2, T0 + HOUR_MS - 1), 0)
    engine.advance(0)
    engine.apply(partials(1, 3, T0 + HOUR_MS - 1, [pane(team("a"), T0 - MINUTE_MS, 8)]), 0)
    assert [row["cost_nano_usd"] for row in engine.advance(0).spend] == [108], "kept to the last millisecond"
    for source in (0, 1):
        engine.apply(partials(source, 4, T0 + HOUR_MS), 0)
    engine.advance(0)
    engine.apply(partials(1, 5, T0 + HOUR_MS, [pane(team("a"), T0 - MINUTE_MS, 9)]), 0)
    assert list(engine.advance(0).spend) == []
    assert engine.panes.expired_rows == 1
    assert len(engine.panes) == 0


def test_memory_is_bounded_by_retention():
    config = EngineConfig(windows=WindowConfig(minute_retention_ms=HOUR_MS, hour_retention_ms=3 * HOUR_MS))
    engine = RollupEngine(config)
    for minute in range(600):
        start = T0 + minute * MINUTE_MS
        engine.apply(partials(0, minute + 1, start, usage("a", "m", start, 5)), 0)
        engine.advance(0)
    assert len(engine.panes) <= 3 * (61 + 5)
    assert len(engine.panes._rows["scope"]) <= 512, "freed rows are used again"


# ---------------------------------------------------------------- watermark


def test_watermark_is_the_slowest_active_source_and_never_goes_back():
    engine = RollupEngine(EngineConfig())
    engine.apply(partials(0, 1, T0 + 100), 1_000)
    engine.apply(partials(1, 1, T0 + 50), 1_000)
    engine.advance(1_000)
    assert engine.watermark_ms == T0 + 50
    engine.apply(partials(0, 2, T0 + 300), 5_000)
    engine.advance(60_000)
    assert engine.watermark_ms == T0 + 50
    engine.apply(partials(1, 2, T0 + 400), 6_100)
    engine.advance(6_100)
    assert engine.watermark_ms == T0 + 300
    engine.apply(partials(2, 1, T0 + 10), 6_100)
    engine.advance(6_100)
    assert engine.watermark_ms == T0 + 300


def test_a_silent_source_is_waited_for_until_the_others_have_long_been_heard():
    engine = RollupEngine(EngineConfig(windows=WindowConfig(silent_partition_ms=20_000)))
    engine.apply(partials(1, 1, T0), 0)
    for second in range(1, 20):
        engine.apply(partials(0, second, T0 + second), second * 1_000)
    engine.advance(100_000)
    assert engine.watermark_ms == T0, "its owner may have died, and another one reads on"
    # An outage: nobody is heard for an hour, which says nothing about source 1.
    engine.apply(partials(0, 20, T0 + 20), 3_600_000)
    engine.apply(partials(1, 2, T0 + 5), 3_600_900)
    engine.advance(3_601_000)
    assert engine.watermark_ms == T0 + 5
    for second in range(1, 23):
        engine.apply(partials(0, 20 + second, T0 + 20 + second), 3_601_000 + second * 1_000)
    engine.advance(3_700_000)
    assert engine.watermark_ms == T0 + 42, "nobody speaks for source 1 any more"


def test_idle_flag_frees_the_others_and_new_input_takes_it_back():
    engine = RollupEngine(EngineConfig())
    engine.apply(partials(0, 5, T0 + 100), 0)
    engine.apply(partials(1, 1, T0, idle=True), 0)
    engine.apply(partials(1, 1, T0), 0)
    engine.advance(0)
    assert engine.watermark_ms == T0 + 100, "a repeat from before the flag does not take it back"
    engine.apply(partials(1, 2, T0 + 150), 0)
    engine.apply(partials(0, 6, T0 + 500), 0)
    engine.advance(0)
    assert engine.watermark_ms == T0 + 150


def test_all_idle_moves_on_to_the_furthest():
    engine = RollupEngine(EngineConfig())
    engine.apply(partials(0, 5, T0 + 100, idle=True), 0)
    engine.apply(partials(1, 5, T0 + 900, idle=True), 0)
    engine.advance(0)
    assert engine.watermark_ms == T0 + 900


def test_expected_sources_are_waited_for():
    engine = RollupEngine(EngineConfig(windows=WindowConfig(silent_partition_ms=5_000)))
    engine.expect(2, 1_000)
    engine.apply(partials(0, 5, T0), 1_000)
    engine.advance(5_000)
    assert engine.watermark_ms == -1
    engine.apply(partials(1, 5, T0 - 7), 5_500)
    engine.advance(5_600)
    assert engine.watermark_ms == T0 - 7
    engine.expect(3, 6_000)
    for second in range(7, 13):
        engine.apply(partials(0, 5, T0), second * 1_000)
        engine.apply(partials(1, 6, T0 - 6), second * 1_000)
    engine.advance(12_000)
    assert engine.watermark_ms == T0 - 6, "a partition that never speaks is waited for once"


# ---------------------------------------------------------------- baselines


def part(day, bin_, count, name="a"):
    bins = [0] * BINS
    bins[bin_] = count
    names = {"level": 1, "team": name, "agent": "", "model": "m"}
    return {**names, "day": day, "cost_bins": bins, "event_bins": bins, "sums": [count] * SUMS}


def test_baselines_are_merged_over_sources_and_decayed_over_days():
    day = T0 // DAY_MS
    engine = RollupEngine(EngineConfig())
    engine.apply(partials(0, 5, T0, baselines=[part(day, 3, 10), part(day - 14, 3, 8)]), 0)
    engine.apply(partials(1, 9, T0, baselines=[part(day, 3, 1), part(day - 28, 4, 4)]), 0)
    engine.apply(partials(0, 4, T0, baselines=[part(day, 3, 9)]), 0)
    (merged,) = valid(engine.advance(0)).baselines
    assert (merged["cost_bins"][3], merged["cost_bins"][4]) == (10 + 8 / 2 + 1, 1.0)
    assert (sum(merged["event_bins"]), merged["revision"]) == (16.0, 1)
    assert merged["sums"] == [16.0] * SUMS
    assert engine.advance(0).baselines == []


def test_more_sessions_at_the_same_offset_are_the_later_message():
    """Sessions end by the clock, without input; so baselines grow while next_offset stands still."""
    for order in ((3, 5), (5, 3)):
        engine = RollupEngine(EngineConfig())
        for count in order:
            engine.apply(partials(0, 5, T0, baselines=[part(T0 // DAY_MS, 3, count)]), 0)
        assert engine.advance(0).baselines[0]["cost_bins"][3] == 5.0


def test_a_new_day_ages_every_group_and_old_days_go():
    day = T0 // DAY_MS
    engine = RollupEngine(EngineConfig())
    engine.apply(partials(0, 1, T0, baselines=[part(day, 3, 8, "a"), part(day - 98, 3, 8, "old")]), 0)
    assert [row["team"] for row in engine.advance(0).baselines] == ["a", "old"]
    engine.apply(partials(0, 2, T0 + DAY_MS, baselines=[part(day + 1, 5, 1, "b")]), 0)
    rows = {row["team"]: row for row in engine.advance(0).baselines}
    assert rows["a"]["cost_bins"][3] == pytest.approx(8 * 0.5 ** (1 / 14))
    assert (sum(rows["old"]["cost_bins"]), rows["old"]["revision"]) == (0.0, 2)


def test_lesson_40_a_session_from_the_future_ages_nobody():
    engine = RollupEngine(EngineConfig())
    day = T0 // DAY_MS
    engine.apply(partials(0, 1, T0, baselines=[part(day, 3, 8), part(day + 4_000, 3, 1, "future")]), 0)
    rows = {row["team"]: row["cost_bins"][3] for row in engine.advance(0).baselines}
    assert rows == {"a": 8.0, "future": 1.0}


# ---------------------------------------------------------------- rate findings


def demo(engine, spike_at=50, minutes=70, spike=9 * USD, teams=("payments",)):
    """One hour of two models per team, then gpt-5.4 spends a lot for ten minutes. All findings, in order."""
    source, rng, findings = Source(), random.Random(3), []
    for minute in range(minutes):
        start = T0 + 10 * MINUTE_MS + minute * MINUTE_MS
        for name in teams:
            hot = spike_at <= minute < spike_at + 10 and name == "payments"
            source.spend(name, "gpt-5.4", start, spike if hot else USD + rng.randrange(USD // 5))
            source.spend(name, "small", start, USD // 2 + rng.randrange(USD // 10))
        engine.apply(source.flush(start), start)
        findings += valid(engine.advance(start)).findings
    return findings


def test_a_spike_opens_is_explained_to_the_nano_dollar_and_resolves():
    findings = demo(RollupEngine(EngineConfig()))
    rates = [f for f in findings if f["scope_kind"] == "team"]
    assert [f["status"] for f in rates] == ["open", "resolved"]
    opened, resolved = rates
    assert opened["id"] == resolved["id"]
    assert (opened["revision"], resolved["revision"]) == (1, 2)
    assert opened["window_start"] == T0 + 61 * MINUTE_MS
    assert resolved["excess_nano_usd"] == pytest.approx(9 * 8 * USD, rel=0.1)
    for finding in findings:
        for dimension in {part["dimension"] for part in finding["cause"]}:
            parts = [part["excess_nano_usd"] for part in finding["cause"] if part["dimension"] == dimension]
            assert sum(parts) == finding["excess_nano_usd"]
    assert opened["cause"][0]["name"] == "gpt-5.4"
    assert opened["reason"].startswith(
        f"Team payments spent ${opened['observed_nano_usd'] / USD:.2f} in the minute from"
    )
    assert "; gpt-5.4 accounts for $" in opened["reason"]
    (model,) = [f for f in findings if f["scope_kind"] == "model" and f["status"] == "open"]
    assert (model["model"], model["cause"][0]["name"]) == ("gpt-5.4", "payments")


def test_an_incident_that_doubles_is_updated():
    engine, source = RollupEngine(EngineConfig()), Source()
    findings = []
    for minute in range(64):
        start = T0 + minute * MINUTE_MS
        source.spend("a", "m", start, USD if minute < 60 else (minute - 59) ** 3 * 5 * USD)
        engine.apply(source.flush(start), start)
        findings += [f for f in engine.advance(start).findings if f["scope_kind"] == "team"]
    assert [(f["status"], f["revision"]) for f in findings] == [("open", 1), ("updated", 2)]
    assert findings[1]["severity"] == "critical"


def test_a_late_amendment_changes_money_but_not_the_judgement():
    engine, source = RollupEngine(EngineConfig()), Source()
    for minute in range(60):
        start = T0 + minute * MINUTE_MS
        source.spend("a", "m", start, USD)
        engine.apply(source.flush(start), start)
        engine.advance(start)
    for minute in (40, 41, 42):
        source.spend("a", "m", T0 + minute * MINUTE_MS, 50 * USD)
    engine.apply(source.flush(T0 + 59 * MINUTE_MS), 0)
    out = engine.advance(T0)
    assert [f for f in out.findings if f["detector"] == "spend_rate"] == []
    assert {r["cost_nano_usd"] for r in out.spend if r["window_ms"] == MINUTE_MS} == {51 * USD}


def test_a_sparse_team_is_judged_by_hours_only():
    """Active in half of its minutes: a hot pair of minutes is its nature, five hot hours are not."""
    engine, source = RollupEngine(EngineConfig(spend_rate=SpendRateConfig(windows=2))), Source()
    rng, findings = random.Random(8), []
    for hour in range(48):
        for minute in range(0, 60, 2):
            start = T0 + hour * HOUR_MS + minute * MINUTE_MS
            usual = 10 if hour < 44 else 100
            source.spend("a", "m", start, usual * USD + rng.randrange(USD))
        engine.apply(source.flush(start), start)
        source.sums.clear()
        findings += [f for f in engine.advance(start).findings if f["scope_kind"] == "team"]
    assert [(f["status"], f["window_ms"]) for f in findings] == [("open", HOUR_MS)]
    assert "in the hour from" in findings[0]["reason"]


def test_after_a_long_gap_the_engine_catches_up_without_going_through_all_of_it():
    engine, source = RollupEngine(EngineConfig()), Source()
    source.spend("a", "m", T0, USD)
    engine.apply(source.flush(T0 + MINUTE_MS), 0)
    engine.advance(0)
    source.spend("a", "m", T0 + 300 * DAY_MS, USD)
    engine.apply(source.flush(T0 + 300 * DAY_MS + MINUTE_MS), 0)
    engine.advance(0)
    assert engine.rates._minute.rates.counts[0, 0] <= 2_002


def test_one_parts_rise_cannot_hide_behind_anothers_fall():
    """A team moves from one model to a dearer use of another: the sum stays, the part that rose is reported."""
    engine, source, findings = RollupEngine(EngineConfig()), Source(), []
    rng = random.Random(4)
    for minute in range(120):
        start = T0 + minute * MINUTE_MS
        a, b = (4, 16) if minute < 100 else (16, 4)
        for team, models in (("mover", {"up": a, "down": b}), ("other", {"up": 60, "down": 60})):
            for model, usd in models.items():
                source.spend(team, model, start, usd * USD + rng.randrange(USD // 10))
        engine.apply(source.flush(start), start)
        source.sums.clear()
        findings += [f for f in engine.advance(start).findings if f["detector"] == "spend_rate"]
    assert [(f["scope_kind"], f["team"], f["model"], f["status"]) for f in findings] == [
        ("team_model", "mover", "up", "open")
    ]
    assert sum(part["excess_nano_usd"] for part in findings[0]["cause"]) == findings[0]["excess_nano_usd"]


def test_a_team_that_stops_is_a_silence_until_it_goes_on():
    engine, source, findings = RollupEngine(EngineConfig()), Source(), []
    rng = random.Random(4)
    for minute in range(160):
        start = T0 + minute * MINUTE_MS
        source.spend("beside", "m", start, 10 * USD + rng.randrange(USD))
        if not 100 <= minute < 140:
            source.spend("stopper", "n", start, USD + rng.randrange(USD // 5))
        engine.apply(source.flush(start), start)
        source.sums.clear()
        findings += [f for f in engine.advance(start).findings if f["detector"] == "silence"]
    assert [(f["scope_kind"], f["scope_name"], f["status"]) for f in findings] == [
        (kind, name, status) for status in ("open", "resolved") for kind, name in (("team", "stopper"), ("model", "n"))
    ]
    opened, resolved = findings[0], findings[2]
    assert opened["window_start"] == resolved["window_start"] == T0 + 100 * MINUTE_MS
    assert (opened["window_ms"], resolved["window_ms"]) == (20 * MINUTE_MS, 40 * MINUTE_MS)
    assert opened["observed_nano_usd"] == 0
    assert opened["expected_nano_usd"] == pytest.approx(22 * USD, rel=0.1)
    assert opened["id"] == resolved["id"] and resolved["revision"] == 2
    assert "has stopped" in opened["reason"]


def said(verdict, finding_id="", at_ms=1, until_ms=0, **scope):
    return {
        **{"finding_id": finding_id, "verdict": verdict, "at_ms": at_ms, "until_ms": until_ms},
        **{"scope_kind": "", "scope_name": "", "detector": "", "user": "u", "source": "cli", **scope},
    }


def guards(engine):
    watch = engine.rates._minute
    return {key.label: float(watch.rates.values[row, GUARD]) for row, key in enumerate(watch.keys)}


def test_verdicts_move_the_bar_once_whatever_is_read_again_and_survive_a_restart():
    engine = RollupEngine(EngineConfig())
    opened = next(f for f in demo(engine) if f["scope_kind"] == "team")
    before = guards(engine)["payments"]
    step = 0.6
    for verdict, at_ms, change in (
        ("false", 5, step),
        ("false", 5, step),
        ("true", 4, step),
        ("acknowledged", 9, step),
    ):
        engine.feedback(said(verdict, opened["id"], at_ms))
        assert guards(engine)["payments"] == pytest.approx(before + change)
    engine = RollupEngine.restore(EngineConfig(), [as_stored(engine.take_delta(EVERYTHING))])
    engine.feedback(said("false", opened["id"], 5))
    assert guards(engine)["payments"] == pytest.approx(before + step)
    engine.feedback(said("true", opened["id"], 6))
    assert guards(engine)["payments"] == pytest.approx(max(before - step, 0.0), abs=1e-9)
    engine.feedback(said("false", "nobody knows", 7))


def test_what_is_planned_opens_nothing_until_its_end():
    until = T0 + 1_000 * MINUTE_MS
    for end, kinds in ((until, {"model"}), (T0, {"team", "model"})):
        engine = RollupEngine(EngineConfig())
        engine.feedback(said("planned", until_ms=end, scope_kind="team", scope_name="payments"))
        rates = [f for f in demo(engine) if f["detector"] == "spend_rate"]
        assert {f["scope_kind"] for f in rates} == kinds


def test_learner_scores_reach_findings_and_can_be_asked_for():
    engine = RollupEngine(EngineConfig(budgets=(BudgetConfig("b", Scope("team", "payments"), 100 * USD),)))
    findings = demo(engine, spike_at=80, minutes=95)
    assert 0.0 <= engine.learner_score("payments") <= 1.0
    assert engine.learner_score("nobody") is None
    team_findings = [f for f in findings if f["team"] == "payments" and f["first_event_time"] > T0 + 80 * MINUTE_MS]
    assert {f["detector"] for f in team_findings} >= {"spend_rate"}
    assert all(f["learner_score"] is not None for f in team_findings)
    early = [f for f in findings if f["last_event_time"] < T0 + 60 * MINUTE_MS]
    assert early
    assert all(f["learner_score"] is None for f in early), "nothing learnt in the first hour"


def test_findings_do_not_depend_on_how_often_advance_is_called():
    """Judged by event time: once a minute or once at the end, the rate findings are the same."""

    def rates(every):
        engine, source, rng, findings = RollupEngine(EngineConfig()), Source(), random.Random(3), []
        for minute in range(80):
            start = T0 + minute * MINUTE_MS
            source.spend("a", "m", start, 20 * USD if 60 <= minute < 66 else USD + rng.randrange(USD // 5))
            engine.apply(source.flush(start), 0)
            if minute % every == every - 1:
                findings += engine.advance(0).findings
        return findings + engine.finish(0).findings

    assert rates(1) == rates(7) == rates(80)
    assert len(rates(1)) == 4


def test_finish_closes_the_minute_of_the_newest_event():
    engine, source = RollupEngine(EngineConfig()), Source()
    source.spend("a", "m", T0, 5)
    engine.apply(source.flush(T0 + 10 - MINUTE_MS), 0)
    assert not any(row["final"] for row in engine.advance(0).spend)
    assert {row["window_ms"] for row in engine.finish(0).spend if row["final"]} == {MINUTE_MS}


# ---------------------------------------------------------------- state


def as_stored(state):
    """Through what a checkpoint keeps: JSON and arrays, string keys only."""

    def pack(node):
        if isinstance(node, np.ndarray):
            return {"$": [node.dtype.str, list(node.shape), node.ravel().tolist()]}
        if isinstance(node, dict):
            assert all(isinstance(key, str) for key in node)
            return {key: pack(value) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [pack(value) for value in node]
        assert node is None or isinstance(node, bool | int | float | str), type(node)
        return node

    def unpack(node):
        if isinstance(node, dict):
            if "$" in node:
                dtype, shape, values = node["$"]
                return np.array(values, dtype).reshape(shape)
            return {key: unpack(value) for key, value in node.items()}
        return [unpack(value) for value in node] if isinstance(node, list) else node

    return unpack(json.loads(json.dumps(pack(state))))


CONFIG = EngineConfig(
    windows=WindowConfig(minute_retention_ms=20 * MINUTE_MS, hour_retention_ms=3 * HOUR_MS),
    spend_rate=SpendRateConfig(warm_up_windows=5, windows=1, clear_windows=2),
    budgets=(
        BudgetConfig("whole", Scope("team", "a"), 200 * USD),
        BudgetConfig("half", Scope("team", "b"), 40 * USD, "Asia/Kolkata"),
        BudgetConfig("never seen", Scope("team", "c"), USD),
    ),
)
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("spend"),
            st.integers(0, 1),
            st.sampled_from("ab"),
            st.sampled_from(["m", "n"]),
            st.integers(-90, 3),
            st.sampled_from([0, USD // 2, USD, 30 * USD]),
        ),
        st.tuples(st.just("minutes"), st.sampled_from([1, 1, 2, 7, 90])),
        st.tuples(st.just("sessions"), st.integers(0, 1), st.integers(1, 9), st.integers(-1, 1)),
        st.tuples(st.just("advance")),
    ),
    max_size=60,
)


def play(steps, restart_at=frozenset()):
    """All outputs of a run; the engine is replaced by one restored from the last deltas before ``restart_at``."""
    engine, sources, clock, outputs = RollupEngine(CONFIG), (Source(0), Source(1)), T0, []
    deltas = []
    for number, step in enumerate(steps):
        if restart_at:
            deltas.append(as_stored(engine.take_delta(len(deltas) % SLICES if deltas else EVERYTHING)))
        if number in restart_at:
            engine = RollupEngine.restore(CONFIG, deltas[-SLICES:])
        if step[0] == "spend":
            _, source, name, model, minute, cost = step
            sources[source].spend(name, model, clock + minute * MINUTE_MS, cost)
            engine.apply(sources[source].flush(clock), clock)
        elif step[0] == "minutes":
            clock += step[1] * MINUTE_MS
            for source in sources:
                engine.apply(partials(source.partition, source.offset, clock), clock)
            outputs.append(valid(engine.advance(clock)))
        elif step[0] == "sessions":
            _, source, count, day = step
            sources[source].offset += 1
            rows = [part(clock // DAY_MS + day, count, count)]
            engine.apply(partials(source, sources[source].offset, clock, baselines=rows), clock)
        else:
            outputs.append(valid(engine.advance(clock)))
    outputs.append(engine.finish(clock))
    return [replace(out, spend=list(out.spend)) for out in outputs]


@settings(max_examples=60, deadline=None)
@given(steps, st.sets(st.integers(0, 59), max_size=4))
def test_a_restored_engine_gives_equal_outputs(steps, restart_at):
    assert play(steps, restart_at) == play(steps)


def test_restoring_in_the_middle_of_an_incident_and_a_burn():
    steps = [("spend", 0, "a", "m", 0, USD), ("minutes", 1)] * 45
    steps += [("spend", 0, "a", "m", 0, 60 * USD), ("minutes", 1)] * 6
    steps += [("spend", 0, "a", "m", 0, USD), ("minutes", 1)] * 90
    outputs = play(steps)
    assert play(steps, frozenset(range(0, len(steps), 13))) == outputs
    found = {(f["detector"], f["status"]) for out in outputs for f in out.findings}
    assert found >= {("spend_rate", "open"), ("spend_rate", "resolved"), ("budget_burn", "open")}
    assert ("budget_milestone", "open") in found


def test_another_state_version_is_refused_not_misread():
    delta = RollupEngine(CONFIG).take_delta(EVERYTHING)
    with pytest.raises(ValueError, match="version 99"):
        RollupEngine.restore(CONFIG, [{**delta, "version": 99}])
