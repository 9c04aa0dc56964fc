"""The known stream: two hours of usage, by seed, with everything in it that a fault could lose or count twice.

Its event times lie on a fixed day in the past and are played back much faster than they happened, so that windows
and sessions end while it runs. What is in it, and why no fault may change what is found:

- Baseline sessions of three peer groups end in the first half hour, at $2 within a few percent. Outliers come much
  later and cost $64: 32 times that, and above the absolute cap of $50 as well, so that they are flagged whether or
  not their peers' baseline has been heard of by then. Normal sessions stay under 3 times.
- Background sessions of six teams, out of order by up to 40 s of event time, which is within the lateness of 60 s.
- Late events, 3 to 25 minutes behind: each is its own session and costs a cent, so it amends windows and ends one
  run, but cannot move a rate.
- A team whose spend is even for 75 minutes and eightfold for 12.
- Budgets: ``core`` burns evenly past 50, 80 and 100 %; ``burst`` goes from nothing past all of them within a minute.
  Both overrun by any projection from the first minute they burn, so the minute in which they fire is fixed.
- One call charged $900 where the price table says cents; one only, since each partition judges prices by itself.
- One producer's clock goes an hour ahead of the real one for a while: these events count, and move nothing.
- Events in JSON under keys of their own, which come by way of the foreign topic and hence later, after an outage by
  half an hour of event time: a tenth of a cent each, without a session, so that their silence is not worth telling.
- Repeats, at once and thousands of events later; records that are no events, each with bytes of its own.
- At the end an event in every partition that ends every session but those of the clock that is ahead.

The same seed gives the same records, apart from the clock that is ahead. Cost: about a second and 60 MB for 24,000.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

from models.config import HOUR_MS, MINUTE_MS
from schemas.codec import encode
from streams.files import event_from_json
from streams.produce import event_key
from streams.topics import partition_for

START_MS = 1_749_117_600_000
"""2025-06-05 10:00 UTC: early in a month, so that budgets burn towards an overrun, and whole within a day."""
MINUTES = 120
LATENESS_MS = MINUTE_MS
IDLE_MS = 5 * MINUTE_MS
END_MS = START_MS + MINUTES * MINUTE_MS + IDLE_MS + LATENESS_MS + 3 * MINUTE_MS
"""Of the last events: past every session's end."""
USD = 10**9
CENT = USD // 100

PEERS = (("claims", "triage", "house-a"), ("claims", "letters", "house-b"), ("trading", "research", "house-c"))
TEAMS = ("ads", "chat", "docs", "search", "sales", "labs")
SURGE_MINUTES = range(75, 87)
BURST_MINUTE = 60
FOREIGN_TEAM = "partner"
PRICE_ERROR_MINUTE = 55
AHEAD = (0.45, 0.6)
"""The part of the time in which one clock is ahead."""

CONFIG = f"""
[windows]
lateness = "{LATENESS_MS}ms"
# The clock of the stream runs 500 times faster than the one that tells idleness: nothing is idle while it is fed.
idle_partition = "30s"

[sessions]
idle = "{IDLE_MS}ms"

[[budgets]]
team = "core"
monthly_usd = 400

[[budgets]]
team = "burst"
monthly_usd = 50
"""
"""Settings the stream is made for; the other ones at their defaults."""


@dataclass(slots=True)
class Record:
    """One record of the usage topic."""

    play: float
    """When it is produced, from 0 to 1."""
    partition: int
    key: bytes
    value: bytes
    event: dict | None
    """None if the value is no event."""
    foreign: bool = False
    """Of the foreign topic instead of the usage topic."""


