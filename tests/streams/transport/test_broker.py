"""Groups of real worker processes on real brokers: nothing lost, nothing read twice, committed up to the end.

Every record's (topic, partition, offset) is written down by the worker that acknowledged it; what was produced is
known exactly, since the tests choose the partition of every record.
"""

import asyncio
import collections
import json
import os
import re
import sys
import tempfile
import uuid
from pathlib import Path

import aiokafka
import pytest

from streams.broker.embedded import SESSION_TIMEOUT_MS
from streams.broker.kafka import KafkaBroker
from streams.errors import FatalError, RetryableError
from streams.producer import Producer
from streams.topics import Topic, ensure_topics
from streams.transport import TP, Connection, Hooks, TransportSettings, build_app, deliveries, run_app

WORKER = Path(__file__).with_name("worker.py")
ROOT = Path(__file__).parents[3]
PARTITIONS = 4

brokers = [
    pytest.param("embedded_broker", marks=pytest.mark.broker),
    pytest.param("kafka_broker", marks=pytest.mark.kafka),
]


class Worker:
    """One worker process."""

    def __init__(self, process: asyncio.subprocess.Process, out: Path, log: Path) -> None:
        self.process, self.out, self.log = process, out, log

    @classmethod
    async def start(cls, folder: Path, **options: object) -> "Worker":
        name = uuid.uuid4().hex[:6]
        out, log = folder / f"{name}.json", folder / f"{name}.log"
        with log.open("wb") as stream:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(WORKER),
                str(out),
                json.dumps(options),
                stdout=stream,
                stderr=asyncio.subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )
        return cls(process, out, log)

    async def said(self, line: str, times: int = 1) -> None:
        async with asyncio.timeout(25):
            while self.log.read_text().count(line) < times:
                assert self.process.returncode is None, self.log.read_text()[-3000:]
                await asyncio.sleep(0.05)

    async def stop(self) -> dict:
        self.process.terminate()
        return await self.end(0)

    async def end(self, code: int) -> dict:
        assert await asyncio.wait_for(self.process.wait(), 25) == code, self.log.read_text()[-3000:]
        return json.loads(self.out.read_text())

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


