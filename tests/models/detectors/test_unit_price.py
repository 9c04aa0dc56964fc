"""Charged cost against the price table."""

import json
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.builders import columns_of
from models.config import HOUR_MS, USD, UnitPriceConfig
from models.detectors.unit_price import UnitPrice

AT = 1_746_631_772_000


def call(number: int, cost: int, **more) -> dict:
    return {"event_id": f"e{number}", "source": "s", "event_time": AT, "model": "m", "provider": "p",
            "input_tokens": 10_023, "output_tokens": 10, "cost_nano_usd": cost, **more}  # fmt: skip


def check(detector: UnitPrice, events: list[dict], table: list[int]) -> list[dict]:
    columns = columns_of(events)
    return detector.check(columns, np.ones(len(events), np.bool_), np.array(table, np.int64), AT, "v")


def test_the_9990_dollar_call_is_found_on_its_event():
    findings = check(UnitPrice(UnitPriceConfig()), [call(1, 9_990_012_528_750)], [12_628_750])
    assert len(findings) == 1
    finding = findings[0]
    assert finding["severity"] == "critical"
    assert finding["ratio"] > 600_000
    assert finding["example_event_ids"] == ["e1"]
    assert sum(part["excess_nano_usd"] for part in finding["cause"]) == finding["excess_nano_usd"]
    assert "10,033 tokens" in finding["reason"]
    assert "$9,990.01" in finding["reason"]


def test_small_errors_and_right_prices_stay_quiet():
    events = [call(1, 20 * USD), call(2, 900), call(3, 5 * USD, cost_nano_usd=None)]
    assert check(UnitPrice(UnitPriceConfig()), events, [19 * USD, 3, 5 * USD]) == []


def test_without_a_known_price_only_the_cap_counts():
    detector = UnitPrice(UnitPriceConfig(call_cap_nano_usd=100 * USD))
    assert check(detector, [call(1, 99 * USD)], [-1]) == []
    (finding,) = check(detector, [call(2, 101 * USD)], [-1])
    assert "without a known price" in finding["reason"]


def test_a_broken_table_gives_one_finding_that_grows_not_thousands():
    detector = UnitPrice(UnitPriceConfig())
    findings = check(detector, [call(i, 50 * USD) for i in range(1000)], [USD] * 1000)
    assert len({finding["id"] for finding in findings}) == 1
    assert [finding["revision"] for finding in findings] == [1, 19, 199, 1999], "one more than twice the offset"
    assert [finding["status"] for finding in findings] == ["open", "updated", "updated", "updated"]
    assert findings[-1]["observed_nano_usd"] == 50_000 * USD
    later = check(detector, [call(1, 50 * USD, event_time=AT + HOUR_MS)], [USD])
    assert later[0]["id"] != findings[0]["id"]


def test_rows_that_are_not_kept_are_not_judged():
    columns = columns_of([call(1, 9_990 * USD)])
    found = UnitPrice(UnitPriceConfig()).check(columns, np.zeros(1, np.bool_), np.array([1], np.int64), AT, "v")
    assert found == []


def test_restored_detector_goes_on():
    detector = UnitPrice(UnitPriceConfig())
    check(detector, [call(i, 50 * USD) for i in range(3)], [USD] * 3)
    restored = UnitPrice(detector.config)
    restored.load_delta(json.loads(json.dumps(detector.take_delta())))
    more = [call(i, 50 * USD) for i in range(3, 12)]
    assert check(restored, more, [USD] * 9) == check(detector, more, [USD] * 9)


HOUR_END = AT - AT % HOUR_MS + HOUR_MS


