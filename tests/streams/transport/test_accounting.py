"""What is committed, offered again, dropped and forgotten; the consumer without a broker."""

import asyncio
import dataclasses

import numpy as np
import pytest
import structlog
from faust.tables.recovery import RebalanceAgain
from faust.types import TP
from structlog.testing import capture_logs

from streams.errors import FatalError
from streams.transport import Connection, Hooks, PartitionBatch, TransportSettings, build_app
from streams.transport.consumer import BatchConsumer, BatchMessage, Fetched

USAGE = TP("usage", 0)
OTHER = TP("usage", 1)


class FakeThread:
    """Stands in for the thread with the aiokafka consumer: a broker that remembers commits and seeks."""

    def __init__(self):
        self.assigned = {USAGE, OTHER}
        self.committed_offsets: dict[TP, int | None] = {USAGE: None, OTHER: None}
        self.commits: list[dict[TP, int]] = []
        self.refuse = False
        self.seeks: list[dict[TP, int]] = []
        self.starts: dict[TP, int] = {}
        self.epoch = 0
        self.fetches: list[dict[TP, list]] = []

    def assignment(self):
        return self.assigned

    async def commit(self, offsets):
        if self.refuse:
            return False
        self.commits.append(dict(offsets))
        self.committed_offsets.update(offsets)
        return True

    async def committed(self, tps):
        return {tp: self.committed_offsets[tp] for tp in tps}

    async def log_starts(self, tps):
        return {tp: self.starts.get(tp, 0) for tp in tps}

    async def log_ends(self, tps):
        return {tp: 999 for tp in tps}

    async def seek_all(self, positions):
        self.seeks.append(dict(positions))
        self.epoch += 1

    async def getmany(self, active, timeout):
        return Fetched(self.fetches.pop(0), self.epoch) if self.fetches else Fetched({}, self.epoch)


class Group:
    """A consumer, its hooks' answers and a delivery helper."""

    def __init__(self, **settings):
        self.durable: dict[TP, int] = {}
        self.stored: dict[TP, int] = {}
        self.calls: list[tuple] = []
        self.app = build_app(
            TransportSettings(Connection.to("localhost:1"), group="accounting", **settings),
            batch_topics=["usage"],
            hooks=Hooks(
                on_assigned=self._on("assigned"),
                on_revoked=self._on("revoked"),
                durable_offset=self.durable.get,
                stored_offset=self.stored.get,
            ),
        )
        self.app.finalize()
        self.consumer: BatchConsumer = self.app.consumer
        self.thread = self.consumer._thread = FakeThread()
        self.app.producer.flush = _done
        self.consumer._set_active_tps({USAGE, OTHER})
        self.consumer.resume_flow()

    def _on(self, name):
        async def hook(tps):
            self.calls.append((name, set(tps), list(self.thread.commits)))

        return hook

    async def assign(self):
        await self.app._on_partitions_assigned({USAGE, OTHER}, 1)
        await self.app._partitions_assigned()
        self.consumer.resume_partitions({USAGE, OTHER})

    async def deliver(self, *batches) -> list[BatchMessage]:
        fetched: dict[TP, list] = {}
        for batch in batches:
            fetched.setdefault(batch.tp, []).append(batch)
        self.thread.fetches.append(fetched)
        got = [message async for _, message in self.consumer.getmany(0.1)]
        for message in got:
            message.incref()
        return got

    def ack(self, *messages):
        for message in messages:
            message.ack(self.consumer)


async def _done():
    return None


def batch(first, next_offset, tp=USAGE):
    offset = np.arange(first, next_offset)
    nothing = np.zeros(len(offset), np.int64)
    return PartitionBatch(tp, first, next_offset, 0, np.empty(0, np.uint8), offset, *([nothing] * 5), fetched_ms=0)


@pytest.fixture
async def group():
    return Group()


async def test_acknowledgements_out_of_order_hold_the_commit_at_the_head(group):
    first, second, third = await group.deliver(batch(0, 10), batch(10, 20), batch(20, 35))
    group.ack(third, second)
    await group.consumer.commit()
    assert group.thread.commits == []
    group.ack(first)
    await group.consumer.commit()
    assert group.thread.commits == [{USAGE: 35}]


async def test_a_commit_covers_what_is_acknowledged_so_far_and_is_not_repeated(group):
    one, two, other = await group.deliver(batch(0, 10), batch(10, 20), batch(0, 5, OTHER))
    group.ack(one, other)
    await group.consumer.commit()
    await group.consumer.commit()
    assert group.thread.commits == [{USAGE: 10, OTHER: 5}]
    group.ack(two)
    await group.consumer.commit()
    assert group.thread.commits[1:] == [{USAGE: 20}]


