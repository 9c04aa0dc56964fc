"""The adapt agent: what it sends, what it refuses, and when an offset is durable."""

import asyncio
import json
import uuid

import numpy as np
import pytest

from schemas.codec import decode
from schemas.decode import Decoder
from schemas.formats import adapt_value
from streams.agents import adapt as adapt_module
from streams.agents.adapt import MAX_EVENT_BYTES, AdaptAgent
from streams.agents.rejects import MAX_VALUE_BYTES
from streams.app import build_worker_app
from streams.config import Settings
from streams.errors import FatalError
from streams.follow import read_all
from streams.produce import event_key
from streams.producer import Producer
from streams.topics import ensure_topics, partition_for, topics
from streams.transport import TP, Connection, Lease, PartitionBatch, RejectedRange, run_app
from streams.web.metrics import Metrics

NOW_MS = 1_795_460_500_000


def litellm(call: str, session: str, **changes) -> bytes:
    payload = {
        "id": "r",
        "litellm_call_id": call,
        "session_id": session,
        "call_type": "acompletion",
        "status": "success",
        "response_cost": 0.0031,
        "custom_llm_provider": "openai",
        "model": "gpt-5.4",
        "prompt_tokens": 1200,
        "completion_tokens": 80,
        "total_tokens": 1280,
        "endTime": 1795460402.1,
        "messages": [{"content": "SECRET"}],
        "metadata": {"user_api_key_team_id": "payments"},
    }
    return json.dumps(payload | changes).encode()


def batch_of(*records: tuple[bytes | None, bytes | None], first: int = 10, rejected=()) -> PartitionBatch:
    """Records of (key, value) at offsets from ``first``, in partition 3."""
    payload, spans = bytearray(), []
    for data in [part for record in records for part in record]:
        start = len(payload)
        payload += data or b""
        spans.append((start, start - 1 if data is None else len(payload)))
    spans = np.array(spans, np.int64).reshape(-1, 2, 2)
    n = len(records)
    return PartitionBatch(
        tp=TP("tenfold.foreign", 3),
        first_offset=first,
        next_offset=first + n,
        generation=1,
        payload=np.frombuffer(bytes(payload), np.uint8),
        offset=np.arange(first, first + n, dtype=np.int64),
        timestamp_ms=np.full(n, NOW_MS, np.int64),
        key_start=spans[:, 0, 0],
        key_end=spans[:, 0, 1],
        value_start=spans[:, 1, 0],
        value_end=spans[:, 1, 1],
        fetched_ms=NOW_MS,
        rejected=tuple(rejected),
    )


class FakeProducer:
    """Keeps what is sent; ``stored`` is what a flush made durable."""

    def __init__(self):
        self.sent: list[tuple[str, bytes | None, bytes, int | None]] = []
        self.stored = 0
        self.broken = False
        self.on_flush = lambda: None

    async def send(self, topic, key, value, *, partition=None, timestamp_ms=None):
        self.sent.append((topic, key, value, timestamp_ms))

    async def flush(self):
        self.on_flush()
        if self.broken:
            raise FatalError("a record was not stored")
        self.stored = len(self.sent)

    def of(self, topic: str) -> list[tuple]:
        return [row for row in self.sent if row[0] == topic]

    def rejects(self) -> list[dict]:
        return [decode("rejected", value) for _, _, value, _ in self.of("tenfold.rejected")]


@pytest.fixture
def producer():
    return FakeProducer()


@pytest.fixture
def agent(producer):
    return AdaptAgent(topics=topics(), producer=producer, metrics=Metrics())


async def test_events_are_keyed_by_session_whatever_their_key_was(agent, producer):
    await agent.handle(batch_of((b"any", litellm("c-1", "s-1")), (None, litellm("c-2", ""))))
    keys = [key for _, key, _, _ in producer.of("tenfold.usage")]
    assert keys == [b"s-1", b"litellm/c-2/r"]
    events = [decode("usage_event", value) for _, _, value, _ in producer.of("tenfold.usage")]
    assert [event["event_id"] for event in events] == ["c-1/r", "c-2/r"]
    assert all(b"SECRET" not in value for _, _, value, _ in producer.sent)


