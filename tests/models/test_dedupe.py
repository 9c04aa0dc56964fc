"""The two-generation set against a plain Python one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.dedupe import DedupeSet
from models.rolling import EVERYTHING


class Twin:
    """The same rule with Python sets."""

    def __init__(self, limit: int):
        self.limit, self.current, self.previous = limit, set(), set()

    def fresh(self, key) -> bool:
        if key in self.current or key in self.previous:
            return False
        self.current.add(key)
        if len(self.current) >= self.limit:
            self.current, self.previous = set(), self.current
        return True


def mark(dedupe: DedupeSet, keys: list[int]) -> list[bool]:
    source = np.full(len(keys), 7, np.uint64)
    fresh, duplicates = dedupe.mark(np.zeros(len(keys), np.int8), source, np.array(keys, np.uint64))
    assert duplicates == len(keys) - fresh.sum()
    return fresh.tolist()


batches = st.lists(st.lists(st.integers(1, 60), max_size=40), max_size=8)


@settings(max_examples=80, deadline=None)
@given(batches, st.integers(1, 30))
def test_equals_plain_sets(parts, limit):
    dedupe, twin = DedupeSet(limit), Twin(limit)
    for part in parts:
        assert mark(dedupe, part) == [twin.fresh(key) for key in part]


@settings(max_examples=40, deadline=None)
@given(batches, batches, st.integers(1, 30))
def test_restored_set_goes_on_as_if_never_stopped(before, after, limit):
    dedupe = DedupeSet(limit)
    for part in before:
        mark(dedupe, part)
    restored = DedupeSet(limit)
    restored.load_delta(dedupe.take_delta(EVERYTHING))
    restored.rebuild()
    for part in after:
        assert mark(restored, part) == mark(dedupe, part)


def test_rejected_rows_are_neither_fresh_nor_remembered():
    dedupe = DedupeSet(10)
    ones = np.ones(1, np.uint64)
    assert dedupe.mark(np.array([3], np.int8), ones, ones)[0].tolist() == [False]
    assert dedupe.mark(np.array([0], np.int8), ones, ones)[0].tolist() == [True]


def test_identity_is_the_pair_of_source_and_event_id():
    dedupe = DedupeSet(10)
    fresh, _ = dedupe.mark(np.zeros(3, np.int8), np.array([1, 2, 1], np.uint64), np.array([2, 1, 2], np.uint64))
    assert fresh.tolist() == [True, True, False]


def test_memory_is_bounded_and_the_last_limit_is_remembered():
    limit = 20_000
    dedupe = DedupeSet(limit)
    for start in range(1, 200_000, 10_000):
        assert all(mark(dedupe, list(range(start, start + 10_000))))
        assert not any(mark(dedupe, list(range(max(1, start + 10_000 - limit), start + 10_000))))
    assert dedupe.generations.shape[1] <= 4 * limit


def test_limit_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        DedupeSet(0)
