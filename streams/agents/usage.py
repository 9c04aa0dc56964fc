"""The usage agent: a batch of usage events in, findings, ended sessions, rejects and partials out.

One UsageEngine per assigned partition. ``handle`` applies a batch and hands its outputs to the producer;
``flush`` publishes what changed since the last time; ``checkpoint`` (streams.agents.stateful) makes state and offset
durable together.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import numpy as np

from models.engine import UsageEngine, UsageOutputs
from models.partials import packed, unpacked
from models.pricing import PriceTable
from models.transaction_reports import halves
from models.windows import NO_WATERMARK
from schemas.codec import encode
from schemas.columns import OK, REJECT_REASONS
from schemas.decode import Decoder
from streams.agents.applied import Applied
from streams.agents.rejects import rejected_range, rejected_row
from streams.agents.stateful import MAX_CHANGED_SESSIONS, KeptFeedback, StatefulAgent
from streams.producer import Producer
from streams.state.store import StateStore
from streams.topics import Topics, partition_for
from streams.transport import PartitionBatch
from streams.web.metrics import Metrics

MAX_PARTIALS_BYTES = 256 << 10
"""Of one partials record: a worker that catches up has more to say than a record can hold."""
ADVANCE_MS = 1_000
"""Between two looks for sessions that have ended, each of which passes over all of them: 5 ms for a million."""
BEHIND_RECORDS = 100_000
"""Not yet read of a partition: some tenths of a second of a busy worker."""
BEHIND_FLUSH_MS = 1_000
HEARTBEAT_MS = 1_000
"""A partition without changes still says how far it is, so that merged windows can close."""


class UsageAgent(StatefulAgent):
    """All usage partitions assigned to this worker."""

    name = "usage"

    def __init__(
        self,
        *,
        config,
        topics: Topics,
        producer: Producer,
        store: StateStore,
        decoder: Decoder,
        metrics: Metrics,
        clock_ms: Callable[[], int],
        at_end: Callable[[int], bool] = lambda partition: True,
    ):
        """``at_end``: whether a broker has confirmed lately that all of a partition has been read."""
        super().__init__(producer, store, metrics)
        self._config = config
        self._topics = topics
        self._decoder = decoder
        self._clock_ms = clock_ms
        self._at_end = at_end
        self._prices = PriceTable(config.prices)
        self._quiet_since_ms: dict[int, int] = {}
        """Since when a partition is known to have nothing new."""
        self._last_partials_ms: dict[int, int] = defaultdict(int)
        self._advanced_ms: dict[int, int] = defaultdict(int)
        self._baselines: dict[tuple, dict] = {}
        self._feedback = KeptFeedback()
        self._highwater: dict[int, int] = {}
        self._applied = defaultdict(lambda: Applied(clock_ms))

    def _fresh(self, partition: int) -> UsageEngine:
        return UsageEngine(self._config, partition, self._prices)

    def _restored(self, deltas: Iterator[dict]) -> UsageEngine:
        return UsageEngine.restore(self._config, self._prices, deltas)

    def _taken(self, partition: int, engine: UsageEngine) -> None:
        engine.update_baselines(list(self._baselines.values()))
        self._feedback.tell(engine)
        self._quiet_since_ms[partition] = self._clock_ms()

    def _leave(self, partition: int) -> None:
        if engine := self._engines.get(partition):
            self._metrics.spent(engine.take_spent(self._metrics.bounded))
        super()._leave(partition)
        if applied := self._applied.pop(partition, None):
            applied.tell(partition)
        self._highwater.pop(partition, None)

    async def handle(self, batch: PartitionBatch) -> None:
        """Count one batch and send what it led to."""
        partition = batch.tp.partition
        async with self._lock:
            engine = self._engines[partition]
            now_ms = self._clock_ms()
            first = int(np.searchsorted(batch.offset, engine.next_offset))
            started = time.perf_counter()
            columns = self._decoder.decode(
                batch.payload, batch.value_start[first:], batch.value_end[first:], batch.offset[first:]
            )
            out = engine.apply(columns, batch.next_offset, now_ms)
            self._next[partition] = engine.next_offset
            if engine.sessions.changed > MAX_CHANGED_SESSIONS:
                self._checkpoint_due.set()
            seconds = time.perf_counter() - started
            self._quiet_since_ms[partition] = now_ms
            rejected: Counter[str] = Counter()
            if out.rejected:
                for row in np.flatnonzero(columns.status != OK).tolist():
                    reason = REJECT_REASONS[columns.status[row]]
                    key, record = rejected_row(batch, first + row, reason)
                    await self._producer.send(self._topics.rejected.name, key, record)
                    rejected[reason] += 1
            for reject in batch.rejected:
                await self._producer.send(self._topics.rejected.name, *rejected_range(batch, reject))
                rejected[reject.reason] += 1
            await self._send(out)
            self._observe(batch, out, rejected, seconds)

    async def flush(self) -> None:
        """Publish the partials of every partition that changed or has been quiet for a second.

        Partials are cumulative, and each costs rollup as much as it costs here. So a partition that is far behind,
        whose windows are late anyway, publishes once a second and spends its time on catching up.
        """
        async with self._lock:
            now_ms, lag = self._clock_ms(), self.lag_records()
            self._metrics.set_live_sessions(sum(len(engine.sessions) for engine in self._engines.values()))
            self._metrics.set_lag(self._topics.usage.name, lag)
            for partition in list(self._engines):
                self._applied[partition].tell(partition)
                since_ms = now_ms - self._last_partials_ms[partition]
                if lag.get(partition, 0) <= BEHIND_RECORDS or since_ms >= BEHIND_FLUSH_MS:
                    await self._publish(partition)

    def take_baselines(self, records: list[dict]) -> None:
        """Merged peer baselines from rollup, for all partitions here and those still to come."""
        news = []
        for record in records:
            key = (record["level"], record["team"], record["agent"], record["model"])
            known = self._baselines.get(key)
            if known is None or known["revision"] <= record["revision"]:
                self._baselines[key] = record
                news.append(record)
        for engine in self._engines.values():
            engine.update_baselines(news)

    def take_feedback(self, feedback: Iterable[dict]) -> None:
        """Feedback dicts, in order: for the engines that are here and those that come."""
        self._feedback.take(feedback, self._engines.values())

    def describe(self) -> dict[int, dict]:
        """Per partition, for logs and the ready page."""
        return {
            partition: {
                "next_offset": engine.next_offset,
                "durable_offset": self._durable[partition],
                "live_sessions": len(engine.sessions),
                "panes": len(engine.panes),
                "watermark": engine.watermark.value_ms,
            }
            for partition, engine in self._engines.items()
        }

    def lag_records(self) -> dict[int, int]:
        """Records not applied yet, per partition, as of the last fetch."""
        return {
            partition: max(0, self._highwater[partition] - engine.next_offset)
            for partition, engine in self._engines.items()
            if partition in self._highwater
        }

    async def _publish(self, partition: int) -> None:
        now_ms = self._clock_ms()
        engine = self._engines[partition]
        if abs(now_ms - self._advanced_ms[partition]) >= ADVANCE_MS:
            self._advanced_ms[partition] = now_ms
            await self._send(engine.advance(now_ms))
            self._metrics.spent(engine.take_spent(self._metrics.bounded))
        if not self._at_end(partition):
            # Behind, or cut off from the brokers: there may well be more, and windows must wait for it.
            self._quiet_since_ms[partition] = now_ms
        idle = now_ms - self._quiet_since_ms[partition] > self._config.windows.idle_partition_ms
        partials = engine.flush(idle)
        changed = bool(partials["panes"]["scope"] or partials["baselines"] or partials["transactions"])
        if not changed and now_ms - self._last_partials_ms[partition] < HEARTBEAT_MS:
            return
        self._last_partials_ms[partition] = now_ms
        for target, part in enumerate(_split(partials, self._topics.partials.partitions)):
            for record in _records(part):
                await self._producer.send(self._topics.partials.name, str(partition).encode(), record, partition=target)

    async def _send(self, out: UsageOutputs) -> None:
        self._metrics.findings_raised(out.findings)
        for finding in out.findings:
            await self._producer.send(self._topics.anomalies.name, finding["id"].encode(), encode("finding", finding))
        for session in out.sessions:
            await self._producer.send(
                self._topics.sessions.name, session["session_id"].encode(), encode("session_summary", session)
            )

    def _observe(self, batch: PartitionBatch, out: UsageOutputs, rejected: Counter[str], seconds: float) -> None:
        self._metrics.batch_applied(
            "usage",
            len(batch),
            seconds,
            duplicates=out.duplicates,
            late=out.late,
            rejected=rejected,
        )
        self._highwater[batch.tp.partition] = batch.highwater
        self._applied[batch.tp.partition].add(batch, out, seconds)


def _split(partials: dict, partitions: int) -> list[dict]:
    """One Partials dict per rollup partition; scopes and peer groups always go to the same one."""
    if partitions == 1:
        return [partials]
    panes = unpacked(partials["panes"])
    of_scope = np.array([_partition(key, partitions) for key in panes.scopes], np.int64)
    of_pane = of_scope[panes.scope]
    parts = [
        {**partials, "panes": packed(panes.take(of_pane == partition)), "baselines": [], "transactions": None}
        for partition in range(partitions)
    ]
    # Unit costs need all of a type in one place: they are for a deployment whose partials have one partition.
    parts[0]["transactions"] = partials["transactions"]
    for part in partials["baselines"]:
        key = f"{part['level']}|{part['team']}|{part['agent']}|{part['model']}"
        parts[partition_for(key.encode(), partitions)]["baselines"].append(part)
    return parts


@lru_cache(maxsize=1 << 16)
def _partition(key: str, partitions: int) -> int:
    return partition_for(key.encode(), partitions)


def _records(part: dict) -> Iterator[bytes]:
    """A Partials dict as records of bounded size; only the last one says how far the partition is.

    Whoever reads the first ones must not close windows that the later ones add to.
    """
    if part["transactions"] and len(part["transactions"]["id"]) > MAX_PARTIALS_BYTES // 4:
        first, second = halves(part["transactions"])
        nothing = {"panes": packed(unpacked(part["panes"]).take(slice(0))), "baselines": []}
        yield from _records({**part, **nothing, "transactions": first, "watermark": NO_WATERMARK, "idle": False})
        yield from _records({**part, "transactions": second})
        return
    encoded = encode("partials", part)
    panes, baselines = unpacked(part["panes"]), part["baselines"]
    if len(encoded) <= MAX_PARTIALS_BYTES or len(panes) + len(baselines) <= 1:
        yield encoded
        return
    cut = (len(panes) + len(baselines)) // 2
    of_baselines = max(0, cut - len(panes))
    head = {"panes": packed(panes.take(slice(cut))), "baselines": baselines[:of_baselines], "transactions": None}
    yield from _records({**part, **head, "watermark": NO_WATERMARK, "idle": False})
    rest = {"panes": packed(panes.take(slice(cut, None))), "baselines": baselines[of_baselines:]}
    yield from _records({**part, **rest})
