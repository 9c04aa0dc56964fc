"""The value of one tag of every event of a batch, out of the encoded maps that the decoder keeps.

Guarantees: whatever the bytes are, nothing outside a map's own span is read and the work is linear in its length. Of
a key that comes twice the last value counts, as for every reader of Avro. A map that is none, a value that is empty
and one of more than MAX_VALUE_BYTES have no value.

Cost: one walk over the bytes of the map for each tag asked for. Called by models.extra_scopes.
"""

import numpy as np
from numba import njit

from schemas.hashing import hash_span, load_byte
from schemas.kernels import read_block, read_length

MAX_VALUE_BYTES = 4096
"""As models.engine allows of an event's other names: scopes carry them in keys."""


@njit(cache=True, nogil=True)
def find_value(position, end, name):
    """(first byte, length) of the last value of ``name`` uint8[k] in a map at ``position``; length 0 if none."""
    found, found_length = np.int64(0), np.int64(0)
    while True:
        count, block_end, position = read_block(position, end)
        if position < 0:
            return np.int64(0), np.int64(0)
        if count == 0:
            return found, found_length
        for _ in range(count):
            length, position = read_length(position, end)
            if position < 0:
                return np.int64(0), np.int64(0)
            same = length == len(name)
            if same:
                for i in range(length):
                    if load_byte(position + i) != name[i]:
                        same = False
                        break
            position += length
            length, position = read_length(position, end)
            if position < 0:
                return np.int64(0), np.int64(0)
            if same:
                found, found_length = position, length
            position += length
        if block_end >= 0 and position != block_end:
            return np.int64(0), np.int64(0)


@njit(cache=True, nogil=True)
def tag_values(address, size, keep, tags_start, tags_length, name, start, length):
    """Set ``start``, ``length`` int32[n] to the span of the value of tag ``name`` uint8[k], of the rows to ``keep``.

    address, size int64: the payload, below 2 GiB; spans are in it. A row without a value has length 0.
    """
    for row in range(len(keep)):
        start[row] = 0
        length[row] = 0
        if not keep[row] or tags_length[row] <= 1 or tags_start[row] < 0:
            continue
        first = np.int64(address) + np.int64(tags_start[row])
        end = first + np.int64(tags_length[row])
        if end > address + size:
            continue
        value, bytes_ = find_value(first, end, name)
        if bytes_ <= MAX_VALUE_BYTES and bytes_ > 0:
            start[row] = value - address
            length[row] = bytes_


@njit(cache=True, nogil=True)
def span_hashes(address, size, keep, start, length, k0, k1, k2, hashes):
    """Set ``hashes`` uint64[n, 1] to those of the spans of the rows to ``keep``; 0 for others and empty ones."""
    for row in range(len(keep)):
        hashes[row, 0] = np.uint64(0)
        if keep[row] and start[row] >= 0 and length[row] > 0 and np.int64(start[row]) + length[row] <= size:
            hashes[row, 0], _ = hash_span(np.int64(address) + start[row], np.int64(length[row]), k0, k1, k2)
