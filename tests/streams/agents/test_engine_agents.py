"""The usage, rollup and alert agents without a broker: what they send, and that nothing they are given stops them."""

import asyncio
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from models.config import EngineConfig, PolicyConfig, Tier, UnitCostConfig
from models.rolling import EVERYTHING
from models.rollup import RollupEngine
from schemas.codec import decode, encode
from schemas.decode import Decoder
from streams.agents import usage as usage_agent
from streams.agents.alert import AlertAgent
from streams.agents.rollup import RollupAgent
from streams.agents.usage import UsageAgent
from streams.config import Settings
from streams.topics import topics
from streams.transport import TP, PartitionBatch, RejectedRange
from streams.web.metrics import Metrics
from tests.panes import pane_rows

NOW_MS = 1_795_460_500_000
MAX_REQUEST_BYTES = 1_048_576
"""What a producer takes of one record, key and value; brokers take no more either."""
CONFIG = EngineConfig()
TOPICS = topics(usage_partitions=4)


class FakeProducer:
    """Keeps what is sent; refuses what a real one would refuse."""

    def __init__(self):
        self.sent: list[tuple[str, bytes | None, bytes | None]] = []
        self.stored = 0
        """Of ``sent``."""

    async def send(self, topic, key, value, *, partition=None, timestamp_ms=None):
        await asyncio.sleep(0)
        assert len(key or b"") + len(value or b"") < MAX_REQUEST_BYTES - 1_000, f"too large for {topic}"
        self.sent.append((topic, key, value))

    async def send_many(self, topic, partition, rows):
        for key, value in rows:
            await self.send(topic, key, value, partition=partition)

    async def flush(self):
        sent = len(self.sent)
        await asyncio.sleep(0)
        self.stored = sent

    def of(self, topic, schema) -> list[dict]:
        return [decode(schema, value) for name, _, value in self.sent if name == topic.name]


class FakeStore:
    """Keeps checkpoints in memory; fails a test that writes two of a partition at a time."""

    def __init__(self):
        self.saved: dict[int, tuple[int, dict]] = {}
        self.saving: Counter = Counter()
        self.loads = 0
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def load(self, partition, on_bytes):
        self.loads += 1
        on_bytes(1)
        if partition not in self.saved:
            return None
        next_offset, delta = self.saved[partition]
        newest = SimpleNamespace(next_offset=next_offset, written_ms=NOW_MS)
        return SimpleNamespace(newest=newest, deltas=lambda: iter([delta]))

    def epoch(self, partition):
        return self.loads

    def begin(self, partition):
        return SimpleNamespace(partition=partition, slice_number=EVERYTHING)

    def forget(self, partition): ...

    async def save(self, ticket, next_offset, rows, delta):
        self.saving[ticket.partition] += 1
        assert self.saving[ticket.partition] == 1, "two checkpoints would write to one slot"
        await self.may_end.wait()
        self.saved[ticket.partition] = (next_offset, delta)
        self.saving[ticket.partition] -= 1
        return 0


class Bench:
    def __init__(self):
        self.producer, self.store = FakeProducer(), FakeStore()
        common = {"topics": TOPICS, "producer": self.producer, "metrics": Metrics(), "clock_ms": lambda: NOW_MS}
        self.usage = UsageAgent(config=CONFIG, store=self.store, decoder=Decoder(CONFIG.hash_key), **common)
        self.rollup = RollupAgent(config=CONFIG, store=self.store, **common)
        self.rollup.definitions_read.set()
        self.alert = AlertAgent(settings=Settings(), client_settings={}, **common)


@pytest.fixture
async def bench():
    return Bench()


def event(number: int, **changes) -> bytes:
    fields = {"event_id": str(number), "source": "t", "event_time": NOW_MS - 5_000, "session_id": f"s{number}"}
    usage = {"team": "a", "provider": "openai", "model": "gpt-4o", "input_tokens": 1_000}
    return encode("usage_event", fields | usage | changes)


