"""The real broker: found out about, started, killed, paused and started again on its data."""

import asyncio
import subprocess
import uuid

import aiokafka
import pytest

from streams.broker import kafka
from streams.broker.kafka import KafkaBroker, fetch_jars, jar_folder, missing_tools
from streams.errors import ConfigError
from streams.producer import Producer
from streams.topics import Topic, ensure_topics
from streams.transport import Connection


@pytest.mark.kafka
async def test_data_survives_a_kill_and_a_restart_and_a_pause_only_delays(kafka_node):
    connection = Connection.to(kafka_node.bootstrap)
    topic = Topic(uuid.uuid4().hex, "", "", 1, "delete")
    await ensure_topics(connection, [topic])
    async with Producer(connection) as producer:
        assert producer.idempotent
        for i, disturb in enumerate([kafka_node.kill, kafka_node.shut_down, kafka_node.pause]):
            await producer.send(topic.name, b"k", b"%d" % i)
            await producer.flush()
            await asyncio.to_thread(disturb)
            await producer.send(topic.name, b"k", b"during %d" % i)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(kafka_node.resume if disturb == kafka_node.pause else kafka_node.launch)
        await asyncio.wait_for(producer.flush(), 30)
    consumer = aiokafka.AIOKafkaConsumer(
        topic.name, bootstrap_servers=kafka_node.bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        values = [(await asyncio.wait_for(consumer.getone(), 10)).value for _ in range(6)]
    finally:
        await consumer.stop()
    assert values == [b"0", b"during 0", b"1", b"during 1", b"2", b"during 2"]


@pytest.mark.kafka
def test_stop_leaves_neither_process_nor_data(kafka_broker):
    # Jars are there already; a second node beside the session's.
    broker = KafkaBroker(heap="256m").start()
    process, folder = broker.process, broker._folder
    assert folder.exists()
    broker.stop()
    broker.stop()
    assert process.poll() is not None and not folder.exists()


def test_missing_tools_are_named(monkeypatch):
    monkeypatch.setenv("TENFOLD_KAFKA_JARS", "/nowhere")
    monkeypatch.setattr(kafka.shutil, "which", lambda name: None)
    assert "Java 17" in missing_tools()
    with pytest.raises(ConfigError, match="embedded broker"):
        KafkaBroker().start()
    monkeypatch.setattr(kafka.shutil, "which", lambda name: "/bin/java" if name == "java" else None)
    for said, lacking in (
        ('openjdk version "11.0.2"', "this one is 11"),
        ('version "21.0.1"', "Maven"),
        ("?", "unknown"),
    ):
        monkeypatch.setattr(
            kafka.subprocess, "run", lambda *_, said=said, **__: subprocess.CompletedProcess([], 0, "", said)
        )
        assert lacking in missing_tools()
    with pytest.raises(ConfigError, match="Maven"):
        fetch_jars()


def test_a_fetch_that_fails_leaves_no_half_filled_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TENFOLD_KAFKA_JARS", str(tmp_path / "jars"))
    monkeypatch.setattr(kafka.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(
        kafka.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, "no route to the repository", "")
    )
    with pytest.raises(ConfigError, match="no route to the repository"):
        fetch_jars()
    assert list(tmp_path.iterdir()) == []


def test_jars_of_another_version_have_another_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("TENFOLD_KAFKA_JARS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert jar_folder().parent == tmp_path / "tenfold"
    assert jar_folder().name.startswith("kafka-")


@pytest.mark.kafka
def test_a_cluster_id_may_begin_with_a_dash(kafka_broker, monkeypatch):
    """One random id in 64 does, and Kafka's formatter took it for an option."""
    dashed = uuid.UUID(bytes=b"\xf8" + bytes(15))
    monkeypatch.setattr(kafka.uuid, "uuid4", lambda: dashed)
    with KafkaBroker(heap="256m") as broker:
        assert broker.process.poll() is None
