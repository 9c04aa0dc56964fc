"""The adapt agent: events in other formats, under any key, in; canonical usage events keyed by their session out.

At least once: a batch's offset becomes durable when the broker has all that came of it. What a crash sends again has
the same identity, which depends on the record alone, so the usage agent drops it. No state is kept, so a partition
resumes where the group committed.

A record that gives no event leaves on the rejected topic with its reason. Whatever a record holds, the stream goes
on: an event or a reject that no record batch can take is cut or refused here, since the producer would end the
process. Cost: 50 to 75 us an event, half of it the producer's; the event loop is given back every few milliseconds.
"""

import asyncio
import time
from collections import Counter

import structlog

from schemas.codec import encode
from schemas.formats import Adapted, FormatError, adapt_value
from schemas.formats.texts import without_texts
from streams.agents.rejects import rejected_range, rejected_row
from streams.produce import event_key
from streams.producer import Producer
from streams.topics import Topics
from streams.transport import PartitionBatch
from streams.web.metrics import Metrics

log = structlog.get_logger()

MAX_EVENT_BYTES = 256 << 10
"""Of an encoded event: with its key well below the megabyte that producers and brokers take. A usual one has 300."""
RECORDS_PER_TURN = 50
"""Records between two chances for other tasks: 5 ms, short of what an alert may take."""


class AdaptAgent:
    """All foreign partitions assigned to this worker."""

    def __init__(self, *, topics: Topics, producer: Producer, metrics: Metrics, keep_texts: bool = True):
        """``keep_texts``: rejected records keep prompts and answers; else only what their repair needs."""
        self._topics = topics
        self._keep_texts = keep_texts
        self._producer = producer
        self._metrics = metrics
        self._durable: dict[int, int] = {}

    async def assign(self, partition: int, generation: int | None = None) -> None:
        """Nothing to restore."""
        self._durable.pop(partition, None)

    async def revoke(self, partition: int, generation: int | None = None) -> None:
        """Nothing to hand over: every batch was flushed before it was acknowledged."""
        self._durable.pop(partition, None)

    def resume_offset(self, partition: int) -> int | None:
        """None: the committed offset, which is never past what the broker has."""
        return None

    def durable_offset(self, partition: int) -> int | None:
        return self._durable.get(partition, 0)

    async def handle(self, batch: PartitionBatch) -> None:
        """Adapt one batch; returns when the broker has its events and rejects."""
        started = time.perf_counter()
        events = 0
        rejected: Counter = Counter()
        for row in range(len(batch)):
            if row % RECORDS_PER_TURN == 0:
                await asyncio.sleep(0)
            adapted = self._adapt(batch, row)
            for event in adapted.events:
                try:
                    await self._forward(batch, row, event)
                    events += 1
                except FormatError as error:
                    adapted.problems.append(error)
            if adapted.problems:
                await self._reject(batch, row, adapted)
                rejected[adapted.problems[0].reason] += 1
        for reject in batch.rejected:
            await self._producer.send(
                self._topics.rejected.name, *rejected_range(batch, reject, keep_data=self._keep_texts)
            )
            rejected[reject.reason] += 1
        await self._producer.flush()
        self._durable[batch.tp.partition] = batch.next_offset
        seconds = time.perf_counter() - started
        self._metrics.batch_applied("adapt", len(batch), seconds, rejected=rejected)
        log.debug(
            "batch_adapted",
            partition=batch.tp.partition,
            first_offset=batch.first_offset,
            next_offset=batch.next_offset,
            records=len(batch),
            events=events,
            rejected=sum(rejected.values()),
            seconds=round(seconds, 6),
        )

    def _adapt(self, batch: PartitionBatch, row: int) -> Adapted:
        try:
            return adapt_value(batch.value(row))
        except Exception as error:  # A defect of ours must cost one record, not the stream.
            log.exception("record_not_adapted", partition=batch.tp.partition, offset=int(batch.offset[row]))
            return Adapted(problems=[FormatError("adapter_failed", f"{type(error).__name__}: {error}"[:200])])

    async def _forward(self, batch: PartitionBatch, row: int, event: dict) -> None:
        value, key = encode("usage_event", event), event_key(event)
        if len(value) > MAX_EVENT_BYTES:
            raise FormatError("too_large", f"an event of {len(value)} bytes; accepted: up to {MAX_EVENT_BYTES}")
        # Not the event's own time: brokers refuse a record from the future, and drop an old one at once.
        timestamp_ms = max(0, int(batch.timestamp_ms[row]))
        await self._producer.send(self._topics.usage.name, key, value, timestamp_ms=timestamp_ms)

    async def _reject(self, batch: PartitionBatch, row: int, adapted: Adapted) -> None:
        first, count = adapted.problems[0], len(adapted.problems)
        detail = str(first)
        if adapted.events or count > 1:
            detail += f" (first of {count} problems; {len(adapted.events)} events were read)"
        if self._keep_texts:
            row_rejected = rejected_row(batch, row, first.reason, detail)
        else:
            value = without_texts(batch.value(row) or b"")
            detail += "; without its texts" if value is not None else "; without its bytes, which are no JSON"
            row_rejected = rejected_row(batch, row, first.reason, detail, value)
        await self._producer.send(self._topics.rejected.name, *row_rejected)
