"""A Faust app whose batch topics arrive as PartitionBatches, and how to run it from our own event loop.

::

    app = build_app(settings, batch_topics=["tenfold.usage"], hooks=hooks)

    @app.agent(app.batch_topic("tenfold.usage"))
    async def usage(stream):
        async for delivery in deliveries(stream):
            apply(delivery.batch)
            delivery.ack()

    await run_app(app)

An exception that leaves an agent ends the process without acknowledging its delivery: the next owner reads it
again. Faust's other ways (restarting the agent, acknowledging in ``finally``) would skip it.

Faust's own producer, tables, web server and leader topic are not used: ``streams.producer`` and ``streams.state``
do that work.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

import faust
import numpy as np
import structlog
from faust.tables.recovery import RebalanceAgain
from faust.types import TP

from streams.transport import rawfetch
from streams.transport.batch import PartitionBatch
from streams.transport.consumer import BatchConsumer, BatchTransport
from streams.transport.lease import Lease
from streams.transport.settings import TransportSettings
from streams.transport.split import split
from streams.transport.versions import check_accelerator, check_versions

END_SEEN_MS = 2_000
"""A partition's end was seen lately: brokers answer a fetch of an empty partition every ``fetch_max_wait_ms``."""


async def _no_partitions(_tps: frozenset[TP]) -> None: ...