async def test_offsets_that_hold_no_record_are_committed_too(group):
    # Compaction and transaction markers: positions go on where there is nothing.
    group.ack(*await group.deliver(batch(0, 10), batch(10, 1_000_000)))
    await group.consumer.commit()
    assert group.thread.commits == [{USAGE: 1_000_000}]


async def test_a_commit_that_failed_is_offered_again(group):
    group.ack(*await group.deliver(batch(0, 10)))
    group.thread.refuse = True
    await group.consumer.commit()
    group.thread.refuse = False
    await group.consumer.commit()
    assert group.thread.commits == [{USAGE: 10}]


async def test_a_commit_never_passes_the_durable_checkpoint(group):
    group.durable[USAGE] = 0
    group.ack(*await group.deliver(batch(0, 10), batch(10, 20), batch(0, 7, OTHER)))
    await group.consumer.commit()
    assert group.thread.commits == [{OTHER: 7}]
    group.durable[USAGE] = 10
    await group.consumer.commit()
    assert group.thread.commits[-1] == {USAGE: 10}
    group.durable[USAGE] = 1_000
    await group.consumer.commit()
    assert group.thread.commits[-1] == {USAGE: 20}


async def test_books_do_not_grow_with_what_is_delivered(group):
    for first in range(0, 5_000, 10):
        group.ack(*await group.deliver(batch(first, first + 10)))
        await group.consumer.commit()
    consumer = group.consumer
    assert sum(map(len, consumer._inflight.values())) == 0
    assert not consumer._acked.get(USAGE) and not consumer._acked_index.get(USAGE) and not consumer._gap.get(USAGE)
    assert not consumer._unacked_messages
    assert group.thread.commits[-1] == {USAGE: 5_000}


async def test_a_revocation_checkpoints_then_commits_then_forgets(group):
    await group.assign()

    async def checkpoint(tps):
        assert not group.consumer.flow_active
        assert not group.consumer.unacked
        assert tps == {USAGE, OTHER}
        assert group.thread.commits == []
        group.durable[USAGE] = 10

    group.app.hooks = dataclasses.replace(group.app.hooks, on_revoked=checkpoint)
    group.durable[USAGE] = 0
    one, _two = await group.deliver(batch(0, 10), batch(10, 20))
    group.ack(one)
    await group.consumer.on_partitions_revoked({USAGE, OTHER})
    assert not group.app.crashed, group.app.crash_reason
    assert group.thread.commits == [{USAGE: 10}]
    assert not group.consumer._inflight and not group.consumer._done


async def test_a_late_acknowledgement_after_a_revocation_changes_nothing(group):
    (late,) = await group.deliver(batch(0, 10))
    await group.consumer.on_partitions_revoked({USAGE, OTHER})
    group.ack(late)
    await group.consumer.commit()
    assert group.thread.commits == []


async def test_hooks_alternate_and_a_revocation_that_overtakes_the_assignment_calls_neither(group):
    await group.app._on_partitions_assigned({USAGE}, 1)
    await group.consumer.on_partitions_revoked({USAGE})
    with pytest.raises(RebalanceAgain):
        await group.app._partitions_assigned()
    assert group.calls == []


async def test_a_revocation_waits_until_the_restore_it_interrupts_is_done(group):
    restoring, go_on = asyncio.Event(), asyncio.Event()
    order = []

    async def slow(tps):
        restoring.set()
        await go_on.wait()
        order.append("assigned")

    async def revoked(tps):
        order.append("revoked")

    group.app.hooks = Hooks(on_assigned=slow, on_revoked=revoked)
    await group.app._on_partitions_assigned({USAGE}, 1)
    restore = asyncio.create_task(group.app._partitions_assigned())
    await restoring.wait()
    revoke = asyncio.create_task(group.app.partitions_revoked())
    go_on.set()
    await asyncio.gather(restore, revoke)
    assert order == ["assigned", "revoked"]
    assert group.app.partitions == frozenset()


async def test_a_hook_that_fails_in_a_revocation_stops_the_process_and_commits_nothing(group):
    async def fails(tps):
        raise OSError("disk full")

    group.app.hooks = dataclasses.replace(group.app.hooks, on_revoked=fails)
    await group.assign()
    group.durable[USAGE] = 0
    (message,) = await group.deliver(batch(0, 10))
    group.ack(message)
    await group.consumer.on_partitions_revoked({USAGE, OTHER})
    assert group.thread.commits == []
    assert group.app.crashed and "disk full" in repr(group.app.crash_reason)
    assert group.app.crash_seen.is_set() or await asyncio.wait_for(group.app.crash_seen.wait(), 1)


