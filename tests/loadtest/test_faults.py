"""The fault harness: its own judgement first, then ten faults on real Kafka."""

import random
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from loadtest.faults import run
from loadtest.faults.compare import _facts, compare, replay
from loadtest.faults.destination import Accepted
from loadtest.faults.scenarios import SCENARIOS, SHORT
from loadtest.faults.stream import CONFIG, make_stream
from models.counters import COUNTERS
from streams.broker.kafka import missing_tools
from streams.config import Settings

PARTITIONS = 4


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    file = tmp_path_factory.mktemp("faults") / "tenfold.toml"
    file.write_text(CONFIG)
    return Settings.load(file).engine()


@pytest.fixture(scope="module")
def records():
    return make_stream(7, partitions=PARTITIONS, now_ms=int(time.time() * 1000), events=8_000)


@pytest.fixture(scope="module")
def expected(config, records):
    return replay(config, records)


def outputs_of(expected):
    """Topics that hold exactly what is expected."""
    sessions = {key: {**row, "source_partition": 1} for key, row in expected.sessions.items()}
    return SimpleNamespace(
        spend={key: dict(zip(COUNTERS, values, strict=True)) for key, values in expected.spend.items()},
        sessions=sessions,
        session_conflicts=set(),
        findings={id: list(rows) for id, rows in expected.all_findings.items()},
        rejected={n: {"value": value} for n, value in enumerate(expected.rejected)},
        baselines={key: {"event_bins": bins} for key, bins in expected.peers.items()},
        budgets=dict(expected.budgets),
    )


def alerts_of(expected):
    accepted = []
    for id, rows in expected.all_findings.items():
        accepted.append(Accepted("webhook", id, rows[-1]["revision"], False, True, 0.0))
        if any(row["severity"] == "critical" for row in rows):
            accepted.append(Accepted("pagerduty", id, 1, False, True, 0.0))
            if rows[-1]["status"] == "resolved":
                accepted.append(Accepted("pagerduty", id, 0, True, True, 0.0))
    return accepted


def test_the_stream_holds_what_it_promises(records, expected):
    events = [record.event for record in records if record.event is not None]
    identities = Counter(event["event_id"] for event in events)
    assert sum(count - 1 for count in identities.values()) > 300
    assert len({record.value for record in records if record.event is None}) == len(expected.rejected) > 20
    assert {record.partition for record in records} == set(range(PARTITIONS))
    assert [record.play for record in records] == sorted(record.play for record in records)
    detectors = Counter(row["detector"] for row in expected.findings.values())
    assert detectors["session_outlier"] == 6 and detectors["unit_price"] == 1
    # Trading's dear calls raise its minutes, too, and its model's; by the second that it starts in, one or two.
    assert detectors["spend_rate"] in (2, 4) and detectors["budget_burn"] == 4
    assert len(expected.milestones) == 6
    assert {key[0] for key, row in expected.sessions.items() if row["flagged"] != "none"} == {
        f"outlier-{group}-{number}" for group in range(3) for number in range(2)
    }


def test_what_is_found_does_not_depend_on_how_much_is_read_at_once(config, records, expected, monkeypatch):
    def facts(result):
        return {id: _facts(row) for id, row in result.findings.items() if row["detector"] != "budget_milestone"}

    for chunk in (100, 3_000):
        monkeypatch.setattr("loadtest.faults.compare.CHUNK_EVENTS", chunk)
        again = replay(config, records)
        assert facts(again) == facts(expected)
        assert again.milestones == expected.milestones
        assert (again.spend, again.sessions) == (expected.spend, expected.sessions)


def test_equal_outputs_are_clean(expected):
    difference = compare(expected, outputs_of(expected), alerts_of(expected), [])
    assert difference.clean, difference.said


