"""Lines about applied batches add up to the batches, however few there are."""

import numpy as np
from faust.types import TP
from structlog.testing import capture_logs

from models.engine import UsageOutputs
from streams.agents.applied import TELL_MS, Applied
from streams.transport import PartitionBatch


def batch(first: int, records: int) -> PartitionBatch:
    spans = np.zeros(records, np.int64)
    return PartitionBatch(
        tp=TP("usage", 3),
        first_offset=first,
        next_offset=first + records,
        generation=0,
        payload=np.zeros(0, np.uint8),
        offset=first + np.arange(records),
        timestamp_ms=spans,
        key_start=spans,
        key_end=spans,
        value_start=spans,
        value_end=spans,
        fetched_ms=0,
    )


def test_the_first_batch_is_told_at_once_and_the_others_together():
    now_ms = 1_000_000
    applied = Applied(lambda: now_ms)
    with capture_logs() as lines:
        applied.add(batch(5, 10), UsageOutputs(counted=9, duplicates=1), 0.25)
        assert [(line["first_offset"], line["next_offset"], line["counted"]) for line in lines] == [(5, 15, 9)]
        now_ms += TELL_MS - 1
        applied.add(batch(15, 3), UsageOutputs(counted=2, rejected=1, findings=[{}]), 0.5)
        applied.add(batch(18, 4), UsageOutputs(counted=4, late=2, sessions=[{}, {}]), 0.25)
        assert len(lines) == 1
        applied.tell(3)
        applied.tell(3)
    assert lines[1:] == [
        {
            "event": "batches_applied",
            "log_level": "info",
            "partition": 3,
            "first_offset": 15,
            "next_offset": 22,
            "batches": 2,
            "counted": 6,
            "duplicates": 0,
            "late": 2,
            "rejected": 1,
            "findings": 1,
            "sessions_ended": 2,
            "seconds": 0.75,
        }
    ]


def test_a_batch_after_a_silence_is_told_at_once_even_if_the_clock_was_set_back():
    now_ms = 1_000_000
    applied = Applied(lambda: now_ms)
    with capture_logs() as lines:
        for step_ms in (0, TELL_MS, -10 * TELL_MS):
            now_ms += step_ms
            applied.add(batch(0, 1), UsageOutputs(counted=1), 0.0)
    assert [line["counted"] for line in lines] == [1, 1, 1]
