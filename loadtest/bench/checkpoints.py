"""What checkpoints cost: ``tenfold bench checkpoints --out loadtest/results/checkpoints.json``.

One input partition with a million live sessions, of which fifty thousand change between two checkpoints. Measured:
the pause of the stream while what is due is copied, the bytes a changed session costs, the events counted in a second
with and without checkpoints, and the time to restore from a broker, from connecting to an engine that can count.

Takes some three minutes and 3 GB. Prints one JSON object.
"""

import asyncio
import json
import statistics
import time
import uuid
from pathlib import Path

import click
import numpy as np

from loadtest.bench import machine
from models.config import EngineConfig
from models.engine import STATE_VERSION, UsageEngine
from models.pricing import PriceTable
from models.rolling import EVERYTHING, SLICES
from schemas.columns import Columns, string_index
from streams.broker.embedded import embedded_broker
from streams.broker.kafka import kafka_broker
from streams.producer import Producer
from streams.state import codec
from streams.state.store import StateStore
from streams.topics import Topic, ensure_topics
from streams.transport import Connection

START_MS = 1_795_460_400_000
BATCH = 5_000
ID_BYTES = 36
"""Of a session id: a UUID."""
TEAMS, AGENTS = 40, 5
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.5-pro")
CHECKPOINT_SECONDS = 5.0
"""Half of the default interval."""
RUN_SECONDS = 20.0


class Usage:
    """Batches of columns over a fixed set of sessions, made without a decoder."""

    def __init__(self, sessions: int, seed: int = 1):
        self.rng = np.random.default_rng(seed)
        self.sessions = sessions
        self.keys = self.rng.integers(1, 2**63, sessions).astype(np.uint64)
        self.ids = self.rng.choice(np.frombuffer(b"0123456789abcdef", np.uint8), (sessions, ID_BYTES))
        names = [f"team-{i}" for i in range(TEAMS)] + [f"agent-{i}" for i in range(AGENTS)] + [*MODELS, "openai", "e"]
        self.names = "".join(names).encode()
        lengths = np.array([len(name) for name in names])
        self.name_length, self.name_start = lengths, np.concatenate([[0], np.cumsum(lengths)[:-1]])
        self.name_hash = self.rng.integers(1, 2**63, len(names)).astype(np.uint64)
        self.offset = 0

    def batch(self, sessions: np.ndarray, time_ms: int) -> Columns:
        """One event for each of ``sessions`` int64[n]."""
        n = len(sessions)
        payload = np.concatenate([np.frombuffer(self.names, np.uint8), self.ids[sessions].ravel()])
        columns = Columns.empty(n, payload)
        columns.offset[:] = np.arange(self.offset, self.offset + n)
        columns.event_time_ms[:] = time_ms + self.rng.integers(0, 1_000, n)
        columns.kind[:] = 0
        columns.tokens[:] = 0
        columns.tokens[:, 0] = self.rng.integers(100, 5_000, n)
        columns.tokens[:, 4] = self.rng.integers(10, 1_000, n)
        columns.quantity[:] = 0
        columns.hash[:], columns.start[:], columns.length[:] = 0, 0, 0
        team, agent = sessions % TEAMS, sessions % AGENTS
        model = TEAMS + AGENTS + sessions % len(MODELS)
        last = TEAMS + AGENTS + len(MODELS)
        for name, number in (
            ("team", team),
            ("agent", TEAMS + agent),
            ("model", model),
            ("provider", np.full(n, last)),
            ("source", np.full(n, last + 1)),
            ("event_id", np.full(n, last + 1)),
        ):
            column = string_index(name)
            columns.hash[:, column] = self.name_hash[number]
            columns.start[:, column], columns.length[:, column] = self.name_start[number], self.name_length[number]
        columns.hash[:, string_index("event_id")] = np.arange(self.offset + 1, self.offset + n + 1)
        column = string_index("session_id")
        columns.hash[:, column] = self.keys[sessions]
        columns.start[:, column] = len(self.names) + np.arange(n) * ID_BYTES
        columns.length[:, column] = ID_BYTES
        self.offset += n
        return columns

    def feed(self, engine: UsageEngine, sessions: np.ndarray, time_ms: int) -> None:
        """Apply in batches, and take out what a worker would publish."""
        for at in range(0, len(sessions), BATCH):
            columns = self.batch(sessions[at : at + BATCH], time_ms)
            engine.apply(columns, self.offset, time_ms + 1_000)
        engine.advance(time_ms + 1_000)
        engine.flush()


def filled(sessions: int) -> tuple[UsageEngine, Usage]:
    usage = Usage(sessions)
    engine = UsageEngine(EngineConfig(), 0, PriceTable())
    usage.feed(engine, np.arange(sessions), START_MS)
    return engine, usage


def pauses(engine: UsageEngine, usage: Usage, changed: int) -> tuple[list[float], list[dict]]:
    """(ms of each delta, deltas) of checkpoints with ``changed`` sessions between two; two rounds of all slices."""
    found, deltas = [], []
    engine.take_delta(EVERYTHING)
    for number in range(2 * SLICES):
        sessions = usage.rng.choice(usage.sessions, changed, replace=False)
        usage.feed(engine, sessions, START_MS + 10_000 * (number + 1))
        started = time.perf_counter()
        delta = engine.take_delta(number % SLICES)
        found.append(1_000 * (time.perf_counter() - started))
        deltas = [*deltas[1 - SLICES :], delta]
    return found, deltas


