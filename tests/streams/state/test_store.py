"""Checkpoints on the embedded broker: the newest whole one wins, whatever crashes and former owners leave behind."""

import json
import uuid
import zlib

import numpy as np
import pytest

from streams.follow import read_all
from streams.producer import Producer
from streams.state import codec, store
from streams.state.codec import StateError
from streams.state.store import StateStore
from streams.topics import Topic, ensure_topics
from streams.transport import Connection

pytestmark = pytest.mark.broker
PARTITION = 1


class Bench:
    """A state topic of its own with owners that come and go."""

    def __init__(self, connection: Connection, producer: Producer, topic: str):
        self.client = connection.client_options()
        self.producer, self.topic = producer, topic

    def owner(self) -> StateStore:
        return StateStore(self.topic, self.producer, self.client)

    async def write(self, key: str, value: bytes | None) -> None:
        await self.producer.send(self.topic, key.encode(), value, partition=PARTITION)
        await self.producer.flush()

    async def restored(self) -> dict | None:
        return await self.owner().load(PARTITION)

    async def live(self) -> dict[str, bytes]:
        """What compaction would leave."""
        live: dict[str, bytes] = {}
        for record in await read_all(self.client, self.topic, [PARTITION]):
            live[record.key.decode()] = record.value
        return {key: value for key, value in live.items() if value is not None}


@pytest.fixture
async def bench(embedded_broker, monkeypatch):
    monkeypatch.setattr(store, "BLOCK_BYTES", 1_000)
    connection = Connection.to(embedded_broker)
    topic = f"state-{uuid.uuid4().hex[:8]}"
    await ensure_topics(connection, [Topic(topic, "", "", 2, "compact")])
    async with Producer(connection) as producer:
        yield Bench(connection, producer, topic)


def state(number: int) -> dict:
    """Of several blocks, since noise does not compress."""
    return {"next_offset": number, "noise": np.random.default_rng(number).integers(0, 2**62, 600)}


def number_of(restored: dict | None) -> int | None:
    if restored is None:
        return None
    assert restored["noise"].tolist() == state(restored["next_offset"])["noise"].tolist()
    return restored["next_offset"]


async def saved(owner: StateStore, *numbers: int) -> StateStore:
    for number in numbers:
        await owner.save(PARTITION, number, state(number))
    return owner


async def test_nothing_yet(bench):
    assert await bench.restored() is None


async def test_the_newest_checkpoint_is_restored(bench):
    owner = bench.owner()
    await owner.load(PARTITION)
    for count in range(1, 6):
        await saved(owner, count)
        assert number_of(await bench.restored()) == count, "also while a reader takes the next epoch each time"


async def test_partitions_are_apart(bench):
    owner = bench.owner()
    for partition in (0, PARTITION):
        await owner.load(partition)
        await owner.save(partition, partition + 7, state(partition + 7))
    assert number_of(await bench.owner().load(0)) == 7
    assert number_of(await bench.owner().load(1)) == 8


async def test_a_crash_while_blocks_are_written_leaves_the_last_checkpoint(bench):
    owner = bench.owner()
    await owner.load(PARTITION)
    await saved(owner, 1, 2)
    newer = codec.encode(state(3))
    for number in range(3):
        await bench.write(f"{PARTITION}/1/0/{number}", newer[number * 1_000 : (number + 1) * 1_000])
    assert number_of(await bench.restored()) == 2


async def test_blocks_without_a_marker_are_not_a_checkpoint(bench):
    raw = codec.encode(state(1))
    for number in range(6):
        await bench.write(f"{PARTITION}/1/0/{number}", raw[number * 1_000 : (number + 1) * 1_000])
    assert await bench.restored() is None


async def test_a_marker_without_its_blocks_is_not_a_checkpoint(bench):
    owner = bench.owner()
    await owner.load(PARTITION)
    await saved(owner, 1)
    marker = {"next_offset": 9, "slot": 0, "blocks": 2, "crc": 0}
    await bench.write(f"{PARTITION}/9/marker", json.dumps(marker).encode())
    assert number_of(await bench.restored()) == 1, "the older epoch's whole one"


async def test_a_torn_block_is_not_a_checkpoint(bench):
    first = bench.owner()
    await first.load(PARTITION)
    await saved(first, 1)
    raw = codec.encode(state(2))
    torn = bytearray(raw)
    torn[1_500] ^= 1
    for number in range(0, len(raw), 1_000):
        await bench.write(f"{PARTITION}/2/0/{number // 1_000}", bytes(torn[number : number + 1_000]))
    marker = {"next_offset": 2, "slot": 0, "blocks": -(-len(raw) // 1_000), "crc": zlib.crc32(raw)}
    await bench.write(f"{PARTITION}/2/marker", json.dumps(marker).encode())
    assert number_of(await bench.restored()) == 1


async def test_a_former_owner_that_still_writes_is_passed_over(bench):
    former = bench.owner()
    await former.load(PARTITION)
    await saved(former, 1)
    newer = bench.owner()
    assert number_of(await newer.load(PARTITION)) == 1
    await saved(newer, 2, 3)
    await saved(former, 1, 1, 1)
    assert number_of(await bench.restored()) == 3
    # Also one that had nothing to save before it was replaced: its epoch is taken all the same.
    idle = bench.owner()
    assert number_of(await idle.load(PARTITION)) == 3
    busy = bench.owner()
    await busy.load(PARTITION)
    await saved(busy, 4)
    await saved(idle, 3)
    assert number_of(await bench.restored()) == 4
    await saved(busy, 5)
    assert number_of(await bench.restored()) == 5


async def test_older_epochs_are_deleted_once_a_newer_one_has_a_checkpoint(bench):
    for count in range(1, 4):
        owner = bench.owner()
        await owner.load(PARTITION)
        before = await bench.live()
        await saved(owner, count)
        await bench.producer.flush()
        live = await bench.live()
        assert {key.split("/")[1] for key in live} == {str(count)}
        assert count == 1 or any(key.endswith("marker") for key in before), "none is deleted before"
    assert number_of(await bench.restored()) == 3


async def test_a_smaller_checkpoint_leaves_no_old_block_in_use(bench):
    owner = bench.owner()
    await owner.load(PARTITION)
    await saved(owner, 1, 2)
    small = {"next_offset": 3, "noise": np.zeros(0, np.int64)}
    await owner.save(PARTITION, 3, small)
    assert (await bench.restored())["noise"].tolist() == []


async def test_a_state_of_another_format_is_an_error_not_a_fresh_start(bench, monkeypatch):
    owner = bench.owner()
    await owner.load(PARTITION)
    monkeypatch.setattr(codec, "MAGIC", b"TFS\x02")
    await saved(owner, 1)
    monkeypatch.setattr(codec, "MAGIC", b"TFS\x01")
    with pytest.raises(StateError, match="run the version that wrote it"):
        await bench.restored()


async def test_foreign_records_in_the_topic_do_not_stop_a_restore(bench):
    owner = bench.owner()
    await owner.load(PARTITION)
    await saved(owner, 1)
    for key in ("hello", "1/x/marker", f"{PARTITION}/1/0/x", f"{PARTITION}/7/marker", ""):
        await bench.write(key, b"\xff not ours")
    await bench.producer.send(bench.topic, None, b"no key", partition=PARTITION)
    await bench.producer.flush()
    assert number_of(await bench.restored()) == 1
