"""What an agent is handed: the records fetched together from one partition, as columns.

One object per delivery instead of one per record; all values lie in one contiguous buffer, so a decoder can
walk them without touching Python. Both ways of delivery (``raw_spans`` and ``consumer_records``) make this same
object. Cost: 48 bytes per record besides the payload.
"""

from dataclasses import dataclass

import numpy as np
from faust.types import TP

NO_HIGHWATER = -1


@dataclass(frozen=True, slots=True)
class RejectedRange:
    """Records of a batch that could not be framed: their offsets lie in ``first_offset <= o < next_offset``.

    The range may be empty (bytes that belong to no record). ``reason`` is one of ``split.REASONS``; ``data`` is
    the bytes as they were, still compressed if decompressing was what failed.
    """

    first_offset: int
    next_offset: int
    reason: str
    data: bytes


@dataclass(slots=True)
class PartitionBatch:
    """n records of one partition, in offset order.

    tp             topic and partition
    first_offset   the position the batch starts at; records before it were delivered earlier
    next_offset    the position after the batch, the one to checkpoint and to commit; it may lie beyond the last
                   record (compaction, transaction markers), and n may be 0
    generation     generation of the consumer group it was delivered in
    payload        uint8[bytes]
    offset         int64[n]  strictly increasing
    timestamp_ms   int64[n]
    key_start, key_end, value_start, value_end
                   int64[n]  spans of ``payload``; end < start means null
    fetched_ms     wall clock when the broker's answer was taken over
    highwater      log end offset at that time, NO_HIGHWATER if not known
    rejected       what could not be framed
    """

    tp: TP
    first_offset: int
    next_offset: int
    generation: int
    payload: np.ndarray
    offset: np.ndarray
    timestamp_ms: np.ndarray
    key_start: np.ndarray
    key_end: np.ndarray
    value_start: np.ndarray
    value_end: np.ndarray
    fetched_ms: int
    highwater: int = NO_HIGHWATER
    rejected: tuple[RejectedRange, ...] = ()

    def __len__(self) -> int:
        return len(self.offset)

    def value(self, i: int) -> bytes | None:
        """Value of record ``i``, None if it is null (a tombstone)."""
        return self._bytes(self.value_start[i], self.value_end[i])

    def key(self, i: int) -> bytes | None:
        """Key of record ``i``, None if it has none."""
        return self._bytes(self.key_start[i], self.key_end[i])

    def _bytes(self, start: int, end: int) -> bytes | None:
        return None if end < start else self.payload[start:end].tobytes()
