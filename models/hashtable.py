"""Open-addressing index from 64-bit keys to rows, for kernels.

Keys are already well mixed (keyed string hashes or ``mix`` of them), so the low bits address a slot and
collisions probe linearly. Key 0 marks an empty slot: callers never use it. The index is two arrays of a
power-of-two length, ``keys`` uint64[cap] and ``rows`` int32[cap]; kernels never grow them, the owning class
reserves room before a batch (load at most 5/8, so a probe ends and a miss looks at 4 slots on average). 19 bytes per
entry at that load, 38 just after growing.
"""

import math
import mmap

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

EMPTY = np.uint64(0)
MIN_CAPACITY = 1024
AHEAD = 16
"""Events between asking for what a probe will touch and the probe: about as long as main memory takes to answer."""


MAPPED_BYTES = 1 << 20
"""Arrays from this size on get pages of their own from the kernel."""
HUGE_BYTES = 16 << 20
"""From this size on those are pages of 2 MB, which save misses of the address cache and waste at most one of them."""
RESERVING_ROWS = 1 << 17


@intrinsic
def _prefetch(_typing, address):
    if address != types.int64:
        return None

    def codegen(_context, builder, _signature, args):
        word = ir.IntType(32)
        pointer = builder.inttoptr(args[0], cgutils.voidptr_t)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, word, word, word])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        # For reading, to be kept in all caches, data.
        builder.call(prefetch, [pointer, word(0), word(3), word(1)])
        return _context.get_dummy_value()

    return types.void(types.int64), codegen


@njit(cache=True, nogil=True, inline="always")
def prefetch(array, row):
    """Ask for the cache line where ``row`` of a C-contiguous array begins. Any row is allowed: it cannot fault."""
    _prefetch(np.int64(array.ctypes.data) + np.int64(row) * np.int64(array.strides[0]))


@njit(cache=True, nogil=True, inline="always")
def prefetch_slot(keys, key):
    """Ask for the slot of ``key``."""
    prefetch(keys, key & np.uint64(len(keys) - 1))


@njit(cache=True, nogil=True, inline="always")
def mix(a, b):
    """A 64-bit key from two, order-dependent; never 0 (splitmix64 finaliser)."""
    h = (a * np.uint64(0x9E3779B97F4A7C15)) ^ (b + np.uint64(0xD1B54A32D192ED03))
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    h = h ^ (h >> np.uint64(31))
    return h if h != EMPTY else np.uint64(1)


@njit(cache=True, nogil=True, inline="always")
def find(keys, rows, key):
    """Row of ``key``, or -1."""
    mask = np.uint64(len(keys) - 1)
    slot = key & mask
    while keys[slot] != EMPTY:
        if keys[slot] == key:
            return rows[slot]
        slot = (slot + np.uint64(1)) & mask
    return np.int32(-1)


@njit(cache=True, nogil=True, inline="always")
def put(keys, rows, key, row):
    """Set the row of ``key``, new or not. The caller has reserved room."""
    mask = np.uint64(len(keys) - 1)
    slot = key & mask
    while keys[slot] != EMPTY and keys[slot] != key:
        slot = (slot + np.uint64(1)) & mask
    keys[slot] = key
    rows[slot] = row


@njit(cache=True, nogil=True)
def remove(keys, rows, key):
    """Take ``key`` out, closing the gap so that no tombstones pile up (Knuth 6.4, algorithm R)."""
    mask = np.uint64(len(keys) - 1)
    one = np.uint64(1)
    slot = key & mask
    while keys[slot] != key:
        if keys[slot] == EMPTY:
            return
        slot = (slot + one) & mask
    hole = slot
    while True:
        slot = (slot + one) & mask
        if keys[slot] == EMPTY:
            break
        home = keys[slot] & mask
        if ((slot - home) & mask) >= ((slot - hole) & mask):
            keys[hole] = keys[slot]
            rows[hole] = rows[slot]
            hole = slot
    keys[hole] = EMPTY


@njit(cache=True, nogil=True)
def remove_rows(keys, rows, row_keys, gone):
    """Take the keys of the rows ``gone`` int64[k] out, and set them to EMPTY: the rows are free."""
    for row in gone:
        remove(keys, rows, row_keys[row])
        row_keys[row] = EMPTY


@njit(cache=True, nogil=True)
def rebuild(keys, rows, row_keys, count):
    """Index the first ``count`` rows by their keys; rows whose key is 0 are free and left out."""
    for row in range(count):
        if row + AHEAD < count:
            prefetch_slot(keys, row_keys[row + AHEAD])
            prefetch_slot(rows, row_keys[row + AHEAD])
        if row_keys[row] != EMPTY:
            put(keys, rows, row_keys[row], np.int32(row))


class Index:
    """Owns the two arrays and grows them between batches."""

    __slots__ = ("keys", "rows")

    def __init__(self, capacity: int = MIN_CAPACITY):
        self.keys = zeros(capacity, np.uint64)
        self.rows = zeros(capacity, np.int32)

    def reserve(self, entries: int, row_keys: np.ndarray, count: int) -> None:
        """Make room for ``entries`` in all; re-indexes ``row_keys[:count]`` when it grows."""
        capacity = self._capacity(entries)
        if capacity > len(self.keys):
            self.reset(capacity, row_keys, count)

    def rebuild(self, entries: int, row_keys: np.ndarray, count: int) -> None:
        """Index ``row_keys[:count]`` anew, with room for ``entries`` in all."""
        self.reset(self._capacity(entries), row_keys, count)

    def _capacity(self, entries: int) -> int:
        capacity = len(self.keys)
        while capacity * 5 < entries * 8:
            capacity *= 2
        return capacity

    def reset(self, capacity: int, row_keys: np.ndarray, count: int) -> None:
        """Start anew with ``row_keys[:count]``."""
        self.keys = zeros(capacity, np.uint64)
        self.rows = zeros(capacity, np.int32)
        rebuild(self.keys, self.rows, row_keys, count)


def grown(array: np.ndarray, rows: int) -> np.ndarray:
    """``array`` with room for at least ``rows`` rows; new rows are zero.

    It at least doubles when it grows. From RESERVING_ROWS on it quadruples: room that is not used costs no memory, and
    copying then costs little beside filling it.
    """
    if rows <= len(array):
        return array
    factor = 4 if len(array) >= RESERVING_ROWS else 2
    bigger = zeros((max(rows, factor * len(array)), *array.shape[1:]), array.dtype)
    bigger[: len(array)] = array
    return bigger


def zeros(shape: int | tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """As np.zeros, for arrays that live long and grow: a large one takes memory only where it has been written to.

    The C library would clear all of it, spare rows included, and on growing leave a hole where the old one was: at a
    million sessions a fifth of their memory.
    """
    shape = (shape,) if isinstance(shape, int) else shape
    count = math.prod(shape)
    size = count * np.dtype(dtype).itemsize
    if size < MAPPED_BYTES:
        return np.zeros(shape, dtype)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= HUGE_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype, count).reshape(shape)
