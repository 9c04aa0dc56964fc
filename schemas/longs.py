"""Plain Avro for many records that end in longs: varints by a kernel, 20 ns each, and strings to put before them.

For records written by the thousand a second, all of one schema, whose strings repeat; others go through schemas.codec.
The test compares with fastavro. Source: Avro 1.11 specification, binary encoding. Called by models.spend.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numba import njit

_MAX_BYTES = 10
"""Of a 64-bit varint."""


@njit(cache=True, nogil=True)
def write_longs(values, out, end):
    """Write values int64[n, k] row by row into ``out`` uint8 (10 bytes a value); end int64[n]: where each row ends."""
    at = 0
    for i in range(values.shape[0]):
        for c in range(values.shape[1]):
            value = values[i, c]
            zigzag = np.uint64((value << 1) ^ (value >> 63))
            while zigzag >= np.uint64(128):
                out[at] = np.uint8(zigzag & np.uint64(127)) | np.uint8(128)
                zigzag >>= np.uint64(7)
                at += 1
            out[at] = np.uint8(zigzag)
            at += 1
        end[i] = at


def encoded_longs(values: np.ndarray) -> Iterator[bytes]:
    """The k longs of each row of int64[n, k]."""
    values = np.ascontiguousarray(values, np.int64)
    out, end = np.empty(_MAX_BYTES * values.size, np.uint8), np.empty(len(values), np.int64)
    write_longs(values, out, end)
    data = out[: end[-1] if len(end) else 0].tobytes()
    at = 0
    for stop in end.tolist():
        yield data[at:stop]
        at = stop


def encode_strings(texts: Iterable[str]) -> bytes:
    """Strings, one after the other."""
    parts = []
    for text in texts:
        value = text.encode()
        parts += [*encoded_longs(np.array([[len(value)]])), value]
    return b"".join(parts)
