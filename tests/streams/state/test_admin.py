"""What ``tenfold state`` shows and deletes, on both brokers."""

import asyncio
import json
import uuid
from types import SimpleNamespace

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer
from click.testing import CliRunner

from models.rolling import SLICES
from streams.cli import cli
from streams.config import Settings
from streams.errors import ConfigError
from streams.producer import Producer
from streams.state import admin, chain
from streams.state.store import StateStore
from streams.topics import ensure_topics

pytestmark = pytest.mark.broker


@pytest.fixture(params=["embedded_broker", "kafka_broker"])
async def bench(request, tmp_path, monkeypatch):
    bootstrap = request.getfixturevalue(request.param)
    name = f"state-{uuid.uuid4().hex[:8]}"
    file = tmp_path / "tenfold.toml"
    file.write_text(
        f'[broker]\nservers = ["{bootstrap}"]\n[transport]\ngroup = "{name}"\n'
        f'[topics]\nprefix = "{name}."\npartitions = 2\n'
    )
    settings = Settings.load(file)
    topics = settings.topic_names()
    await ensure_topics(settings.connection(), topics)
    async with Producer(settings.connection()) as producer:
        yield SimpleNamespace(
            file=file,
            settings=settings,
            topics=topics,
            producer=producer,
            name=name,
            kafka=request.param == "kafka_broker",
        )


def store(bench) -> StateStore:
    client = bench.settings.connection().client_options()
    return StateStore(bench.topics.usage_state.name, bench.producer, client, state_version=1)


async def saved(bench, *offsets: int) -> StateStore:
    owner = store(bench)
    await owner.load(1)
    for offset in offsets:
        await owner.save(owner.begin(1), offset, 10 * offset, {"noise": np.random.default_rng(offset).random(500)})
    return owner


async def command(bench, *arguments: str):
    """The command as a user runs it, with a loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, cli, ["state", "--config", str(bench.file), *arguments])


async def test_each_partition_and_kind_has_a_row(bench):
    for _ in range(7):
        await bench.producer.send(bench.topics.usage.name, None, b"x", partition=1)
        await bench.producer.flush()
    owner = await saved(bench, *range(1, SLICES + 4), 5)
    rows = await admin.describe(bench.settings)
    assert [(row.kind, row.partition) for row in rows] == [("usage", 0), ("usage", 1), ("rollup", 0)]
    assert [row.epoch.split("-")[0] for row in rows] == ["", "1", ""]
    found = rows[1]
    assert (found.seq, found.next_offset, found.lag_records, found.rows) == (SLICES + 3, 5, 2, 50)
    assert found.size_bytes > SLICES * 500 * 7 and 0 <= found.age_seconds < 60 and not found.torn
    ticket = owner.begin(1)
    await bench.producer.send(
        bench.topics.usage_state.name, chain.block_key(1, ticket.epoch, (ticket.seq - 1) % chain.SLOTS, 0), b"?",
        partition=1,
    )  # fmt: skip
    await bench.producer.flush()
    assert [(row.torn, row.seq) for row in await admin.describe(bench.settings)][1] == (1, SLICES + 2)
    shown = await command(bench)
    assert shown.exit_code == 0, shown.output
    header, first, second, third = shown.output.splitlines()
    assert header.split()[:5] == ["state", "partition", "epoch", "seq", "next_offset"]
    assert first.split() == ["usage", "0", "no", "checkpoint"] and third.split() == ["rollup", "0", "no", "checkpoint"]
    assert second.split()[:2] == ["usage", "1"] and second.endswith("1 newer not whole")


async def test_state_of_another_format_is_named_and_can_be_reset(bench):
    marker = json.dumps({"next_offset": 1, "slot": 0, "blocks": 1, "crc": 0}).encode()
    for key, value in ((b"1/4/0/0", b"block"), (b"1/4/marker", marker)):
        await bench.producer.send(bench.topics.usage_state.name, key, value, partition=1)
    await bench.producer.flush()
    shown = await command(bench)
    assert shown.exit_code == 1 and "has format 1, this program reads 2" in shown.output.replace("\n", " ")
    assert (await command(bench, "--reset", "--yes")).output == "2 records deleted\n"
    assert (await command(bench)).exit_code == 0
    owner = store(bench)
    assert await owner.load(1) is None and owner.epoch(1) == 5


async def test_reset_asks_deletes_everything_and_epochs_count_on(bench):
    await saved(bench, 1, 2, 3)
    before = (await admin.describe(bench.settings))[1]
    assert before.seq == 2
    asked = await asyncio.to_thread(
        CliRunner().invoke, cli, ["state", "--config", str(bench.file), "--reset"], input="n\n"
    )
    assert asked.exit_code == 1 and "Delete the state of all partitions?" in asked.output
    assert (await admin.describe(bench.settings))[1].seq == 2
    assert await admin.reset(bench.settings) == 3 * 2 + 1
    assert [row.epoch for row in await admin.describe(bench.settings)] == ["", "", ""]
    assert await admin.reset(bench.settings) == 0
    owner = store(bench)
    assert await owner.load(1) is None
    assert owner.epoch(1) == 2, "revisions of rollup are made of it"


async def test_reset_refuses_while_the_group_has_members(bench):
    await saved(bench, 1)
    member = AIOKafkaConsumer(
        bench.topics.usage.name, **bench.settings.connection().client_options(), group_id=bench.name,
        session_timeout_ms=6_000,
    )  # fmt: skip
    await member.start()
    try:
        await member.getmany(timeout_ms=100)
        with pytest.raises(ConfigError, match=r"has 1 member, .*stop all workers first"):
            await admin.reset(bench.settings)
    finally:
        await member.stop()
    assert (await admin.describe(bench.settings))[1].epoch
    if bench.kafka:  # The embedded broker forgets a member only when the next one joins.
        assert await admin.reset(bench.settings) == 3