def batch_of(values, *, topic=TOPICS.usage.name, partition=0, first=0, keys=None, rejected=()) -> PartitionBatch:
    payload, spans = bytearray(), []
    for data in [part for row in zip(keys or [None] * len(values), values, strict=True) for part in row]:
        start = len(payload)
        payload += data or b""
        spans.append((start, start - 1 if data is None else len(payload)))
    spans = np.array(spans, np.int64).reshape(-1, 2, 2)
    return PartitionBatch(
        tp=TP(topic, partition),
        first_offset=first,
        next_offset=first + len(values),
        generation=1,
        payload=np.frombuffer(payload or bytearray(1), np.uint8),
        offset=np.arange(first, first + len(values), dtype=np.int64),
        timestamp_ms=np.full(len(values), NOW_MS, np.int64),
        key_start=spans[:, 0, 0],
        key_end=spans[:, 0, 1],
        value_start=spans[:, 1, 0],
        value_end=spans[:, 1, 1],
        fetched_ms=NOW_MS,
        rejected=tuple(rejected),
    )


def merged(records: list[dict]) -> Counter:
    """Cost per team over hour windows, as rollup merges the records."""
    engine = RollupEngine(CONFIG)
    for record in records:
        engine.apply(record, NOW_MS)
    sums: Counter = Counter()
    for row in engine.advance(NOW_MS).spend:
        if row["window_ms"] == 3_600_000 and row["scope_kind"] == "team":
            sums[row["team"]] += row["cost_nano_usd"]
    return sums


async def test_a_batch_becomes_partials_that_say_how_far_it_is(bench):
    await bench.usage.assign(0)
    await bench.usage.handle(batch_of([event(1), event(2, team="b"), event(1)]))
    await bench.usage.flush()
    records = bench.producer.of(TOPICS.partials, "partials")
    assert merged(records) == {"a": 2_500_000, "b": 2_500_000}
    assert {(r["next_offset"], r["watermark"], r["source_partition"]) for r in records} == {
        (3, NOW_MS - 5_000 - CONFIG.windows.lateness_ms, 0)
    }


async def test_a_partition_that_is_far_behind_publishes_once_a_second(bench):
    clock = [NOW_MS]
    bench.usage._clock_ms = lambda: clock[0]
    await bench.usage.assign(0)
    published = []
    for number, (later_ms, left) in enumerate([(0, 10**6), (200, 10**6), (400, 10**6), (1_000, 10**6), (1_100, 10)]):
        clock[0] = NOW_MS + later_ms
        batch = batch_of([event(number)], first=number)
        await bench.usage.handle(replace(batch, highwater=number + 1 + left))
        await bench.usage.flush()
        published.append(len(bench.producer.of(TOPICS.partials, "partials")))
    assert published == [1, 1, 1, 2, 3]
    assert merged(bench.producer.of(TOPICS.partials, "partials")) == {"a": 5 * 2_500_000}


async def test_more_changes_than_a_record_holds_go_out_in_several(bench):
    await bench.usage.assign(0)
    count = 12_000
    await bench.usage.handle(batch_of([event(i, team=f"team-{i % 6_000}", agent=f"agent-{i}") for i in range(count)]))
    await bench.usage.flush()
    records = bench.producer.of(TOPICS.partials, "partials")
    assert len(records) > 3
    sums = merged(records)
    assert len(sums) == 6_000 and set(sums.values()) == {5_000_000}
    watermark = NOW_MS - 5_000 - CONFIG.windows.lateness_ms
    assert [r["watermark"] for r in records] == [-1] * (len(records) - 1) + [watermark], "none closes windows early"
    panes = [(*(p[n] for n in ("scope_kind", "team", "model", "agent", "window_start", "window_ms")),)
             for r in records for p in pane_rows(r)]  # fmt: skip
    assert len(panes) == len(set(panes))


async def test_more_transactions_than_a_record_holds_are_all_counted_once_and_told_under_their_key(bench):
    config = replace(CONFIG, unit_costs=(UnitCostConfig("loan", target_nano_usd=10**9),))
    bench.usage._config = bench.rollup._config = config
    bench.rollup._topics = topics(usage_partitions=1)  # No other source is waited for.
    await bench.usage.assign(0)
    await bench.rollup.assign(0)
    count = 12_000
    values = [event(i, transaction_type="loan", transaction_id=f"loan-{i // 2}") for i in range(2 * count)]
    await bench.usage.handle(batch_of(values))
    await bench.usage.flush()
    records = partials_of(bench)
    assert len(records) > 1 and max(map(len, records)) <= usage_agent.MAX_PARTIALS_BYTES
    watermarks = [decode("partials", value)["watermark"] for value in records]
    assert set(watermarks[:-1]) == {-1} and watermarks[-1] > 0
    await bench.rollup.handle(batch_of(records + records, topic=TOPICS.partials.name))
    await bench.rollup.publish()
    (told,) = bench.producer.of(TOPICS.unit_costs, "unit_cost")
    assert (told["transactions"], told["cost_nano_usd"]) == (count, 2 * count * 2_500_000)
    assert {key for name, key, _ in bench.producer.sent if name == TOPICS.unit_costs.name} == {
        f"loan@{told['day']}".encode()
    }


