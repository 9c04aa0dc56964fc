"""The value of a tag out of encoded maps, against fastavro and, for maps that are none, a twin in plain Python."""

import io
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import fastavro
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.hashing import hash_text, secrets
from schemas.tags import MAX_VALUE_BYTES, span_hashes, tag_values

ROOT = Path(__file__).parents[2]
KEY = 7
keys = st.sampled_from(["tag", "tab", "ta", "tags", "", "täg", "t" * 70]) | st.text(max_size=5)
values = st.sampled_from(["", "blue", "ü" * 40]) | st.text(max_size=20)
blocks = st.lists(st.tuples(st.lists(st.tuples(keys, values), min_size=1, max_size=4), st.booleans()), max_size=3)
SCHEMA = fastavro.parse_schema({"type": "map", "values": "string"})


def varint(number: int) -> bytes:
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def text(value: str) -> bytes:
    return varint(len(value.encode())) + value.encode()


def encoded(parts) -> bytes:
    """A map in blocks, with their sizes in bytes where asked for."""
    out = b""
    for pairs, sized in parts:
        body = b"".join(text(key) + text(value) for key, value in pairs)
        out += (varint(-len(pairs)) + varint(len(body)) if sized else varint(len(pairs))) + body
    return out + b"\0"


def found(maps: list[bytes], name: str, keep=None, gap: bytes = b"\x06tag\x06bad") -> tuple[list[str], list[int]]:
    """(values, their hashes) of the maps, which lie one after the other between bytes of no concern."""
    payload, spans = bytearray(gap), []
    for data in maps:
        spans.append((len(payload), len(data)))
        payload += data + gap
    memory = np.frombuffer(payload, np.uint8)
    starts, sizes = np.array(spans, np.int32).reshape(-1, 2).T.copy()
    keep = np.ones(len(maps), np.bool_) if keep is None else np.array(keep)
    start, length = np.full(len(maps), -5, np.int32), np.full(len(maps), -5, np.int32)
    hashes = np.full((len(maps), 1), 99, np.uint64)
    at = memory.ctypes.data, len(memory)
    tag_values(*at, keep, starts, sizes, np.frombuffer(bytearray(name.encode()), np.uint8), start, length)
    span_hashes(*at, keep, start, length, *secrets(KEY), hashes)
    texts = [bytes(payload[a : a + n]).decode() for a, n in zip(start.tolist(), length.tolist(), strict=True)]
    return texts, hashes[:, 0].tolist()


@settings(deadline=None)
@given(st.lists(st.tuples(blocks, st.booleans()), max_size=5), keys)
@example([([([("tag", "a"), ("tag", "b")], True), ([("tag", "")], False)], True)], "tag")
def test_the_value_is_that_of_fastavro(rows, name):
    maps = [encoded(parts) for parts, _ in rows]
    wanted = [
        fastavro.schemaless_reader(io.BytesIO(data), SCHEMA, None).get(name, "") if keep else ""
        for data, (_, keep) in zip(maps, rows, strict=True)
    ]
    texts, hashes = found(maps, name, [keep for _, keep in rows])
    assert texts == wanted
    assert hashes == [hash_text(value, KEY) for value in wanted]


@pytest.mark.parametrize(("size", "kept"), [(MAX_VALUE_BYTES, True), (MAX_VALUE_BYTES + 1, False)])
def test_a_value_that_is_too_long_for_a_key_is_none(size, kept):
    (value,), (hash_,) = found([encoded([([("tag", "x" * size)], False)])], "tag")
    assert (len(value), hash_ != 0) == (size if kept else 0, kept)


def test_spans_outside_the_payload_have_no_value():
    data = bytearray(encoded([([("tag", "blue")], False)]))
    memory = np.frombuffer(data, np.uint8)
    start = np.array([0, -1, 1, 2**31 - 1, 0], np.int32)
    size = np.array([len(data), len(data), len(data), 2**31 - 1, -3], np.int32)
    at, length = np.empty(5, np.int32), np.empty(5, np.int32)
    name = np.frombuffer(bytearray(b"tag"), np.uint8)
    tag_values(memory.ctypes.data, len(data), np.ones(5, np.bool_), start, size, name, at, length)
    assert length.tolist() == [4, 0, 0, 0, 0]
    hashes = np.empty((5, 1), np.uint64)
    span_hashes(memory.ctypes.data, len(data), np.ones(5, np.bool_), start, size, *secrets(KEY), hashes)
    assert (hashes[:, 0] != 0).tolist() == [True, False, False, False, False]


class Bad(Exception):
    pass


def twin(data: bytes, name: bytes) -> bytes:
    """The last value of a tag; empty if there is none, or the bytes are no map."""
    at = 0

    def long() -> int:
        nonlocal at
        number = 0
        for shift in range(0, 70, 7):
            if at >= len(data):
                raise Bad
            byte = data[at]
            at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                if number >= 1 << 64:
                    raise Bad
                return (number >> 1) ^ -(number & 1)
        raise Bad

    def span() -> bytes:
        nonlocal at
        length = long()
        if not 0 <= length <= len(data) - at:
            raise Bad
        at += length
        return data[at - length : at]

    value = b""
    try:
        while count := long():
            end = None
            if count < 0:
                size = long()
                if not 0 <= size <= len(data) - at or count == -(2**63):
                    raise Bad
                count, end = -count, at + size
            for _ in range(count):
                if span() == name:
                    value = span()
                else:
                    span()
            if end is not None and at != end:
                raise Bad
    except Bad:
        return b""
    return value


def test_nothing_is_read_out_of_bounds_whatever_the_bytes_are(tmp_path):
    """Thousands of mutated maps, each between unreadable pages, with every array index checked."""
    rng = random.Random(5)
    maps = []
    for _ in range(60):
        pair = lambda: (rng.choice(["tag", "tab", "x"]), rng.choice(["", "blue", "y" * 70]))  # noqa: E731
        parts = [([pair() for _ in range(rng.randrange(1, 4))], rng.random() < 0.5) for _ in range(rng.randrange(3))]
        maps.append(encoded(parts))
    cases = list(maps)
    for _ in range(4000):
        data = bytearray(rng.choice(maps))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data) + 1)
            if rng.random() < 0.7 and at < len(data):
                data[at] = rng.choice((0, 1, 2, 3, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            elif rng.random() < 0.5:
                data[at:at] = rng.randbytes(rng.randrange(1, 12))
            else:
                del data[at:]
        cases.append(bytes(data))
    cases += [maps[5][:n] for n in range(len(maps[5]))]
    cases += [varint(number) + rest for number in (2**62, -(2**63), 2**63 - 1) for rest in (b"", b"\0", b"\xff" * 12)]
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    script = Path(__file__).with_name("guarded_tags.py")
    done = subprocess.run(
        [sys.executable, script], input=pickle.dumps(cases), capture_output=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    got = pickle.loads(done.stdout)
    assert got == [twin(data, b"tag") for data in cases]
    assert sum(map(bool, got[len(maps) :])) > 300, "mutations leave enough maps in which it is found"
