"""Checkpoints on the embedded broker: the newest whole one wins, whatever crashes and former owners leave behind."""

import asyncio
import json
import uuid
import zlib
from dataclasses import asdict

import numpy as np
import pytest

from models.rolling import EVERYTHING, SLICES
from streams.follow import read_all
from streams.producer import Producer
from streams.state import chain, codec
from streams.state.chain import SLOTS, Marker, Run
from streams.state.codec import StateError
from streams.state.store import StateStore
from streams.topics import Topic, ensure_topics
from streams.transport import Connection

pytestmark = pytest.mark.broker
PARTITION, VERSION = 1, 3


class Bench:
    """A state topic of its own with owners that come and go."""

    def __init__(self, connection: Connection, producer: Producer, topic: str):
        self.client = connection.client_options()
        self.producer, self.topic = producer, topic

    def owner(self) -> StateStore:
        return StateStore(self.topic, self.producer, self.client, state_version=VERSION)

    async def write(self, key: str, value: bytes | None) -> None:
        await self.producer.send(self.topic, key.encode(), value, partition=PARTITION)
        await self.producer.flush()

    async def restored(self) -> int | None:
        return number_of(await self.owner().load(PARTITION))

    async def live(self) -> dict[str, bytes]:
        """What compaction would leave."""
        live: dict[str, bytes] = {}
        for record in await read_all(self.client, self.topic, [PARTITION]):
            live[record.key.decode()] = record.value
        return {key: value for key, value in live.items() if value is not None}


@pytest.fixture
async def bench(embedded_broker, monkeypatch):
    monkeypatch.setattr(chain, "BLOCK_BYTES", 1_000)
    connection = Connection.to(embedded_broker)
    topic = f"state-{uuid.uuid4().hex[:8]}"
    await ensure_topics(connection, [Topic(topic, "", "", 2, "compact")])
    async with Producer(connection) as producer:
        yield Bench(connection, producer, topic)


def state(number: int) -> dict:
    """Of several blocks, since noise does not compress."""
    return {"number": number, "noise": np.random.default_rng(number).integers(0, 2**62, 600)}


def numbers_of(run: Run | None) -> list[int]:
    """What each checkpoint of the run says, in order."""
    numbers = []
    for delta in run.deltas() if run else ():
        numbers.append(delta["number"])
        assert delta["noise"].tolist() == state(numbers[-1])["noise"].tolist()
    return numbers


def number_of(run: Run | None) -> int | None:
    numbers = numbers_of(run)
    assert run is None or numbers[-1] == run.newest.next_offset
    return numbers[-1] if numbers else None


async def saved(owner: StateStore, *numbers: int) -> StateStore:
    for number in numbers:
        await owner.save(owner.begin(PARTITION), number, 7, state(number))
    return owner


def cut(raw: bytes) -> list[bytes]:
    return [raw[at : at + 1_000] for at in range(0, len(raw), 1_000)]


async def test_nothing_yet(bench):
    assert await bench.restored() is None


async def test_the_newest_checkpoint_is_restored(bench):
    owner = bench.owner()
    await owner.load(PARTITION)
    for count in range(1, 6):
        await saved(owner, count)
        assert await bench.restored() == count, "also while a reader takes the next epoch each time"


async def test_a_run_is_as_long_as_it_must_be_and_begins_with_everything(bench):
    owner = bench.owner()
    await owner.load(PARTITION)
    slices = []
    for number in range(1, SLICES + 4):
        ticket = owner.begin(PARTITION)
        slices.append(ticket.slice_number)
        await owner.save(ticket, number, 7, state(number))
        if number == 3:
            assert numbers_of(await bench.owner().load(PARTITION)) == [1, 2, 3]
    assert slices == [EVERYTHING, *range(1, SLICES), 0, 1, 2]
    run = await bench.owner().load(PARTITION)
    assert (run.newest.rows, run.newest.seq, len(run.markers)) == (7, SLICES + 2, SLICES)
    assert numbers_of(run) == list(range(4, SLICES + 4))


async def test_the_next_owner_builds_on_what_it_found(bench):
    first = bench.owner()
    await first.load(PARTITION)
    await saved(first, 1, 2)
    second = bench.owner()
    await second.load(PARTITION)
    ticket = second.begin(PARTITION)
    assert ticket.slice_number == 2
    await second.save(ticket, 3, 7, state(3))
    assert numbers_of(await bench.owner().load(PARTITION)) == [1, 2, 3]


