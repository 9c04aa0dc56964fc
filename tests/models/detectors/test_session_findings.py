"""What is said about a session: on course, outlier, runaway agent, and why, through the usage engine."""

import itertools

import pytest

from loadtest.builders import columns_of
from models.config import DAY_MS, USD, EngineConfig
from models.engine import UsageEngine
from models.explain import FACTORS
from models.pricing import PriceTable
from schemas.codec import encode

START = 1_795_460_400_000
numbers = itertools.count()


def call(session: str, second: float, cost: float = 0.1, **more) -> dict:
    return {
        "event_id": f"e{next(numbers)}",
        "source": "test",
        "event_time": START + int(second * 1000),
        "session_id": session,
        "team": "t",
        "agent": "a",
        "model": "m",
        "input_tokens": 1000,
        "output_tokens": 100,
        "cost_nano_usd": round(cost * USD),
        **more,
    }


@pytest.fixture
def subject() -> UsageEngine:
    """An engine that knows 200 sessions of ten calls, $1 each."""
    engine = UsageEngine(EngineConfig(), 0, PriceTable())
    apply(engine, [call(f"old{i}", n - 86_400, tags={"n": str(n)}) for i in range(200) for n in range(10)])
    engine.finish(START)
    engine.update_baselines(engine.flush()["baselines"])
    return engine


def apply(engine: UsageEngine, events: list[dict]) -> list[dict]:
    first = engine.next_offset
    findings = engine.apply(columns_of(events, first), first + len(events), START + DAY_MS).findings
    for finding in findings:
        encode("finding", finding)
        by_dimension: dict[str, int] = {}
        for part in finding["cause"]:
            name = "factors" if part["dimension"] in FACTORS else part["dimension"]
            by_dimension[name] = by_dimension.get(name, 0) + part["excess_nano_usd"]
        assert all(total == finding["excess_nano_usd"] for total in by_dimension.values())
    return findings


def factor(finding: dict) -> str:
    return max((p for p in finding["cause"] if p["dimension"] in FACTORS), key=lambda p: p["excess_nano_usd"])[
        "dimension"
    ]


def test_a_session_on_course_is_told_before_it_costs_ten_times(subject):
    found = apply(subject, [call("s", n, 1.5, tags={"n": str(n)}) for n in range(10)])
    assert [(f["severity"], f["status"], f["observed_nano_usd"] / USD) for f in found[:2]] == [
        ("info", "open", 1.5),
        ("warning", "updated", 10.5),
    ]
    assert "on course" in found[0]["reason"]
    assert len({f["id"] for f in found}) == 1
    resolved = subject.finish(START).findings
    assert [f["status"] for f in resolved] == ["resolved"]


@pytest.mark.parametrize(
    ("what", "events", "words"),
    [
        ("volume", [call("s", n, tags={"n": str(n)}) for n in range(120)], "events where about 9 are usual"),
        ("size", [call("s", n, 3, input_tokens=30_000, output_tokens=3_000) for n in range(5)], "tokens an event"),
        ("price", [call("s", n, 3) for n in range(5)], "an event where $0.100 is usual"),
        ("mix", [call("s", n, 0.5 / 1.0, input_tokens=1, output_tokens=1099) for n in range(30)], "dearer kinds"),
    ],
)
def test_the_cause_is_named(subject, what, events, words):
    outliers = [f for f in apply(subject, events) if f["severity"] == "critical"]
    assert factor(outliers[0]) == what
    assert words in outliers[0]["reason"]


def test_parts_and_examples_are_named(subject):
    events = [call("s", n, 0.2, kind="TOOL_CALL" if n % 2 else "LLM", use_case=f"u{n % 2}") for n in range(80)]
    events[50]["cost_nano_usd"] = 5 * USD
    finding = apply(subject, events)[-1]
    kinds = {p["name"]: p["excess_nano_usd"] for p in finding["cause"] if p["dimension"] == "kind"}
    assert set(kinds) == {"LLM", "TOOL_CALL", "(before it was watched)"}
    assert {p["name"] for p in finding["cause"] if p["dimension"] == "use_case"} >= {"u0", "u1"}
    assert not [p for p in finding["cause"] if p["dimension"] == "model"], "one model explains nothing"
    assert events[50]["event_id"] in finding["example_event_ids"]


def test_lesson_43_a_flood_of_calls_that_cost_nothing_is_a_warning(subject):
    """PostHog/posthog PR#49099: the sum of 74,765 calls hid them."""
    found = apply(subject, [call("s", n / 10, 0, cost_nano_usd=10_000) for n in range(10_000)])
    assert {f["detector"] for f in found} == {"runaway_agent"}
    assert found[-1]["severity"] == "warning"
    assert found[-1]["observed_nano_usd"] < USD


def test_many_cheap_calls_are_an_anomaly_of_their_own(subject):
    found = apply(subject, [call("s", n, 0.0001, tags={"n": str(n)}) for n in range(300)])
    assert {(f["detector"], f["severity"]) for f in found} == {("runaway_agent", "info")}
    assert [(f["status"], f["details"]["events"]) for f in found] == [("open", "95"), ("updated", "190")]
    assert "where its peers need about 9 " in found[0]["reason"]
    assert [(f["detector"], f["status"]) for f in subject.finish(START).findings] == [("runaway_agent", "resolved")]


@pytest.mark.parametrize(
    ("symptom", "event"),
    [
        ("repeated_call", lambda n: {"input_tokens": 1000}),
        ("repeated_call", lambda n: {"kind": "TOOL_CALL", "model": "m", "tags": {"tool": "abc"[n % 3]}}),
        ("context_growth", lambda n: {"input_tokens": 1000 + n, "output_tokens": 5}),
        ("sub_agent_fan_out", lambda n: {"agent": f"explorer-{n}", "input_tokens": 1000 + n % 7 * 31 + n}),
    ],
)
def test_a_loop_is_named_before_it_is_an_outlier(subject, symptom, event):
    events = [call("s", n, 0.1, **event(n)) for n in range(95)]
    events[0] = call("s", 0, 0.1)
    found = [f for f in apply(subject, events) if f["detector"] == "runaway_agent"]
    assert found[0]["observed_nano_usd"] < 9 * USD
    assert symptom in found[0]["details"]["runaway"]
    assert "runaway agent" in found[0]["reason"]


def test_cost_that_accelerates_is_named(subject):
    events = [call("s", n, 0.005 if n < 32 else 0.2, input_tokens=1000 + n, tags={"n": str(n)}) for n in range(64)]
    found = [f for f in apply(subject, events) if f["detector"] == "runaway_agent"]
    assert found[0]["details"]["runaway"] == "cost_acceleration"


def test_an_outlier_that_loops_says_so_and_opens_no_second_finding(subject):
    events = [call("s", 0, 12.0)] + [call("s", n, 1.0, input_tokens=1000 + n, output_tokens=5) for n in range(1, 80)]
    found = apply(subject, events)
    assert {f["detector"] for f in found} == {"session_outlier"}
    assert found[-1]["details"]["runaway"] == "context_growth"
    assert "its prompts grow while its answers are short" in found[-1]["reason"]
    assert {f["detector"] for f in subject.finish(START).findings} == {"session_outlier"}


def test_ordinary_sessions_say_nothing(subject):
    for session in range(50):
        events = [call(f"s{session}", n, 0.1, input_tokens=1000 + 50 * n, output_tokens=120) for n in range(25)]
        assert apply(subject, events) == []
    assert subject.finish(START).findings == []
