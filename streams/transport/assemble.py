"""Make PartitionBatches of what was fetched: of raw spans, or of aiokafka's records.

Runs in the consumer's thread. A delivery holds at most ``Limits.records`` records and ``Limits.bytes`` of payload
(a single record batch above that is delivered alone), so that one delivery is a bounded piece of work and the
event loop stays responsive. Cost: decompressing, and some 20 ns a record for splitting.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from faust.types import TP

from streams.transport.batch import NO_HIGHWATER, PartitionBatch, RejectedRange
from streams.transport.compression import NONE, DecompressError, decompress_into
from streams.transport.rawfetch import Span
from streams.transport.split import REASONS, split


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one delivery."""

    records: int = 50_000
    bytes: int = 8 << 20
    record_batch_bytes: int = 64 << 20
    """A record batch that decompresses to more than this is rejected."""


class Buffers:
    """Memory for full deliveries, used again once nothing refers to it; one per consumer.

    A delivery lives until its events are applied. Fresh memory for each would cost more than decompressing into it,
    since the kernel clears every page that is touched for the first time.
    """

    KEPT = 16
    """More may be in use at a time; they are freed as usual."""

    def __init__(self, limits: Limits) -> None:
        self._size = limits.bytes
        self._kept: list[np.ndarray] = []

    def take(self, room: int) -> np.ndarray:
        """uint8[>= room], with whatever was in it."""
        if room != self._size:
            return np.empty(room, np.uint8)
        for buffer in self._kept:
            # Referred to by the list, this loop and the call alone: payloads are views, which refer to their buffer.
            if sys.getrefcount(buffer) == 3:
                return buffer
        buffer = np.empty(room, np.uint8)
        if len(self._kept) < self.KEPT:
            self._kept.append(buffer)
        return buffer


def from_spans(
    tp: TP,
    spans: Sequence[Span],
    limits: Limits,
    *,
    fetched_ms: int,
    highwater: int = NO_HIGHWATER,
    buffers: Buffers | None = None,
) -> list[PartitionBatch]:
    """Deliveries in offset order that cover all ``spans``; ``generation`` is left 0."""
    batches: list[PartitionBatch] = []
    take = (buffers or Buffers(limits)).take
    pile = _Pile(take(_estimate(spans, limits)))

    def close(position: int) -> None:
        nonlocal pile
        if pile.spans:
            batches.append(pile.batch(tp, fetched_ms, highwater))
        pile = _Pile(take(_estimate(spans[position:], limits)))

    for position, span in enumerate(spans):
        if pile.records + span.count > limits.records:
            close(position)
        if pile.add(span):
            continue
        close(position)
        if pile.add(span):
            continue
        # Untouched pages cost no memory, so the largest batch that is allowed can be tried for.
        pile = _Pile(np.empty(limits.record_batch_bytes, np.uint8))
        if not pile.add(span):
            pile.reject(span)
        close(position + 1)
    close(len(spans))
    return batches


def from_records(
    tp: TP, records: Sequence, limits: Limits, *, fetched_ms: int, highwater: int = NO_HIGHWATER
) -> list[PartitionBatch]:
    """The same of aiokafka ConsumerRecords; where a delivery starts is not known, so it starts at its first record."""
    batches, piled, size = [], [], 0
    for record in records:
        bytes_ = len(record.key or b"") + len(record.value or b"")
        if piled and (len(piled) >= limits.records or size + bytes_ > limits.bytes):
            batches.append(_of_records(tp, piled, fetched_ms, highwater))
            piled, size = [], 0
        piled.append(record)
        size += bytes_
    batches.append(_of_records(tp, piled, fetched_ms, highwater))
    return batches


def _of_records(tp: TP, records: list, fetched_ms: int, highwater: int) -> PartitionBatch:
    n = len(records)
    parts = [part or b"" for record in records for part in (record.key, record.value)]
    length = np.fromiter(map(len, parts), np.int64, 2 * n)
    end = np.cumsum(length)
    start = end - length
    null = np.fromiter((part is None for record in records for part in (record.key, record.value)), bool, 2 * n)
    end[null] = start[null] - 1
    return PartitionBatch(
        tp=tp,
        first_offset=records[0].offset,
        next_offset=records[-1].offset + 1,
        generation=0,
        payload=np.frombuffer(b"".join(parts), np.uint8),
        offset=np.fromiter((record.offset for record in records), np.int64, n),
        timestamp_ms=np.fromiter((record.timestamp for record in records), np.int64, n),
        key_start=start[0::2],
        key_end=end[0::2],
        value_start=start[1::2],
        value_end=end[1::2],
        fetched_ms=fetched_ms,
        highwater=highwater,
    )


def _estimate(spans: Iterable[Span], limits: Limits) -> int:
    """Room for what is likely to come: a wrong guess costs one more attempt, never a record."""
    size = sum(len(span.body) if span.compression == NONE else 4096 + 12 * len(span.body) for span in spans)
    return min(size, limits.bytes)


class _Pile:
    """A delivery being put together."""

    def __init__(self, buffer: np.ndarray) -> None:
        self.buffer = buffer
        self.used = 0
        self.records = 0
        self.spans: list[Span] = []
        self.meta: list[tuple[int, ...]] = []
        self.rejected: list[RejectedRange] = []

    def add(self, span: Span) -> bool:
        """Decompress ``span`` behind the others; False, and nothing changed, if that did not work."""
        try:
            size = decompress_into(span.compression, span.body, self.buffer[self.used :])
        except DecompressError:
            return False
        start, self.used = self.used, self.used + size
        self.records += span.count
        self.spans.append(span)
        self.meta.append(
            (
                start,
                self.used,
                span.base_offset,
                span.next_offset,
                span.first_timestamp_ms,
                span.max_timestamp_ms,
                span.log_append_time,
                span.skip_below,
                span.count,
            )
        )
        return True

    def reject(self, span: Span) -> None:
        first = max(span.base_offset, span.skip_below)
        self.rejected.append(RejectedRange(first, span.next_offset, "bad_compression", bytes(span.body)))
        self.spans.append(span)

    def batch(self, tp: TP, fetched_ms: int, highwater: int) -> PartitionBatch:
        payload = self.buffer[: self.used]
        rows = split(payload, np.array(self.meta, np.int64).reshape(-1, 9))
        for first, next_offset, start, end, reason in rows.bad.tolist():
            self.rejected.append(RejectedRange(first, next_offset, REASONS[reason], payload[start:end].tobytes()))
        return PartitionBatch(
            tp=tp,
            first_offset=max(self.spans[0].base_offset, self.spans[0].skip_below),
            next_offset=self.spans[-1].next_offset,
            generation=0,
            payload=payload,
            offset=rows.offset,
            timestamp_ms=rows.timestamp_ms,
            key_start=rows.key_start,
            key_end=rows.key_end,
            value_start=rows.value_start,
            value_end=rows.value_end,
            fetched_ms=fetched_ms,
            highwater=highwater,
            rejected=tuple(self.rejected),
        )
