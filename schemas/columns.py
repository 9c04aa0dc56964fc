"""The columns one batch of usage events is decoded into.

Struct-of-arrays, one row per Kafka record, in offset order. A row whose ``status`` is not ``OK`` was
rejected: its other columns hold nothing of use and every consumer skips it. Strings are never Python
objects here: a 64-bit keyed hash to compare and count by, and a span of ``payload`` to read the name
from when it is seen for the first time. The hash of the empty string is 0, which means "unknown".

Cost: 424 bytes per row. Owned by the decoder's caller; ``payload`` is borrowed and must outlive them.
"""

from dataclasses import dataclass

import numpy as np

STRINGS = (
    "event_id",
    "source",
    "session_id",
    "team",
    "agent",
    "use_case",
    "environment",
    "user",
    "transaction_id",
    "transaction_type",
    "provider",
    "model",
    "service_tier",
    "region",
    "unit",
    "response_id",
)
"""Columns of ``hash``, ``start`` and ``length``, in this order."""

TOKENS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
    "input_image_tokens",
    "output_image_tokens",
)
"""Columns of ``tokens``, in this order; disjoint buckets."""

KINDS = (
    "LLM",
    "EMBEDDING",
    "RERANK",
    "IMAGE",
    "AUDIO",
    "TOOL_CALL",
    "VECTOR_QUERY",
    "GPU",
    "HUMAN_REVIEW",
    "COMPLIANCE",
    "OTHER",
)
"""Values of ``kind``."""

NO_COST = np.iinfo(np.int64).min
"""``reported_nano_usd`` of an event whose provider reported no cost."""

OK = 0
REJECT_REASONS = (
    "ok",
    "null_value",
    "truncated",
    "trailing_bytes",
    "bad_varint",
    "bad_length",
    "bad_utf8",
    "bad_union",
    "bad_enum",
    "too_deep",
    "unknown_schema",
    "missing_identity",
    "bad_event_time",
    "out_of_range",
    "too_old",
)
"""Reason codes of ``status``; bounded, so that they can label a metric.

``missing_identity``: event_id or source is empty. ``bad_event_time``: not in 2000..2200.
``out_of_range``: negative or above MAX_TOKENS / MAX_QUANTITY / MAX_COST_NANO_USD, or not finite; or, by the engine's
judgement, a string of more than 4096 bytes.
``too_old``: older than the panes that are kept (the engine's, not the decoder's, judgement).
"""

MAX_TOKENS = 10**10
MAX_QUANTITY = 1e12
MAX_COST_NANO_USD = 10**15
"""Bounds of one event: ten billion tokens, 1e12 units, a million dollars; more is a broken producer.

They keep every sum in int64: a million dollars an event leaves room for 9,000 such events in one pane
and no single record can overflow a counter.
"""


def string_index(name: str) -> int:
    """Column of ``name`` in ``hash``, ``start`` and ``length``."""
    return STRINGS.index(name)


@dataclass(slots=True)
class Columns:
    """One decoded batch of n events.

    payload            uint8[bytes]   borrowed; spans point into it
    status             int8[n]        OK or an index into REJECT_REASONS
    offset             int64[n]       Kafka offset of the record
    event_time_ms      int64[n]
    kind               int8[n]        index into KINDS
    tokens             int64[n, 10]   see TOKENS
    quantity           float64[n]
    reported_nano_usd  int64[n]       NO_COST where the provider reported none
    hash               uint64[n, 16]  see STRINGS; 0 for the empty string
    start, length      int32[n, 16]   span of each string in payload
    tags_start         int32[n]       span of the encoded tags map in payload
    tags_length        int32[n]
    """

    payload: np.ndarray
    status: np.ndarray
    offset: np.ndarray
    event_time_ms: np.ndarray
    kind: np.ndarray
    tokens: np.ndarray
    quantity: np.ndarray
    reported_nano_usd: np.ndarray
    hash: np.ndarray
    start: np.ndarray
    length: np.ndarray
    tags_start: np.ndarray
    tags_length: np.ndarray

    @classmethod
    def empty(cls, n: int, payload: np.ndarray) -> "Columns":
        """Columns for n rows, uninitialised but for ``status``, ``tags_*`` and ``reported_nano_usd``."""
        return cls(
            payload=payload,
            status=np.zeros(n, np.int8),
            offset=np.empty(n, np.int64),
            event_time_ms=np.empty(n, np.int64),
            kind=np.empty(n, np.int8),
            tokens=np.empty((n, len(TOKENS)), np.int64),
            quantity=np.empty(n, np.float64),
            reported_nano_usd=np.full(n, NO_COST, np.int64),
            hash=np.empty((n, len(STRINGS)), np.uint64),
            start=np.empty((n, len(STRINGS)), np.int32),
            length=np.empty((n, len(STRINGS)), np.int32),
            tags_start=np.zeros(n, np.int32),
            tags_length=np.zeros(n, np.int32),
        )

    def __len__(self) -> int:
        return len(self.status)

    def text(self, row: int, name: str) -> str:
        """The string column ``name`` of one row."""
        column = STRINGS.index(name)
        start = int(self.start[row, column])
        return bytes(self.payload[start : start + int(self.length[row, column])]).decode()
