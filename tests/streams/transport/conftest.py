"""Record batches as bytes, for the transport's tests."""

import struct
from collections.abc import Callable, Sequence

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

ATTRIBUTES_AT, CRC_AT = 21, 17
TRANSACTIONAL, CONTROL, LOG_APPEND_TIME = 0x10, 0x20, 0x08


@pytest.fixture(scope="session")
def record_batch() -> Callable[..., bytes]:
    """Build one record batch of (offset delta, timestamp, key, value, headers) rows with aiokafka's own builder."""

    def build(
        rows: Sequence[tuple],
        base_offset: int = 0,
        compression: int = 0,
        *,
        producer_id: int = -1,
        attributes: int = 0,
        patch: Callable[[bytearray], None] | None = None,
    ) -> bytes:
        builder = DefaultRecordBatchBuilder(2, compression, False, producer_id, 0, 0, 1 << 26)
        for delta, timestamp, key, value, headers in rows:
            assert builder.append(delta, timestamp=timestamp, key=key, value=value, headers=headers)
        raw = bytearray(builder.build())
        raw[0:8] = struct.pack(">q", base_offset)
        raw[ATTRIBUTES_AT + 1] |= attributes
        if patch:
            patch(raw)
            raw[8:12] = struct.pack(">i", len(raw) - 12)
        raw[CRC_AT : CRC_AT + 4] = struct.pack(">I", calc_crc32c(bytes(raw[ATTRIBUTES_AT:])))
        return bytes(raw)

    return build