async def test_after_a_checkpoint_that_was_not_saved_comes_one_of_everything(bench):
    owner = bench.owner()
    await owner.load(PARTITION)
    await saved(owner, 1, 2)
    owner.begin(PARTITION)
    ticket = owner.begin(PARTITION)
    assert (ticket.slice_number, ticket.previous) == (EVERYTHING, None)
    await owner.save(ticket, 3, 7, state(3))
    assert numbers_of(await bench.owner().load(PARTITION)) == [3]
    await saved(owner, 4)
    assert numbers_of(await bench.owner().load(PARTITION)) == [3, 4]


async def test_partitions_are_apart(bench):
    owner = bench.owner()
    for partition in (0, PARTITION):
        await owner.load(partition)
        await owner.save(owner.begin(partition), partition + 7, 1, state(partition + 7))
    assert number_of(await bench.owner().load(0)) == 7
    assert number_of(await bench.owner().load(1)) == 8


async def test_a_crash_while_blocks_are_written_leaves_the_last_checkpoint(bench):
    owner = bench.owner()
    await owner.load(PARTITION)
    await saved(owner, 1, 2)
    epoch = owner.begin(PARTITION).epoch
    for number, block in enumerate(cut(codec.encode(state(3)))[:3]):
        await bench.write(f"{PARTITION}/{epoch}/2/{number}", block)
    assert await bench.restored() == 2


async def test_blocks_without_a_marker_are_not_a_checkpoint(bench):
    for number, block in enumerate(cut(codec.encode(state(1)))):
        await bench.write(f"{PARTITION}/1-a/0/{number}", block)
    assert await bench.restored() is None


async def test_a_marker_without_its_blocks_is_not_a_checkpoint(bench):
    owner = bench.owner()
    await owner.load(PARTITION)
    await saved(owner, 1)
    await bench.write(f"{PARTITION}/9-a/0/marker", marker(epoch="9-a", blocks=2))
    assert await bench.restored() == 1, "the older epoch's whole one"


@pytest.mark.parametrize("damage", ["flipped", "missing", "longer"])
async def test_a_torn_block_is_not_a_checkpoint(bench, damage):
    await saved_first(bench)
    raw = codec.encode(state(2))
    blocks = cut(raw)
    facts = {"epoch": "2-a", "blocks": len(blocks), "crc": zlib.crc32(raw), "size_bytes": len(raw)}
    if damage == "flipped":
        blocks[1] = blocks[1][:500] + bytes([blocks[1][500] ^ 1]) + blocks[1][501:]
    elif damage == "missing":
        blocks.pop()
    else:
        blocks[-1] += b"\0"
    for number, block in enumerate(blocks):
        await bench.write(f"{PARTITION}/2-a/0/{number}", block)
    await bench.write(f"{PARTITION}/2-a/0/marker", marker(**facts))
    assert await bench.restored() == 1


async def saved_first(bench) -> None:
    first = bench.owner()
    await first.load(PARTITION)
    await saved(first, 1)


async def test_what_was_built_on_a_torn_checkpoint_is_passed_over(bench):
    owner = bench.owner()
    await owner.load(PARTITION)
    await saved(owner, 1, 2, 3)
    epoch = owner.begin(PARTITION).epoch
    await bench.write(f"{PARTITION}/{epoch}/1/0", None)
    assert await bench.restored() == 1
    await bench.write(f"{PARTITION}/{epoch}/0/marker", None)
    assert await bench.restored() is None


async def test_a_former_owner_that_still_writes_is_passed_over(bench):
    former = bench.owner()
    await former.load(PARTITION)
    await saved(former, 1)
    newer = bench.owner()
    assert number_of(await newer.load(PARTITION)) == 1
    await saved(newer, 2, 3)
    await saved(former, 1, 1, 1)
    assert await bench.restored() == 3
    # Also one that had nothing to save before it was replaced: its epoch is taken all the same.
    idle = bench.owner()
    assert number_of(await idle.load(PARTITION)) == 3
    busy = bench.owner()
    await busy.load(PARTITION)
    await saved(busy, 4)
    await saved(idle, 3)
    assert await bench.restored() == 4
    await saved(busy, 5)
    assert await bench.restored() == 5