def test_it_is_resolved_when_its_hour_is_over_with_all_that_it_came_to():
    detector = UnitPrice(UnitPriceConfig())
    (first,) = check(detector, [call(i, 50 * USD, team="t", session_id=f"s{i}") for i in range(3)], [USD] * 3)
    assert detector.resolve(HOUR_END - 1, 3, AT, "v") == []
    (resolved,) = detector.resolve(HOUR_END, 3, AT, "v")
    assert (resolved["id"], resolved["status"], resolved["severity"]) == (first["id"], "resolved", "critical")
    assert (resolved["observed_nano_usd"], resolved["expected_nano_usd"]) == (150 * USD, 3 * USD)
    assert (resolved["team"], resolved["session_id"]) == ("t", "s0"), "where its opening went, its end goes"
    assert resolved["reason"].startswith("3 calls to m charged $150.00;")
    assert detector.resolve(HOUR_END, 3, AT, "v") == []


def test_a_call_that_comes_after_the_end_opens_it_again_and_each_word_is_newer_than_the_last():
    detector = UnitPrice(UnitPriceConfig())
    said = check(detector, [call(0, 50 * USD)], [USD])
    said += detector.resolve(HOUR_END, 1, AT, "v")
    columns = columns_of([call(1, 50 * USD)], 1)
    said += detector.check(columns, np.ones(1, np.bool_), np.array([USD], np.int64), AT, "v")
    said += detector.resolve(HOUR_END, 2, AT, "v")
    assert [f["status"] for f in said] == ["open", "resolved", "open", "resolved"]
    assert len({f["id"] for f in said}) == 1
    revisions = [f["revision"] for f in said]
    assert revisions == sorted(set(revisions)), "the event right after a resolution must not look like a repeat"


def test_what_is_forgotten_for_want_of_room_is_resolved(monkeypatch):
    monkeypatch.setattr("models.detectors.unit_price.MAX_OPEN", 2)
    detector = UnitPrice(UnitPriceConfig())
    found = check(detector, [call(i, 50 * USD, model=f"m{i}") for i in range(4)], [USD] * 4)
    assert [(f["model"], f["status"]) for f in found] == [
        ("m0", "open"), ("m1", "open"), ("m0", "resolved"), ("m2", "open"), ("m1", "resolved"), ("m3", "open"),
    ]  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5 * HOUR_MS), st.sampled_from("ab")), min_size=1, max_size=40),
    st.lists(st.integers(1, 40), max_size=6),
    st.lists(st.integers(1, 40), max_size=6),
    st.integers(0, 39),
)
def test_however_batches_are_cut_and_wherever_it_restarts_the_newest_word_is_the_end(calls, cuts, other, restart):
    """What a reader knows, who keeps the newest revision of each id: all are resolved when every hour is over."""
    events = [call(n, 50 * USD, event_time=AT + at, model=model) for n, (at, model) in enumerate(calls)]

    def run(detector, first, cuts, known):
        edges = sorted({first, len(events), *(cut for cut in cuts if first < cut < len(events))})
        saved, watermark = {}, max((e["event_time"] for e in events[:first]), default=0)
        for low, high in pairwise(edges):
            saved[low] = detector.take_delta()
            columns = columns_of(events[low:high], low)
            said = detector.check(columns, np.ones(high - low, np.bool_), np.full(high - low, USD, np.int64), AT, "v")
            watermark = max(watermark, *(e["event_time"] for e in events[low:high]))
            said += detector.resolve(watermark, high, AT, "v")
            for finding in said:
                if finding["revision"] > known.get(finding["id"], {"revision": 0})["revision"]:
                    known[finding["id"]] = finding
        saved[len(events)] = detector.take_delta()
        return saved

    known: dict[str, dict] = {}
    saved = run(UnitPrice(UnitPriceConfig()), 0, cuts, known)
    at = max(edge for edge in saved if edge <= restart)
    again = UnitPrice(UnitPriceConfig())
    again.load_delta(json.loads(json.dumps(saved[at])))
    run(again, at, other, known)
    for finding in again.resolve(AT + 9 * HOUR_MS, len(events), AT, "v"):
        if finding["revision"] > known[finding["id"]]["revision"]:
            known[finding["id"]] = finding
    assert {f["status"] for f in known.values()} == {"resolved"}
