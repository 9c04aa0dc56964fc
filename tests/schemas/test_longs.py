"""Varints by the thousand against fastavro."""

import io

import fastavro
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from schemas.longs import encode_strings, encoded_longs

longs = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-200, 200))


def avro(schema, value) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, value)
    return out.getvalue()


@settings(deadline=None)
@given(arrays.arrays(np.int64, st.tuples(st.integers(0, 5), st.integers(1, 4)), elements=longs))
def test_longs_are_those_of_fastavro(values):
    wanted = [b"".join(avro("long", value) for value in row) for row in values.tolist()]
    assert list(encoded_longs(values)) == wanted


@settings(deadline=None)
@given(st.lists(st.text(max_size=300), max_size=4))
def test_strings_are_those_of_fastavro(texts):
    assert encode_strings(texts) == b"".join(avro("string", text) for text in texts)