class _Maker:
    def __init__(self, rng: random.Random):
        self.rng = rng
        self.template = event_from_json({"event_id": "x", "source": "x", "event_time": 0})
        self.timeline: list[tuple[float, dict]] = []
        self.made = 0

    def add(self, minute: float, *, play: float | None = None, **fields) -> dict:
        """An event of that minute, produced at its time or at ``play``."""
        self.made += 1
        event = self.template | {
            "event_id": f"e{self.made}",
            "source": "gateway",
            "event_time": START_MS + int(minute * MINUTE_MS),
            **fields,
        }
        self.timeline.append((minute / MINUTES if play is None else play, event))
        return event

    def session(self, minute: float, minutes: float, events: int, cost: int, **fields) -> None:
        for step in range(events):
            self.add(minute + step * minutes / events, cost_nano_usd=self.about(cost // events, 0.05), **fields)

    def about(self, amount: int, spread: float) -> int:
        return round(amount * self.rng.uniform(1 - spread, 1 + spread))


def make_stream(seed: int, *, partitions: int, now_ms: int, events: int = 24_000) -> list[Record]:
    """The records in the order of their production; ``now_ms`` is the real time, for the clock that is ahead."""
    rng = random.Random(seed)
    maker = _Maker(rng)
    _sessions(maker)
    _budgets_and_rates(maker)
    _late(maker, 200)
    _foreign(maker, 400)
    _clock_ahead(maker, now_ms, 150)
    _background(maker, max(events - maker.made, 0))
    timeline = sorted(maker.timeline, key=lambda item: item[0])
    records = [_record(play, event, partitions) for play, event in _with_repeats(timeline, rng)]
    records = list(_with_poison(records, rng, partitions))
    for partition in range(partitions):
        event = maker.template | {
            "event_id": f"end-{partition}",
            "source": "gateway",
            "event_time": END_MS,
            "team": "end",
        }
        records.append(Record(1.0, partition, event_key(event), encode("usage_event", event), event))
    return records


def _record(play: float, event: dict, partitions: int) -> Record:
    if event["team"] == FOREIGN_TEAM:
        key = event["event_id"].encode()
        return Record(play, partition_for(key, partitions), key, json.dumps(event).encode(), event, foreign=True)
    key = event_key(event)
    return Record(play, partition_for(key, partitions), key, encode("usage_event", event), event)


def _sessions(maker: _Maker) -> None:
    rng = maker.rng
    for number, (team, agent, model) in enumerate(PEERS):
        names = {"team": team, "agent": agent, "model": model, "use_case": "work"}
        for i in range(40):
            maker.session(rng.uniform(0.5, 24), 4, 8, 2 * USD, session_id=f"peer-{number}-{i}", **names)
        for i in range(2):
            maker.session(rng.uniform(50, 100), 6, 20, 64 * USD, session_id=f"outlier-{number}-{i}", **names)
        for i in range(4):
            maker.session(rng.uniform(50, 105), 5, 10, 4 * USD, session_id=f"normal-{number}-{i}", **names)
        for i in range(40):
            # Longer than an id that is stored inline.
            name = f"later-{number}-{i}-{'x' * 40}"
            maker.session(rng.uniform(40, 110), 4, 8, 2 * USD, session_id=name, **names)


def _budgets_and_rates(maker: _Maker) -> None:
    for minute in range(MINUTES):
        for step in range(10):
            at = minute + (step + 0.5) / 10
            factor = 8 if minute in SURGE_MINUTES else 1
            maker.add(at, team="surge", model="surge-model", cost_nano_usd=maker.about(20 * CENT * factor, 0.05))
            maker.add(at, team="core", model="core-model", cost_nano_usd=maker.about(40 * CENT, 0.05))
    for step in range(10):
        at = BURST_MINUTE + (step + 0.5) / 10
        maker.add(at, team="burst", model="burst-model", kind="GPU", cost_nano_usd=15 * USD)
    maker.add(
        PRICE_ERROR_MINUTE,
        team="priced",
        provider="anthropic",
        model="claude-sonnet-4-5",
        input_tokens=9_000,
        output_tokens=1_000,
        cost_nano_usd=900 * USD,
    )


def _late(maker: _Maker, count: int) -> None:
    for i in range(count):
        play = maker.rng.uniform(0.4, 0.95)
        minute = play * MINUTES - maker.rng.uniform(3, 25)
        maker.add(
            minute,
            play=play,
            session_id=f"late-{i}",
            team="tardy",
            model="tardy-model",
            cost_nano_usd=CENT,
            agent="mail",
        )


def _foreign(maker: _Maker, count: int) -> None:
    for i in range(count):
        maker.add(
            (i + 0.5) * (MINUTES - 1) / count,
            source="partner-gateway",
            team=FOREIGN_TEAM,
            model="partner-model",
            cost_nano_usd=CENT // 10,
        )


def _clock_ahead(maker: _Maker, now_ms: int, count: int) -> None:
    for i in range(count):
        minute = (i + 0.5) * MINUTES / count
        event = maker.add(
            minute, source="laptop", session_id=f"laptop-{i // 3}", team="drift", model="m", cost_nano_usd=CENT
        )
        if AHEAD[0] < minute / MINUTES < AHEAD[1]:
            event["event_time"] = now_ms + HOUR_MS + i * 1_000
            event["session_id"] = f"ahead-{i}"


def _background(maker: _Maker, count: int) -> None:
    """Sessions of ten priced model calls and tool calls, out of order."""
    rng = maker.rng
    for i in range(count // 10):
        team = rng.choice(TEAMS)
        start = rng.uniform(1, MINUTES - 5)
        for step in range(10):
            minute = start + step * 0.3
            fields = {"session_id": f"bg-{i}", "team": team, "agent": f"{team}-agent", "use_case": f"use-{i % 3}"}
            if step % 3:
                fields |= {"provider": "anthropic", "model": "claude-sonnet-4-5"}
                fields |= {"input_tokens": rng.randrange(3_000, 4_000), "output_tokens": rng.randrange(300, 400)}
                fields |= {"cache_read_tokens": rng.randrange(1_000)}
            else:
                fields |= {"kind": "TOOL_CALL", "quantity": 1.0, "unit": "call"}
                fields |= {"cost_nano_usd": maker.about(CENT, 0.1)}
            # Produced up to 40 s of event time after it happened.
            maker.add(minute, play=(minute + rng.uniform(0, 0.66)) / MINUTES, **fields)


def _with_repeats(timeline: list[tuple[float, dict]], rng: random.Random) -> list[tuple[float, dict]]:
    """Producers that were not sure: 3 % again within moments, 3 % long after."""
    repeats = []
    for play, event in timeline:
        chance = rng.random()
        if chance < 0.03:
            repeats.append((min(play + rng.uniform(0, 0.002), 1.0), event))
        elif chance < 0.06:
            repeats.append((rng.uniform(play, 1.0), event))
    return sorted([*timeline, *repeats], key=lambda item: item[0])


def _with_poison(records: list[Record], rng: random.Random, partitions: int) -> Iterator[Record]:
    """Every 300th: no Avro, Avro that breaks off, a count below zero, an event without identity, half a JSON object."""
    for number, record in enumerate(records):
        yield record
        if number % 300 == 150 and record.event is not None:
            tag = f"poison-{number}"
            kind = number // 300 % 5
            if kind == 0:
                value = rng.randbytes(40) + tag.encode()
            elif kind == 1:
                value = encode("usage_event", record.event | {"event_id": tag})[:-9]
            elif kind == 2:
                value = encode("usage_event", record.event | {"event_id": tag, "input_tokens": -5})
            elif kind == 3:
                value = encode("usage_event", record.event | {"event_id": "", "user": tag})
            else:
                value = f'{{"event_id": "{tag}", "source": 5'.encode()
            yield Record(record.play, rng.randrange(partitions), tag.encode(), value, None, foreign=kind == 4)
