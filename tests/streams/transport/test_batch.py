"""Fetched bytes to deliveries: both ways give the same, and nothing that a fetch may hold is lost or fatal."""

import itertools
import struct

import aiokafka.consumer.fetcher as fetcher
import numpy as np
import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from faust.types import TP

from streams.transport import rawfetch
from streams.transport.assemble import Buffers, Limits, from_records, from_spans

TOPIC = TP("usage", 3)
CONTROL, TRANSACTIONAL = 0x20, 0x10
AIOKAFKA_RECORDS = rawfetch._SpanRecords.__mro__[1]


def rows(n, start=0, key=b"k", size=30):
    return [(i, 1_700_000_000_000 + i, b"%b%d" % (key, start + i), b"v%d" % (start + i) * size, []) for i in range(n)]


def spans_of(data, position=0, isolation=fetcher.READ_UNCOMMITTED, aborted=()):
    records = rawfetch._SpanRecords(
        TOPIC, rawfetch._KeptRecords(data), list(aborted), position, None, rawfetch.RawSpans(["usage"]), True, isolation
    )
    return list(records), records.next_fetch_offset


def records_of(data, position=0, isolation=fetcher.READ_UNCOMMITTED, aborted=()):
    records = AIOKAFKA_RECORDS(TOPIC, MemoryRecords(data), list(aborted), position, None, None, True, isolation)
    return list(records), records.next_fetch_offset


def listed(batches):
    return [(int(b.offset[i]), int(b.timestamp_ms[i]), b.key(i), b.value(i)) for b in batches for i in range(len(b))]


def spans_to_batches(data, position=0, limits=None, **how):
    spans, end = spans_of(data, position, **how)
    batches = from_spans(TOPIC, spans, limits or Limits(), fetched_ms=7, highwater=99)
    assert batches[-1].next_offset == end
    for one, following in itertools.pairwise(batches):
        assert following.first_offset == one.next_offset
    return batches


