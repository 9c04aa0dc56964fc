"""Workers as real processes on a real broker: start them, feed them, wait until all is counted, read the topics.

Everything is waited for by what the topics and the group say, bounded by a deadline that fails with the ends of the
workers' logs. A deployment has topics and a group of its own, so tests share a broker.
"""

import asyncio
import json
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import aiohttp
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from models.config import HOUR_MS
from schemas.codec import decode, encode
from streams.broker.embedded import end, free_port, spawn
from streams.config import Settings
from streams.files import event_from_json, read_events
from streams.follow import read_all
from streams.produce import event_key
from streams.producer import Producer
from streams.replay import Replay, chunks
from streams.topics import Topic, ensure_topics, partition_for

ROOT = Path(__file__).parents[2]
DATA = ROOT / "loadtest" / "data"
READY_SECONDS = 120
"""A first start compiles the kernels."""
STOP_SECONDS = 12
COUNTERS = (
    "cost_nano_usd",
    "estimated_nano_usd",
    "events",
    "unpriced_events",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
)
WINDOW = ("scope_kind", "team", "model", "agent", "use_case", "window_start", "window_ms")
RUN = ("session_id", "first_event_time", "last_event_time", "team", "agent", "model", *COUNTERS)

CONFIG = """\
[broker]
servers = ["{bootstrap}"]
[transport]
group = "{name}"
# The embedded broker holds the first join back for half a session timeout.
session_timeout = "{session_timeout}"
[topics]
prefix = "{name}."
partitions = 4
[log]
format = "json"
level = "{level}"
{more}
"""


class Worker:
    """One ``tenfold worker`` process."""

    def __init__(self, config: Path, log: Path):
        self.config, self.log = config, log
        self.port = 0
        self.process = None

    def start(self) -> None:
        self.port = free_port()
        command = [
            sys.executable,
            "-m",
            "streams",
            "worker",
            "--config",
            str(self.config),
            "--web-port",
            str(self.port),
        ]
        with self.log.open("a") as out:
            self.process = spawn(command, stdout=out, stderr=out, cwd=ROOT)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def tail(self, lines: int = 25) -> str:
        return f"{self.log.name}:\n" + "\n".join(self.log.read_text().splitlines()[-lines:])

    def events(self, name: str) -> list[dict]:
        """Log entries of one event."""
        found = []
        for line in self.log.read_text().splitlines():
            if name in line:
                entry = json.loads(line)
                if entry.get("event") == name:
                    found.append(entry)
        return found

    async def ready(self) -> bool:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session,
                session.get(f"http://127.0.0.1:{self.port}/readyz") as answer,
            ):
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def stop(self) -> float:
        """SIGTERM; returns how many seconds an orderly end took."""
        started = time.monotonic()
        self.process.terminate()
        assert await self.exit_code(STOP_SECONDS) == 0, self.tail()
        return time.monotonic() - started

    async def exit_code(self, seconds: float) -> int:
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                self.process.kill()
                pytest.fail(f"the worker did not end within {seconds} s\n{self.tail()}")
            await asyncio.sleep(0.05)
        return self.process.returncode

    async def kill(self) -> None:
        self.process.kill()
        await asyncio.to_thread(self.process.wait)


