"""What ``tenfold state`` shows of the stored checkpoints, and how it deletes them.

Reads the state topics whole, outside the consumer group; nothing is changed but by ``reset``.
"""

import asyncio
import time
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streams.config import Settings
from streams.errors import ConfigError
from streams.producer import Producer
from streams.state.chain import Scan, claim_key, newest_run
from streams.state.codec import StateError
from streams.state.store import read_scan

KINDS = (("usage", "usage", "usage_state"), ("rollup", "partials", "rollup_state"))
"""Kind of state, and the topics of its input and of its checkpoints."""


@dataclass(frozen=True, slots=True)
class StateRow:
    """One partition's newest state; without ``epoch`` there is none, and ``problem`` says so if it cannot be read."""

    kind: str
    partition: int
    epoch: str = ""
    seq: int = 0
    next_offset: int = 0
    lag_records: int | None = None
    """Records of the input after ``next_offset``; None where the broker does not say."""
    rows: int = 0
    size_bytes: int = 0
    """What a restore reads."""
    age_seconds: float = 0.0
    torn: int = 0
    """Newer checkpoints that are not whole."""
    problem: str = ""


async def describe(settings: Settings) -> list[StateRow]:
    """A row per partition and kind of state."""
    client, topics = settings.connection().client_options(), settings.topic_names()
    rows = []
    for kind, source_name, state_name in KINDS:
        source, state = getattr(topics, source_name), getattr(topics, state_name)
        ends = await _ends(client, source.name, source.partitions)
        for partition in range(state.partitions):
            scan = await read_scan(client, state.name, partition)
            rows.append(await asyncio.to_thread(_row, kind, scan, ends.get(partition)))
    return rows


def _row(kind: str, scan: Scan, end: int | None) -> StateRow:
    try:
        run, torn = newest_run(scan)
    except StateError as error:
        return StateRow(kind, scan.partition, problem=str(error))
    if run is None:
        return StateRow(kind, scan.partition, torn=len(torn))
    newest = run.newest
    return StateRow(
        kind,
        scan.partition,
        epoch=newest.epoch,
        seq=newest.seq,
        next_offset=newest.next_offset,
        lag_records=None if end is None else max(0, end - newest.next_offset),
        rows=newest.rows,
        size_bytes=run.size_bytes,
        age_seconds=max(0.0, time.time() - newest.written_ms / 1000),
        torn=len(torn),
    )


async def _ends(client: dict, topic: str, partitions: int) -> dict[int, int]:
    consumer = AIOKafkaConsumer(**client, group_id=None, enable_auto_commit=False)
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(topic, partition) for partition in range(partitions)])
        return {tp.partition: end for tp, end in ends.items()}
    except KafkaError:
        return {}
    finally:
        await consumer.stop()


async def reset(settings: Settings) -> int:
    """Delete all checkpoints; returns how many records. Raises ConfigError while the group has members.

    The next workers count the input anew, from the oldest record that is still in the topics.
    """
    client, topics, group = settings.connection().client_options(), settings.topic_names(), settings.transport.group
    members = await _members(client, group)
    if members:
        raise ConfigError(
            f"group {group} has {members} member{'' if members == 1 else 's'}, which would write their state again: "
            "stop all workers first (one that was killed is a member until its session times out)"
        )
    deleted = 0
    async with Producer(settings.connection()) as producer:
        for _, _, state_name in KINDS:
            topic = getattr(topics, state_name)
            for partition in range(topic.partitions):
                scan = await read_scan(client, topic.name, partition)
                # Epochs count on: rollup's revisions are made of them, and must be above all that was published.
                claim = claim_key(partition, f"{scan.top_epoch}-reset")
                await producer.send(topic.name, claim, b"{}", partition=partition)
                for key in scan.values:
                    if key != claim:
                        await producer.send(topic.name, key, None, partition=partition)
                        deleted += 1
        await producer.flush()
    return deleted


async def _members(client: dict, group: str) -> int:
    """Members of the group; 0 where the broker cannot say."""
    admin = AIOKafkaAdminClient(**client)
    await admin.start()
    try:
        responses = await admin.describe_consumer_groups([group])
        return sum(len(described[5]) for response in responses for described in response.groups)
    except (KafkaError, IndexError):
        return 0
    finally:
        await admin.close()