class Stage:
    """Topics of its own on a broker, a producer, and the workers of one group."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.bootstrap, self.folder = bootstrap, folder
        tag = uuid.uuid4().hex[:8]
        self.group = f"group-{tag}"
        self.topics = [
            Topic(f"t{tag}.usage", "", "", PARTITIONS, "delete"),
            Topic(f"t{tag}.partials", "", "", 1, "delete"),
        ]
        self.produced: collections.Counter[tuple[str, int]] = collections.Counter()
        self.workers: list[Worker] = []
        self.producer = Producer(Connection.to(bootstrap))

    async def __aenter__(self) -> "Stage":
        await ensure_topics(Connection.to(self.bootstrap), self.topics)
        await self.producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self.workers:
            if worker.process.returncode is None:
                await worker.kill()
        await self.producer.stop()

    async def worker(self, **options: object) -> Worker:
        worker = await Worker.start(
            self.folder,
            servers=self.bootstrap,
            group=self.group,
            topics=[topic.name for topic in self.topics],
            **({"session_timeout_ms": SESSION_TIMEOUT_MS} | options),
        )
        self.workers.append(worker)
        return worker

    async def produce(self, records: int, *, until: asyncio.Event | None = None) -> None:
        """At least ``records`` records over all partitions, and on until ``until`` is set."""
        usage, partials = self.topics
        places = [(usage.name, p) for p in range(PARTITIONS)] + [(partials.name, 0)]
        sent = 0
        while sent < records or (until and not until.is_set()):
            for topic, partition in places:
                size = 100 if topic == usage.name else 5
                rows = [(b"key-%d" % i, b"value-%d" % (sent + i) * 5) for i in range(size)]
                await self.producer.send_many(topic, partition, rows)
                self.produced[topic, partition] += size
                sent += size
            await asyncio.sleep(0.02)
        await self.producer.flush()

    async def all_committed(self) -> None:
        """Return once the group committed everything that was produced."""
        consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=self.group, enable_auto_commit=False
        )
        await consumer.start()
        committed: dict = {}
        try:
            async with asyncio.timeout(60):
                while committed != dict(self.produced):
                    committed = {
                        place: await consumer.committed(aiokafka.TopicPartition(*place)) for place in self.produced
                    }
                    await asyncio.sleep(0.1)
        except TimeoutError:
            logs = "\n".join(worker.log.read_text()[-2000:] for worker in self.workers)
            pytest.fail(f"committed {committed}, produced {dict(self.produced)}\n{logs}")
        finally:
            await consumer.stop()

    def check(self, *results: dict, duplicates: bool = False) -> None:
        """Every record was acknowledged, and once only."""
        seen = collections.Counter(tuple(row) for result in results for row in result["rows"])
        wanted = {(t, p, o) for (t, p), count in self.produced.items() for o in range(count)}
        assert not wanted - seen.keys(), "records were lost"
        assert not seen.keys() - wanted
        if not duplicates:
            assert max(seen.values()) == 1, "records were read twice"
        for result in results:
            for call in result["calls"]:
                if call[0] == "revoked":
                    assert call[2:] == [False, 0], "revoked with the flow stopped and nothing un-acknowledged"


@pytest.fixture
async def stage(request, tmp_path):
    async with Stage(request.getfixturevalue(request.param), tmp_path) as stage:
        yield stage


@pytest.mark.parametrize("stage", brokers, indirect=True)
@pytest.mark.parametrize("delivery", ["raw_spans", "consumer_records"])
async def test_a_member_joins_and_leaves_mid_stream(stage, delivery):
    left = asyncio.Event()
    producing = asyncio.create_task(stage.produce(20_000, until=left))
    first = await stage.worker(delivery=delivery)
    await first.said("assigned 5")
    second = await stage.worker(delivery=delivery)
    await second.said("assigned")
    await first.said("assigned", times=2)
    await second.said("acked", times=10)
    from_second = await second.stop()
    await first.said("assigned 5", times=2)
    left.set()
    await producing
    await stage.all_committed()
    from_first = await first.stop()
    assert from_first["rows"] and from_second["rows"]
    stage.check(from_first, from_second)


@pytest.mark.kafka
async def test_members_that_come_and_go_in_quick_succession(kafka_broker, tmp_path):
    async with Stage(kafka_broker, tmp_path) as stage:
        over = asyncio.Event()
        producing = asyncio.create_task(stage.produce(20_000, until=over))
        steady = await stage.worker()
        await steady.said("assigned 5")

        async def come_and_go(stay_seconds: float) -> list[dict]:
            results = []
            for _ in range(2):
                worker = await stage.worker()
                await worker.said("started")
                await asyncio.sleep(stay_seconds)
                results.append(await worker.stop())
            return results

        # Different stays: members leave while others join, within one rebalance and between two.
        visits = await asyncio.gather(come_and_go(1.2), come_and_go(2.1))
        over.set()
        await producing
        await stage.all_committed()
        stage.check(await steady.stop(), *(result for visit in visits for result in visit))


@pytest.mark.parametrize("stage", brokers, indirect=True)
async def test_an_agent_that_raises_ends_the_process_and_loses_nothing(stage):
    producing = asyncio.create_task(stage.produce(10_000))
    poisoned = await stage.worker(raise_at=20, records=100)
    first = await poisoned.end(1)
    assert first["error"].startswith("FatalError") and "poisoned" in first["error"]
    assert first["calls"][-1][0] == "assigned", "nothing is checkpointed after a crash"
    healthy = await stage.worker()
    await producing
    await stage.all_committed()
    stage.check(first, await healthy.stop())


@pytest.mark.parametrize("stage", brokers, indirect=True)
async def test_a_killed_worker_loses_nothing(stage):
    enough = asyncio.Event()
    producing = asyncio.create_task(stage.produce(10_000, until=enough))
    victim = await stage.worker()
    await victim.said("acked", times=20)
    await victim.kill()
    survivor = await stage.worker()
    await survivor.said("acked", times=20)
    enough.set()
    await producing
    await stage.all_committed()
    result = await survivor.stop()
    acked = {}
    for topic, partition, next_offset in re.findall(r"^acked (\S+) (\d+) (\d+)$", victim.log.read_text(), re.MULTILINE):
        acked[topic, int(partition)] = int(next_offset)
    for (topic, partition), count in stage.produced.items():
        offsets = sorted(row[2] for row in result["rows"] if row[:2] == [topic, partition])
        assert offsets == list(range(count - len(offsets), count))
        assert count - len(offsets) <= acked.get((topic, partition), 0), "records between the two were lost"


@pytest.mark.kafka
async def test_a_broker_that_dies_and_comes_back_is_survived(kafka_node: KafkaBroker, tmp_path):
    async with Stage(kafka_node.bootstrap, tmp_path) as stage:
        assert stage.producer.idempotent
        back = asyncio.Event()
        producing = asyncio.create_task(stage.produce(5_000, until=back))
        # Kafka needs some seconds to come back; a worker gives up after its session timeout.
        worker = await stage.worker(session_timeout_ms=30_000)
        await worker.said("assigned 5")
        await asyncio.sleep(1)
        kafka_node.kill()
        await asyncio.sleep(1)
        await asyncio.to_thread(kafka_node.launch)
        back.set()
        await producing
        await stage.all_committed()
        stage.check(await worker.stop(), duplicates=True)


@pytest.mark.kafka
async def test_state_that_is_ahead_of_its_log_stops_the_process(kafka_broker, tmp_path):
    async with Stage(kafka_broker, tmp_path) as stage:
        usage = stage.topics[0].name
        app = build_app(
            TransportSettings(Connection.to(kafka_broker), group=stage.group),
            batch_topics=[usage],
            hooks=Hooks(stored_offset=lambda tp: 1_000_000),
        )

        @app.agent(app.batch_topic(usage))
        async def never(stream):
            async for _ in deliveries(stream):
                raise AssertionError("delivered what the state holds already")

        await stage.produce(1_000)
        with pytest.raises(FatalError, match=r"goes on at offset 0 instead of 1000000.*delete the state topic"):
            await asyncio.wait_for(run_app(app, handle_signals=False), 25)


@pytest.mark.kafka
async def test_the_end_of_a_partition_is_seen_only_while_the_broker_answers(kafka_node, tmp_path):
    async with Stage(kafka_node.bootstrap, tmp_path) as stage:
        usage = stage.topics[0].name
        tps = [TP(usage, partition) for partition in range(PARTITIONS)]
        stop, held = asyncio.Event(), asyncio.Event()
        settings = TransportSettings(Connection.to(kafka_node.bootstrap), group=stage.group)
        app = build_app(settings, batch_topics=[usage])

        @app.agent(app.batch_topic(usage))
        async def hold(stream):
            async for delivery in deliveries(stream):
                assert not app.at_end(delivery.batch.tp)
                await held.wait()
                delivery.ack()

        async def until(seen: bool) -> None:
            async with asyncio.timeout(25):
                while [app.at_end(tp, 1_000) for tp in tps] != [seen] * PARTITIONS:
                    await asyncio.sleep(0.05)

        assert not app.at_end(tps[0])
        await stage.produce(1_000)
        running = asyncio.create_task(run_app(app, stop=stop, handle_signals=False))
        await asyncio.sleep(2)
        assert not any(app.at_end(tp) for tp in tps), "taken, but not applied"
        held.set()
        await until(True)
        kafka_node.pause()
        await until(False)
        kafka_node.resume()
        await until(True)
        stop.set()
        await asyncio.wait_for(running, 25)


@pytest.mark.kafka
async def test_a_named_member_restarts_without_moving_partitions(kafka_broker, tmp_path):
    async with Stage(kafka_broker, tmp_path) as stage:
        static = {"settings": {"instance_id": "worker-1"}, "session_timeout_ms": 15_000}
        producing = asyncio.create_task(stage.produce(5_000))
        other = await stage.worker(settings={"instance_id": "worker-2"}, session_timeout_ms=15_000)
        await other.said("assigned")
        restarted = await stage.worker(**static)
        await restarted.said("assigned")
        await other.said("assigned", times=2)
        one = await restarted.stop()
        again = await stage.worker(**static)
        await again.said("assigned")
        await producing
        await stage.all_committed()
        results = [one, await again.stop(), await other.stop()]
        stage.check(*results)
        assert [call[0] for call in results[2]["calls"]].count("assigned") == 2, "the restart moved nothing"


@pytest.mark.broker
async def test_delivered_batches_hold_what_was_sent(embedded_broker):
    async with Stage(embedded_broker, Path(tempfile.gettempdir())) as stage:
        usage = stage.topics[0].name
        stop, got = asyncio.Event(), []
        app = build_app(
            TransportSettings(Connection.to(embedded_broker), group=stage.group, session_timeout_ms=SESSION_TIMEOUT_MS),
            batch_topics=[usage],
            hooks=Hooks(stored_offset=lambda tp: 1),
        )

        @app.agent(app.batch_topic(usage))
        async def collect(stream):
            async for delivery in deliveries(stream):
                batch = delivery.batch
                got.extend((batch.key(i), batch.value(i), int(batch.timestamp_ms[i])) for i in range(len(batch)))
                assert batch.first_offset >= 1 and batch.highwater == 3 and batch.fetched_ms > 1_700_000_000_000
                delivery.ack()
                stop.set()

        for i, value in enumerate([b"before the state", b"one", None]):
            await stage.producer.send(usage, b"k%d" % i, value, partition=2, timestamp_ms=1_000 + i)
        await stage.producer.flush()
        await asyncio.wait_for(run_app(app, stop=stop, handle_signals=False), 25)
        assert got == [(b"k1", b"one", 1_001), (b"k2", None, 1_002)]


async def test_without_a_broker_the_start_fails_with_the_reason():
    app = build_app(TransportSettings(Connection.to("127.0.0.1:1")), batch_topics=["usage"])
    with pytest.raises(RetryableError, match=r"no broker of 127\.0\.0\.1:1"):
        await asyncio.wait_for(run_app(app, handle_signals=False), 20)


@pytest.mark.broker
async def test_no_partitions_in_time_ends_the_process(embedded_broker):
    settings = TransportSettings(Connection.to(embedded_broker), group=uuid.uuid4().hex, assignment_timeout_ms=500)
    app = build_app(settings, batch_topics=["never"])
    with pytest.raises(FatalError, match="no partitions within"):
        await asyncio.wait_for(run_app(app, handle_signals=False), 20)


@pytest.mark.broker
async def test_a_hook_that_fails_to_restore_ends_the_process(embedded_broker):
    async with Stage(embedded_broker, Path(tempfile.gettempdir())) as stage:

        async def restore(tps):
            raise FatalError("the checkpoint is damaged")

        usage = stage.topics[0].name
        settings = TransportSettings(
            Connection.to(embedded_broker), group=stage.group, session_timeout_ms=SESSION_TIMEOUT_MS
        )
        app = build_app(settings, batch_topics=[usage], hooks=Hooks(on_assigned=restore))

        @app.agent(app.batch_topic(usage))
        async def never(stream):
            async for _ in deliveries(stream):
                raise AssertionError("delivered before its state was there")

        await stage.produce(100)
        with pytest.raises(FatalError, match="the checkpoint is damaged"):
            await asyncio.wait_for(run_app(app, handle_signals=False), 20)
