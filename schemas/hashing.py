"""A keyed 64-bit hash of strings, for kernels that read bytes by address.

Guarantees: the empty string hashes to 0 and no other does; the same text and key give the same hash on every
little-endian machine; nothing outside the span is read. Up to 16 bytes take two folded multiplications, every
16 bytes more take one: 2 to 4 ns for a typical name. Whoever does not know the key cannot choose colliding names
by computation. Unlike SipHash this is no cryptographic guarantee: a known key gives collisions away.

Method: the folded 64x64 -> 128 bit multiplication of wyhash (Wang Yi, 2019) and foldhash, the last words read
overlapping, with all three secrets derived from the key by splitmix64 (Steele, Lea, Flood, 2014).

Called by schemas.kernels for every string of an event, and by whoever needs the hash of one text (``hash_text``).
"""

from functools import lru_cache

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

HIGH_BITS = np.uint64(0x8080808080808080)
"""Set in a word iff one of its bytes is not ASCII."""

_MASK = (1 << 64) - 1
_LENGTH_STEP = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that lengths stay distinct after multiplication (2**64 / golden ratio)."""


def _load(word, result):
    """An intrinsic ``(address int64) -> result`` that reads one LLVM ``word``, unaligned; the caller checks bounds."""

    @intrinsic
    def load(_typing, address):
        if address != types.int64:
            return None

        def codegen(_context, builder, _signature, args):
            value = builder.load(builder.inttoptr(args[0], word.as_pointer()), align=1)
            if isinstance(word, ir.FloatType):
                return builder.fpext(value, ir.DoubleType())
            return (
                builder.zext(value, ir.IntType(64))
                if word in (ir.IntType(8), ir.IntType(16), ir.IntType(32))
                else value
            )

        return result(types.int64), codegen

    return load


load_byte = _load(ir.IntType(8), types.int64)
load_u16 = _load(ir.IntType(16), types.uint64)
load_u32 = _load(ir.IntType(32), types.uint64)
load_u64 = _load(ir.IntType(64), types.uint64)
load_float = _load(ir.FloatType(), types.float64)
load_double = _load(ir.DoubleType(), types.float64)


@intrinsic
def fold(_typing, a, b):
    """High and low half of the 128-bit product of two uint64, xored."""
    if a != types.uint64 or b != types.uint64:
        return None

    def codegen(_context, builder, _signature, args):
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        high = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))
        return builder.xor(high, builder.trunc(product, ir.IntType(64)))

    return types.uint64(types.uint64, types.uint64), codegen


@njit(cache=True, nogil=True, forceinline=True)
def hash_span(address, length, k0, k1, k2):
    """(hash uint64, high bits uint64) of ``length`` int64 bytes at ``address``; high bits are 0 iff all is ASCII.

    k0, k1, k2 uint64 from ``secrets``.
    """
    if length == 0:
        return np.uint64(0), np.uint64(0)
    state = k2
    seen = np.uint64(0)
    if length >= 8:
        position = address
        last = address + length - 16
        while position < last:
            a = load_u64(position)
            b = load_u64(position + 8)
            seen |= a | b
            state = fold(a ^ k0 ^ state, b ^ k1)
            position += 16
        # From here at most 16 bytes are left: two words, overlapping each other or what was read before.
        a = load_u64(position if length < 16 else last)
        b = load_u64(address + length - 8)
    elif length >= 4:
        a = load_u32(address)
        b = load_u32(address + length - 4)
    elif length >= 2:
        a = load_u16(address)
        b = load_u16(address + length - 2)
    else:
        a = np.uint64(load_byte(address))
        b = np.uint64(0)
    seen |= a | b
    size = np.uint64(length) * _LENGTH_STEP
    state = fold(a ^ k0 ^ state, b ^ k1 ^ size)
    state = fold(state ^ k2, size ^ k0)
    return (state if state != np.uint64(0) else np.uint64(1)), seen & HIGH_BITS


@njit(cache=True, nogil=True)
def valid_utf8(address, length):
    """Whether ``length`` bytes at ``address`` are UTF-8 as Python accepts it.

    No surrogates, nothing overlong, nothing above U+10FFFF (table 3-7 of the Unicode standard).
    """
    position = address
    end = address + length
    while position < end:
        if end - position >= 8 and load_u64(position) & HIGH_BITS == np.uint64(0):
            position += 8
            continue
        lead = load_byte(position)
        if lead < 0x80:
            position += 1
            continue
        low = 0x80
        high = 0xBF
        if lead < 0xC2:
            return False
        elif lead < 0xE0:
            more = 1
        elif lead < 0xF0:
            more = 2
            if lead == 0xE0:
                low = 0xA0
            elif lead == 0xED:
                high = 0x9F
        elif lead < 0xF5:
            more = 3
            if lead == 0xF0:
                low = 0x90
            elif lead == 0xF4:
                high = 0x8F
        else:
            return False
        if end - position <= more:
            return False
        second = load_byte(position + 1)
        if second < low or second > high:
            return False
        for i in range(2, more + 1):
            if load_byte(position + i) & 0xC0 != 0x80:
                return False
        position += more + 1
    return True


@lru_cache(maxsize=16)
def secrets(key: int) -> tuple[np.uint64, np.uint64, np.uint64]:
    """The three secrets of a 64-bit ``key``: the first outputs of splitmix64 seeded with it."""
    if not 0 <= key <= _MASK:
        raise ValueError(f"hash_key must be in [0, 2**64), got {key}")
    out = []
    for step in (1, 2, 3):
        z = (key + step * int(_LENGTH_STEP)) & _MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        out.append(np.uint64(z ^ (z >> 31)))
    return tuple(out)


def hash_text(text: str, key: int) -> int:
    """The hash that columns hold for ``text`` under ``EngineConfig.hash_key``.

    >>> hash_text("", 1), hash_text("acme", 1) == hash_text("acme", 2)
    (0, False)
    """
    data = np.frombuffer(text.encode(), np.uint8)
    return int(hash_span(data.ctypes.data, len(data), *secrets(key))[0])