async def test_the_state_decides_where_to_resume_and_the_group_where_there_is_none(group):
    group.thread.committed_offsets = {USAGE: 40, OTHER: 7}
    group.stored[USAGE] = 100
    await group.consumer.perform_seek()
    assert group.thread.seeks == [{USAGE: 100, OTHER: 7}]
    # The commit lags behind the checkpoint: the next one catches up.
    group.durable[USAGE] = 100
    group.ack(*await group.deliver(batch(100, 110)))
    await group.consumer.commit()
    assert group.thread.commits == [{USAGE: 100}]


@pytest.mark.parametrize(("reset", "position"), [("earliest", 3), ("latest", 999)])
async def test_without_state_and_commit_the_reset_policy_decides(reset, position):
    group = Group(auto_offset_reset=reset)
    group.thread.starts[USAGE] = group.thread.starts[OTHER] = 3
    await group.consumer.perform_seek()
    # Sought all the same: what aiokafka fetched by itself before is dropped.
    assert group.thread.seeks == [{USAGE: position, OTHER: position}]
    with pytest.raises(FatalError, match="goes on at offset"):
        await group.deliver(batch(position + 5, position + 10))


async def test_records_that_retention_deleted_are_logged_and_skipped(group):
    group.stored[USAGE] = 10
    group.thread.starts[USAGE] = 25
    with capture_logs() as logs:
        group.app.events = structlog.get_logger()
        await group.consumer.perform_seek()
    assert group.thread.seeks == [{USAGE: 25, OTHER: 0}]
    (line,) = [entry for entry in logs if entry["event"] == "input_lost"]
    assert (line["topic"], line["first_offset"], line["next_offset"]) == ("usage", 10, 25)


@pytest.mark.parametrize(("first", "next_offset"), [(0, 5), (5, 20), (11, 20)])
async def test_a_log_that_does_not_go_on_where_it_stopped_stops_the_process(group, first, next_offset):
    group.stored[USAGE] = 0
    await group.consumer.perform_seek()
    await group.deliver(batch(0, 10))
    with pytest.raises(FatalError, match=f"goes on at offset {first} instead of 10"):
        await group.deliver(batch(first, next_offset))


async def test_records_of_aiokafka_may_leave_gaps_but_not_go_back():
    group = Group(delivery="consumer_records")
    group.stored[USAGE] = 0
    await group.consumer.perform_seek()
    await group.deliver(batch(0, 10))
    (message,) = await group.deliver(batch(12, 20))
    assert message.value.first_offset == 10
    with pytest.raises(FatalError, match="goes on at offset 3"):
        await group.deliver(batch(3, 9))


async def test_what_was_fetched_before_a_seek_is_dropped(group):
    group.thread.fetches.append({USAGE: [batch(0, 10), batch(10, 20)]})
    got = []
    async for _, message in group.consumer.getmany(0.1):
        got.append(message.next_offset)
        await group.consumer.perform_seek()
    assert got == [10]


async def test_what_was_fetched_while_the_flow_stood_still_is_kept_unless_a_seek_follows(group):
    for seek, expected in ((False, [10]), (True, [])):
        group.consumer._position.clear()
        group.thread.fetches.append({USAGE: [batch(0, 10)]})
        entered = asyncio.Event()
        wait_next = group.consumer._wait_next_records

        async def stop_after_the_fetch(timeout, wait_next=wait_next, entered=entered):
            result = await wait_next(timeout)
            group.consumer.stop_flow()
            entered.set()
            return result

        group.consumer._wait_next_records = stop_after_the_fetch

        async def collect():
            return [message.next_offset async for _, message in group.consumer.getmany(0.1)]

        task = asyncio.create_task(collect())
        await entered.wait()
        if seek:
            await group.consumer.perform_seek()
        group.consumer.resume_flow()
        assert await asyncio.wait_for(task, 5) == expected
        group.consumer._wait_next_records = wait_next


async def test_a_generation_that_changed_ends_the_delivery(group):
    group.thread.fetches.append({USAGE: [batch(0, 10), batch(10, 20)]})
    got = []
    async for _, message in group.consumer.getmany(0.1):
        got.append((message.next_offset, message.value.generation))
        group.app.consumer_generation_id += 1
    assert len(got) == 1


async def test_a_full_buffer_does_not_take_the_partition_out_of_the_fetch_set(group):
    group.consumer.on_buffer_full(USAGE)
    assert USAGE in group.consumer._get_active_partitions()


async def test_only_batch_topics_have_batch_streams(group):
    with pytest.raises(ValueError, match="not one of the batch topics"):
        group.app.batch_topic("other")
