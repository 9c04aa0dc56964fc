"""The usage engine as a whole: what a batch leads to, against plain Python."""

from collections import Counter, defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.builders import columns_of
from models.config import DAY_MS, HOUR_MS, MINUTE_MS, USD, EngineConfig, WindowConfig
from models.engine import TOO_OLD, UsageEngine
from models.pricing import PriceTable
from models.rolling import EVERYTHING
from tests.panes import pane_rows

START = 1_795_460_400_000
CONFIG = EngineConfig()


def event(number: int, at_ms: int = START, **more) -> dict:
    return {
        "event_id": f"e{number}",
        "source": "test",
        "event_time": at_ms,
        "session_id": "s",
        "team": "t",
        "agent": "a",
        "model": "m",
        "cost_nano_usd": USD,
        **more,
    }


def engine(config: EngineConfig = CONFIG) -> UsageEngine:
    return UsageEngine(config, 0, PriceTable(config.prices))


def apply(subject: UsageEngine, events: list[dict], now_ms: int = START + DAY_MS):
    first = subject.next_offset
    return subject.apply(columns_of(events, first), first + len(events), now_ms)


def hour_costs(partials: dict, kind: str = "team") -> dict:
    return {
        (pane[kind], pane["window_start"]): pane["cost_nano_usd"]
        for pane in pane_rows(partials)
        if pane["scope_kind"] == kind and pane["window_ms"] == HOUR_MS
    }


def teach(subject: UsageEngine, costs: list[int], **more) -> list[dict]:
    """Ended sessions of these costs, known as merged baselines, which are returned."""
    events = [
        event(10_000 + i, START - DAY_MS, session_id=f"old{i}", cost_nano_usd=c, **more) for i, c in enumerate(costs)
    ]
    apply(subject, events)
    subject.finish(START)
    baselines = subject.flush()["baselines"]
    subject.update_baselines(baselines)
    return baselines


