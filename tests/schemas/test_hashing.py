"""The hash against its plain-Python twin, bit for bit, and UTF-8 against Python's own decoder."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.hashing import hash_span, hash_text, secrets, valid_utf8

MASK = (1 << 64) - 1
STEP = 0x9E3779B97F4A7C15
compiles = settings(deadline=None)  # the first example waits for the compiler
KEY = 0x74656E666F6C6421


def splitmix64(seed, count):
    for _ in range(count):
        seed = (seed + STEP) & MASK
        z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def fold(a, b):
    product = a * b
    return (product >> 64) ^ (product & MASK)


def hash_twin(data: bytes, key: int) -> int:
    if not data:
        return 0
    k0, k1, k2 = splitmix64(key, 3)
    word = lambda at, size: int.from_bytes(data[at : at + size], "little")  # noqa: E731
    n = len(data)
    state = k2
    at = 0
    while n - at > 16:
        state = fold(word(at, 8) ^ k0 ^ state, word(at + 8, 8) ^ k1)
        at += 16
    if n >= 8:
        a, b = word(max(n - 16, 0), 8), word(n - 8, 8)
    elif n >= 4:
        a, b = word(0, 4), word(n - 4, 4)
    elif n >= 2:
        a, b = word(0, 2), word(n - 2, 2)
    else:
        a, b = data[0], 0
    size = n * STEP & MASK
    state = fold(a ^ k0 ^ state, b ^ k1 ^ size)
    return fold(state ^ k2, size ^ k0) or 1


def in_canary(data: bytes, canary: int) -> tuple[np.ndarray, int]:
    """``data`` with 16 bytes of canary on both sides, and its address."""
    buffer = np.frombuffer(bytes([canary]) * 16 + data + bytes([canary]) * 16, np.uint8)
    return buffer, buffer.ctypes.data + 16


@compiles
@given(st.binary(max_size=70), st.integers(0, MASK), st.integers(0, 255))
@example(b"\x80", 0, 0xFF)
@example(b"a" * 16, MASK, 0)
@example(b"a" * 17, 1, 0x80)
def test_hash_is_its_twin_whatever_lies_around(data, key, canary):
    buffer, address = in_canary(data, canary)
    hashed, high_bits = hash_span(address, len(data), *secrets(key))
    assert int(hashed) == hash_twin(data, key)
    assert bool(high_bits) == (not data.isascii())
    assert len(buffer) == len(data) + 32


@compiles
@given(st.text(max_size=30))
def test_hash_text_hashes_the_encoded_text(text):
    assert hash_text(text, KEY) == hash_twin(text.encode(), KEY)


def test_secrets_refuse_what_is_not_64_bit():
    for key in (-1, 1 << 64):
        with pytest.raises(ValueError, match="hash_key"):
            secrets(key)


def test_zeros_and_lengths_are_told_apart():
    hashes = {hash_twin(b"\0" * n, KEY) for n in range(100)} | {hash_text("a" * n, KEY) for n in range(1, 100)}
    assert len(hashes) == 199


def test_each_input_bit_flips_about_half_of_the_output():
    for n in (1, 3, 7, 8, 12, 16, 17, 40):
        base = bytes(range(65, 65 + n))
        flips = []
        for bit in range(8 * n):
            changed = bytearray(base)
            changed[bit // 8] ^= 1 << bit % 8
            difference = hash_twin(base, KEY) ^ hash_twin(bytes(changed), KEY)
            flips.append(difference.bit_count())
        assert 28 < np.mean(flips) < 36
        assert min(flips) > 10


def test_numbered_names_do_not_collide_in_their_low_bits():
    """Slots of hash tables are the low bits: 65,536 names in 2**16 slots fill as many as chance does."""
    names = [f"team-{i}" for i in range(1 << 16)]
    slots = {hash_text(name, KEY) & 0xFFFF for name in names}
    expected = (1 - np.exp(-1)) * (1 << 16)
    assert abs(len(slots) - expected) < 5 * 150
    assert len({hash_text(name, KEY) for name in names}) == len(names)


def python_accepts(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@compiles
@given(st.text(max_size=20).map(str.encode), st.binary(max_size=4), st.text(max_size=9).map(str.encode))
def test_utf8_as_python_does(before, middle, after):
    data = before + middle + after
    _buffer, address = in_canary(data, 0x80)
    assert valid_utf8(address, len(data)) == python_accepts(data)


def test_utf8_at_every_edge_of_its_ranges():
    edges = (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE)
    edges += (0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF)
    for size in (1, 2, 3):
        for lead in itertools.product(edges, repeat=size):
            data = bytes(lead) + b"\x80"
            for candidate in (data, data[:-1], b"12345678" + data):
                _buffer, address = in_canary(candidate, 0x80)
                assert valid_utf8(address, len(candidate)) == python_accepts(candidate), candidate
