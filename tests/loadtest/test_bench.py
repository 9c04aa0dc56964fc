"""A short bench of Tenfold and the ceiling on a real Kafka: all of it runs, and counts what it should. No time is
asserted."""

import pytest

from loadtest.bench.full import Plan, throughput
from loadtest.bench.latency import latency
from loadtest.bench.memory import bytes_per_session
from loadtest.bench.race import CONTENDERS, race
from loadtest.bench.report import picture, table
from loadtest.bench.start import STEPS, start

pytestmark = pytest.mark.kafka
BOTH = ("tenfold", "ceiling")


def test_throughput_and_its_report(kafka_broker):
    plan = Plan(100_000, 60_000, 60_000, 1, 0.01, 1.0, (), contenders=BOTH)
    lines = []
    results = throughput(kafka_broker, plan, lines.append)
    assert [(found["keys"], found["events"]) for found in results] == [
        ("uniform", 100_000),
        ("uniform", 60_000),
        ("zipf", 60_000),
    ]
    for found in results:
        assert set(found["contenders"]) == set(BOTH)
        for figures in found["contenders"].values():
            assert 0 < figures["events"] < 100_000 and figures["runs"] == 1
            assert figures["events_per_second"] > 0 and figures["events_per_cpu_second"] > 0
            assert figures["peak_rss_mb"] > 10
    assert set(results[0]["ratios"]) == {"ceiling"}
    result = {"throughput": results, "machine": {"cores": 2, "memory_gb": 24}}
    assert table(result).count("\n") == 3 and "librdkafka" in table(result)
    assert picture(result).count("<rect") == 3


def test_a_contender_that_cannot_run_is_passed_over(kafka_broker, monkeypatch):
    monkeypatch.setattr("loadtest.bench.race.CONTENDERS", [c for c in CONTENDERS if c.name == "bytewax"])
    monkeypatch.setattr("loadtest.bench.race.find_spec", lambda package: None)
    found = race(kafka_broker, "none", 1, 10, 1, ("bytewax",))
    assert "not installed" in found["bytewax"]["skipped"] and "events_per_second" not in found["bytewax"]


async def test_every_dear_session_and_closed_minute_is_found(kafka_broker):
    found = await latency(kafka_broker, 2_000, 2.0)
    assert found["session_ms"]["n"] == 100 and found["session_ms"]["missing"] == 0
    assert found["rate_ms"]["n"] > 5 and found["rate_ms"]["early"] == 0


async def test_workers_that_start_together_all_count(kafka_broker):
    found = await start(kafka_broker, 2)
    assert list(found) == list(STEPS) and min(found.values()) > 0


def test_memory_of_live_sessions():
    found = bytes_per_session(50_000)
    assert found["sessions"] == 50_000 and found["bytes_per_session"] > 0