batches = st.lists(
    st.builds(
        lambda number, minute, session, team, cost: event(
            number, START + minute * MINUTE_MS, session_id=session, team=team, cost_nano_usd=cost
        ),
        st.integers(0, 25),
        st.integers(0, 90),
        st.sampled_from(["", "s1", "s2"]),
        st.sampled_from(["", "t", "u"]),
        st.integers(0, 10**9),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(batches, st.integers(0, 40))
def test_money_is_counted_once_wherever_it_is_added_up(events, cut):
    subject = engine()
    seen, by_team, by_session = set(), Counter(), Counter()
    for item in events:
        if item["event_id"] not in seen:
            seen.add(item["event_id"])
            by_team[item["team"], item["event_time"] // HOUR_MS * HOUR_MS] += item["cost_nano_usd"]
            by_session[item["session_id"]] += item["cost_nano_usd"]
    panes, runs, counted = {}, defaultdict(int), 0
    for part in (events[:cut], events[cut:]):
        out = apply(subject, part)
        counted += out.counted
        assert out.counted + out.duplicates == len(part)
        for outputs in (out, subject.advance(START)):
            for session in outputs.sessions:
                runs[session["session_id"]] += session["cost_nano_usd"]
        panes |= hour_costs(subject.flush())
    for session in subject.finish(START).sessions:
        runs[session["session_id"]] += session["cost_nano_usd"]
    by_session.pop("", None)
    assert counted == len(seen)
    assert panes == dict(by_team)
    assert dict(runs) == dict(by_session)


def test_a_session_is_flagged_on_the_event_that_makes_it_an_outlier():
    subject = engine()
    teach(subject, [USD] * 200)
    out = apply(subject, [event(i, START + i * 1000) for i in range(30)])
    critical = [f for f in out.findings if f["severity"] == "critical"]
    assert critical
    finding = critical[0]
    crossed = int(finding["example_event_ids"][0][1:])
    assert 9 < crossed < 13
    assert finding["observed_nano_usd"] == (crossed + 1) * USD
    assert finding["baseline_size"] == 200
    assert sum(part["excess_nano_usd"] for part in finding["cause"]) == finding["excess_nano_usd"]
    revisions = [f["revision"] for f in out.findings]
    assert len(revisions) == 2 and revisions == sorted(set(revisions)), "told once, and again when the cost has doubled"
    assert len({f["id"] for f in out.findings}) == 1
    closing = subject.finish(START)
    assert [f["status"] for f in closing.findings] == ["resolved"]
    assert closing.findings[0]["observed_nano_usd"] == 30 * USD
    assert closing.findings[0]["revision"] > revisions[-1]
    assert closing.sessions[0]["flagged"] == "critical"


def test_flags_do_not_depend_on_how_the_input_is_cut():
    events = [event(i, START + i * 1000, session_id=f"s{i % 3}") for i in range(90)]
    results = []
    for size in (1, 7, 90):
        subject = engine()
        teach(subject, [USD] * 200)
        found = []
        for low in range(0, 90, size):
            found += [(f["id"], f["revision"], f["severity"], f["observed_nano_usd"])
                      for f in apply(subject, events[low : low + size]).findings]  # fmt: skip
        results.append(found)
    assert results[0] == results[1] == results[2]


def test_what_a_restart_says_again_is_known_as_said_and_what_follows_is_news():
    """A restart may judge by other baselines, and so change its mind less or more often than before."""
    events = [event(i, START + i * 1000, cost_nano_usd=4 * USD) for i in range(30)]
    before = engine()
    baselines = teach(before, [USD] * 200)
    said = {f["revision"]: f for item in events for f in apply(before, [item]).findings if f["team"] == "t"}
    assert len(said) > 2
    after = engine()
    after.next_offset = 200  # Restored from a checkpoint of before the session, with fewer peers known.
    after.update_baselines([part for part in baselines if part["level"] == 0 and part["model"] == "nobody's"])
    again = [f for low in (0, 16) for f in apply(after, events[low : low + 16]).findings]
    assert 0 < len(again) < len(said)
    for finding in again:
        known = said.get(finding["revision"])
        assert known is None or known["observed_nano_usd"] == finding["observed_nano_usd"]
    (resolved,) = after.finish(START).findings
    assert resolved["id"] in {f["id"] for f in said.values()}
    assert resolved["revision"] > max(said)


def test_the_incident_is_found_on_its_event():
    incident = event(1, 1_746_631_772_000, provider="google", model="gemini/gemini-2.5-pro-preview-03-25",
                     input_tokens=10_023, output_tokens=10, cost_nano_usd=9_990_012_528_750)  # fmt: skip
    out = apply(engine(), [event(0, 1_746_631_770_000), incident, event(2, 1_746_631_773_000)])
    found = {f["detector"]: f for f in out.findings}
    assert found["unit_price"]["example_event_ids"] == ["e1"]
    assert found["unit_price"]["expected_nano_usd"] == 12_628_750
    assert found["session_outlier"]["example_event_ids"] == ["e1"]


def test_a_price_error_ends_with_its_hour_and_the_lateness_and_with_the_input():
    config = EngineConfig()
    lateness = config.windows.lateness_ms
    subject = engine()
    hour = START - START % HOUR_MS
    apply(subject, [event(0, hour + 5_000, session_id="", cost_nano_usd=500 * USD)])
    before = event(1, hour + HOUR_MS + lateness - 1, session_id="")
    assert subject.advance(START).findings == apply(subject, [before]).findings == subject.advance(START).findings == []
    restored = UsageEngine.restore(CONFIG, PriceTable(), [subject.take_delta(EVERYTHING)])
    for one in (subject, restored):
        apply(one, [event(2, hour + HOUR_MS + lateness, session_id="")])
        (resolved,) = one.advance(START).findings
        assert (resolved["detector"], resolved["status"], resolved["revision"]) == ("unit_price", "resolved", 6)
        assert one.finish(START).findings == []
    apply(subject, [event(3, hour + 2 * HOUR_MS, session_id="", cost_nano_usd=500 * USD)])
    assert [f["status"] for f in subject.finish(START).findings] == ["resolved"]


def test_publishing_again_says_the_same_and_nothing_new_says_nothing():
    subject = engine()
    apply(subject, [event(1)])
    first = subject.flush()
    assert first["next_offset"] == 1
    assert pane_rows(subject.flush()) == []
    apply(subject, [event(2)])
    second = {(p["scope_kind"], p["window_ms"]): p["cost_nano_usd"] for p in pane_rows(subject.flush())}
    assert set(second.values()) == {2 * USD}, "counters are cumulative"


def test_late_events_count_and_too_old_ones_are_rejected():
    config = EngineConfig(windows=WindowConfig(minute_retention_ms=HOUR_MS, hour_retention_ms=2 * DAY_MS))
    subject = engine(config)
    apply(subject, [event(1)])
    subject.flush()
    columns = columns_of([event(2, START - 3 * HOUR_MS), event(3, START - 3 * DAY_MS), event(4)], 1)
    out = subject.apply(columns, 4, START)
    assert columns.status.tolist() == [0, TOO_OLD, 0]
    assert (out.counted, out.late, out.rejected) == (2, 1, 1)
    sizes = Counter(pane["window_ms"] for pane in pane_rows(subject.flush()))
    assert sizes == {HOUR_MS: 10, MINUTE_MS: 5}, "the late event counts in its hour, its minute is gone"


def test_unpriced_is_never_zero_and_never_silent():
    subject = engine()
    out = apply(subject, [event(1, cost_nano_usd=None, model="nobody-knows-this", input_tokens=1000, output_tokens=10)])
    assert out.unpriced == 1
    pane = next(pane for pane in pane_rows(subject.flush()) if pane["scope_kind"] == "team")
    assert (pane["cost_nano_usd"], pane["unpriced_events"]) == (0, 1)
    assert pane["estimated_nano_usd"] > 0


def test_nothing_is_counted_for_rejected_rows():
    subject = engine()
    columns = columns_of([event(1), event(2)])
    columns.status[0] = 3
    out = subject.apply(columns, 2, START)
    assert (out.counted, out.rejected) == (1, 1)
    assert sum(hour_costs(subject.flush()).values()) == USD


def test_an_empty_batch_moves_the_offset_only():
    subject = engine()
    out = subject.apply(columns_of([]), 5, START)
    assert (out.counted, subject.next_offset, pane_rows(subject.flush())) == (0, 5, [])


def as_they_are(*names: str) -> tuple[str, ...]:
    return names


def test_spend_for_metrics_adds_up():
    subject = engine()
    apply(subject, [event(1), event(2, team="u"), event(3, kind="GPU"), event(3)])
    apply(subject, [event(4)])
    rows = {(team, kind): counters[0] for team, _, _, kind, counters in subject.take_spent(as_they_are)}
    assert rows == {("t", "LLM"): 2 * USD, ("u", "LLM"): USD, ("t", "GPU"): USD}
    assert subject.take_spent(as_they_are) == []


def test_spend_that_nobody_asks_for_is_added_up(monkeypatch):
    monkeypatch.setattr("models.spent.MAX_ROWS", 3)
    subject = engine()
    for number in range(20):
        apply(subject, [event(number, team="tu"[number % 2])])
        assert subject.spent._waiting <= 3
    assert sorted(row[4][0] for row in subject.take_spent(as_they_are)) == [10 * USD, 10 * USD]


@settings(max_examples=25, deadline=None)
@given(batches, batches)
def test_a_restored_engine_goes_on_as_if_never_stopped(before, after):
    subject = engine()
    baselines = teach(subject, [10**6] * 40)
    apply(subject, before)
    restored = UsageEngine.restore(CONFIG, subject.prices, [subject.take_delta(EVERYTHING)])
    restored.update_baselines(baselines)
    a, b = apply(subject, after), apply(restored, after)
    assert (a.findings, a.sessions, a.counted, a.duplicates) == (b.findings, b.sessions, b.counted, b.duplicates)
    end_a, end_b = subject.finish(START), restored.finish(START)
    assert sorted(map(str, end_a.sessions)) == sorted(map(str, end_b.sessions))
    key = str
    assert sorted(pane_rows(subject.flush()), key=key) == sorted(pane_rows(restored.flush()), key=key)
    assert np.array_equal(subject.dedupe.logs.sum(), restored.dedupe.logs.sum())