async def test_large_bad_records_are_rejected_and_do_not_stop_the_agent(bench):
    await bench.usage.assign(0)
    huge = 1_048_000
    values = [b"\xff" * huge, event(1), b"\xff\xff", None]
    keys = [b"k" * 300_000, b"s1", b"k" * huge, None]
    torn = RejectedRange(4, 9, "bad_length", b"x" * 8_000_000)
    await bench.usage.handle(batch_of(values, keys=keys, first=10, rejected=[torn]))
    rejected = bench.producer.of(TOPICS.rejected, "rejected")
    assert [(r["offset"], r["partition"], r["topic"]) for r in rejected] == [
        (10, 0, "tenfold.usage"),
        (12, 0, "tenfold.usage"),
        (13, 0, "tenfold.usage"),
        (4, 0, "tenfold.usage"),
    ]
    assert [r["reason"] for r in rejected[2:]] == ["null_value", "bad_length"]
    assert rejected[0]["value"] == b"\xff" * 524_288 and "1048000 bytes" in rejected[0]["detail"]
    assert rejected[1]["value"] == b"\xff\xff" and rejected[1]["detail"] == ""
    assert "records 4 to 8 could not be framed" in rejected[3]["detail"] and "8000000 bytes" in rejected[3]["detail"]
    assert bench.usage.resume_offset(0) == 14


@pytest.mark.parametrize("name", ["team", "agent", "use_case", "model", "session_id", "event_id", "provider", "unit"])
async def test_a_name_of_a_megabyte_is_rejected_not_carried_on(bench, name):
    await bench.usage.assign(0)
    costly = {"cost_nano_usd": 500 * 10**9}
    dear = event(1, **{name: "x" * 1_000_000}, **costly)
    longest = event(2, **{name: "ü" * 2_048}, **costly)
    await bench.usage.handle(batch_of([dear, longest, event(3)]))
    await bench.usage.flush()
    await bench.usage.checkpoint()
    assert [r["reason"] for r in bench.producer.of(TOPICS.rejected, "rejected")] == ["out_of_range"]
    assert sum(merged(bench.producer.of(TOPICS.partials, "partials")).values()) == 500 * 10**9 + 2_500_000


async def test_records_below_the_restored_offset_are_not_counted_again(bench):
    await bench.usage.assign(0)
    await bench.usage.handle(batch_of([event(i) for i in range(5)]))
    await bench.usage.revoke(0)
    assert bench.store.saved[0][0] == 5
    await bench.usage.assign(0)
    assert bench.usage.resume_offset(0) == bench.usage.durable_offset(0) == 5
    await bench.usage.handle(batch_of([event(i) for i in range(3, 8)], first=3))
    await bench.usage.flush()
    assert merged(bench.producer.of(TOPICS.partials, "partials")) == {"a": 8 * 2_500_000}


@pytest.mark.parametrize(
    ("back_in", "loads"), [(8, 1), (9, 2), (None, 2)], ids=["next generation", "one was missed", "unknown"]
)
async def test_a_partition_that_comes_back_at_once_is_not_read_again(bench, back_in, loads):
    await bench.usage.assign(0, 7)
    await bench.usage.handle(batch_of([event(i) for i in range(5)]))
    await bench.usage.revoke(0, 7)
    assert bench.store.saved[0][0] == 5, "checkpointed all the same: it may go elsewhere"
    assert bench.usage.resume_offset(0) is bench.usage.durable_offset(0) is None
    bench.usage.take_baselines([])
    await bench.usage.assign(0, back_in)
    bench.usage.forget_parked()
    assert bench.store.loads == loads
    assert bench.usage.resume_offset(0) == bench.usage.durable_offset(0) == 5
    await bench.usage.handle(batch_of([event(i) for i in range(3, 8)], first=3))
    await bench.usage.flush()
    assert merged(bench.producer.of(TOPICS.partials, "partials")) == {"a": 8 * 2_500_000}


async def test_a_partition_that_went_elsewhere_is_read_when_it_comes_back(bench):
    await bench.usage.assign(0, 7)
    await bench.usage.handle(batch_of([event(1)]))
    await bench.usage.revoke(0, 7)
    bench.usage.forget_parked()
    await bench.usage.assign(0, 8)
    assert bench.store.loads == 2