@pytest.mark.parametrize(
    ("harm", "count"),
    [
        (lambda o, a: _first(o.spend, "team", 3_600_000).update(events=0), "lost"),
        (lambda o, a: _first(o.spend, "team", 3_600_000).update(events=10**6), "counted_twice"),
        (lambda o, a: _first(o.spend, "model", 60_000).update(cost_nano_usd=1), "windows_wrong"),
        (lambda o, a: o.spend.pop(next(iter(o.spend))), "windows_wrong"),
        (lambda o, a: o.sessions.popitem(), "sessions_missing"),
        (lambda o, a: o.sessions.update({("x", 1): {}}), "sessions_extra"),
        (lambda o, a: next(iter(o.sessions.values())).update(events=0), "sessions_wrong"),
        (lambda o, a: o.rejected.popitem(), "rejected_missing"),
        (lambda o, a: o.rejected.update({-1: {"value": b"x"}}), "rejected_extra"),
        (lambda o, a: o.baselines.popitem(), "baselines_wrong"),
        (lambda o, a: o.budgets.popitem(), "budgets_wrong"),
        (lambda o, a: o.findings.pop(_finding(o, "session_outlier")), "findings_missing"),
        (lambda o, a: o.findings.pop(_finding(o, "budget_milestone")), "findings_missing"),
        (lambda o, a: o.findings.update(y=[{**o.findings[_finding(o, "unit_price")][0], "id": "y"}]), "findings_extra"),
        (lambda o, a: o.findings[_finding(o, "spend_rate")].pop(), "findings_wrong"),
        (lambda o, a: a.pop(), "alerts_missing"),
        (lambda o, a: a.append(a[0]), "alerts_twice"),
        (lambda o, a: a.append(Accepted("webhook", "z", 1, False, True, 0.0)), "alerts_unknown"),
    ],
)
def test_every_harm_is_seen(expected, harm, count):
    outputs, accepted = outputs_of(expected), alerts_of(expected)
    outputs.sessions = {key: dict(row) for key, row in outputs.sessions.items()}
    harm(outputs, accepted)
    difference = compare(expected, outputs, accepted, [])
    assert getattr(difference, count) > 0 and difference.said


def test_a_repeat_is_excused_where_the_sender_could_not_know(expected):
    outputs, accepted = outputs_of(expected), alerts_of(expected)
    first = accepted[0]
    unanswered = Accepted(first.receiver, first.finding, first.revision, first.resolved, False, 5.0)
    assert compare(expected, outputs, [*accepted, unanswered], []).alerts_twice == 0
    late = Accepted(first.receiver, first.finding, first.revision, first.resolved, True, 50.0)
    assert compare(expected, outputs, [*accepted, late], []).alerts_twice == 1
    assert compare(expected, outputs, [*accepted, late], [50.2]).alerts_twice == 0
    assert compare(expected, outputs, [*accepted, late], [49.0, 60.0]).alerts_twice == 1


def _first(spend, kind, window_ms):
    return next(
        row for (scope, _, size), row in spend.items() if scope.kind == kind and size == window_ms and row["events"]
    )


def _finding(outputs, detector):
    return next(id for id, rows in outputs.findings.items() if rows[0]["detector"] == detector)


def test_every_kind_comes_about_equally_often():
    kinds = list(SCENARIOS)
    planned = run.plan(100, 3, kinds)
    counts = Counter(kind for kind, _ in planned)
    assert len(planned) == 100 and max(counts.values()) - min(counts[kind] for kind in kinds) <= 1
    assert planned == run.plan(100, 3, kinds)
    assert set(SHORT) <= set(SCENARIOS) and len(SHORT) == 10
    rng = random.Random(1)
    assert all(isinstance(scenario.first_worker(rng), dict) for scenario in SCENARIOS.values())


@pytest.mark.faults
@pytest.mark.kafka
def test_ten_faults_lose_nothing_and_count_nothing_twice(tmp_path):
    if lacking := missing_tools():
        pytest.skip(f"no Apache Kafka: {lacking}")
    out = tmp_path / "faults.jsonl"
    code = run.main(["--short", "--out", str(out), "--keep", str(tmp_path / "logs")])
    assert code == 0, out.read_text()