async def test_one_bad_record_does_not_stop_the_others(agent, producer):
    poison = [None, b"", b"\xff", b"{torn", b"[" * 100_000, b"5", litellm("c", "s", total_tokens=1)]
    records = [(b"k%d" % i, value) for i, value in enumerate(poison)]
    await agent.handle(batch_of(*records, (b"k", litellm("c-1", "s-1")), first=100))
    assert len(producer.of("tenfold.usage")) == 1
    rejects = producer.rejects()
    assert [reject["reason"] for reject in rejects] == [
        "null_value",
        *["bad_json"] * 4,
        "unknown_format",
        "inconsistent_tokens",
    ]
    assert [reject["value"] for reject in rejects] == poison
    for number, reject in enumerate(rejects):
        place = (reject["topic"], reject["partition"], reject["offset"], reject["timestamp"], reject["key"])
        assert place == ("tenfold.foreign", 3, 100 + number, NOW_MS, b"k%d" % number)
        assert reject["detail"]
    text = agent._metrics.render()[0].decode()
    assert 'ai_cost_quarantined_events_total{reason="bad_json"} 4.0' in text
    assert 'tenfold_records_total{agent="adapt"} 8.0' in text


async def test_a_value_with_events_and_problems_gives_both_and_says_so(agent, producer):
    value = b"[" + litellm("c-1", "s") + b", 5, 6]"
    await agent.handle(batch_of((None, value)))
    assert len(producer.of("tenfold.usage")) == 1
    (reject,) = producer.rejects()
    assert reject["reason"] == "unknown_format" and reject["value"] == value
    assert reject["detail"].endswith("(first of 2 problems; 1 events were read)")


async def test_a_defect_of_ours_costs_one_record(agent, producer, monkeypatch):
    def defective(value):
        if b"c-1" in value:
            raise ZeroDivisionError("oops")
        return adapt_value(value)

    monkeypatch.setattr(adapt_module, "adapt_value", defective)
    await agent.handle(batch_of((None, litellm("c-1", "s")), (None, litellm("c-2", "s"))))
    (reject,) = producer.rejects()
    assert (reject["reason"], reject["detail"]) == ("adapter_failed", "ZeroDivisionError: oops")
    assert len(producer.of("tenfold.usage")) == 1


async def test_bytes_that_could_not_be_framed_are_kept(agent, producer):
    damaged = RejectedRange(5, 10, "bad_crc", b"raw")
    await agent.handle(batch_of(rejected=[damaged]))
    (reject,) = producer.rejects()
    assert (reject["reason"], reject["offset"], reject["value"]) == ("bad_crc", 5, b"raw")


async def test_an_offset_is_durable_only_when_the_broker_has_it_all(agent, producer):
    await agent.assign(3)
    assert agent.resume_offset(3) is None and agent.durable_offset(3) == 0
    producer.on_flush = lambda: seen.append(agent.durable_offset(3))
    seen: list[int] = []
    await agent.handle(batch_of((None, litellm("c-1", "s")), (None, b"x")))
    assert seen == [0] and producer.stored == 2 and agent.durable_offset(3) == 12
    producer.broken = True
    with pytest.raises(FatalError):
        await agent.handle(batch_of((None, litellm("c-2", "s")), first=12))
    assert agent.durable_offset(3) == 12
    await agent.revoke(3)
    assert agent.durable_offset(3) == 0


async def test_a_repeat_gives_the_same_bytes(agent, producer):
    batch = batch_of((b"a", litellm("c-1", "s")))
    await agent.handle(batch)
    await agent.handle(batch)
    first, second = producer.of("tenfold.usage")
    assert first == second


async def test_the_records_time_is_that_of_the_foreign_record(agent, producer):
    """Brokers refuse a timestamp of next year, and an event may claim one."""
    await agent.handle(batch_of((None, litellm("c-1", "s", endTime=2e9))))
    ((_, _, value, timestamp_ms),) = producer.of("tenfold.usage")
    assert timestamp_ms == NOW_MS and decode("usage_event", value)["event_time"] == 2_000_000_000_000


# with brokers


brokers = [
    pytest.param("embedded_broker", marks=pytest.mark.broker),
    pytest.param("kafka_broker", marks=pytest.mark.kafka),
]


