"""Record batches made by hand are what aiokafka reads back: every key, value, offset and time."""

import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatch

from loadtest.bench.events import START_MS, Encoder, Load, session_key
from loadtest.bench.paced import tick
from schemas.codec import decode


@pytest.mark.parametrize("n", [1, 300])
def test_batches_hold_every_event_once(n):
    load = Load(events=n, sessions=40)
    session = np.random.default_rng(3).integers(0, 40, n)
    time_ms = START_MS + np.arange(n)
    made = tick(Encoder(load), np.arange(n), session, time_ms, partitions=4)
    found = []
    for partition, data in made.batches.items():
        batch = DefaultRecordBatch(data)
        assert batch.validate_crc()
        records = list(batch)
        assert [record.offset for record in records] == list(range(len(records))) and batch.next_offset == len(records)
        for record in records:
            event = decode("usage_event", record.value)
            assert record.timestamp == event["event_time"] and record.key == event["session_id"].encode()
            found.append((event["event_time"], partition, event["session_id"].encode()))
    expected = [(int(at), int(s) % 4, session_key(int(s))) for at, s in zip(time_ms, session, strict=True)]
    assert sorted(found) == sorted(expected)
