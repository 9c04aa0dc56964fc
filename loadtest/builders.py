"""Batches of columns from plain dicts, without Avro: for tests and benches of what comes after the decoder.

Hashes are BLAKE2 here, not the decoder's: nothing behind the decoder may depend on which hash it is.
"""

from hashlib import blake2b

import numpy as np

from schemas.columns import KINDS, NO_COST, STRINGS, TOKENS, Columns


def hash_of(text: str) -> int:
    """64-bit hash of a name; 0 for the empty one."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") or 1 if text else 0


def columns_of(events: list[dict], first_offset: int = 0) -> Columns:
    """Columns of canonical event dicts; what a dict leaves out takes the schema's default."""
    payload = bytearray()
    columns = Columns.empty(len(events), np.zeros(0, np.uint8))
    for row, event in enumerate(events):
        columns.offset[row] = first_offset + row
        columns.event_time_ms[row] = event["event_time"]
        columns.kind[row] = KINDS.index(event.get("kind", "LLM"))
        columns.tokens[row] = [event.get(name, 0) for name in TOKENS]
        columns.quantity[row] = event.get("quantity", 0.0)
        cost = event.get("cost_nano_usd")
        columns.reported_nano_usd[row] = NO_COST if cost is None else cost
        for column, name in enumerate(STRINGS):
            text = event.get(name, "")
            columns.hash[row, column] = hash_of(text)
            columns.start[row, column] = len(payload)
            columns.length[row, column] = len(text.encode())
            payload += text.encode()
        tags = repr(sorted(event.get("tags", {}).items())).encode()
        columns.tags_start[row], columns.tags_length[row] = len(payload), len(tags)
        payload += tags
    columns.payload = np.frombuffer(bytes(payload), np.uint8)
    return columns