class Deployment:
    """Topics, a group, its workers and what was produced for them."""

    def __init__(
        self, bootstrap: str, folder: Path, *, more: str = "", level: str = "info", session_timeout: str = "10s"
    ):
        self.name = f"e2e{uuid.uuid4().hex[:8]}"
        self.config = folder / "tenfold.toml"
        values = {"bootstrap": bootstrap, "name": self.name, "session_timeout": session_timeout, "level": level}
        self.config.write_text(CONFIG.format(**values, more=more))
        self.settings = Settings.load(self.config)
        self.topics = self.settings.topic_names()
        self.client = self.settings.connection().client_options()
        self.folder = folder
        self.workers: list[Worker] = []
        self.produced: dict[int, list] = defaultdict(list)
        """What each partition of the usage topic holds, by offset: events, or values as they are."""

    async def __aenter__(self) -> "Deployment":
        await ensure_topics(self.settings.connection(), self.topics)
        self._producer = await Producer(self.settings.connection()).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self.workers:
            if worker.process is not None:
                await asyncio.to_thread(end, worker.process, 1.0)
        await self._producer.stop()

    def spawn_worker(self) -> Worker:
        worker = Worker(self.config, self.folder / f"worker-{len(self.workers) + 1}.log")
        self.workers.append(worker)
        worker.start()
        return worker

    async def start(self, count: int) -> None:
        for _ in range(count):
            self.spawn_worker()
        await self.all_ready()

    async def all_ready(self) -> None:
        async def ready() -> bool:
            return all([await worker.ready() for worker in self.workers if worker.process is not None])

        await self.until(ready, "workers are not ready", READY_SECONDS)

    async def until(self, condition: Callable, what: str, seconds: float = 90) -> None:
        """Wait for ``condition()`` (may be a coroutine); fails early if a worker has ended."""
        deadline = time.monotonic() + seconds
        while True:
            result = condition()
            if asyncio.iscoroutine(result):
                result = await result
            if result:
                return
            dead = [worker for worker in self.workers if worker.process is not None and not worker.running]
            if dead or time.monotonic() > deadline:
                reason = "a worker ended" if dead else f"{seconds} s have passed"
                tails = "\n\n".join(worker.tail() for worker in self.workers)
                pytest.fail(f"{what}: {reason}\n{tails}", pytrace=False)
            await asyncio.sleep(0.1)

    async def send_values(self, partition: int, rows: Sequence[tuple[bytes | None, bytes | None]], keep=None) -> None:
        """Records as they are; ``keep`` is what ``produced`` holds of each, by default the value."""
        await self._producer.send_many(self.topics.usage.name, partition, rows)
        self.produced[partition] += [value for _, value in rows] if keep is None else keep
        await self._producer.flush()

    async def send(self, events: Iterable[dict], partition: int | None = None) -> None:
        """Events in order, to the partition of their key unless one is given."""
        by_partition = defaultdict(list)
        for event in events:
            target = partition_for(event_key(event), self.topics.usage.partitions) if partition is None else partition
            by_partition[target].append(event)
        for target, part in by_partition.items():
            await self.send_values(target, [(event_key(e), encode("usage_event", e)) for e in part], part)

    async def send_sentinels(self, at_ms: int) -> list[dict]:
        """An event of its own team in every partition, late enough to end every session before it."""
        sentinels = [
            event_from_json({"event_id": f"end-{p}", "source": self.name, "event_time": at_ms, "team": "sentinel"})
            for p in range(self.topics.usage.partitions)
        ]
        for partition, sentinel in enumerate(sentinels):
            await self.send([sentinel], partition)
        return sentinels

    async def committed(self, topic: Topic) -> list[int]:
        """Of each partition; 0 where nothing is."""
        consumer = AIOKafkaConsumer(**self.client, group_id=self.name, enable_auto_commit=False)
        await consumer.start()
        try:
            tps = [TopicPartition(topic.name, partition) for partition in range(topic.partitions)]
            return [await consumer.committed(tp) or 0 for tp in tps]
        finally:
            await consumer.stop()

    async def usage_committed(self, seconds: float = 90) -> None:
        """All that was produced is counted, its partials are stored, and so is the state."""
        wanted = [len(self.produced[partition]) for partition in range(self.topics.usage.partitions)]

        async def reached() -> bool:
            return await self.committed(self.topics.usage) == wanted

        await self.until(reached, f"usage is not committed up to {wanted}", seconds)

    async def settled(self, seconds: float = 90) -> None:
        """All that was produced has gone the whole way."""
        await self.usage_committed(seconds)
        # In this order: what usage stored before its commit, then what rollup stored before its own.
        for topic in (self.topics.partials, self.topics.anomalies):
            ends = defaultdict(int)
            for record in await read_all(self.client, topic.name):
                ends[record.partition] = record.offset + 1

            async def reached(topic=topic, ends=ends) -> bool:
                committed = await self.committed(topic)
                return all(committed[partition] >= end for partition, end in ends.items())

            await self.until(reached, f"{topic.name} is not committed up to {dict(ends)}", seconds)

    async def read(self, topic: Topic) -> list[dict]:
        """Every record of an output topic, decoded, in order per partition."""
        records = await read_all(self.client, topic.name)
        return [decode(topic.schema, record.value) for record in records if record.value is not None]

    async def windows(self) -> dict[tuple, tuple]:
        """Counters of each window as last published; a revision never goes back."""
        newest: dict[tuple, dict] = {}
        for row in await self.read(self.topics.spend):
            newest[tuple(row[name] for name in WINDOW)] = row
        return {key: tuple(row[name] for name in COUNTERS) for key, row in newest.items()}

    async def runs(self) -> dict[tuple, tuple]:
        """Ended runs of sessions; one that was published again must be the same."""
        runs: dict[tuple, tuple] = {}
        for row in await self.read(self.topics.sessions):
            run = tuple(row[name] for name in RUN)
            assert runs.setdefault(run[:2], run) == run, "a run of a session was published with two results"
        return runs

    def expected(self, events: Iterable[dict]) -> tuple[dict[tuple, tuple], dict[tuple, tuple], dict]:
        """Windows, runs and summary of a replay of ``events``."""
        runs: dict[tuple, tuple] = {}

        def take(session: dict) -> None:
            run = tuple(session[name] for name in RUN)
            runs[run[:2]] = run

        replay = Replay(self.settings.engine(), on_session=take)
        for chunk in chunks(sorted(events, key=lambda event: event["event_time"])):
            replay.feed(chunk)
        summary = replay.finish()
        rows = replay.spend.values()
        windows = {tuple(row[name] for name in WINDOW): tuple(row[name] for name in COUNTERS) for row in rows}
        return windows, runs, summary


def sample(count_aider: int = 3_000, count_mooncake: int = 12_031) -> tuple[list[dict], int]:
    """Some 15,000 events of one recent hour in order, and when it ended: Mooncake's chat, and Aider's calls in between.

    Aider's times are spread over the hour, so that its sessions stay whole; the $9,990.01 call is among them.
    """
    start_ms = (int(time.time() * 1000) - 4 * HOUR_MS) // HOUR_MS * HOUR_MS
    chat = list(read_events(DATA / "mooncake.jsonl.gz"))[:count_mooncake]
    shift_ms = start_ms - chat[0]["event_time"]
    for event in chat:
        event["event_time"] += shift_ms
    calls = list(read_events(DATA / "aider.jsonl.gz"))[:5_300][-count_aider:]
    for number, event in enumerate(calls):
        event["event_time"] = start_ms + number * HOUR_MS // len(calls)
    events = sorted([*chat, *calls], key=lambda event: event["event_time"])
    return events, start_ms + HOUR_MS


class Kit:
    """For tests: there is no package to import these from."""

    Deployment = Deployment
    ROOT, COUNTERS, WINDOW, RUN = ROOT, COUNTERS, WINDOW, RUN
    SESSIONS_END_MS = 35 * 60_000
    """After the last event: a session's idle time and the lateness."""
    sample = staticmethod(sample)


@pytest.fixture(scope="session")
def kit():
    return Kit
