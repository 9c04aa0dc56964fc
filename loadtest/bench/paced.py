"""Events at an exact rate with almost no work while they are sent: record batches are built beforehand.

A producer that encodes and compresses half a million events a second would take the broker's core and be measured
instead of the worker. Here one batch per tick and partition is made in advance, lz4, with the event times that the
schedule gives; sending is one request per tick to the partitions' leader, acknowledged by it.
"""

import asyncio
import struct
import time
from dataclasses import dataclass

import numpy as np
from aiokafka.client import AIOKafkaClient
from aiokafka.codec import lz4_encode
from aiokafka.errors import for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.util import calc_crc32c
from numba import njit

from loadtest.bench.events import ID_HEX, Encoder, session_keys

TICK_MS = 20
"""As a producer with ``linger.ms`` of 20."""
NEW_TOPIC_RETRIES = 50
"""A broker that has just made a topic may not lead all its partitions yet."""
_LZ4 = 3
_FRAME_BYTES = 24
"""Most that a record has beside its key and value."""


@dataclass(slots=True)
class Tick:
    """What is sent together: a record batch per partition."""

    batches: dict[int, bytes]
    sent: float = 0.0
    """Monotonic seconds at which it was handed to the broker."""


def tick(encoder: Encoder, number: np.ndarray, session: np.ndarray, time_ms: np.ndarray, partitions: int) -> Tick:
    """Record batches of events: their numbers, sessions and event times, int64[n] each."""
    first_ms, last_ms = int(time_ms.min()), int(time_ms.max())
    keys = session_keys(session)
    encoded = list(encoder.rows(number, session, time_ms))
    batches = {}
    for partition in range(partitions):
        parts = [(rows[(mine := session[rows] % partitions == partition)], values[mine]) for rows, values in encoded]
        count = sum(len(rows) for rows, _ in parts)
        if count == 0:
            continue
        out = np.empty(sum(len(rows) * (values.shape[1] + ID_HEX + _FRAME_BYTES) for rows, values in parts), np.uint8)
        at = offset = 0
        for rows, values in parts:
            at = _frame(keys[rows], values, time_ms[rows] - first_ms, offset, out, at)
            offset += len(rows)
        batches[partition] = record_batch(count, first_ms, last_ms, out[:at])
    return Tick(batches)


def single(partition: int, key: bytes, value: bytes, time_ms: int) -> Tick:
    """One record of its own."""
    out = np.empty(len(key) + len(value) + _FRAME_BYTES, np.uint8)
    rows = [np.frombuffer(part, np.uint8)[None, :] for part in (key, value)]
    at = _frame(*rows, np.zeros(1, np.int64), 0, out, 0)
    return Tick({partition: record_batch(1, time_ms, time_ms, out[:at])})


def record_batch(count: int, first_ms: int, last_ms: int, records: np.ndarray) -> bytes:
    """A record batch (magic 2, lz4) around framed records. Source: Apache Kafka, DefaultRecordBatch.java."""
    checked = struct.pack(">hiqqqhii", _LZ4, count - 1, first_ms, last_ms, -1, -1, -1, count)
    checked += lz4_encode(records.tobytes(), level=1)  # As librdkafka; aiokafka's default of 9 costs five times that.
    return struct.pack(">qiibI", 0, len(checked) + 9, -1, 2, calc_crc32c(checked)) + checked


@njit(cache=True, nogil=True)
def _varint(out, at, value):
    zigzag = value << 1
    while zigzag > 127:
        out[at] = zigzag & 127 | 128
        zigzag >>= 7
        at += 1
    out[at] = zigzag
    return at + 1


@njit(cache=True, nogil=True)
def _frame(keys, values, delta_ms, offset, out, at):
    """Records (Apache Kafka, DefaultRecord.java) of keys uint8[n, k] and values uint8[n, v]; where they end."""
    frame = np.empty(_FRAME_BYTES, np.uint8)
    for i in range(len(keys)):
        head = 1
        frame[0] = 0
        head = _varint(frame, head, delta_ms[i])
        head = _varint(frame, head, offset + i)
        head = _varint(frame, head, keys.shape[1])
        middle = _varint(frame, head, values.shape[1])
        at = _varint(out, at, middle + keys.shape[1] + values.shape[1] + 1)
        for j in range(head):
            out[at + j] = frame[j]
        at += head
        for j in range(keys.shape[1]):
            out[at + j] = keys[i, j]
        at += keys.shape[1]
        for j in range(head, middle):
            out[at + j - head] = frame[j]
        at += middle - head
        for j in range(values.shape[1]):
            out[at + j] = values[i, j]
        at += values.shape[1]
        out[at] = 0  # no headers
        at += 1
    return at


class Sender:
    """Connection to the leader of a topic's partitions; ``async with``. One broker is expected."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._client = AIOKafkaClient(bootstrap_servers=bootstrap)
        self._topic = topic
        self._sending: set[asyncio.Task] = set()

    async def __aenter__(self) -> "Sender":
        await self._client.bootstrap()
        self._node = self._client.cluster.brokers().copy().pop().nodeId
        await self._client.ready(self._node)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def send(self, one: Tick) -> None:
        """Returns when it is stored; raises what the broker said."""
        one.sent = time.monotonic()
        left = dict(one.batches)
        for retries in reversed(range(NEW_TOPIC_RETRIES)):
            request = ProduceRequest(None, 1, 30_000, [(self._topic, list(left.items()))])
            response = await self._client.send(self._node, request)
            for _, partitions in response.topics:
                for partition, code, *_ in partitions:
                    if not code:
                        del left[partition]
                    elif not retries or not for_code(code).retriable:
                        raise for_code(code)
            if not left:
                return
            await asyncio.sleep(0.1)

    async def play(self, due: list[list[Tick]], start: float) -> float:
        """Send what is due at the end of each ``TICK_MS`` from the monotonic time ``start``; the largest delay (s)."""
        behind = 0.0
        async with asyncio.TaskGroup() as group:
            for number, together in enumerate(due):
                at = start + (number + 1) * TICK_MS / 1000
                await asyncio.sleep(max(0.0, at - time.monotonic()))
                behind = max(behind, time.monotonic() - at)
                for one in together:
                    # Requests to one broker keep their order: they share a connection.
                    group.create_task(self.send(one))
        return behind
