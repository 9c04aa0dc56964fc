"""The accuracy bench of sessions: its truth, its measures, and that it asks the engine."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loadtest.accuracy import live
from loadtest.accuracy.measure import measure, recall_at
from loadtest.accuracy.session_data import SessionCosts, medians_of_others
from loadtest.accuracy.session_rules import RULES, thresholds
from loadtest.accuracy.sessions import prequential, report
from models.config import USD, EngineConfig


@given(st.lists(st.tuples(st.integers(1, 100), st.integers(0, 2)), min_size=1, max_size=30))
def test_medians_leave_the_session_itself_out(rows):
    cost, group = (np.array(column) for column in zip(*rows, strict=True))
    medians = medians_of_others(cost, group)
    for at in range(len(rows)):
        others = [c for i, (c, g) in enumerate(rows) if g == group[at] and i != at]
        assert medians[at] == (np.median(others) if others else np.inf)


def test_measures():
    flagged = np.array([1, 1, 1, 0, 0], np.bool_)
    truth = np.array([1, 1, 0, 1, 0], np.bool_)
    found = measure(flagged, truth, np.arange(5), np.random.default_rng(0))
    assert (found["precision"], found["recall"], found["flags_per_1000"]) == (0.6667, 0.6667, 600.0)
    assert found["recall_95"][0] <= found["recall"] <= found["recall_95"][1]
    score = np.array([3.0, 2.0, 1.0, 0.5, 0.0])
    assert recall_at(score, truth, 1.0) == 0.6667
    assert recall_at(score, truth, 0.75) == 1.0
    assert recall_at(score, ~truth, 1.0) is None


def test_rules_are_those_they_are_called():
    earlier = [1_000, 2_000, 4_000, 8_000, 100_000]
    found = dict(zip(RULES, np.exp(thresholds(earlier)), strict=True))
    assert round(found["10x median"]) == 40_000
    assert round(found["10x mean"]) == 230_000
    logs = np.log(earlier)
    assert np.isclose(np.log(found["3 sigma"]), logs.mean() + 3 * logs.std())
    assert np.isclose(np.log(found["3 MAD"]), np.log(4_000) + 3 * 1.4826 * np.log(2))


def test_the_engine_judges_by_the_sessions_before():
    cost = np.full(120, USD)
    cost[[3, 80, 110]] = 50 * USD
    data = SessionCosts(["m"], [""], np.zeros(120, np.int64), np.zeros(120, np.int64), cost)
    judged = prequential(data, False, range(3), EngineConfig(dedupe_events=1_000))
    assert len(judged.session) == 360
    for seed in range(3):
        rows = judged.seed == seed
        assert sorted(judged.session[rows].tolist()) == list(range(120))
        assert np.allclose(judged.n[rows], np.arange(120)), "every judgement knows those before it and no more"
    late = judged.n >= 20
    assert ((judged.level == 2) == (cost[judged.session] > USD))[late].all()
    cell = report(data, judged, judged, False, ("all",))["all"]["20 or more"]
    assert cell["page"]["precision"] == cell["page"]["recall"] == 1.0
    assert cell["page_worth_a_dollar"]["positives"] == cell["page"]["positives"]


def test_what_a_flag_leaves_unspent(monkeypatch):
    start = 1_795_460_400_000
    events = [
        {
            "event_id": f"{session}-{call}",
            "source": "t",
            "event_time": start + session * 60_000 + call * 1_000,
            "session_id": f"s{session}",
            "model": "m",
            "cost_nano_usd": USD,
        }
        for session in range(200)
        for call in range(40 if session == 150 else 2)
    ]
    events.sort(key=lambda event: event["event_time"])
    monkeypatch.setattr(live, "recorded", lambda name: events)
    result = live.run("made up", 14.0)
    assert result["outliers"] == 1
    worth = result["at_the_flag"]["page"]
    assert (worth["true_flags"], worth["false_flags"]) == (1, 0)
    assert 0.4 < worth["unspent_share_p50_p75_p90"][0] < 0.51
    assert 16 <= worth["avoidable_usd"] <= 20.5
