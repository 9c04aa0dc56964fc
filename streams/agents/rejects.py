"""Records for ``tenfold.rejected``, within what a producer takes: what is wrong must not stop who says so."""

from schemas.codec import encode
from streams.transport import PartitionBatch, RejectedRange

MAX_VALUE_BYTES = 512 << 10
"""A compressed batch may hold longer ones; the rest can be read at the record's offset."""
MAX_KEY_BYTES = 64 << 10


def rejected_record(
    batch: PartitionBatch,
    *,
    reason: str,
    offset: int,
    value: bytes | None,
    key: bytes | None = None,
    timestamp_ms: int = 0,
    detail: str = "",
) -> tuple[bytes | None, bytes]:
    """Kafka key and Avro value of one Rejected."""
    if value is not None and len(value) > MAX_VALUE_BYTES:
        detail += f" the value has {len(value)} bytes, of which the first {MAX_VALUE_BYTES} are here"
        value = value[:MAX_VALUE_BYTES]
    if key is not None:
        key = key[:MAX_KEY_BYTES]
    record = {
        "reason": reason,
        "detail": detail.strip(),
        "topic": batch.tp.topic,
        "partition": batch.tp.partition,
        "offset": offset,
        "timestamp": timestamp_ms,
        "key": key,
        "value": value,
    }
    return key, encode("rejected", record)


_WHOLE = b""


def rejected_row(
    batch: PartitionBatch, row: int, reason: str, detail: str = "", value: bytes | None = _WHOLE
) -> tuple[bytes | None, bytes]:
    """The same of one row of a batch; ``value`` in place of its own if it is not to be kept whole."""
    return rejected_record(
        batch,
        reason=reason,
        offset=int(batch.offset[row]),
        timestamp_ms=int(batch.timestamp_ms[row]),
        key=batch.key(row),
        value=batch.value(row) if value is _WHOLE else value,
        detail=detail,
    )


def rejected_range(
    batch: PartitionBatch, reject: RejectedRange, *, keep_data: bool = True
) -> tuple[bytes | None, bytes]:
    """The same of bytes that hold no record that can be told apart."""
    return rejected_record(
        batch,
        reason=reject.reason,
        detail=f"records {reject.first_offset} to {reject.next_offset - 1} could not be framed;",
        offset=reject.first_offset,
        value=reject.data if keep_data else None,
    )
