"""The index against a plain dict, with removals and long probe runs."""

import mmap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from models.hashtable import MAPPED_BYTES, MIN_CAPACITY, RESERVING_ROWS, Index, find, grown, prefetch, put, remove

# Few distinct low bits, so that keys collide and probe runs wrap around the end of the table.
keys = st.builds(
    lambda low, high: ((high * MIN_CAPACITY + low) % 2**64) or 1,
    st.sampled_from([0, 1, 2, MIN_CAPACITY - 2, MIN_CAPACITY - 1]),
    st.integers(0, 40),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.booleans(), keys), max_size=120))
def test_equals_a_dict(steps):
    index, twin = Index(), {}
    for number, (add, key) in enumerate(steps):
        if add:
            put(index.keys, index.rows, np.uint64(key), np.int32(number))
            twin[key] = number
        else:
            remove(index.keys, index.rows, np.uint64(key))
            twin.pop(key, None)
    for _, key in steps:
        assert find(index.keys, index.rows, np.uint64(key)) == twin.get(key, -1)
    assert np.count_nonzero(index.keys) == len(twin)


def test_growing_keeps_every_entry():
    index = Index()
    row_keys = (np.arange(1, 5001, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    index.reserve(5000, row_keys, 5000)
    assert len(index.keys) * 5 >= 5_000 * 8
    assert [find(index.keys, index.rows, key) for key in row_keys[::97]] == list(range(0, 5000, 97))


def test_grown_keeps_contents_and_zeroes_the_rest():
    array = np.ones((3, 2), np.int64)
    bigger = grown(array, 4)
    assert bigger.shape == (6, 2)
    assert bigger[:3].sum() == 6
    assert bigger[3:].sum() == 0
    assert grown(bigger, 5) is bigger


def test_grown_keeps_contents_where_pages_come_from_the_kernel():
    """Small to large, and large to larger: an array that is replaced gives its pages back."""
    rows = MAPPED_BYTES // 32
    table = np.arange(rows * 2, dtype=np.int64).reshape(rows, 2)
    for size in (2 * rows, 5 * rows):
        bigger = grown(table, size)
        assert bigger.shape == (size, 2) and bigger.nbytes >= MAPPED_BYTES and bigger.flags.writeable
        assert np.array_equal(bigger[: len(table)], table) and not bigger[len(table) :].any()
        bigger[-1] = 7
        table = bigger


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's account of memory")
def test_room_that_is_not_used_takes_no_memory():
    def resident_bytes():
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    array = np.ones((RESERVING_ROWS, 16), np.int64)
    before = resident_bytes()
    bigger = grown(array, len(array) + 1)
    assert len(bigger) == 4 * len(array)
    assert resident_bytes() - before < 1.5 * array.nbytes


def test_any_row_may_be_asked_for():
    @njit
    def ask(array, row):
        prefetch(array, row)

    for row in (0, 3, -1, 10**12):
        ask(np.zeros((4, 2), np.int64), row)
