"""The kernel that walks record batches, against aiokafka's reader on sound bytes and a plain Python twin on any."""

import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.transport.split import REASONS, split

BASE, FIRST_MS, MAX_MS = 1_000, 1_700_000_000_000, 1_700_000_999_999
INT64 = 1 << 64

maybe_bytes = st.none() | st.binary(max_size=20)
rows_of_records = st.lists(
    st.tuples(
        st.integers(1, 300),
        st.integers(0, 1 << 40),
        maybe_bytes,
        maybe_bytes,
        st.lists(st.tuples(st.text(max_size=4), maybe_bytes), max_size=2),
    ),
    min_size=1,
    max_size=12,
).map(lambda rows: [(sum(r[0] for r in rows[: i + 1]) - rows[0][0], *row[1:]) for i, row in enumerate(rows)])
"""(offset delta with gaps, timestamp, key, value, headers)."""


def varint(value: int) -> bytes:
    bits = (value << 1) ^ (value >> 63)
    out = bytearray()
    while bits >= 0x80:
        out.append(bits & 0x7F | 0x80)
        bits >>= 7
    out.append(bits)
    return bytes(out)


def field(data: bytes | None) -> bytes:
    return varint(-1) if data is None else varint(len(data)) + data


def record(delta: int, ms: int = 0, key: bytes | None = None, value: bytes | None = b"v", tail: bytes = b"\0") -> bytes:
    body = b"\0" + varint(ms) + varint(delta) + field(key) + field(value) + tail
    return varint(len(body)) + body


def run(payload: bytes, *, count: int, next_offset: int = BASE + 100, skip: int = 0, append_time: int = 0):
    """Good rows as tuples and rejected ranges, with the payload amid bytes that belong to others."""
    around = b"\x02\x81" * 40
    buffer = np.frombuffer(around + payload + around, np.uint8)
    start = len(around)
    span = [[start, start + len(payload), BASE, next_offset, FIRST_MS, MAX_MS, append_time, skip, count]]
    rows = split(buffer, np.array(span, np.int64))
    good = [
        (o, t, None if ke < ks else bytes(buffer[ks:ke]), None if ve < vs else bytes(buffer[vs:ve]))
        for o, t, ks, ke, vs, ve in zip(
            *(
                column.tolist()
                for column in (
                    rows.offset,
                    rows.timestamp_ms,
                    rows.key_start,
                    rows.key_end,
                    rows.value_start,
                    rows.value_end,
                )
            ),
            strict=True,
        )
    ]
    bad = [(f, n, bytes(buffer[s:e]), REASONS[r]) for f, n, s, e, r in rows.bad.tolist()]
    return good, bad


class Broken(Exception):
    pass


