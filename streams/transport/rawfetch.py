"""Take record batches out of aiokafka's fetcher before it makes an object of every record.

``install`` replaces two names of ``aiokafka.consumer.fetcher`` in this process; a consumer then yields Spans for
the topics of the ``RawSpans`` it got as ``value_deserializer``, and behaves as ever for all other topics and
consumers. CRC check, control batches and aborted transactions are treated as aiokafka treats them; positions,
pausing and rebalancing are its own code, which takes the items for opaque.

Upstream names relied on: fetcher.MemoryRecords, fetcher.PartitionRecords (constructor, ``_unpack_records``,
``_consume_aborted_up_to``, ``_contains_abort_marker`` and its attributes). tests/streams/transport/test_contract.py
holds them to the versions that were tested.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import aiokafka.consumer.fetcher as fetcher
import google_crc32c
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

_HEADER_BYTES = 61
_LENGTH_AT, _MAGIC_AT, _CRC_AT, _CHECKED_AT, _LAST_OFFSET_DELTA_AT, _COUNT_AT = 8, 16, 17, 21, 23, 57
_LOG_OVERHEAD = 12
"""Base offset and length, which the length does not count."""

_crc32c = google_crc32c.value if google_crc32c.implementation == "c" else calc_crc32c
"""By the processor's own instruction: aiokafka's takes ten times as long, 6 % of a busy worker's time."""


@dataclass(slots=True)
class Span:
    """One record batch as it came: header fields and the body, still compressed.

    ``skip_below``: position of the fetch; records before it were delivered earlier. A batch that holds nothing
    for a consumer (transaction marker, aborted) has an empty body and count 0: its offsets are still covered.
    """

    base_offset: int
    next_offset: int
    skip_below: int
    first_timestamp_ms: int
    max_timestamp_ms: int
    log_append_time: int
    count: int
    compression: int
    body: memoryview


class RawSpans:
    """``value_deserializer`` of a consumer that wants Spans for ``topics``; other values pass unchanged."""

    def __init__(self, topics: Iterable[str]) -> None:
        self.topics = frozenset(topics)

    def __call__(self, value: bytes | None) -> bytes | None:
        return value


class _KeptRecords:
    """MemoryRecords that keeps its bytes within reach."""

    __slots__ = ("_inner", "data", "has_next", "next_batch", "size_in_bytes")

    def __init__(self, data: bytes) -> None:
        self.data = data
        inner = MemoryRecords(data)
        self.has_next, self.next_batch, self.size_in_bytes = inner.has_next, inner.next_batch, inner.size_in_bytes


class _SpanRecords(fetcher.PartitionRecords):
    """PartitionRecords that yields Spans where its consumer asks for them."""

    def _unpack_records(self) -> Iterator:
        wanted = self._value_deserializer
        if isinstance(wanted, RawSpans) and self._tp.topic in wanted.topics:
            return self._spans()
        return super()._unpack_records()

    def _spans(self) -> Iterator[Span]:
        view = memoryview(self._records.data)
        at = 0
        while len(view) - at >= _LOG_OVERHEAD:
            (length,) = struct.unpack_from(">i", view, at + _LENGTH_AT)
            stop = at + _LOG_OVERHEAD + length
            if stop > len(view):
                return  # A fetch ends where its size limit cuts; the rest is fetched again.
            try:
                span = self._span(view[at:stop])
            except CorruptRecordException:
                if at == 0:
                    raise
                # What came before it is sound: deliver that, and fail on the fetch that starts here.
                return
            at = stop
            if span.next_offset > self.next_fetch_offset:
                # Before the yield, as aiokafka does: the position after an item counts once the item is taken.
                self.next_fetch_offset = span.next_offset
                yield span

    def _span(self, batch: memoryview) -> Span:
        if len(batch) < _HEADER_BYTES:
            raise CorruptRecordException(f"{self._tp}: a record batch of {len(batch)} bytes")
        if batch[_MAGIC_AT] != 2:
            raise CorruptRecordException(
                f"{self._tp}: record format {batch[_MAGIC_AT]} is not supported; rewrite the topic with a broker of "
                'version 0.11 or newer, or set transport.delivery = "consumer_records"'
            )
        head = DefaultRecordBatch(batch)
        # A copy: what waits to be decompressed need not hold the whole fetch in memory.
        checked = bytes(batch[_CHECKED_AT:])
        if self._check_crcs and _crc32c(checked) != int.from_bytes(batch[_CRC_AT:_CHECKED_AT], "big"):
            raise CorruptRecordException(f"Invalid CRC - {self._tp} at offset {head.base_offset}")
        (last_offset_delta,) = struct.unpack_from(">i", batch, _LAST_OFFSET_DELTA_AT)
        (count,) = struct.unpack_from(">i", batch, _COUNT_AT)
        if last_offset_delta < 0:
            raise CorruptRecordException(f"{self._tp}: a record batch at {head.base_offset} that ends before it begins")
        body = memoryview(checked)[_HEADER_BYTES - _CHECKED_AT :]
        hidden = head.is_control_batch
        if self._isolation_level == fetcher.READ_COMMITTED and head.producer_id >= 0:
            self._consume_aborted_up_to(head.base_offset)
            if head.is_control_batch and self._contains_abort_marker(iter(head)):
                self._aborted_producers.discard(head.producer_id)
            hidden |= head.is_transactional and head.producer_id in self._aborted_producers
        return Span(
            base_offset=head.base_offset,
            next_offset=head.next_offset,
            skip_below=self.next_fetch_offset,
            first_timestamp_ms=head.first_timestamp,
            max_timestamp_ms=head.max_timestamp,
            log_append_time=head.timestamp_type,
            count=0 if hidden else max(count, 0),
            compression=0 if hidden else head.compression_type,
            body=body[:0] if hidden else body,
        )


def install() -> None:
    """Replace the two names, once per process; no effect on consumers without RawSpans."""
    fetcher.MemoryRecords = _KeptRecords
    fetcher.PartitionRecords = _SpanRecords


def uninstall() -> None:
    """Put aiokafka's own names back; consumers that run keep what they have."""
    fetcher.MemoryRecords = MemoryRecords
    fetcher.PartitionRecords = _SpanRecords.__mro__[1]