async def throughput(engine: UsageEngine, usage: Usage, with_checkpoints: bool) -> float:
    """Events counted in a second, decoding left out, with encoding in a thread beside it."""
    rng = np.random.default_rng(7)
    prepared = [usage.batch(rng.integers(0, usage.sessions, BATCH), START_MS + 600_000) for _ in range(40)]
    column = string_index("event_id")
    events, number, writing = 0, 0, None
    started = time.perf_counter()
    due = started + CHECKPOINT_SECONDS
    while (now := time.perf_counter()) < started + RUN_SECONDS:
        columns = prepared[number % len(prepared)]
        columns.hash[:, column] = np.arange(usage.offset + 1, usage.offset + BATCH + 1)
        columns.status[:] = 0
        usage.offset += BATCH
        engine.apply(columns, usage.offset, START_MS + 601_000)
        events += BATCH
        if number % 20 == 0:
            engine.flush()
        if with_checkpoints and now >= due and (writing is None or writing.done()):
            due = now + CHECKPOINT_SECONDS
            writing = asyncio.create_task(asyncio.to_thread(codec.encode, engine.take_delta(number % SLICES)))
        number += 1
        await asyncio.sleep(0)
    rate = events / (time.perf_counter() - started)
    if writing is not None:
        await writing
    return rate


async def restore(bootstrap: str, deltas: list[dict], rows: int, next_offset: int) -> dict:
    """Write a run to a topic of its own, then restore it as a new owner does."""
    connection = Connection.to(bootstrap)
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    await ensure_topics(connection, [Topic(topic, "", "", 1, "compact")])
    async with Producer(connection, compress=False) as producer:
        owner = StateStore(topic, producer, connection.client_options(), state_version=STATE_VERSION)
        await owner.load(0)
        started = time.perf_counter()
        for delta in deltas:
            await owner.save(owner.begin(0), next_offset, rows, delta)
        write_seconds = time.perf_counter() - started
        started = time.perf_counter()
        run = await StateStore(topic, producer, connection.client_options(), state_version=STATE_VERSION).load(0)
        read_seconds = time.perf_counter() - started
        size = run.size_bytes
        prices = PriceTable()
        engine = await asyncio.to_thread(UsageEngine.restore, EngineConfig(), prices, run.deltas())
        seconds = time.perf_counter() - started
    assert len(run.markers) == len(deltas) == SLICES
    return {
        "seconds": round(seconds, 2),
        "read_seconds": round(read_seconds, 2),
        "live_sessions": len(engine.sessions),
        "rows": engine.rows,
        "bytes": size,
        "write_seconds_per_checkpoint": round(write_seconds / len(deltas), 3),
    }


def size_of(engine: UsageEngine, usage: Usage, changed: int, at_ms: int) -> int:
    """Bytes of a checkpoint with so many changed sessions; the median of three."""
    sizes = []
    for number in range(3):
        sessions = usage.rng.choice(usage.sessions, changed, replace=False)
        usage.feed(engine, sessions, at_ms)
        sizes.append(len(codec.encode(engine.take_delta(number))))
    return int(statistics.median(sizes))


def bench(sessions: int, changed: int, broker: str) -> dict:
    ran_on = machine.describe()
    engine, usage = filled(sessions)
    found, deltas = pauses(engine, usage, changed)
    started = time.perf_counter()
    encoded = len(codec.encode(deltas[-1]))
    encode_seconds = time.perf_counter() - started
    with {"kafka": kafka_broker, "embedded": embedded_broker}[broker]() as bootstrap:
        restored = asyncio.run(restore(bootstrap, deltas, engine.rows, engine.next_offset))
    assert restored["rows"] == engine.rows and restored["live_sessions"] == len(engine.sessions)
    del deltas
    at_ms = START_MS + 500_000
    quiet, busy = size_of(engine, usage, BATCH, at_ms), size_of(engine, usage, changed, at_ms)
    rates: dict[bool, list[float]] = {False: [], True: []}
    for with_checkpoints in (False, True, True, False):
        rates[with_checkpoints].append(asyncio.run(throughput(engine, usage, with_checkpoints)))
    off, on = (statistics.mean(rates[with_checkpoints]) for with_checkpoints in (False, True))
    return {
        "bench": "checkpoints",
        "live_sessions": len(engine.sessions),
        "panes": len(engine.panes),
        "identities": len(engine.dedupe),
        "changed_sessions": changed,
        "pause_ms": {"p50": round(statistics.median(found), 1), "max": round(max(found), 1), "checkpoints": len(found)},
        "checkpoint_bytes": encoded,
        "encode_seconds": round(encode_seconds, 3),
        "bytes_per_changed_session": round((busy - quiet) / (changed - BATCH), 1),
        "events_per_second": {"off": round(off), "on": round(on), "ratio": round(on / off, 3)},
        "checkpoint_interval_seconds": CHECKPOINT_SECONDS,
        "restore": {"broker": broker, **restored},
        "machine": ran_on,
    }


@click.command()
@click.option("--sessions", default=1_000_000, show_default=True, help="Live sessions.")
@click.option("--changed", default=50_000, show_default=True, help="Sessions that change between two checkpoints.")
@click.option("--broker", type=click.Choice(("kafka", "embedded")), default="kafka", show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File for the result.")
def checkpoints(sessions: int, changed: int, broker: str, out: Path | None) -> None:
    """What checkpoints cost: pause of the stream, bytes, events per second, time to restore."""
    text = json.dumps(bench(sessions, changed, broker), indent=2)
    click.echo(text)
    if out:
        out.write_text(text + "\n")
