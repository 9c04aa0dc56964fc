"""What agents with state have in common: restoring a partition, checkpointing it, handing it over.

The offset that may be committed (``durable_offset``) is that of the last checkpoint whose outputs the broker has
acknowledged, so a crash at any point re-reads and overwrites, and loses nothing.

Two locks. One keeps apply-and-send whole: a checkpoint never covers a batch whose outputs are not yet sent. It is held
while changed rows are copied, which is all that the stream ever waits for. The other lets checkpoints be written one
after the other: the timer's and that of a rebalance follow each other.

All partitions are revoked in every rebalance and most come back. The engine of a revoked one is parked: if this worker
gets the partition again in the very next generation, nobody else can have had it, and nothing need be read.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import structlog

from streams.producer import Producer
from streams.state.store import StateStore
from streams.web.metrics import Metrics

log = structlog.get_logger()

MAX_CHANGED_SESSIONS = 150_000
"""Copying so many takes some 30 ms: a checkpoint is made before there are more."""
PARKED_SECONDS = 120.0
"""A parked engine whose partition has not come back by then will not."""
RESTORES_AT_A_TIME = 4
MAX_FEEDBACK = 20_000
"""What people said that is kept for a partition that comes later; engines know what they have heard."""


class KeptFeedback:
    """What people said, for the engines that are here and those that come."""

    def __init__(self):
        self._said: deque[dict] = deque(maxlen=MAX_FEEDBACK)

    def take(self, feedback: Iterable[dict], engines: Iterable) -> None:
        """Feedback dicts, in order."""
        for said in feedback:
            self._said.append(said)
            for engine in engines:
                engine.feedback(said)

    def tell(self, engine) -> None:
        """All of it, to an engine that was not here."""
        for said in self._said:
            engine.feedback(said)


@dataclass(frozen=True, slots=True)
class _Parked:
    engine: Any
    next_offset: int
    generation: int
    since: float


class StatefulAgent:
    """All partitions of one topic that are assigned to this worker, each with an engine."""

    name: ClassVar[str]

    def __init__(self, producer: Producer, store: StateStore, metrics: Metrics):
        self._producer = producer
        self._store = store
        self._metrics = metrics
        self._engines: dict[int, Any] = {}
        self._next: dict[int, int] = {}
        """Where the input of each partition goes on."""
        self._durable: dict[int, int] = {}
        self._parked: dict[int, _Parked] = {}
        self._checkpoint_due = asyncio.Event()
        self._lock = asyncio.Lock()
        self._saving = asyncio.Lock()
        self._restoring = asyncio.Semaphore(RESTORES_AT_A_TIME)

    def _fresh(self, partition: int) -> Any:
        """The engine of a partition without state."""
        raise NotImplementedError

    def _restored(self, deltas: Iterator[dict]) -> Any:
        """The engine of these deltas; called in a thread."""
        raise NotImplementedError

    def _taken(self, partition: int, engine: Any) -> None:
        """The partition is about to be read; ``engine`` may be parked, restored or fresh."""
        raise NotImplementedError

    async def _publish(self, partition: int) -> None:
        """Send what the engine has to say; called with the lock held."""
        raise NotImplementedError

    async def assign(self, partition: int, generation: int | None = None) -> None:
        """Take a partition over: as it was left, from its newest checkpoint, or with the oldest record there is."""
        parked = self._parked.pop(partition, None)
        if parked is not None and parked.generation + 1 == generation:
            engine, next_offset = parked.engine, parked.next_offset
            log.info("state_kept", agent=self.name, partition=partition, next_offset=next_offset)
        else:
            async with self._restoring:
                engine, next_offset = await self._restore(partition)
        self._taken(partition, engine)
        self._engines[partition] = engine
        self._next[partition] = self._durable[partition] = next_offset

    async def _restore(self, partition: int) -> tuple[Any, int]:
        started = time.monotonic()
        run = await self._store.load(partition, lambda size: self._metrics.state_read(self.name, size))
        if run is None:
            return self._fresh(partition), 0
        newest = run.newest
        engine = await asyncio.to_thread(self._restored, run.deltas())
        seconds = time.monotonic() - started
        self._metrics.state_restored(self.name, engine.rows, seconds)
        log.info(
            "state_restored",
            agent=self.name,
            partition=partition,
            next_offset=newest.next_offset,
            rows=engine.rows,
            age_seconds=round(time.time() - newest.written_ms / 1000, 1),
            seconds=round(seconds, 3),
        )
        return engine, newest.next_offset

    async def revoke(self, partition: int, generation: int | None = None) -> None:
        """Hand a partition over: everything published and checkpointed, then parked (forgotten without generation)."""
        if partition not in self._engines:
            return
        await self.checkpoint([partition])
        engine, next_offset = self._engines[partition], self._next[partition]
        if generation is None:
            self.drop(partition)
            return
        self._leave(partition)
        self._parked[partition] = _Parked(engine, next_offset, generation, time.monotonic())

    def drop(self, partition: int) -> None:
        """Forget a partition without a checkpoint: its next owner re-reads from the last one."""
        self._leave(partition)
        self._store.forget(partition)

    def _leave(self, partition: int) -> None:
        for owned in (self._engines, self._next, self._durable):
            owned.pop(partition, None)

    def forget_parked(self) -> None:
        """The assignment is complete: what has not come back is somebody else's now."""
        for partition in self._parked:
            self._store.forget(partition)
        self._parked.clear()

    def resume_offset(self, partition: int) -> int | None:
        """Where to read on: the state's offset, never the committed one."""
        return self._next.get(partition)

    def durable_offset(self, partition: int) -> int | None:
        """The offset that the group may commit."""
        return self._durable.get(partition)

    async def keep_checkpointing(self, seconds: float) -> None:
        """Make a checkpoint every ``seconds``, and sooner when one is due."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._checkpoint_due.wait(), seconds)
            self._checkpoint_due.clear()
            await self.checkpoint()

    async def checkpoint(self, partitions: list[int] | None = None) -> None:
        """Make state and offset durable together; moves ``durable_offset`` once the broker has it all."""
        for partition in list(self._engines) if partitions is None else partitions:
            async with self._saving:
                async with self._lock:
                    engine = self._engines.get(partition)
                    if engine is None or self._next[partition] == self._durable[partition]:
                        continue
                    await self._publish(partition)
                    next_offset, rows = self._next[partition], engine.rows
                    ticket = self._store.begin(partition)
                    started = time.perf_counter()
                    delta = engine.take_delta(ticket.slice_number)
                    pause_seconds = time.perf_counter() - started
                # A checkpoint never covers outputs that are not stored.
                await self._producer.flush()
                size_bytes = await self._store.save(ticket, next_offset, rows, delta)
                if self._engines.get(partition) is engine:
                    self._durable[partition] = next_offset
                self._metrics.checkpoint_made(self.name, size_bytes, pause_seconds)
        if self._parked and partitions is None:
            oldest = min(parked.since for parked in self._parked.values())
            if time.monotonic() - oldest > PARKED_SECONDS:
                self.forget_parked()
