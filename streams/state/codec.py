"""State as bytes: nested dicts and lists of plain values and numpy arrays, without pickle.

Layout: 4 bytes magic and version, 4 bytes length of a JSON header, the header, then the arrays' raw bytes, each at
an 8-byte boundary. In the header an array is {"$array": [dtype, shape, offset]}, bytes are {"$bytes": [at, length]},
and a dict's own key that begins with "$" has another one in front.
The whole is compressed with lz4 and carries its CRC in the marker (streams.state.store), so a reader never sees a
torn or mixed state. Raises StateError for anything else than what ``encode`` wrote.
"""

import json
import math
import struct

import cramjam
import numpy as np

from streams.errors import FatalError

MAGIC = b"TFS\x01"
RESET = "`tenfold state --reset`"
"""Forgets all state; usage is counted anew from the beginning of its topic."""
_ALIGN = 8
_LEVEL = 1
"""A third larger than the default and five times as fast: checkpoints are written all the time."""


class StateError(FatalError):
    """State that this program cannot read; the message says which version wrote it and what to do."""


def encode(state: dict) -> bytes:
    """Compressed bytes of ``state``; dict keys become strings."""
    chunks: list[bytes] = []
    offset = 0

    def put(raw: bytes) -> int:
        nonlocal offset
        at = offset
        chunks.append(raw + b"\0" * (-len(raw) % _ALIGN))
        offset += len(chunks[-1])
        return at

    def pack(node):
        if isinstance(node, np.ndarray):
            return {"$array": [node.dtype.str, list(node.shape), put(node.tobytes())]}
        if isinstance(node, bytes):
            return {"$bytes": [put(node), len(node)]}
        if isinstance(node, dict):
            return {_escaped(str(key)): pack(value) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [pack(value) for value in node]
        if isinstance(node, np.generic):
            return node.item()
        return node

    header = json.dumps(pack(state), allow_nan=True).encode()
    header += b" " * (-len(header) % _ALIGN)
    body = b"".join([MAGIC, struct.pack("<I", len(header)), header, *chunks])
    return bytes(cramjam.lz4.compress(body, level=_LEVEL))


def decode(raw: bytes) -> dict:
    """The state in ``raw``; arrays are copies and may be changed."""
    try:
        body = bytes(cramjam.lz4.decompress(raw))
    except cramjam.DecompressionError as error:
        raise StateError(f"state is not readable ({error}); {RESET} forgets it") from error
    if body[:3] != MAGIC[:3] or body[3:4] != MAGIC[3:]:
        raise StateError(
            f"state has format {body[:4]!r}, this program reads {MAGIC!r}: run the version that wrote it, "
            f"or {RESET} to forget it and count the input anew from its beginning"
        )
    try:
        (length,) = struct.unpack_from("<I", body, 4)
        return _unpack(json.loads(body[8 : 8 + length]), memoryview(body)[8 + length :])
    except (ValueError, KeyError, TypeError, IndexError, struct.error) as error:
        raise StateError(f"state is damaged ({error!r}); {RESET} forgets it") from error


def _unpack(node, data: memoryview):
    if isinstance(node, list):
        return [_unpack(value, data) for value in node]
    if not isinstance(node, dict):
        return node
    if "$array" in node:
        dtype, shape, offset = node["$array"]
        count = math.prod(shape)
        if count == 0:
            return np.empty(shape, np.dtype(dtype))
        return np.frombuffer(data, np.dtype(dtype), count, offset).reshape(shape).copy()
    if "$bytes" in node:
        offset, size = node["$bytes"]
        return bytes(data[offset : offset + size])
    return {key.removeprefix("$"): _unpack(value, data) for key, value in node.items()}


def _escaped(key: str) -> str:
    """Names of teams and models are keys too, and may be anything."""
    return f"${key}" if key.startswith("$") else key