@pytest.mark.parametrize("broker", brokers)
async def test_records_too_large_for_a_record_batch_do_not_end_the_process(request, broker):
    connection = Connection.to(request.getfixturevalue(broker))
    wanted = topics(uuid.uuid4().hex + ".", usage_partitions=1)
    await ensure_topics(connection, [wanted.usage, wanted.rejected])
    records = [
        (b"k" * (2 << 20), b"x" * (4 << 20)),
        (None, litellm("c-1", "s" * (MAX_EVENT_BYTES + 1))),
        (None, litellm("c-2", "s-2", endTime=2e9)),
        (None, litellm("c-3", "s-3", endTime=0)),
    ]
    async with Producer(connection) as producer:
        agent = AdaptAgent(topics=wanted, producer=producer, metrics=Metrics())
        await agent.handle(batch_of(*records))
    options = connection.client_options()
    rejects = [decode("rejected", record.value) for record in await read_all(options, wanted.rejected.name)]
    assert [reject["reason"] for reject in rejects] == ["bad_json", "too_large"]
    assert rejects[0]["value"] == b"x" * MAX_VALUE_BYTES and str(4 << 20) in rejects[0]["detail"]
    assert [record.key for record in await read_all(options, wanted.usage.name)] == [b"s-2", b"s-3"]


@pytest.mark.parametrize("broker", brokers)
async def test_from_foreign_to_usage_through_the_app(request, broker):
    """LiteLLM's JSON under any key arrives on the usage topic, keyed by session and decodable; poison is set aside."""
    servers = request.getfixturevalue(broker)
    connection = Connection.to(servers)
    wanted = topics(uuid.uuid4().hex + ".", usage_partitions=2)
    await ensure_topics(connection, [wanted.foreign, wanted.usage, wanted.rejected])
    settings = Settings().with_servers(servers)
    quick = {"group": uuid.uuid4().hex, "session_timeout": 6_000, "heartbeat_interval": 1_000}
    settings = settings.model_copy(update={"transport": settings.transport.model_copy(update=quick)})
    sessions = [f"s-{number % 5}" for number in range(40)]
    async with Producer(connection) as producer:
        for number, session in enumerate(sessions):
            await producer.send(wanted.foreign.name, b"gateway-%d" % (number % 3), litellm(f"c-{number}", session))
        await producer.send(wanted.foreign.name, b"poison", b"{")
        await producer.flush()

        agent = AdaptAgent(topics=wanted, producer=producer, metrics=Metrics())
        stop, seen = asyncio.Event(), 0
        handle = agent.handle

        async def counted(batch):
            nonlocal seen
            await handle(batch)
            seen += len(batch)
            if seen == len(sessions) + 1:
                stop.set()

        agent.handle = counted
        app = build_worker_app(settings, {wanted.foreign.name: agent}, Lease(60_000))
        await asyncio.wait_for(run_app(app, stop=stop, handle_signals=False), 30)

    options = connection.client_options()
    usage = await read_all(options, wanted.usage.name)
    assert len(usage) == len(sessions)
    decoder = Decoder(settings.engine().hash_key)
    payload = np.frombuffer(bytearray(b"".join(record.value for record in usage)), np.uint8)
    ends = np.cumsum([len(record.value) for record in usage])
    starts = np.concatenate([[0], ends[:-1]])
    columns = decoder.decode(payload, starts, ends, np.arange(len(usage)))
    assert not columns.status.any()
    for row, record in enumerate(usage):
        assert record.key.decode() == columns.text(row, "session_id")
        assert record.partition == partition_for(record.key, 2)
        assert columns.reported_nano_usd[row] == 3_100_000 and columns.tokens[row].sum() == 1280
    assert sorted(columns.text(row, "event_id") for row in range(40)) == sorted(f"c-{n}/r" for n in range(40))
    (reject,) = await read_all(options, wanted.rejected.name)
    reject = decode("rejected", reject.value)
    assert (reject["reason"], reject["topic"], reject["value"]) == ("bad_json", wanted.foreign.name, b"{")


def test_keys_are_those_of_produce():
    (event,) = adapt_value(litellm("c-1", "s-1")).events
    assert event_key(event) == b"s-1"


async def test_rejected_texts_can_be_left_out(producer):
    """`topics.rejected_texts = false`: numbers and ids are enough to repair a record."""
    agent = AdaptAgent(topics=topics(), producer=producer, metrics=Metrics(), keep_texts=False)
    bad = litellm("c-1", "s-1", total_tokens=1, messages=[{"role": "user", "content": "SECRET"}])
    await agent.handle(batch_of((b"k", bad), (None, b'{"messages": "SECRET')))
    rejects = [decode("rejected", value) for _, _, value, _ in producer.of("tenfold.rejected")]
    assert all(b"SECRET" not in value for _, _, value, _ in producer.sent)
    first, second = rejects
    kept, whole = json.loads(first["value"]), json.loads(bad)
    assert kept["total_tokens"] == whole["total_tokens"] and kept["model"] == whole["model"]
    assert first["detail"].endswith("; without its texts")
    assert (second["value"], second["offset"]) == (None, first["offset"] + 1)
