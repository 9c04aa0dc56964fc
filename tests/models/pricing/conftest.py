import hashlib

import numpy as np
import pytest

from schemas.columns import KINDS, NO_COST, STRINGS, TOKENS, Columns


def make_columns(events: list[dict]) -> Columns:
    """Columns of events given by the names of the canonical schema; hashes by blake2b, as any keyed hash would do."""
    payload = bytearray()
    spans = []
    for event in events:
        row = []
        for name in STRINGS:
            text = event.get(name, "").encode()
            row.append((len(payload), len(text), text))
            payload += text
        spans.append(row)
    columns = Columns.empty(len(events), np.frombuffer(bytes(payload) or b"\0", np.uint8))
    for i, event in enumerate(events):
        columns.status[i] = event.get("status", 0)
        columns.offset[i] = i
        columns.event_time_ms[i] = event.get("event_time_ms", 1_764_000_000_000)
        columns.kind[i] = KINDS.index(event.get("kind", "LLM"))
        columns.tokens[i] = [event.get(name, 0) for name in TOKENS]
        columns.quantity[i] = event.get("quantity", 0.0)
        reported = event.get("cost_nano_usd")
        columns.reported_nano_usd[i] = NO_COST if reported is None else reported
        for c, (start, length, text) in enumerate(spans[i]):
            columns.start[i, c] = start
            columns.length[i, c] = length
            digest = int.from_bytes(hashlib.blake2b(text, digest_size=8, key=b"test").digest(), "little")
            columns.hash[i, c] = digest if text else 0
    return columns


@pytest.fixture(name="make_columns", scope="session")
def _make_columns():
    return make_columns
