"""Walk decompressed record-batch payloads (magic 2) into columns.

Guarantee: never reads outside ``start..end`` of a span and never loops without progress, whatever the bytes; what
cannot be framed is reported with its offsets and the good records around it are kept. A record whose length is
sound but whose inside is not costs that record only; a broken length leaves nothing to find the next record by,
so it costs the rest of its batch. Offsets that come out are strictly increasing and within their batch.

Record: varint length, int8 attributes, varint timestamp delta, varint offset delta, varint-prefixed key and value
(-1 = null), headers. Headers are not looked at: the length says where the next record starts.
Source: Apache Kafka, DefaultRecordBatch.java and DefaultRecord.java. Cost: about 20 ns a record.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

REASONS = ("truncated", "trailing_bytes", "bad_varint", "bad_length", "bad_offset", "bad_compression")
"""Why a range was rejected; bounded, so that it can label a metric.

``truncated``: fewer records than the batch's header says. ``trailing_bytes``: more bytes than its records.
``bad_offset``: outside the batch or not increasing. ``bad_compression``: does not decompress within the limit.
"""
_TRUNCATED, _TRAILING, _BAD_VARINT, _BAD_LENGTH, _BAD_OFFSET, _ = range(6)

START, END, BASE_OFFSET, NEXT_OFFSET, FIRST_TIMESTAMP, MAX_TIMESTAMP, LOG_APPEND_TIME, SKIP_BELOW, COUNT = range(9)
"""Columns of ``spans``, int64[m, 9]: the byte range in the payload, what the batch's header says, and the position
below which records were delivered earlier. LOG_APPEND_TIME is 1 where every record carries MAX_TIMESTAMP."""

_MIN_RECORD_BYTES = 6
_BAD_FIRST, _BAD_NEXT, _BAD_START, _BAD_END, _BAD_REASON = range(5)


@dataclass(slots=True)
class Rows:
    """n rows as in PartitionBatch, and ``bad`` int64[k, 5]: first and next offset, byte range, index in REASONS."""

    offset: np.ndarray
    timestamp_ms: np.ndarray
    key_start: np.ndarray
    key_end: np.ndarray
    value_start: np.ndarray
    value_end: np.ndarray
    bad: np.ndarray


def split(payload: np.ndarray, spans: np.ndarray) -> Rows:
    """Rows of all ``spans`` of ``payload`` (uint8); every span must lie inside it."""
    room = np.maximum(spans[:, END] - spans[:, START], 0) // _MIN_RECORD_BYTES
    # The header's count is only a hint of how much to allocate: it may lie, and bytes cannot.
    capacity = int(np.minimum(np.maximum(spans[:, COUNT], 0), room).sum())
    columns = [np.empty(capacity, np.int64) for _ in range(6)]
    bad = np.empty((capacity + 2 * len(spans), 5), np.int64)
    rows, rejected = _split(payload, spans, *columns, bad)
    return Rows(*(column[:rows] for column in columns), bad[:rejected])


@njit(cache=True, nogil=True)
def _varint(buf, at, end):
    """Zigzag varint at ``at``: (value, position after it), position -1 if there is none before ``end``."""
    if at < 0:
        return np.int64(0), np.int64(-1)
    bits = np.uint64(0)
    shift = np.uint64(0)
    while at < end and shift < np.uint64(70):
        byte = buf[at]
        at += 1
        bits |= np.uint64(byte & 0x7F) << shift
        if byte < 128:
            return np.int64(bits >> np.uint64(1)) ^ -np.int64(bits & np.uint64(1)), np.int64(at)
        shift += np.uint64(7)
    return np.int64(0), np.int64(-1)


@njit(cache=True, nogil=True)
def _reject(bad, n, first, next_offset, start, end, reason, skip):
    if next_offset <= skip:
        return n
    bad[n, _BAD_FIRST] = max(first, skip)
    bad[n, _BAD_NEXT] = next_offset
    bad[n, _BAD_START] = start
    bad[n, _BAD_END] = end
    bad[n, _BAD_REASON] = reason
    return n + 1


@njit(cache=True, nogil=True)
def _split(buf, spans, offset, timestamp_ms, key_start, key_end, value_start, value_end, bad):
    n = 0
    n_bad = 0
    for s in range(spans.shape[0]):
        at = spans[s, START]
        end = spans[s, END]
        base = spans[s, BASE_OFFSET]
        next_offset = spans[s, NEXT_OFFSET]
        skip = spans[s, SKIP_BELOW]
        expected = base
        bad_start = np.int64(-1)
        reason = _TRUNCATED
        left = spans[s, COUNT]
        while left > 0:
            length, p = _varint(buf, at, end)
            if p < 0 or length < 0 or length > end - p:
                # Nothing tells where the next record starts: the rest of the batch is lost.
                if bad_start < 0:
                    bad_start = at
                    reason = _TRUNCATED if at >= end else (_BAD_VARINT if p < 0 else _BAD_LENGTH)
                at = end
                break
            left -= 1
            stop = p + length
            delta_ms, p = _varint(buf, p + 1, stop)
            delta, p = _varint(buf, p, stop)
            key_length, p = _varint(buf, p, stop)
            error = -1
            k0 = p
            v0 = p
            value_length = np.int64(-1)
            if p < 0:
                error = _BAD_VARINT
            elif key_length < -1 or key_length > stop - p:
                error = _BAD_LENGTH
            else:
                value_length, v0 = _varint(buf, p + max(key_length, 0), stop)
                if v0 < 0:
                    error = _BAD_VARINT
                elif value_length < -1 or value_length > stop - v0:
                    error = _BAD_LENGTH
                elif delta < 0 or delta >= next_offset - base or base + delta < expected:
                    error = _BAD_OFFSET
            if error >= 0:
                if bad_start < 0:
                    bad_start = at
                    reason = error
                at = stop
                continue
            this = base + delta
            if bad_start >= 0:
                n_bad = _reject(bad, n_bad, expected, this, bad_start, at, reason, skip)
                bad_start = np.int64(-1)
            expected = this + 1
            at = stop
            if this >= skip:
                offset[n] = this
                timestamp_ms[n] = (
                    spans[s, MAX_TIMESTAMP]
                    if spans[s, LOG_APPEND_TIME] == 1
                    else (spans[s, FIRST_TIMESTAMP] + delta_ms)
                )
                key_start[n] = k0
                key_end[n] = k0 + key_length
                value_start[n] = v0
                value_end[n] = v0 + value_length
                n += 1
        if bad_start >= 0:
            n_bad = _reject(bad, n_bad, expected, next_offset, bad_start, at, reason, skip)
        if at < end:
            n_bad = _reject(bad, n_bad, next_offset, next_offset, at, end, _TRAILING, skip)
    return n, n_bad
