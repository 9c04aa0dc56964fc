"""The producer: in order, in bulk, under pressure, and never silent about a loss."""

import asyncio
import uuid

import aiokafka
import pytest

from streams.broker.embedded import EmbeddedBroker
from streams.errors import FatalError, RetryableError
from streams.producer import Producer
from streams.topics import Topic, ensure_topics, partition_for
from streams.transport import Connection

brokers = [
    pytest.param("embedded_broker", False, marks=pytest.mark.broker),
    pytest.param("kafka_broker", True, marks=pytest.mark.kafka),
]


async def read(bootstrap, topic, partition, count):
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    place = aiokafka.TopicPartition(topic, partition)
    consumer.assign([place])
    try:
        await consumer.seek_to_beginning(place)
        return [await asyncio.wait_for(consumer.getone(), 10) for _ in range(count)]
    finally:
        await consumer.stop()


@pytest.mark.parametrize(("broker", "idempotent"), brokers)
async def test_records_arrive_in_order_with_key_time_and_partition(request, broker, idempotent):
    bootstrap = request.getfixturevalue(broker)
    topic = uuid.uuid4().hex
    await ensure_topics(Connection.to(bootstrap), [Topic(topic, "", "", 3, "delete")])
    async with Producer(Connection.to(bootstrap)) as producer:
        assert producer.idempotent == idempotent
        for i in range(300):
            await producer.send(topic, b"same key", b"%d" % i, timestamp_ms=1_000 + i)
        await producer.send(topic, b"same key", None)
        await producer.send(topic, None, b"x", partition=2 - partition_for(b"same key", 3) or 1)
        await producer.flush()
    records = await read(bootstrap, topic, partition_for(b"same key", 3), 301)
    assert [r.value for r in records] == [*(b"%d" % i for i in range(300)), None]
    assert [r.timestamp for r in records[:300]] == list(range(1_000, 1_300))


@pytest.mark.parametrize(("broker", "idempotent"), brokers)
async def test_bulk_and_single_records_keep_their_order(request, broker, idempotent):
    bootstrap = request.getfixturevalue(broker)
    topic = uuid.uuid4().hex
    await ensure_topics(Connection.to(bootstrap), [Topic(topic, "", "", 1, "delete")])
    async with Producer(Connection.to(bootstrap), max_batch_bytes=4_096) as producer:
        await producer.send(topic, b"", b"first", partition=0)
        await producer.send_many(topic, 0, [(b"%d" % i, b"v" * 50) for i in range(1_000)], timestamp_ms=5)
        await producer.send(topic, b"", b"last", partition=0)
        await producer.send_many(topic, 0, [])
        await producer.flush()
    records = await read(bootstrap, topic, 0, 1_002)
    assert [r.key for r in records] == [b"", *(b"%d" % i for i in range(1_000)), b""]
    assert (records[0].value, records[1].timestamp, records[-1].value) == (b"first", 5, b"last")


@pytest.mark.broker
async def test_a_record_that_is_too_large_fails_every_flush_from_then_on(embedded_broker):
    topic = uuid.uuid4().hex
    await ensure_topics(Connection.to(embedded_broker), [Topic(topic, "", "", 1, "delete")])
    async with Producer(Connection.to(embedded_broker)) as producer:
        with pytest.raises(FatalError, match="MessageSizeTooLarge"):
            await producer.send(topic, b"k", b"x" * (2 << 20))
        with pytest.raises(FatalError, match="MessageSizeTooLarge"):
            await producer.flush()


@pytest.mark.broker
async def test_a_broker_that_stays_away_fails_the_flush():
    topic = Topic("t", "", "", 1, "delete")
    with EmbeddedBroker() as broker:
        await ensure_topics(Connection.to(broker.bootstrap), [topic])
        async with Producer(Connection.to(broker.bootstrap), delivery_timeout_ms=1_500) as producer:
            await producer.send("t", b"k", b"stored")
            await producer.flush()
            broker.stop()
            await producer.send("t", b"k", b"lost")
            for _ in range(2):
                with pytest.raises(FatalError, match="did not store"):
                    await producer.flush()
            with pytest.raises(FatalError, match="did not store"):
                await producer.send("t", b"k", b"refused")


@pytest.mark.broker
async def test_back_pressure_holds_the_sender_and_not_the_memory():
    topic = Topic("t", "", "", 1, "delete")
    with EmbeddedBroker() as broker:
        await ensure_topics(Connection.to(broker.bootstrap), [topic])
        async with Producer(
            Connection.to(broker.bootstrap), delivery_timeout_ms=1_500, max_batch_bytes=10_000
        ) as producer:
            await producer.flush()
            broker.stop()
            sent = 0
            with pytest.raises(FatalError, match="did not store"):
                for _ in range(10_000):
                    await producer.send("t", b"k", b"x" * 1_000)
                    sent += 1
            assert sent < 100


@pytest.mark.broker
async def test_many_senders_of_one_partition_wait_in_turn_and_none_times_out(embedded_broker):
    """As in a storm, when every receiver's delivery writes to the notification log."""
    topic = uuid.uuid4().hex
    await ensure_topics(Connection.to(embedded_broker), [Topic(topic, "", "", 1, "delete")])
    async with Producer(Connection.to(embedded_broker), delivery_timeout_ms=2_000) as producer:

        async def one(n: int) -> None:
            for at in range(10):
                await producer.send_many(topic, 0, [(b"%d" % n, b"%d" % at)])

        await asyncio.gather(*(one(n) for n in range(120)))
        await producer.flush()
    records = await read(embedded_broker, topic, 0, 1_200)
    assert [r.value for r in records if r.key == b"7"] == [b"%d" % at for at in range(10)]


async def test_without_a_broker_the_start_says_which():
    with pytest.raises(RetryableError, match=r"127\.0\.0\.1:1.*broker\.servers"):
        await Producer(Connection.to("127.0.0.1:1")).start()


async def test_an_unstarted_producer_is_a_mistake_of_the_caller():
    with pytest.raises(RuntimeError, match="not started"):
        await Producer(Connection.to("127.0.0.1:1")).flush()
