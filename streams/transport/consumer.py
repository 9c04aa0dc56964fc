"""Faust's consumer, delivering a fetched partition batch as one message.

Guarantees, for batch topics:

- A commit never passes the first delivery that is not acknowledged, nor ``durable_offset`` of its partition.
- A commit that failed is offered again (faust#316), and what was acknowledged before a rebalance is committed in it
  (faust#502).
- Deliveries of a partition follow each other without gap or overlap from the position it was assigned at, which
  is ``stored_offset`` where there is one: whatever was fetched before the last seek is dropped, and nothing after.

Cost: some 80 us per delivery through Faust, O(deliveries) accounting; nothing per record.

Upstream names relied on are listed and pinned in tests/streams/transport/test_contract.py.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import aiokafka
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode.threads import WorkerThread

from streams.errors import FatalError
from streams.transport.assemble import Buffers, from_records, from_spans
from streams.transport.assignor import EvenAssignor
from streams.transport.batch import NO_HIGHWATER, PartitionBatch
from streams.transport.lease import Lease, now
from streams.transport.rawfetch import RawSpans


class BatchMessage(ConsumerMessage):
    """One delivery: ``value`` is a PartitionBatch, ``offset`` its last offset (Faust compares it with positions)."""

    __slots__ = ("next_offset",)

    def __init__(self, batch: PartitionBatch, generation: int) -> None:
        super().__init__(
            batch.tp.topic,
            batch.tp.partition,
            batch.next_offset - 1,
            batch.fetched_ms / 1000,
            0,
            None,
            None,
            batch,  # type: ignore[arg-type]
            None,
            0,
            0,
            batch.tp,
            generation_id=generation,
        )
        self.next_offset = batch.next_offset


class Fetched(dict):
    """What one poll gave, and the number of seeks that had been done when it was taken off the fetcher."""

    def __init__(self, items: Mapping[TP, list], epoch: int) -> None:
        super().__init__(items)
        self.epoch = epoch


class _DaemonThread(WorkerThread):
    """A consumer that does not come to its end must not keep the process from ending."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.daemon = True


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """Owner of the aiokafka consumer; deliveries are decompressed and split here, beside the event loop's thread."""

    Worker = _DaemonThread
    epoch = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._buffers = Buffers(self.app.transport_settings.limits)

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        settings = self.app.transport_settings
        topics = self.app.batch_topics
        return aiokafka.AIOKafkaConsumer(
            group_id=settings.group,
            group_instance_id=settings.instance_id,
            partition_assignment_strategy=[EvenAssignor],
            enable_auto_commit=False,
            auto_offset_reset=settings.auto_offset_reset,
            isolation_level=settings.isolation_level,
            max_poll_records=settings.max_poll_items,
            max_poll_interval_ms=settings.max_poll_interval_ms,
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=settings.heartbeat_interval_ms,
            rebalance_timeout_ms=settings.rebalance_timeout_ms,
            request_timeout_ms=settings.request_timeout_ms,
            fetch_max_wait_ms=settings.fetch_max_wait_ms,
            fetch_max_bytes=settings.fetch_max_bytes,
            max_partition_fetch_bytes=settings.max_partition_fetch_bytes,
            client_rack=settings.client_rack,
            value_deserializer=RawSpans(topics) if settings.delivery == "raw_spans" else None,
            **settings.connection.client_options(),
        )

    async def on_start(self) -> None:
        await super().on_start()
        _hold_lease(self._ensure_consumer(), self.app.lease)

    async def _fetch_records(self, consumer: Any, active_partitions: Any, *args: Any, **kwargs: Any) -> Fetched:
        records = await super()._fetch_records(consumer, active_partitions, *args, **kwargs)
        # No await between taking the records and reading the epoch, and seeks run in this thread: it is theirs.
        epoch = self.epoch
        limits = self.app.transport_settings.limits
        if self.app.transport_settings.delivery == "raw_spans":
            make = partial(from_spans, limits=limits, buffers=self._buffers)
        else:
            make = partial(from_records, limits=limits)
        fetched_ms = time.time_ns() // 1_000_000
        return Fetched(
            {
                tp: make(TP(*tp), items, fetched_ms=fetched_ms, highwater=_highwater(consumer, tp))
                if tp.topic in self.app.batch_topics
                else items
                for tp, items in records.items()
            },
            epoch,
        )

    async def committed(self, tps: Iterable[TP]) -> dict[TP, int | None]:
        """Committed offset of each partition; asked for at once, not one after the other as upstream does."""
        return await self.call_thread(self._committed, list(tps))

    async def _committed(self, tps: list[TP]) -> dict[TP, int | None]:
        consumer = self._ensure_consumer()
        return dict(zip(tps, await asyncio.gather(*(consumer.committed(tp) for tp in tps)), strict=True))

    async def seek_all(self, positions: Mapping[TP, int]) -> None:
        """Set the positions; what was fetched before is of an older epoch from then on."""
        await self.call_thread(self._seek_all, positions)

    async def _seek_all(self, positions: Mapping[TP, int]) -> None:
        consumer = self._ensure_consumer()
        for tp, offset in positions.items():
            consumer.seek(tp, offset)
        self.epoch += 1

    async def log_starts(self, tps: Iterable[TP]) -> dict[TP, int]:
        """First offset that is still in the log."""
        return await self.call_thread(self._log_starts, list(tps))

    async def _log_starts(self, tps: list[TP]) -> dict[TP, int]:
        return await self._ensure_consumer().beginning_offsets(tps) if tps else {}

    async def log_ends(self, tps: Iterable[TP]) -> dict[TP, int]:
        """Offset of the next record."""
        return await self.call_thread(self._log_ends, list(tps))

    async def _log_ends(self, tps: list[TP]) -> dict[TP, int]:
        return await self._ensure_consumer().end_offsets(tps) if tps else {}

    def at_end(self, tp: TP, within_ms: int) -> bool:
        """Whether a broker said in the last ``within_ms`` that there is nothing after what was taken. Any thread."""
        subscription = getattr(self._consumer, "_subscription", None)
        assignment = subscription and subscription.subscription and subscription.subscription.assignment
        state = assignment.state_value(tp) if assignment and tp in assignment.tps else None
        if state is None or state.timestamp is None or not state.has_valid_position:
            return False
        return state._position >= state.highwater and time.time_ns() // 1_000_000 - state.timestamp <= within_ms

    def coordinator_error(self) -> BaseException | None:
        """What stopped this member's part in the group for good; Faust is never told (aiokafka only keeps it)."""
        consumer = self._consumer
        coordinator = getattr(consumer, "_coordinator", None)
        task = getattr(coordinator, "_coordination_task", None)
        if task is not None and task.done() and not task.cancelled() and task.exception():
            return task.exception()
        return getattr(coordinator, "_pending_exception", None)


