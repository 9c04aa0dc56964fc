"""State to bytes and back, and what is refused."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streams.state import codec
from streams.state.codec import StateError, decode, encode

plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=())),
    st.binary(max_size=100),
)
arrays = hnp.arrays(
    st.sampled_from([np.int8, np.int32, np.int64, np.uint8, np.uint64, np.float64, np.bool_]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
)
keys = st.one_of(st.text(max_size=10), st.sampled_from(["$array", "$bytes", "$", "$$array"]))
states = st.dictionaries(
    keys,
    st.recursive(
        plain | arrays,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=20,
    ),
    max_size=5,
)


def same(one, other) -> bool:
    if isinstance(one, np.ndarray):
        return (
            isinstance(other, np.ndarray)
            and one.dtype == other.dtype
            and one.shape == other.shape
            and one.tobytes() == other.tobytes()
        )
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@settings(max_examples=200, deadline=None)
@given(states)
def test_round_trip(state):
    assert same(decode(encode(state)), state)


def test_arrays_that_come_back_may_be_changed_and_are_independent():
    raw = encode({"a": np.arange(6).reshape(2, 3), "b": np.arange(12)[::2]})
    first, second = decode(raw), decode(raw)
    first["a"][0, 0] = 99
    assert second["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert second["b"].tolist() == [0, 2, 4, 6, 8, 10]


def test_scalars_of_arrays_tuples_and_not_a_number():
    state = decode(encode({"n": np.int64(3), "x": np.float64(0.5), "t": (1, 2), 7: math.nan, "i": -math.inf}))
    assert (state["n"], state["x"], state["t"], state["i"]) == (3, 0.5, [1, 2], -math.inf)
    assert math.isnan(state["7"])


def test_the_same_state_gives_the_same_bytes():
    assert encode({"a": np.ones(3), "b": [b"x"]}) == encode({"a": np.ones(3), "b": [b"x"]})


def test_another_format_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr(codec, "MAGIC", b"TFS\x02")
    newer = encode({"a": 1})
    monkeypatch.undo()
    with pytest.raises(StateError, match=r"TFS\\x02.*run the version that wrote it"):
        decode(newer)


def test_anything_else_is_refused_and_never_another_error():
    raw = encode({"a": np.arange(50), "b": {"c": b"bytes", "d": [1, 2, 3]}})
    rng = random.Random(5)
    refused = 0
    for _ in range(500):
        damaged = bytearray(raw)
        at = rng.randrange(len(damaged))
        if rng.random() < 0.5:
            damaged[at] ^= 1 << rng.randrange(8)
        else:
            del damaged[at:]
        try:
            decode(bytes(damaged))
        except StateError:
            refused += 1
    assert refused > 400
    for other in (b"", b"not a state", b"\0" * 100):
        with pytest.raises(StateError):
            decode(other)
