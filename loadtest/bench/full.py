"""All of ``tenfold bench`` in one run: throughput side by side, latency, memory, start-up; one JSON object.

The broker is a real Apache Kafka (streams.broker.kafka) on this machine, started for the run and deleted after it.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from loadtest.bench import machine
from loadtest.bench.events import Load
from loadtest.bench.fill import fill_topic
from loadtest.bench.latency import latency
from loadtest.bench.memory import bytes_per_session
from loadtest.bench.race import CONTENDERS, cores, pinned, race
from loadtest.bench.start import start
from streams.broker.kafka import kafka_broker
from streams.topics import Topic, ensure_topics
from streams.transport import Connection

PARTS = ("throughput", "latency", "memory", "start")
PARTITIONS = 4
EVERYBODY = tuple(contender.name for contender in CONTENDERS)
BOTH = ("tenfold", "ceiling")
SHARES = (0.1, 0.5, 0.9)
"""Of the highest throughput, at which latency is measured."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything."""

    events: int
    short_events: int
    zipf_events: int
    runs: int
    peer_share: float
    """Of what the slower contenders read in a full run."""
    latency_seconds: float
    live_sessions: tuple[int, ...]
    workers: tuple[int, ...] = (1, 1, 1, 3)
    contenders: tuple[str, ...] = EVERYBODY


FULL = Plan(10_000_000, 1_000_000, 5_000_000, 5, 1.0, 12.0, (1_000_000, 5_000_000))
QUICK = Plan(1_000_000, 200_000, 500_000, 1, 0.2, 6.0, (200_000,), (1,))


def run(
    plan: Plan,
    parts: tuple[str, ...],
    said: Callable[[str], None],
    so_far: Callable[[dict], None] = lambda result: None,
) -> dict:
    """The result; ``said`` gets a line for each step, ``so_far`` the result whenever a part of it is there.

    Raises TenfoldError where Tenfold itself or the broker fails.
    """
    began = time.monotonic()
    result: dict = {"bench": "full", "machine": machine.describe(), "contender_cores": 1}
    mine, others = cores()
    with pinned(others), kafka_broker() as bootstrap:
        if {"throughput", "latency"} & {*parts}:
            result["throughput"] = throughput(bootstrap, plan, said)
            so_far(result)
        if "latency" in parts:
            most = result["throughput"][0]["contenders"]["tenfold"]["events_per_second"]
            result["latency"] = []
            for share in SHARES:
                said(f"latency at {share:.0%} of {most:,} events/s")
                found = asyncio.run(latency(bootstrap, int(most * share), plan.latency_seconds))
                result["latency"].append({"share": share, **found})
                said(f"  session {found['session_ms']}, rate {found['rate_ms']}")
                so_far(result)
        if "start" in parts:
            result["start"] = []
            for workers in plan.workers:
                with pinned(mine | others):
                    found = asyncio.run(start(bootstrap, workers))
                result["start"].append({"workers": workers, "seconds_to": found})
                said(f"start of {workers}: {found}")
                so_far(result)
    if "memory" in parts:
        result["memory"] = [bytes_per_session(sessions) for sessions in plan.live_sessions]
        said(f"memory: {result['memory']}")
    return {**result, "took_seconds": round(time.monotonic() - began)}


def throughput(bootstrap: str, plan: Plan, said: Callable[[str], None]) -> list[dict]:
    """A race for each kind of keys and number of events; the first is the one that ratios are made from."""
    results = []
    topics: dict[str, int] = {}
    races: list[tuple[Literal["uniform", "zipf"], int, tuple[str, ...]]] = [
        ("uniform", plan.events, plan.contenders),
        ("uniform", plan.short_events, BOTH),
        ("zipf", plan.zipf_events, BOTH),
    ]
    for keys, events, names in races:
        if keys not in topics:
            said(f"filling a topic with {events:,} events, {keys} keys")
            load = Load(events=events, keys=keys, partitions=PARTITIONS)
            # The last event happens now: what is ahead of the clock would not move the watermark.
            load = replace(load, start_ms=int(time.time() * 1000) - events * 1000 // load.events_per_second)
            asyncio.run(ensure_topics(Connection.to(bootstrap), [Topic(keys, "", "", PARTITIONS, "delete")]))
            fill_topic(bootstrap, keys, load)
            topics[keys] = events
        found = race(bootstrap, keys, PARTITIONS, events, plan.runs, names, plan.peer_share, said)
        results.append({"keys": keys, "events": events, "partitions": PARTITIONS, "contenders": found})
    results[0]["ratios"] = ratios(results[0]["contenders"])
    return results


def ratios(contenders: dict) -> dict:
    """How many times Tenfold is as fast as each other one, per CPU second and per second."""
    rates = ("events_per_cpu_second", "events_per_second")
    own = contenders["tenfold"]
    return {
        name: {rate: round(own[rate] / found[rate], 2) for rate in rates}
        for name, found in contenders.items()
        if name != "tenfold" and rates[0] in found and rates[0] in own
    }