def _no_offset(_tp: TP) -> int | None:
    return None


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the application does when partitions come and go.

    ``on_assigned`` and ``on_revoked`` alternate for each partition and never run at the same time.

    on_assigned     awaited before the first batch of these partitions is delivered: restore their state
    on_revoked      awaited with the flow stopped and no delivery un-acknowledged: checkpoint. All partitions are
                    revoked in every rebalance; most come back in the on_assigned that follows. Also called on an
                    orderly stop, never after a crash
    durable_offset  next_offset in the last durable checkpoint: commits never pass it; None where no state is kept
    stored_offset   where to resume; None to resume where the group committed. Asked after on_assigned
    """

    on_assigned: Callable[[frozenset[TP]], Awaitable[None]] = _no_partitions
    on_revoked: Callable[[frozenset[TP]], Awaitable[None]] = _no_partitions
    durable_offset: Callable[[TP], int | None] = _no_offset
    stored_offset: Callable[[TP], int | None] = _no_offset


class Delivery:
    """One PartitionBatch and its acknowledgement."""

    __slots__ = ("_event", "batch")

    def __init__(self, event: Any) -> None:
        self._event = event
        self.batch: PartitionBatch = event.value

    def ack(self) -> None:
        """The batch is applied: its offsets may be committed, as far as ``durable_offset`` allows."""
        self._event.ack()


async def deliveries(stream: Any) -> AsyncIterator[Delivery]:
    """Deliveries of a batch topic, in offset order per partition; each must be acknowledged, in any order.

    A rebalance waits for the acknowledgement of what was handed out, so hold none back for longer than
    ``rebalance_timeout_ms``.
    """
    async for event in stream.noack().events():
        yield Delivery(event)


class BatchSchema(faust.Schema):
    """Hands the value of a message on as it is."""

    def compile(self, app: Any, **_: Any) -> Callable[..., Awaitable[Any]]:
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(message.key, message.value, message.headers, message)

        return decode


class EngineApp(faust.App):
    """Made by ``build_app``."""

    transport_settings: TransportSettings
    batch_topics: frozenset[str]
    hooks: Hooks
    events: Any

    def __init__(
        self, settings: TransportSettings, batch_topics: Collection[str], hooks: Hooks, lease: Lease | None = None
    ) -> None:
        self.transport_settings = settings
        self.batch_topics = frozenset(batch_topics)
        self.hooks = hooks
        self.lease = lease or Lease(settings.session_timeout_ms)
        self.events = structlog.get_logger("streams.transport").bind(app=settings.group)
        self.ready_at: float | None = None
        """Monotonic time since which the flow runs; None while partitions are being moved."""
        self.waiting_since = time.monotonic()
        self.crash_seen = asyncio.Event()
        self._partitions: frozenset[TP] = frozenset()
        self._holds_assignment = False
        self._hook_lock = asyncio.Lock()
        super().__init__(
            settings.group,
            broker=[f"kafka://{server}" for server in settings.connection.servers],
            autodiscover=False,
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            agent_supervisor="mode.CrashingSupervisor",
            stream_buffer_maxsize=settings.buffer_deliveries,
            stream_wait_empty=True,
            broker_client_id=settings.connection.client_id,
            broker_commit_interval=settings.commit_interval_ms / 1000,
            broker_session_timeout=settings.session_timeout_ms / 1000,
            broker_heartbeat_interval=settings.heartbeat_interval_ms / 1000,
            broker_rebalance_timeout=settings.rebalance_timeout_ms / 1000,
            broker_request_timeout=max(settings.request_timeout_ms, settings.session_timeout_ms) / 1000,
            consumer_group_instance_id=settings.instance_id,
        )
        self.on_rebalance_complete.connect(self._partitions_assigned)
        self.on_before_shutdown.connect(self._before_shutdown)

    def batch_topic(self, name: str) -> Any:
        """Faust topic whose stream is read with ``deliveries``; ``name`` must be one of the batch topics."""
        if name not in self.batch_topics:
            raise ValueError(f"{name} is not one of the batch topics {sorted(self.batch_topics)}")
        return self.topic(name, schema=BatchSchema())

    @property
    def partitions(self) -> frozenset[TP]:
        """Partitions between their on_assigned and their on_revoked."""
        return self._partitions

    def at_end(self, tp: TP, within_ms: int = END_SEEN_MS) -> bool:
        """Whether a broker has confirmed lately that all of this partition has been read."""
        return isinstance(self._consumer, BatchConsumer) and self._consumer.at_end(tp, within_ms)

    @property
    def generation(self) -> int:
        return self.consumer_generation_id

    def fail(self, reason: BaseException) -> None:
        """Give up: what runs beside the agents cannot go on. ``run_app`` raises the reason; no checkpoint is made."""
        self._crash(reason)

    async def partitions_revoked(self) -> None:
        """The group takes all partitions back; the consumer calls this with the flow stopped."""
        self._holds_assignment = False
        async with self._hook_lock:
            gone, self._partitions = self._partitions, frozenset()
            if gone:
                self.events.info("partitions_revoked", partitions=len(gone), generation=self.generation)
                await self.hooks.on_revoked(gone)
            self.lease.release()

    async def _partitions_assigned(self, *_: Any, **__: Any) -> None:
        async with self._hook_lock:
            if not self._holds_assignment:
                # Taken back before its turn came. Resuming now would start the flow in the middle of a rebalance.
                raise RebalanceAgain
            assigned = frozenset(TP(*tp) for tp in self._assignment or ())
            self.events.info("partitions_assigned", partitions=_by_topic(assigned), generation=self.generation)
            if assigned:
                await self.hooks.on_assigned(assigned)
            self._partitions = assigned

    async def _before_shutdown(self, *_: Any, **__: Any) -> None:
        if self.crashed:
            return
        await self.partitions_revoked()
        if isinstance(self._consumer, BatchConsumer):
            await self._consumer.maybe_wait_for_commit_to_finish()
            await self._consumer.commit()

    # Overrides of Faust.

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Faust keeps tables in directories; there are none."""

    async def _on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._holds_assignment = True
        await super()._on_partitions_assigned(assigned, generation_id)

    def _on_rebalance_when_stopped(self) -> None:
        """Upstream marks the client as closed here, so that the stop under way would neither close nor leave."""

    def on_rebalance_start(self) -> None:
        self.ready_at, self.waiting_since = None, time.monotonic()
        super().on_rebalance_start()

    def on_rebalance_end(self) -> None:
        super().on_rebalance_end()
        self.ready_at = time.monotonic()

    def _crash(self, reason: BaseException) -> None:
        super()._crash(reason)
        # May be called from the consumer's thread.
        self.loop.call_soon_threadsafe(self.crash_seen.set)


def _by_topic(tps: frozenset[TP]) -> dict[str, list[int]]:
    return {
        topic: sorted(tp.partition for tp in tps if tp.topic == topic) for topic in sorted({tp.topic for tp in tps})
    }


def build_app(
    settings: TransportSettings,
    *,
    batch_topics: Collection[str],
    hooks: Hooks | None = None,
    lease: Lease | None = None,
) -> EngineApp:
    """The app; call it within the event loop that will run it, then add the agents.

    Raises ConfigError where the installed Faust or aiokafka is not one that this package was tested with.
    """
    check_versions(settings.delivery, allow_untested=settings.allow_untested_versions)
    check_accelerator()
    if settings.delivery == "raw_spans":
        rawfetch.install()
        # Loads or compiles the kernel now, not while the first records wait.
        split(np.empty(0, np.uint8), np.empty((0, 9), np.int64))
    return EngineApp(settings, batch_topics, hooks or Hooks(), lease)
