"""The rollup agent: partials in; merged windows, budgets, baselines and rate findings out.

One RollupEngine per assigned partition of ``tenfold.partials``. Merging is idempotent by version, so a repeat or a
replay of partials changes nothing; what is published again after a restart overwrites itself by key.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from models.rollup import RollupEngine, RollupOutputs
from models.scopes import Scope
from schemas.codec import decode, encode
from streams.agents.rejects import rejected_row
from streams.producer import Producer
from streams.state.store import StateStore
from streams.topics import Topics
from streams.transport import PartitionBatch
from streams.web.metrics import Metrics

log = structlog.get_logger()


class RollupAgent:
    """All partials partitions assigned to this worker."""

    def __init__(
        self,
        *,
        config,
        topics: Topics,
        producer: Producer,
        store: StateStore,
        metrics: Metrics,
        clock_ms: Callable[[], int],
    ):
        self._config = config
        self._topics = topics
        self._producer = producer
        self._store = store
        self._metrics = metrics
        self._clock_ms = clock_ms
        self._engines: dict[int, RollupEngine] = {}
        self._next: dict[int, int] = {}
        self._durable: dict[int, int] = {}
        self._lock = asyncio.Lock()
        self._saving = asyncio.Lock()

    async def assign(self, partition: int) -> None:
        """Take a partition over: restore its newest checkpoint, or begin with the oldest partials there are."""
        engine = RollupEngine(self._config)
        state = await self._store.load(partition)
        self._next[partition] = 0
        if state is not None:
            self._next[partition] = state["next_offset"]
            engine.load(state["engine"])
        # Windows wait for every source partition to be heard of, not only for those that are quick to catch up.
        engine.expect(self._topics.usage.partitions, self._clock_ms())
        self._engines[partition] = engine
        self._durable[partition] = self._next[partition]

    async def revoke(self, partition: int) -> None:
        """Hand a partition over: published and checkpointed, then forgotten."""
        if partition in self._engines:
            await self.checkpoint([partition])
            self.drop(partition)

    def drop(self, partition: int) -> None:
        for owned in (self._engines, self._next, self._durable):
            owned.pop(partition, None)

    def resume_offset(self, partition: int) -> int | None:
        return self._next.get(partition)

    def durable_offset(self, partition: int) -> int | None:
        return self._durable.get(partition)

    async def handle(self, batch: PartitionBatch) -> None:
        """Merge one batch of partials; nothing is sent until ``publish``."""
        partition = batch.tp.partition
        now_ms = self._clock_ms()
        started = time.perf_counter()
        async with self._lock:
            engine = self._engines[partition]
            for row, offset in enumerate(batch.offset.tolist()):
                value = batch.value(row)
                if offset < self._next[partition] or value is None:
                    continue
                try:
                    partials = decode("partials", value)
                except Exception as error:  # fastavro raises what its C code met.
                    await self._reject(batch, row, error)
                else:
                    engine.apply(partials, now_ms)
            self._next[partition] = batch.next_offset
        self._metrics.batch_applied("rollup", len(batch), time.perf_counter() - started)

    async def publish(self) -> None:
        """Close windows, judge rates and budgets, and send what changed."""
        async with self._lock:
            for partition in list(self._engines):
                await self._send(self._engines[partition].advance(self._clock_ms()))

    async def checkpoint(self, partitions: list[int] | None = None) -> None:
        """Make merged state and offset durable together."""
        for partition in list(self._engines) if partitions is None else partitions:
            # One after the other: the timer's and that of a rebalance share their slots.
            async with self._saving:
                async with self._lock:
                    engine = self._engines.get(partition)
                    if engine is None or self._next[partition] == self._durable[partition]:
                        continue
                    await self._send(engine.advance(self._clock_ms()))
                    next_offset = self._next[partition]
                    state = {"next_offset": next_offset, "engine": engine.state()}
                    await self._producer.flush()
                await self._store.save(partition, next_offset, state)
                self._durable[partition] = next_offset
                self._metrics.checkpoint_made("rollup")

    async def _reject(self, batch: PartitionBatch, row: int, error: Exception) -> None:
        """Something else writes to our topic: keep what it was, and go on."""
        log.error("partials_unreadable", offset=int(batch.offset[row]), error=repr(error))
        key, record = rejected_row(batch, row, "unreadable", repr(error))
        await self._producer.send(self._topics.rejected.name, key, record)

    async def _send(self, out: RollupOutputs) -> None:
        topics, send = self._topics, self._producer.send
        self._metrics.findings_raised(out.findings)
        self._metrics.budgets_published(out.budgets)
        for row in out.spend:
            scope = Scope(row["scope_kind"], row["team"], row["model"], row["agent"], row["use_case"])
            key = f"{scope.key}@{row['window_start']}+{row['window_ms']}"
            await send(topics.spend.name, key.encode(), encode("window_spend", row))
        for status in out.budgets:
            key = f"{status['budget']}@{status['period']}"
            await send(topics.budgets.name, key.encode(), encode("budget_status", status))
        for baseline in out.baselines:
            key = f"{baseline['level']}|{baseline['team']}|{baseline['agent']}|{baseline['model']}"
            await send(topics.baselines.name, key.encode(), encode("baseline", baseline))
        for finding in out.findings:
            await send(topics.anomalies.name, finding["id"].encode(), encode("finding", finding))
        if out.findings:
            log.info("findings_raised", agent="rollup", findings=[finding["id"] for finding in out.findings])