async def test_outputs_are_stored_before_the_checkpoint_that_covers_them(bench):
    await bench.usage.assign(0)
    await bench.usage.handle(batch_of([event(i) for i in range(5)]))
    bench.store.may_end.clear()
    timer = asyncio.create_task(bench.usage.checkpoint())
    while not bench.store.saving[0]:
        await asyncio.sleep(0)
    assert bench.producer.stored == len(bench.producer.sent) > 0
    bench.store.may_end.set()
    await timer


async def test_many_changed_sessions_bring_the_next_checkpoint_forward(bench, monkeypatch):
    monkeypatch.setattr(usage_agent, "MAX_CHANGED_SESSIONS", 10)
    await bench.usage.assign(0)
    timer = asyncio.create_task(bench.usage.keep_checkpointing(3_600))
    await bench.usage.handle(batch_of([event(i) for i in range(10)]))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not bench.store.saved
    await bench.usage.handle(batch_of([event(i) for i in range(10, 12)], first=10))
    while not bench.store.saved:
        await asyncio.sleep(0)
    timer.cancel()
    assert bench.store.saved[0][0] == 12


async def test_a_rebalance_waits_for_a_checkpoint_that_is_being_written(bench):
    await bench.usage.assign(0)
    await bench.usage.handle(batch_of([event(1)]))
    bench.store.may_end.clear()
    timer = asyncio.create_task(bench.usage.checkpoint())
    while not bench.store.saving[0]:
        await asyncio.sleep(0)
    await bench.usage.handle(batch_of([event(2)], first=1))
    rebalance = asyncio.create_task(bench.usage.revoke(0))
    for _ in range(100):
        await asyncio.sleep(0)
    assert bench.store.saving[0] == 1 and bench.usage.durable_offset(0) == 0, "nothing is durable before it is"
    bench.store.may_end.set()
    await asyncio.gather(timer, rebalance)
    assert bench.store.saved[0][0] == 2
    assert bench.usage.durable_offset(0) is None


async def test_a_partition_is_idle_once_its_end_was_seen_all_the_time(bench):
    clock, at_end = SimpleNamespace(ms=NOW_MS), SimpleNamespace(seen=True)
    bench.usage._clock_ms, bench.usage._at_end = lambda: clock.ms, lambda partition: at_end.seen
    idle_ms = CONFIG.windows.idle_partition_ms

    async def idle_after(*steps_ms: int) -> bool:
        for step_ms in steps_ms:
            clock.ms += step_ms
            await bench.usage.flush()
        return bench.producer.of(TOPICS.partials, "partials")[-1]["idle"]

    await bench.usage.assign(0)
    await bench.usage.handle(batch_of([event(1)]))
    assert not await idle_after(idle_ms)
    assert await idle_after(1_000)
    await bench.usage.handle(batch_of([event(2)], first=1))
    assert not await idle_after(1_000)
    # Behind, or cut off: how long there was no input says nothing.
    at_end.seen = False
    assert not await idle_after(2 * idle_ms, 1_000)
    at_end.seen = True
    assert not await idle_after(1_000, idle_ms - 2_000)
    assert await idle_after(2_000)


async def test_rollup_passes_over_what_is_no_partials(bench):
    await bench.usage.assign(0)
    await bench.usage.handle(batch_of([event(1)]))
    await bench.usage.flush()
    good = [value for name, _, value in bench.producer.sent if name == TOPICS.partials.name]
    await bench.rollup.assign(0)
    values = [b"", b"\xff" * 50, *good, None, good[0][:-3], b"\x00\x02\x04\x06" * 9]
    await bench.rollup.handle(batch_of(values, topic=TOPICS.partials.name))
    await bench.rollup.publish()
    spend = bench.producer.of(TOPICS.spend, "window_spend")
    hour = {(row["scope_kind"], row["team"]): row["cost_nano_usd"] for row in spend if row["window_ms"] == 3_600_000}
    assert hour["team", "a"] == 2_500_000
    rejected = bench.producer.of(TOPICS.rejected, "rejected")
    assert {r["topic"] for r in rejected} == {TOPICS.partials.name} and {r["reason"] for r in rejected} == {
        "unreadable"
    }
    assert [r["offset"] for r in rejected][:2] == [0, 1]
    assert bench.rollup.resume_offset(0) == len(values)


