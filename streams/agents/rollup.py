"""The rollup agent: partials in; merged windows, budgets, decisions, baselines and rate findings out.

One RollupEngine per assigned partition of ``tenfold.partials``. Merging is idempotent by version, so a repeat or a
replay of partials changes nothing; what is published again after a restart overwrites itself by key.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice

import structlog

from models.extra_scopes import asked_for
from models.partials import PartialsError
from models.rollup import RollupEngine, RollupOutputs
from models.scopes import Scope
from schemas.codec import decode, encode
from streams.agents.rejects import rejected_row
from streams.agents.stateful import KeptFeedback, StatefulAgent
from streams.definitions import Definitions
from streams.producer import Producer
from streams.state.store import StateStore
from streams.topics import Topics
from streams.transport import PartitionBatch
from streams.web.metrics import Metrics

log = structlog.get_logger()

REVISIONS_PER_EPOCH = 10**9
"""A revision is 10**9 times the owner's epoch and a count: whatever a former owner published, or still does, is lower.
Below 2**53 for nine million owners, so that every JSON reader has it exact."""
SPEND_ROWS = 500
"""Handed over without a pause, some 2 ms."""


class RollupAgent(StatefulAgent):
    """All partials partitions assigned to this worker."""

    name = "rollup"

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
        super().__init__(producer, store, metrics)
        self._config = config
        self._topics = topics
        self._clock_ms = clock_ms
        self._feedback = KeptFeedback()
        self._encoded: dict[Scope, tuple[bytes, bytes]] = {}
        """See ``ChangedWindows.rows``."""
        self._definitions = Definitions(config.budgets, asked_for(config))
        self.definitions_read = asyncio.Event()
        """To be set once ``take_definitions`` has had all that is there."""

    def _fresh(self, partition: int) -> RollupEngine:
        return RollupEngine(self._config)

    def _restored(self, deltas: Iterator[dict]) -> RollupEngine:
        return RollupEngine.restore(self._config, deltas)

    async def assign(self, partition: int, generation: int | None = None) -> None:
        """As ever, and with the budgets that the topic of definitions holds."""
        await self.definitions_read.wait()
        await super().assign(partition, generation)

    def take_definitions(self, records: Iterable) -> None:
        """Records of the topic of budget definitions, in order."""
        if self._definitions.take(records):
            self._config = replace(self._config, budgets=self._definitions.budgets)
            for engine in self._engines.values():
                engine.set_budgets(self._config.budgets)
            log.info("budgets_changed", budgets=len(self._config.budgets))

    def _taken(self, partition: int, engine: RollupEngine) -> None:
        # It may have been parked or in restoring when definitions came.
        if engine.config.budgets != self._config.budgets:
            engine.set_budgets(self._config.budgets)
        # Windows wait for every source partition to be heard of, not only for those that are quick to catch up.
        engine.expect(self._topics.usage.partitions, self._clock_ms())
        self._feedback.tell(engine)

    def take_feedback(self, feedback: Iterable[dict]) -> None:
        """Feedback dicts, in order: for the engines that are here and those that come."""
        self._feedback.take(feedback, self._engines.values())

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
                    continue
                try:
                    engine.apply(partials, now_ms)
                except PartialsError as error:
                    await self._reject(batch, row, error)
            self._next[partition] = batch.next_offset
        self._metrics.batch_applied("rollup", len(batch), time.perf_counter() - started)

    async def publish(self) -> None:
        """Close windows, judge rates and budgets, and send what changed."""
        async with self._lock:
            for partition in list(self._engines):
                await self._publish(partition)

    async def _publish(self, partition: int) -> None:
        await self._send(partition, self._engines[partition].advance(self._clock_ms()))

    async def _reject(self, batch: PartitionBatch, row: int, error: Exception) -> None:
        """Something else writes to our topic: keep what it was, and go on."""
        log.error("partials_unreadable", offset=int(batch.offset[row]), error=repr(error))
        key, record = rejected_row(batch, row, "unreadable", repr(error))
        await self._producer.send(self._topics.rejected.name, key, record)

    async def _send(self, partition: int, out: RollupOutputs) -> None:
        # After a restart the engine counts on from its checkpoint, behind what its predecessor had published.
        first_revision = self._store.epoch(partition) * REVISIONS_PER_EPOCH
        out.spend.revision += first_revision
        for row in (*out.budgets, *out.shares, *out.unit_costs, *out.baselines):
            row["revision"] += first_revision
        topics, send = self._topics, self._producer.send
        self._metrics.findings_raised(out.findings)
        self._metrics.budgets_published(out.budgets)
        # The topic has one partition. Handed over one by one, a row costs ten times as much.
        rows = out.spend.rows(self._encoded)
        while some := list(islice(rows, SPEND_ROWS)):
            await self._producer.send_many(topics.spend.name, 0, some)
            await asyncio.sleep(0)
        for status in out.budgets:
            key = f"{status['budget']}@{status['period']}"
            await send(topics.budgets.name, key.encode(), encode("budget_status", status))
        for decision in out.decisions:
            decision["version"] += first_revision
            await send(topics.decisions.name, decision["scope"].encode(), encode("decision", decision))
        for shares in out.shares:
            key = f"{shares['what']}@{shares['day']}"
            await send(topics.shares.name, key.encode(), encode("day_shares", shares))
        for unit_cost in out.unit_costs:
            key = f"{unit_cost['transaction_type']}@{unit_cost['day']}"
            await send(topics.unit_costs.name, key.encode(), encode("unit_cost", unit_cost))
        for baseline in out.baselines:
            key = f"{baseline['level']}|{baseline['team']}|{baseline['agent']}|{baseline['model']}"
            await send(topics.baselines.name, key.encode(), encode("baseline", baseline))
        for finding in out.findings:
            await send(topics.anomalies.name, finding["id"].encode(), encode("finding", finding))
        if out.findings:
            log.info("findings_raised", agent="rollup", findings=[finding["id"] for finding in out.findings])
