from collections import Counter, defaultdict
from itertools import pairwise
from statistics import median

import pytest

from loadtest.scenario import INCIDENT_NANO_USD, RUNAWAY_LOAN, SESSION_GAP_MS, demo_events
from schemas.codec import decode
from streams.files import encode_event

NOW_MS = 1_795_600_000_000
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def timeline():
    return list(demo_events(NOW_MS, run="r1"))


def loan_cost(event):
    """The loans' own prices: 3 and 15 dollars per million tokens."""
    if event["cost_nano_usd"] is not None:
        return event["cost_nano_usd"]
    return event["input_tokens"] * 3_000 + event["output_tokens"] * 15_000


@pytest.fixture(scope="module")
def loans(timeline):
    by_loan = defaultdict(list)
    for _, event in timeline:
        if event["team"] == "lending":
            by_loan[event["session_id"]].append(event)
    return by_loan


def test_the_same_arguments_give_the_same_events(timeline):
    again = demo_events(NOW_MS, run="r1")
    assert all(one == two for one, two in zip(timeline, again, strict=True))


def test_in_order_within_the_hour_and_never_in_the_future(timeline):
    assert all(0 <= a[0] <= b[0] <= 90 for a, b in pairwise(timeline))
    assert all(a[1]["event_time"] <= b[1]["event_time"] for a, b in pairwise(timeline))
    for play_at, event in timeline:
        assert event["event_time"] <= NOW_MS + play_at * 1000 + 1
    assert timeline[0][1]["event_time"] == NOW_MS + 90_000 - HOUR_MS
    assert timeline[-1][1]["event_time"] > NOW_MS + 60_000


@pytest.mark.parametrize("speed", [1.0, 1000.0])
def test_other_speeds(speed):
    play_at, event = next(demo_events(NOW_MS, speed))
    assert play_at == 0
    assert event["event_time"] == NOW_MS + HOUR_MS / speed - HOUR_MS


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_impossible_speeds(speed):
    with pytest.raises(ValueError, match="accepted: a number above 0"):
        next(demo_events(NOW_MS, speed))


def test_every_event_encodes_and_ids_are_one_run_s_own(timeline):
    ids = {(event["source"], event["event_id"]) for _, event in timeline}
    assert len(ids) == len(timeline)
    assert all(event["event_id"].endswith("-r1") for _, event in timeline)
    assert all(event["session_id"].endswith("-r1") for _, event in timeline if event["session_id"])
    for _, event in timeline[::97]:
        assert decode("usage_event", encode_event(event)) == event


def test_counts(timeline):
    assert Counter(event["team"] for _, event in timeline) == {
        "chat": 12_031,
        "copilot": 8_819,
        "support": 26_971,
        "coding": 5_355,
        "lending": 2_490,
    }


def test_support_traffic_is_four_times_itself_for_the_last_twelve_minutes(timeline):
    start_ms = timeline[0][1]["event_time"]
    times = defaultdict(list)
    for _, event in timeline:
        if event["team"] == "support":
            request = event["event_id"].removesuffix("-r1").split("x")[0]
            times[request].append(event["event_time"] - start_ms)
    assert len(times) == 19_366
    for at_ms in times.values():
        assert len(at_ms) == (4 if at_ms[0] >= 48 * 60_000 else 1)
        assert at_ms[-1] - at_ms[0] < 5_000


def test_coding_sessions_keep_their_order_and_pauses_are_short(timeline):
    sessions = defaultdict(list)
    for _, event in timeline:
        if event["team"] == "coding":
            sessions[event["session_id"]].append(event)
    assert len(sessions) == 1_749
    for events in sessions.values():
        assert [e["event_id"] for e in events] == sorted(e["event_id"] for e in events)
        assert all(b["event_time"] - a["event_time"] <= SESSION_GAP_MS for a, b in pairwise(events))


def test_the_incident_comes_two_thirds_in(timeline):
    (play_at,) = (at for at, event in timeline if event["cost_nano_usd"] == INCIDENT_NANO_USD)
    assert play_at == 60.0


def test_a_loan_costs_seven_dollars_twenty_of_which_tokens_are_a_fifth(loans):
    runaway = loans.pop(f"loan-{RUNAWAY_LOAN:04d}-r1")
    costs = {loan: sum(map(loan_cost, events)) / 1e9 for loan, events in loans.items()}
    tokens = sum(loan_cost(event) for events in loans.values() for event in events if event["kind"] == "LLM") / 1e9
    assert len(loans) == 134
    assert sum(costs.values()) / len(loans) == pytest.approx(7.20, rel=0.03)
    assert tokens / sum(costs.values()) == pytest.approx(0.22, abs=0.01)
    assert max(costs.values()) < 2 * median(costs.values())
    assert {event["kind"] for events in loans.values() for event in events} == {
        "LLM",
        "TOOL_CALL",
        "VECTOR_QUERY",
        "COMPLIANCE",
        "HUMAN_REVIEW",
    }

    # The loop passes ten times its peers after many of them have been closed for half an hour of idling.
    limit = 10 * median(costs.values())
    spent = 0.0
    for event in runaway:
        spent += loan_cost(event) / 1e9
        if spent > limit:
            break
    closed_before_ms = event["event_time"] - 31 * 60_000
    assert sum(events[-1]["event_time"] < closed_before_ms for events in loans.values()) >= 20
    assert sum(map(loan_cost, runaway)) / 1e9 > 1.4 * limit
    assert max(event["input_tokens"] for event in runaway) < 200_000