async def test_rollup_goes_on_from_its_checkpoint(bench):
    await bench.usage.assign(0)
    await bench.rollup.assign(0)
    offset = 0
    for number in range(4):
        await bench.usage.handle(batch_of([event(number)], first=number))
        await bench.usage.flush()
        values = [value for name, _, value in bench.producer.sent if name == TOPICS.partials.name]
        await bench.rollup.handle(batch_of(values[offset:], topic=TOPICS.partials.name, first=offset))
        offset = len(values)
        if number == 1:
            await bench.rollup.revoke(0)
            await bench.rollup.assign(0)
            assert bench.rollup.resume_offset(0) == offset
    await bench.rollup.publish()
    spend = bench.producer.of(TOPICS.spend, "window_spend")
    newest = {
        (r["scope_kind"], r["team"], r["window_ms"]): r["cost_nano_usd"]
        for r in sorted(spend, key=lambda row: row["revision"])
    }
    assert newest["team", "a", 60_000] == newest["team", "a", 3_600_000] == 4 * 2_500_000


async def test_the_days_shares_are_told_under_a_key_of_their_own_and_grow_over_a_restart(bench):
    policy = PolicyConfig(tiers=(Tier("small", 100, ("*mini",)),))
    bench.rollup._config = replace(CONFIG, policy=policy)
    bench.rollup._topics = topics(usage_partitions=1)  # No other source is waited for.
    await bench.usage.assign(0)
    await bench.rollup.assign(0)
    revisions = []
    for number in range(2):
        await bench.usage.handle(batch_of([event(number)], first=number))
        await bench.usage.flush()
        await bench.rollup.handle(batch_of(partials_of(bench), topic=TOPICS.partials.name, first=number))
        await bench.rollup.publish()
        (shares,) = bench.producer.of(TOPICS.shares, "day_shares")
        keys = {key for name, key, _ in bench.producer.sent if name == TOPICS.shares.name}
        assert keys == {f"model_mix@{shares['day']}".encode()}
        assert [(part["name"], part["cost_nano_usd"]) for part in shares["parts"]] == [
            ("small", 0),
            ("(other)", 2_500_000 * (number + 1)),
        ]
        revisions.append(shares["revision"])
        bench.producer.sent.clear()
        await bench.rollup.revoke(0)
        await bench.rollup.assign(0)
    assert revisions[1] > revisions[0]


def partials_of(bench) -> list[bytes]:
    return [value for name, _, value in bench.producer.sent if name == TOPICS.partials.name]


async def test_budgets_come_and_go_by_the_topic_of_definitions(bench):
    """While running, and for a partition that comes later; what is no definition changes nothing."""

    def define(offset, name, value):
        bench.rollup.take_definitions([SimpleNamespace(key=name.encode(), value=value, offset=offset)])

    bench.rollup._topics = topics(usage_partitions=1)  # No other source is waited for.
    await bench.usage.assign(0)
    await bench.rollup.assign(0)
    await bench.usage.handle(batch_of([event(0)]))
    await bench.usage.flush()
    values = [value for name, _, value in bench.producer.sent if name == TOPICS.partials.name]
    await bench.rollup.handle(batch_of(values, topic=TOPICS.partials.name))
    define(0, "live", b'{"team": "a", "usd": 0.002, "block_at": 100}')
    define(1, "live", b'{"team": "a", "usd": -1}')
    define(2, "other", b"no json")
    await bench.rollup.publish()
    (status,) = bench.producer.of(TOPICS.budgets, "budget_status")
    assert (status["budget"], status["limit_nano_usd"], status["spent_nano_usd"]) == ("live", 2_000_000, 2_500_000)
    (decision,) = bench.producer.of(TOPICS.decisions, "decision")
    assert (decision["scope"], decision["action"], decision["budget"]) == ("team:a", "block", "live")
    await bench.rollup.revoke(0)
    define(3, "live", b'{"team": "a", "usd": 1}')
    await bench.rollup.assign(0)
    await bench.rollup.publish()
    status = bench.producer.of(TOPICS.budgets, "budget_status")[-1]
    assert (status["limit_nano_usd"], status["milestone_percent"]) == (10**9, 0)
    define(4, "live", None)
    bench.producer.sent.clear()
    await bench.usage.handle(batch_of([event(1)], first=1))
    await bench.usage.flush()
    values += [value for name, _, value in bench.producer.sent if name == TOPICS.partials.name]
    await bench.rollup.handle(batch_of(values[1:], topic=TOPICS.partials.name, first=1))
    await bench.rollup.publish()
    assert bench.producer.of(TOPICS.budgets, "budget_status") == []