async def test_owners_that_took_the_same_number_do_not_share_a_key(bench):
    one, other = bench.owner(), bench.owner()
    await asyncio.gather(one.load(PARTITION), other.load(PARTITION))
    await asyncio.gather(saved(one, 1, 2, 3), saved(other, 4, 5, 6))
    assert sum(key.endswith("/marker") for key in await bench.live()) == 6
    assert await bench.restored() in (3, 6)


async def test_older_epochs_are_deleted_once_a_newer_one_stands_alone(bench):
    for count in range(3):
        owner = bench.owner()
        await owner.load(PARTITION)
        before = {key.split("/")[1] for key in await bench.live()}
        assert len(before) == min(count, 1) + 1, "its own claim, and what the last one left"
        await saved(owner, *range(count * 100 + 1, count * 100 + SLOTS))
        await bench.producer.flush()
        assert before <= {key.split("/")[1] for key in await bench.live()}, "none is deleted before"
        await saved(owner, count * 100 + SLOTS)
        await bench.producer.flush()
        assert len({key.split("/")[1] for key in await bench.live()}) == 1
    assert await bench.restored() == 200 + SLOTS


async def test_a_smaller_checkpoint_deletes_the_blocks_it_does_not_need(bench):
    owner = bench.owner()
    await owner.load(PARTITION)
    await saved(owner, *range(1, SLOTS + 1))
    small = {"number": 99, "noise": np.zeros(0, np.int64)}
    await owner.save(owner.begin(PARTITION), 99, 7, small)
    await bench.producer.flush()
    assert {key.split("/")[3] for key in await bench.live() if key.split("/")[2] == "0"} == {"0", "marker"}
    run = await bench.owner().load(PARTITION)
    assert list(run.deltas())[-1]["noise"].tolist() == []


async def test_a_state_of_another_encoding_is_an_error_not_a_fresh_start(bench, monkeypatch):
    owner = bench.owner()
    await owner.load(PARTITION)
    monkeypatch.setattr(codec, "MAGIC", b"TFS\x02")
    await saved(owner, 1)
    monkeypatch.setattr(codec, "MAGIC", b"TFS\x01")
    with pytest.raises(StateError, match="run the version that wrote it"):
        await bench.restored()


async def test_a_state_of_another_version_is_refused_with_the_command_to_run(bench):
    owner = StateStore(bench.topic, bench.producer, bench.client, state_version=VERSION + 1)
    await owner.load(PARTITION)
    await saved(owner, 1)
    with pytest.raises(StateError, match=rf"{bench.topic}\[1\] has version 4, this program reads 3.*state --reset"):
        await bench.restored()


async def test_a_state_of_the_first_format_is_refused_with_the_command_to_run(bench):
    """Whole states under two slots: what the program wrote before it wrote deltas."""
    raw = codec.encode(state(1))
    for number, block in enumerate(cut(raw)):
        await bench.write(f"{PARTITION}/1/0/{number}", block)
    old = {"next_offset": 1, "slot": 0, "blocks": len(cut(raw)), "crc": zlib.crc32(raw)}
    await bench.write(f"{PARTITION}/1/marker", json.dumps(old).encode())
    with pytest.raises(StateError, match=r"has format 1, this program reads 2.*state --reset"):
        await bench.restored()


async def test_foreign_records_in_the_topic_do_not_stop_a_restore(bench):
    owner = bench.owner()
    await owner.load(PARTITION)
    await saved(owner, 1)
    epoch = owner.begin(PARTITION).epoch
    for key in (
        "hello",
        "1/x/marker",
        f"{PARTITION}/{epoch}/0/x",
        f"{PARTITION}/7/marker",
        f"{PARTITION}/7/0/marker",
        "",
    ):
        await bench.write(key, b"\xff not ours")
    await bench.write(f"{PARTITION}/8-a/0/marker", marker(epoch="9-a"))
    await bench.producer.send(bench.topic, None, b"no key", partition=PARTITION)
    await bench.producer.flush()
    assert await bench.restored() == 1


async def test_reading_is_told_as_it_goes(bench):
    owner, read = bench.owner(), []
    await owner.load(PARTITION)
    await saved(owner, 1, 2)
    run = await bench.owner().load(PARTITION, read.append)
    assert sum(read) > run.size_bytes > 2 * 600 * 7


def marker(**facts) -> bytes:
    whole = Marker(
        epoch="1-a", seq=0, previous=None, next_offset=9, state_version=VERSION, rows=0, size_bytes=9, blocks=1, crc=0,
        written_ms=0,
    )  # fmt: skip
    return json.dumps({**asdict(whole), **facts}).encode()
