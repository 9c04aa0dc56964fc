"""Reading whole topics outside the group, on both brokers."""

import asyncio
import uuid

import pytest

from streams.errors import FatalError
from streams.follow import follow, read_all
from streams.producer import Producer
from streams.topics import Topic, ensure_topics
from streams.transport import Connection

brokers = [
    pytest.param("embedded_broker", marks=pytest.mark.broker),
    pytest.param("kafka_broker", marks=pytest.mark.kafka),
]


@pytest.fixture
async def connection(request):
    return Connection.to(request.getfixturevalue(request.param))


async def new_topic(connection: Connection, partitions: int) -> str:
    name = f"follow-{uuid.uuid4().hex[:8]}"
    await ensure_topics(connection, [Topic(name, "", "", partitions, "compact")])
    return name


async def write(producer: Producer, topic: str, batches: list[bytes], partition: int) -> None:
    """One record batch for each item and one record for each byte of it."""
    for batch in batches:
        await producer.send_many(topic, partition, [(b"k", bytes([byte])) for byte in batch])
        await producer.flush()


@pytest.mark.parametrize("connection", brokers, indirect=True)
async def test_read_all_reads_to_the_very_end(connection):
    topic = await new_topic(connection, 3)
    client = connection.client_options()
    async with Producer(connection) as producer:
        assert await asyncio.wait_for(read_all(client, topic), 10) == []
        await write(producer, topic, [b"1"], 0)
        assert [record.value for record in await asyncio.wait_for(read_all(client, topic), 10)] == [b"1"]
        await write(producer, topic, [b"234", b"56"], 0)
        await write(producer, topic, [b"x", b"y", b"z"], 2)
        records = await asyncio.wait_for(read_all(client, topic), 10)
        assert sorted((record.partition, record.value) for record in records) == [
            *((0, bytes([byte])) for byte in b"123456"),
            (2, b"x"),
            (2, b"y"),
            (2, b"z"),
        ]
        one = await asyncio.wait_for(read_all(client, topic, [2]), 10)
        assert [record.offset for record in one] == [0, 1, 2]


@pytest.mark.parametrize("connection", brokers, indirect=True)
async def test_follow_has_caught_up_only_when_it_knows_everything(connection):
    topic = await new_topic(connection, 2)
    seen: list[bytes] = []
    caught_up = asyncio.Event()
    async with Producer(connection) as producer:
        await write(producer, topic, [b"12", b"3456"], 1)
        task = asyncio.create_task(
            follow(
                connection.client_options(),
                topic,
                lambda records: seen.extend(record.value for record in records),
                caught_up=caught_up,
            )
        )
        try:
            await asyncio.wait_for(caught_up.wait(), 10)
            assert b"".join(seen) == b"123456"
            await write(producer, topic, [b"7"], 0)
            async with asyncio.timeout(10):
                while len(seen) < 7:
                    await asyncio.sleep(0.02)
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    assert seen[-1] == b"7"


@pytest.mark.kafka
async def test_a_missing_topic_is_an_error_that_says_what_to_do(kafka_broker):
    client = Connection.to(kafka_broker).client_options()
    with pytest.raises(FatalError, match="tenfold topics --create"):
        await asyncio.wait_for(read_all(client, f"missing-{uuid.uuid4().hex[:8]}"), 30)