async def test_feedback_reaches_engines_that_are_here_and_those_that_come(bench):
    said = {"finding_id": "", "scope_kind": "team", "scope_name": "a", "detector": "", "verdict": "planned"}
    said |= {"until_ms": NOW_MS, "user": "", "source": "cli", "at_ms": 1}
    await bench.rollup.assign(0)
    bench.rollup.take_feedback([said])
    assert bench.rollup._engines[0].rates.verdicts.planned(NOW_MS - 1) == {"team:a"}
    bench.rollup.drop(0)
    await bench.rollup.assign(0)
    assert bench.rollup._engines[0].rates.verdicts.planned(NOW_MS - 1) == {"team:a"}
    assert bench.rollup._engines[0].rates.verdicts.planned(NOW_MS) == set()


async def test_feedback_reaches_the_session_whose_events_are_read_again(bench):
    """Its finding is newer than the checkpoint: what was said of it comes first."""
    await bench.usage.assign(0)
    dear = batch_of([event(0, cost_nano_usd=60 * 10**9)])
    await bench.usage.handle(dear)
    id = next(f["id"] for f in bench.producer.of(TOPICS.anomalies, "finding") if f["detector"] == "session_outlier")
    said = {"finding_id": id, "verdict": "false", "until_ms": 0, "source": "cli", "at_ms": 1}
    bench.usage.take_feedback([said])
    assert bench.usage._engines[0].verdicts.is_normal(id)
    bench.usage.drop(0)
    await bench.usage.assign(0)
    assert not bench.usage._engines[0].verdicts.is_normal(id)
    await bench.usage.handle(dear)
    assert bench.usage._engines[0].verdicts.is_normal(id)


async def test_what_a_successor_publishes_has_a_higher_revision_than_anything_before(bench):
    await bench.usage.assign(0)
    await bench.rollup.assign(0)

    async def publish(number):
        await bench.usage.handle(batch_of([event(number)], first=number))
        await bench.usage.flush()
        values = [value for name, _, value in bench.producer.sent if name == TOPICS.partials.name]
        first = bench.rollup.resume_offset(0)
        await bench.rollup.handle(batch_of(values[first:], topic=TOPICS.partials.name, first=first))
        await bench.rollup.publish()

    for number in range(5):
        await publish(number)
    # It died without a checkpoint: its successor counts all of it again, in one step.
    bench.rollup.drop(0)
    await bench.rollup.assign(0)
    await publish(5)
    minutes = [row for row in bench.producer.of(TOPICS.spend, "window_spend") if row["window_ms"] == 60_000]
    revisions = [row["revision"] for row in minutes if row["scope_kind"] == "team"]
    assert len(revisions) > 2 and revisions == sorted(set(revisions))


async def test_a_baseline_of_a_former_owner_is_passed_over(bench):
    await bench.usage.assign(0)

    def baseline(revision, sessions):
        bins = [float(sessions), *[0.0] * 63]
        names = {"level": 3, "team": "", "agent": "", "model": ""}
        return {**names, "cost_bins": bins, "event_bins": bins, "sums": [], "revision": revision}

    bench.usage.take_baselines([baseline(2_000_000_001, 30), baseline(1_000_000_009, 20)])
    bench.usage.take_baselines([baseline(1_000_000_010, 25)])
    await bench.usage.assign(1)
    merged = [engine.baselines._merged[3, "", "", ""].cost_bins[0] for engine in bench.usage._engines.values()]
    assert merged == [30.0, 30.0]


class FakeNotifier:
    def __init__(self):
        self.findings: list[dict] = []

    async def submit_many(self, findings):
        self.findings += findings

    def pending_by_receiver(self):
        return {}


async def test_alert_passes_over_what_is_no_finding(bench):
    await bench.usage.assign(0)
    await bench.usage.handle(batch_of([event(1, session_id="", cost_nano_usd=500 * 10**9)]))
    (finding,) = [value for name, _, value in bench.producer.sent if name == TOPICS.anomalies.name]
    bench.alert._notifier = notifier = FakeNotifier()
    await bench.alert.handle(batch_of([b"", finding, None, b"\xff\xff", finding[:-9]], topic=TOPICS.anomalies.name))
    assert [found["detector"] for found in notifier.findings] == ["unit_price"]
    assert [r["offset"] for r in bench.producer.of(TOPICS.rejected, "rejected")] == [0, 3, 4]
    assert bench.alert.durable_offset(0) == 5
