"""Reading a topic outside the consumer group: all of it, or its tail for ever.

For what every worker needs to know whole (peer baselines, checkpoints, what was already notified) and for people
who look on (the demo's live page). One consumer per call, no commits, no group, so it never moves a partition.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from schemas.codec import decode
from streams.errors import FatalError

log = structlog.get_logger()

POLL_MS = 200


async def read_all(client_settings: dict, topic: str, partitions: Sequence[int] | None = None) -> list[ConsumerRecord]:
    """Every record between the start of the topic and its end at the time of the call, in order per partition."""
    return [record async for record in read(client_settings, topic, partitions)]


async def read(
    client_settings: dict, topic: str, partitions: Sequence[int] | None = None, *, fetch_bytes: int = 1 << 20
) -> AsyncIterator[ConsumerRecord]:
    """Like ``read_all``, one by one; up to ``fetch_bytes`` of a partition are asked for at once."""
    consumer = _consumer({**client_settings, "max_partition_fetch_bytes": fetch_bytes})
    await consumer.start()
    try:
        tps = await _assign(consumer, topic, partitions)
        end = await consumer.end_offsets(tps)
        await consumer.seek_to_beginning(*tps)
        for tp in tps:
            while await consumer.position(tp) < end[tp]:
                for records in (await consumer.getmany(tp, timeout_ms=POLL_MS)).values():
                    for record in records:
                        yield record
    finally:
        await consumer.stop()


def decoded(schema: str, records: Iterable[ConsumerRecord]) -> list[dict]:
    """The dicts in ``records``; one that is none is named in the log and passed over."""
    found = []
    for record in records:
        if record.value is None:
            continue
        try:
            found.append(decode(schema, record.value))
        except Exception as error:  # fastavro raises what its C code met. Something else writes to our topic.
            log.error(f"{schema}_unreadable", offset=record.offset, error=repr(error))
    return found


async def follow(
    client_settings: dict,
    topic: str,
    on_records: Callable[[list[ConsumerRecord]], None],
    *,
    from_beginning: bool = True,
    caught_up: asyncio.Event | None = None,
) -> None:
    """Call ``on_records`` with each fetched list, until cancelled; sets ``caught_up`` once the end was reached."""
    consumer = _consumer(client_settings)
    await consumer.start()
    try:
        tps = await _assign(consumer, topic, None)
        end = await consumer.end_offsets(tps)
        await (consumer.seek_to_beginning(*tps) if from_beginning else consumer.seek_to_end(*tps))
        while True:
            fetched = await consumer.getmany(timeout_ms=POLL_MS)
            records = [record for batch in fetched.values() for record in batch]
            if records:
                on_records(records)
            if caught_up is not None and not caught_up.is_set():
                positions = [await consumer.position(tp) for tp in tps]
                if all(position >= end[tp] for position, tp in zip(positions, tps, strict=True)):
                    caught_up.set()
    finally:
        await consumer.stop()


def _consumer(client_settings: dict) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        **client_settings, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=100
    )


async def _assign(consumer: AIOKafkaConsumer, topic: str, partitions: Sequence[int] | None) -> list[TopicPartition]:
    if partitions is None:
        partitions = sorted(consumer.partitions_for_topic(topic) or await _partitions(consumer, topic))
    tps = [TopicPartition(topic, partition) for partition in partitions]
    consumer.assign(tps)
    return tps


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    """Metadata may not have arrived yet; asks for it, a few times."""
    for _ in range(20):
        consumer.subscribe([topic])
        await consumer.topics()
        found = consumer.partitions_for_topic(topic)
        consumer.unsubscribe()
        if found:
            return found
        await asyncio.sleep(0.1)
    raise FatalError(f"topic {topic} does not exist: create the topics with `tenfold topics --create`")