@pytest.mark.parametrize("compression", range(5), ids=["none", "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("position", [0, 137, 299])
def test_both_ways_of_delivery_give_the_same(record_batch, compression, position):
    # A fetch starts with the record batch that holds the position.
    data = b"".join(record_batch(rows(100, k * 100), k * 100, compression) for k in range(position // 100, 3))
    raw = spans_to_batches(data, position)
    items, end = records_of(data, position)
    plain = from_records(TOPIC, items, Limits(), fetched_ms=7, highwater=99)
    assert listed(raw) == listed(plain) == [(r.offset, r.timestamp, r.key, r.value) for r in items]
    for batches in (raw, plain):
        assert {(b.tp, b.fetched_ms, b.highwater, b.rejected) for b in batches} == {(TOPIC, 7, 99, ())}
        assert (batches[0].first_offset, batches[-1].next_offset) == (position, end) == (position, 300)


def test_null_keys_and_values_stay_apart_from_empty_ones(record_batch):
    data = record_batch([(0, 1, None, b"", []), (1, 2, b"", None, []), (2, 3, None, None, [("h", b"x")])])
    plain = from_records(TOPIC, records_of(data)[0], Limits(), fetched_ms=0)
    assert listed(spans_to_batches(data)) == listed(plain) == [(0, 1, None, b""), (1, 2, b"", None), (2, 3, None, None)]


@pytest.mark.parametrize(
    "limits", [Limits(records=250), Limits(bytes=20_000), Limits(records=1), Limits(bytes=1), Limits(bytes=4_500)]
)
@pytest.mark.parametrize("compression", [0, 3])
def test_limits_cut_between_record_batches_and_lose_nothing(record_batch, limits, compression):
    data = b"".join(record_batch(rows(100, k * 100), k * 100, compression) for k in range(10))
    raw = spans_to_batches(data, limits=limits)
    assert len(raw) > 1
    assert all(len(b) <= max(limits.records, 100) for b in raw)
    plain = from_records(TOPIC, records_of(data)[0], limits, fetched_ms=0)
    assert all(len(b) <= limits.records for b in plain)
    assert listed(raw) == listed(plain)


def test_a_batch_that_decompresses_to_too_much_is_rejected_and_its_neighbours_are_not(record_batch):
    bomb = record_batch([(0, 1, None, b"\0" * 1_000_000, [])], 10, 4)
    data = record_batch(rows(10)) + bomb + record_batch(rows(5), 11)
    batches = spans_to_batches(data, limits=Limits(bytes=1_000, record_batch_bytes=100_000))
    assert [row[0] for row in listed(batches)] == [*range(10), *range(11, 16)]
    (rejected,) = [r for b in batches for r in b.rejected]
    assert (rejected.first_offset, rejected.next_offset, rejected.reason) == (10, 11, "bad_compression")
    assert rejected.data == bomb[61:]


@pytest.mark.parametrize("compression", [1, 2, 3, 4, 7])
def test_bytes_that_do_not_decompress_are_rejected_with_their_offsets(record_batch, compression):
    def spoil(raw):
        raw[22] = raw[22] & ~7 | compression
        raw[61:] = b"this is not compressed with anything at all"

    data = record_batch(rows(3)) + record_batch(rows(4), 3, patch=spoil) + record_batch(rows(2), 7)
    batches = spans_to_batches(data, position=4)
    assert [row[0] for row in listed(batches)] == [7, 8]
    (rejected,) = [r for b in batches for r in b.rejected]
    assert (rejected.first_offset, rejected.next_offset, rejected.reason) == (4, 7, "bad_compression")


def test_broken_framing_under_a_good_crc_is_reported_and_costs_no_other_record(record_batch):
    def spoil(raw):
        # The length of the second of the two records, which are of equal size.
        raw[61 + (len(raw) - 61) // 2] = 0x7F

    data = record_batch(rows(3)) + record_batch(rows(2, size=1), 3, patch=spoil) + record_batch(rows(2), 5)
    batches = spans_to_batches(data)
    assert [row[0] for row in listed(batches)] == [0, 1, 2, 3, 5, 6]
    assert [(r.first_offset, r.next_offset, r.reason) for b in batches for r in b.rejected] == [(4, 5, "bad_length")]


def test_batches_before_the_position_are_left_out_and_never_move_it_back(record_batch):
    data = b"".join(record_batch(rows(100, k * 100), k * 100) for k in range(3))
    batches = spans_to_batches(data, 137)
    assert [row[0] for row in listed(batches)] == list(range(137, 300))
    assert spans_of(data[: len(data) // 3], 137) == ([], 137)


@pytest.mark.parametrize("cut", [1, 30, 61, 100])
def test_a_fetch_that_is_cut_off_gives_the_whole_batches_and_resumes_after_them(record_batch, cut):
    first, second = record_batch(rows(10)), record_batch(rows(10), 10)
    spans, end = spans_of(first + second[:cut])
    assert [(s.base_offset, s.next_offset) for s in spans] == [(0, 10)]
    assert end == 10


def test_a_bad_crc_ends_the_fetch_before_it_and_fails_the_one_that_starts_with_it(record_batch):
    good, bad = record_batch(rows(10)), bytearray(record_batch(rows(10), 10))
    bad[80] ^= 1
    spans, end = spans_of(good + bytes(bad) + record_batch(rows(1), 20))
    assert (len(spans), end) == (1, 10)
    with pytest.raises(CorruptRecordException, match="CRC"):
        spans_of(bytes(bad), 10)


@pytest.mark.parametrize("length", [-1, 0, 20, 48])
def test_a_batch_shorter_than_its_header_is_refused(record_batch, length):
    data = bytearray(record_batch(rows(10)))
    data[8:12] = struct.pack(">i", length)
    if length < 0:
        data = data[:11]
        assert spans_of(bytes(data))[0] == []
    else:
        with pytest.raises(CorruptRecordException):
            spans_of(bytes(data))


def marker(record_batch, offset, abort):
    control = [(0, 1, struct.pack(">HH", 0, 0 if abort else 1), b"\0" * 6, [])]
    return record_batch(control, offset, producer_id=7, attributes=CONTROL | TRANSACTIONAL)


@pytest.mark.parametrize("isolation", [fetcher.READ_COMMITTED, fetcher.READ_UNCOMMITTED])
def test_aborted_transactions_and_markers_are_hidden_as_aiokafka_hides_them(record_batch, isolation):
    data = (
        record_batch(rows(5, key=b"plain"), 0)
        + record_batch(rows(5, key=b"aborted"), 5, 3, producer_id=7, attributes=TRANSACTIONAL)
        + record_batch(rows(2, key=b"other"), 10, producer_id=8, attributes=TRANSACTIONAL)
        + marker(record_batch, 12, abort=True)
        + record_batch(rows(5, key=b"kept"), 13, 3, producer_id=7, attributes=TRANSACTIONAL)
        + marker(record_batch, 18, abort=False)
    )
    how = dict(isolation=isolation, aborted=[(7, 5)])
    items, end = records_of(data, **how)
    batches = spans_to_batches(data, **how)
    assert listed(batches) == [(r.offset, r.timestamp, r.key, r.value) for r in items]
    assert len(items) == (12 if isolation == fetcher.READ_COMMITTED else 17)
    # The marker at the end has no record, yet the position is behind it, so that it can be committed.
    assert end == batches[-1].next_offset == 19


def test_a_fetch_of_only_markers_is_a_delivery_without_records(record_batch):
    (batch,) = spans_to_batches(marker(record_batch, 4, abort=False), 4)
    assert (len(batch), batch.first_offset, batch.next_offset, batch.rejected) == (0, 4, 5, ())


def test_other_topics_and_consumers_get_aiokafkas_records(record_batch):
    data = record_batch(rows(3))
    for deserializer in (None, rawfetch.RawSpans(["other"])):
        records = rawfetch._SpanRecords(TOPIC, rawfetch._KeptRecords(data), [], 0, None, deserializer, True, 0)
        assert [(r.key, r.value) for r in records] == [(r.key, r.value) for r in records_of(data)[0]]


def test_install_replaces_both_names_and_uninstall_puts_them_back():
    rawfetch.install()
    assert fetcher.PartitionRecords is rawfetch._SpanRecords
    assert fetcher.MemoryRecords is rawfetch._KeptRecords
    rawfetch.uninstall()
    assert fetcher.PartitionRecords is AIOKAFKA_RECORDS
    assert fetcher.MemoryRecords is MemoryRecords


def test_memory_of_a_delivery_is_used_again_once_nothing_refers_to_it(record_batch):
    limits = Limits(bytes=6_000)
    buffers = Buffers(limits)

    def deliver(value):
        spans, _ = spans_of(record_batch([(i, 0, b"k", value * 40, []) for i in range(100)], 0, 3))
        (batch,) = from_spans(TOPIC, spans, limits, fetched_ms=7, buffers=buffers)
        return batch

    first, second = deliver(b"a"), deliver(b"b")
    assert not np.shares_memory(first.payload, second.payload)
    kept, memory = first.payload[10:20], first.payload.ctypes.data
    del first
    third = deliver(b"c")
    assert third.payload.ctypes.data != memory and bytes(kept) == bytes(kept[:1]) * 10
    del kept
    assert deliver(b"d").payload.ctypes.data == memory
    assert {second.value(99), third.value(99)} == {b"b" * 40, b"c" * 40}
