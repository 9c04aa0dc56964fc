"""Decompress a record batch's body straight into the delivery's buffer: no copy, and never more than fits.

A few kilobytes can decompress to gigabytes, so the limit is enforced while decompressing. ``cramjam`` releases the
GIL. Codes are those of the batch's attributes (bits 0 to 2).
"""

import struct
from collections.abc import Callable

import cramjam
import numpy as np

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)

_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16


class DecompressError(ValueError):
    """The bytes are corrupt, or what they decompress to does not fit; which of the two, the codecs do not say."""


def decompress_into(compression: int, body: memoryview, out: np.ndarray) -> int:
    """Fill ``out`` (uint8) from its start and return the number of bytes written; raises DecompressError."""
    if compression == NONE:
        if len(body) > len(out):
            raise DecompressError("it does not fit")
        out[: len(body)] = np.frombuffer(body, np.uint8)
        return len(body)
    codec = _CODECS.get(compression)
    if codec is None:
        raise DecompressError(f"compression {compression} is not known")
    try:
        return int(codec(body, memoryview(out)))
    except (cramjam.DecompressionError, ValueError) as error:
        raise DecompressError(str(error)) from error


def _snappy(body: memoryview, out: memoryview) -> int:
    """Java producers frame snappy in blocks of their own (xerial); others send one raw block."""
    if bytes(body[: len(_XERIAL_MAGIC)]) != _XERIAL_MAGIC:
        return cramjam.snappy.decompress_raw_into(body, out)
    at, written = _XERIAL_HEADER_BYTES, 0
    while at < len(body):
        if at + 4 > len(body):
            raise ValueError("the block length is cut off")
        (size,) = struct.unpack_from(">i", body, at)
        at += 4
        if size < 0 or size > len(body) - at:
            raise ValueError("the block is cut off")
        written += cramjam.snappy.decompress_raw_into(body[at : at + size], out[written:])
        at += size
    return written


_CODECS: dict[int, Callable[[memoryview, memoryview], int]] = {
    GZIP: cramjam.gzip.decompress_into,
    SNAPPY: _snappy,
    LZ4: cramjam.lz4.decompress_into,
    ZSTD: cramjam.zstd.decompress_into,
}