def twin(payload: bytes, *, count: int, next_offset: int, skip: int, append_time: int):
    """The same in plain Python, with slices of its own bytes instead of positions."""

    def read_varint(data: bytes, at: int) -> tuple[int, int]:
        bits = 0
        for i in range(10):
            if at + i >= len(data):
                raise Broken("bad_varint")
            bits |= (data[at + i] & 0x7F) << (7 * i)
            if data[at + i] < 0x80:
                bits %= INT64
                return (bits >> 1) ^ -(bits & 1), at + i + 1
        raise Broken("bad_varint")

    def read_field(data: bytes, at: int) -> tuple[bytes | None, int]:
        length, at = read_varint(data, at)
        if length < -1 or length > len(data) - at:
            raise Broken("bad_length")
        return (None, at) if length == -1 else (data[at : at + length], at + length)

    good, bad = [], []
    at, expected, pending = 0, BASE, None

    def reject(until: int, end: int) -> None:
        if until > skip:
            bad.append((max(expected, skip), until, payload[pending[0] : end], pending[1]))

    for _ in range(count):
        try:
            length, inside = read_varint(payload, at)
            if length < 0 or length > len(payload) - inside:
                raise Broken("bad_length")
        except Broken as error:
            pending = pending or (at, "truncated" if at == len(payload) else str(error))
            at = len(payload)
            break
        body, begin, at = payload[inside : inside + length], at, inside + length
        try:
            ms, p = read_varint(body, 1)
            delta, p = read_varint(body, p)
            key, p = read_field(body, p)
            value, p = read_field(body, p)
            if not expected - BASE <= delta < next_offset - BASE:
                raise Broken("bad_offset")
        except Broken as error:
            pending = pending or (begin, str(error))
            continue
        if pending:
            reject(BASE + delta, begin)
            pending = None
        expected = BASE + delta + 1
        if BASE + delta >= skip:
            time = MAX_MS if append_time else (FIRST_MS + ms + INT64 // 2) % INT64 - INT64 // 2
            good.append((BASE + delta, time, key, value))
    if pending:
        reject(next_offset, at)
    if at < len(payload) and next_offset > skip:
        bad.append((next_offset, next_offset, payload[at:], "trailing_bytes"))
    return good, bad


@given(rows_of_records, st.integers(0, 400))
@settings(max_examples=150, deadline=None)
def test_sound_batches_read_as_aiokafka_reads_them(record_batch, rows, skip_by):
    data = record_batch(rows, BASE)
    batch = DefaultRecordBatch(data)
    assert batch.validate_crc()
    skip = BASE + skip_by
    expected = [(r.offset, r.timestamp, r.key, r.value) for r in batch if r.offset >= skip]
    span = [[61, len(data), BASE, batch.next_offset, batch.first_timestamp, batch.max_timestamp, 0, skip, len(rows)]]
    buffer = np.frombuffer(data, np.uint8)
    got = split(buffer, np.array(span, np.int64))
    assert not len(got.bad)
    assert [
        (o, t, None if ke < ks else data[ks:ke], None if ve < vs else data[vs:ve])
        for o, t, ks, ke, vs, ve in zip(
            got.offset.tolist(),
            got.timestamp_ms.tolist(),
            got.key_start.tolist(),
            got.key_end.tolist(),
            got.value_start.tolist(),
            got.value_end.tolist(),
            strict=True,
        )
    ] == expected


@st.composite
def hostile_payloads(draw):
    """Sound records, then some bytes changed, cut out, put in or cut off; or anything at all."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=80)), draw(st.integers(-1, 40))
    deltas = draw(st.lists(st.integers(-3, 110), min_size=1, max_size=8))
    if draw(st.booleans()):
        deltas = sorted(set(deltas))
    payload = bytearray(
        b"".join(
            record(d, draw(st.integers(-(1 << 63), (1 << 63) - 1)), draw(maybe_bytes), draw(maybe_bytes))
            for d in deltas
        )
    )
    for _ in range(draw(st.integers(0, 3))):
        if payload:
            at = draw(st.integers(0, len(payload) - 1))
            payload[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
    return bytes(payload), len(deltas) + draw(st.integers(-1, 2))


@given(hostile_payloads(), st.integers(1, 120), st.integers(0, 130), st.integers(0, 1))
@settings(max_examples=400, deadline=None)
def test_any_bytes_give_what_the_plain_python_twin_gives(case, length, skip_by, append_time):
    payload, count = case
    options = dict(count=count, next_offset=BASE + length, skip=BASE - 5 + skip_by, append_time=append_time)
    good, bad = run(payload, **options)
    assert (good, bad) == twin(payload, **options)
    offsets = [row[0] for row in good]
    assert offsets == sorted(set(offsets))
    assert all(BASE <= o < BASE + length for o in offsets)
    assert all(first <= until <= BASE + length for first, until, _, _ in bad)


def test_a_record_that_is_broken_inside_costs_only_itself():
    broken = varint(7) + b"\0" + varint(0) + varint(1) + varint(99) + b"xx"
    payload = record(0, value=b"a") + broken + record(2, value=b"c")
    good, bad = run(payload, count=3, next_offset=BASE + 3)
    assert [row[3] for row in good] == [b"a", b"c"]
    assert bad == [(BASE + 1, BASE + 2, broken, "bad_length")]


def test_a_broken_length_costs_the_rest_of_its_batch_and_not_the_next_batch():
    payload = record(0, value=b"a") + varint(1 << 40) + record(2)
    buffer = np.frombuffer(payload + record(0, value=b"z"), np.uint8)
    n, m = len(payload), len(buffer)
    spans = [[0, n, BASE, BASE + 3, 0, 0, 0, 0, 3], [n, m, BASE + 3, BASE + 4, 0, 0, 0, 0, 1]]
    rows = split(buffer, np.array(spans, np.int64))
    assert rows.offset.tolist() == [BASE, BASE + 3]
    assert [(f, u, REASONS[r]) for f, u, _, _, r in rows.bad.tolist()] == [(BASE + 1, BASE + 3, "bad_length")]


@pytest.mark.parametrize("count", [-1, 0, 1, 2, 3, 1 << 31])
def test_a_count_that_lies_is_reported_and_loses_no_record_it_covers(count):
    payload = record(0) + record(1)
    good, bad = run(payload, count=count, next_offset=BASE + 2)
    assert len(good) == min(max(count, 0), 2)
    assert [reason for *_, reason in bad] == ([] if count == 2 else ["trailing_bytes"] if count < 2 else ["truncated"])


def test_log_append_time_gives_every_record_the_batchs_time():
    good, _ = run(record(0, 5) + record(1, 6), count=2, append_time=1)
    assert [row[1] for row in good] == [MAX_MS, MAX_MS]


def test_offsets_must_rise_within_the_batch():
    payload = record(3) + record(3) + record(2) + record(-1) + record(100) + record(4)
    good, bad = run(payload, count=6)
    assert [row[0] for row in good] == [BASE + 3, BASE + 4]
    assert bad == [(BASE + 4, BASE + 4, record(3) + record(2) + record(-1) + record(100), "bad_offset")]


def test_nothing_before_the_position_is_given_or_reported_again():
    payload = record(0) + varint(0) + record(2) + record(3)
    good, bad = run(payload, count=4, next_offset=BASE + 4, skip=BASE + 2)
    assert [row[0] for row in good] == [BASE + 2, BASE + 3]
    assert bad == []


def test_no_spans_give_no_rows():
    rows = split(np.empty(0, np.uint8), np.empty((0, 9), np.int64))
    assert not len(rows.offset) and not len(rows.bad)