def _hold_lease(consumer: aiokafka.AIOKafkaConsumer, lease: Lease) -> None:
    """Let ``lease`` hear what the coordinator says. aiokafka has no hook for that, so its methods are wrapped."""
    coordinator = consumer._coordinator
    heartbeat, joined, reset = coordinator._do_heartbeat, coordinator._on_join_complete, coordinator.reset_generation

    async def do_heartbeat() -> bool:
        asked_at = now()
        answered = await heartbeat()
        if answered:
            lease.renew(asked_at)
        return answered

    async def on_join_complete(*args: Any) -> None:
        lease.begin()
        await joined(*args)

    def reset_generation() -> None:
        lease.lose()
        reset()

    coordinator._do_heartbeat = do_heartbeat
    coordinator._on_join_complete = on_join_complete
    coordinator.reset_generation = reset_generation


def _highwater(consumer: aiokafka.AIOKafkaConsumer, tp: TP) -> int:
    try:
        highwater = consumer.highwater(tp)
    except Exception:  # Unassigned meanwhile: a figure for metrics is not worth the worker.
        return NO_HIGHWATER
    return NO_HIGHWATER if highwater is None else highwater


class BatchConsumer(driver.Consumer):
    """See the module's docstring; topics that are not batch topics are delivered as Faust does."""

    _thread: BatchConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._inflight: dict[TP, deque[BatchMessage]] = {}
        """Deliveries not yet seen as acknowledged at the head, in offset order."""
        self._done: dict[TP, int] = {}
        """Position up to which everything is acknowledged."""
        self._position: dict[TP, int] = {}
        """Where the next delivery must start."""
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # Back-pressure: a full queue holds the fetch loop back. Upstream takes the partition out of the fetch set
    # instead and puts it back only when the queue is empty, which starves the partitions of a busy agent.

    def on_buffer_full(self, tp: TP) -> None: ...

    def on_buffer_drop(self, tp: TP) -> None: ...

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        records, active = await self._wait_next_records(timeout)
        if not records:
            return
        # Taken just before the flow stopped: kept until it is known whether a seek follows. Seeking back here,
        # as upstream does, would forget acknowledgements that the rebalance is about to commit.
        while not self.flow_active and not self.should_stop:
            await self.wait(self.can_resume_flow)
        generation = self.app.consumer_generation_id
        for tp, items in records.items():
            # A callback may have waited through a whole rebalance, so each delivery is checked anew.
            for item in items:
                if (
                    self.should_stop
                    or not self.flow_active
                    or records.epoch != self._thread.epoch
                    or generation != self.app.consumer_generation_id
                ):
                    return
                if active is not None and tp not in active:
                    break
                if tp.topic in self.app.batch_topics:
                    if item.highwater >= 0:
                        self.app.monitor.track_tp_end_offset(tp, item.highwater)
                    self._follows(item)
                    item.generation = generation
                    message = BatchMessage(item, generation)
                    self._inflight.setdefault(item.tp, deque()).append(message)
                    yield item.tp, message
                else:
                    yield tp, self._to_message(tp, item)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        if tp.topic not in self.app.batch_topics:
            await super()._add_gap(tp, offset_from, offset_to)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        batch_topics = self.app.batch_topics
        yield from (tp for tp in super()._filter_tps_with_pending_acks(topics) if tp.topic not in batch_topics)
        for tp in self._inflight.keys() | self._done.keys():
            if topics is None or tp in topics or tp.topic in topics:
                yield tp

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic not in self.app.batch_topics:
            return super()._new_offset(tp)
        waiting = self._inflight.get(tp, ())
        while waiting and waiting[0].acked:
            self._done[tp] = waiting.popleft().next_offset
        # Upstream's books of single offsets are not used, only kept from growing.
        self._acked.pop(tp, None)
        self._acked_index.pop(tp, None)
        done = self._done.get(tp)
        durable = self.app.hooks.durable_offset(tp)
        offset = done if done is None or durable is None else min(done, durable)
        # Nothing lies before 0, and upstream would commit it over and over.
        return offset or None

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        before = {tp: self._committed_offset[tp] for tp in offsets}
        committed = await super()._commit_offsets(offsets, start_new_transaction)
        if not committed:
            self._committed_offset.update(before)
        return committed

    def at_end(self, tp: TP, within_ms: int) -> bool:
        """As the thread's, and everything that was taken is acknowledged."""
        waiting = self._inflight.get(tp, ())
        return all(message.acked for message in waiting) and self._thread.at_end(tp, within_ms)

    def _forget(self, tps: Iterable[TP]) -> None:
        for tp in tps:
            self._inflight.pop(tp, None)
            self._done.pop(tp, None)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        hook = self._on_partitions_revoked
        if not self.app.should_stop:
            # Stops the flow, waits for the acknowledgements, flushes. Upstream forgets them first.
            await hook(revoked)
            try:
                await self.app.partitions_revoked()
                await self.maybe_wait_for_commit_to_finish()
                await self.commit()
            except Exception as error:  # The caller only logs it, and the group would go on.
                await self.app.crash(error)
        self._forget(revoked)
        self._on_partitions_revoked = _nothing
        try:
            await super().on_partitions_revoked(revoked)
        finally:
            self._on_partitions_revoked = hook

    async def perform_seek(self) -> None:
        """Resume every assigned partition where its state says, else where the group committed, else at one end.

        Every one is sought: aiokafka may have begun at an end by itself, and what it took from there is dropped.
        """
        tps = sorted(TP(*tp) for tp in self.assignment())
        self._forget(list(self._inflight.keys() | self._done.keys()))
        committed = await self._thread.committed(tps)
        positions = {}
        for tp in tps:
            stored = self.app.hooks.stored_offset(tp) if tp.topic in self.app.batch_topics else None
            position = committed[tp] if stored is None else stored
            if position is not None:
                positions[tp] = position
        fresh = [tp for tp in tps if tp not in positions]
        if self.app.transport_settings.auto_offset_reset == "latest":
            positions.update(await self._thread.log_ends(fresh))
        for tp, first in (await self._thread.log_starts(tps)).items():
            if positions.setdefault(tp, first) < first:
                self.app.events.error(
                    "input_lost",
                    topic=tp.topic,
                    partition=tp.partition,
                    first_offset=positions[tp],
                    next_offset=first,
                    hint="retention deleted records that were not read yet: raise it, or add workers",
                )
                positions[tp] = first
        await self._thread.seek_all(positions)
        self._position = dict(positions)
        self.app.events.info(
            "reading_resumed",
            offsets={f"{tp.topic}[{tp.partition}]": offset for tp, offset in positions.items()},
        )
        for tp in tps:
            # Zero counts as unset there: nothing can have been read before it.
            self._read_offset[tp] = positions.get(tp) or None
            self._committed_offset[tp] = committed[tp]

    def _follows(self, batch: PartitionBatch) -> None:
        """Check that ``batch`` starts where the one before it ended; raises FatalError.

        aiokafka moves on silently when the broker says that a position is out of range.
        """
        tp = batch.tp
        position = self._position.get(tp, batch.first_offset)
        if self.app.transport_settings.delivery == "consumer_records" and batch.first_offset > position:
            # Where the fetch began is not known there: what lies between was compacted away or is a marker.
            batch.first_offset = position
        if batch.first_offset != position:
            raise FatalError(
                f"{tp.topic}[{tp.partition}] goes on at offset {batch.first_offset} instead of {position}: the topic "
                "was deleted, truncated or overtaken by its retention. A restart resumes where the log now starts; "
                "if state is ahead of the log, restore the topic or delete the state topic to start afresh"
            )
        self._position[tp] = batch.next_offset


async def _nothing(_revoked: set[TP]) -> None: ...


class UnusedProducer(driver.Producer):
    """Faust starts one in any case; ours is ``streams.producer``. It only must be able to connect."""

    def _settings_auth(self) -> Mapping[str, Any]:
        return self.app.transport_settings.connection.client_options()


class BatchTransport(driver.Transport):
    """Faust's aiokafka transport with our consumer."""

    Consumer = BatchConsumer
    Producer = UnusedProducer
