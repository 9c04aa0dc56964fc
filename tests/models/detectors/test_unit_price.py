"""Charged cost against the price table."""

import json

import numpy as np

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
    assert [finding["revision"] for finding in findings] == [1, 10, 100, 1000], "one more than the offset"
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
