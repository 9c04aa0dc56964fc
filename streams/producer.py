"""The producer that agents write with.

``send`` only waits for room; ``flush`` returns when everything sent before it is stored, and raises if anything was
not. A delivery that failed cannot be made good from here, so from then on every ``send`` and ``flush`` raises: the
process ends and its successor repeats from the last checkpoint. Nothing is checkpointed or committed past a lost
record, provided that callers flush before they checkpoint.

Records are stored by all in-sync replicas (acks=all), lz4 unless the caller has compressed them, retried through
broker outages of up to ``delivery_timeout_ms`` (without limit where the broker has idempotent producers), in order per
partition. Memory is bounded by two record batches per partition. Cost: some 40 us per ``send``, some 5 us per record
of ``send_many``.
"""

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType

import aiokafka
import structlog
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner

from streams.errors import FatalError, RetryableError
from streams.transport.lz4 import use_fast_lz4
from streams.transport.probe import offers_idempotence
from streams.transport.settings import Connection

Row = tuple[bytes | None, bytes | None]
"""Key and value; a value of None deletes the key from a compacted topic."""


_hashed = DefaultPartitioner()


def _partition_of(key: bytes | None, partitions: list[int], available: list[int]) -> int:
    """Kafka's choice. aiokafka would hash the key in Python, 20 us, also where there is one partition to choose from:
    that was a third of a busy worker's time."""
    return partitions[0] if len(partitions) == 1 else _hashed(key, partitions, available)


class Producer:
    """See the module's docstring; ``async with``, or ``start`` and ``stop``."""

    def __init__(
        self,
        connection: Connection,
        *,
        linger_ms: int = 5,
        max_batch_bytes: int = 256 << 10,
        delivery_timeout_ms: int = 60_000,
        compress: bool = True,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        """``guard`` is called for every record and raises if this process must not write any more."""
        self._connection = connection
        self._linger_ms = linger_ms
        self._max_batch_bytes = max_batch_bytes
        self._delivery_timeout_ms = delivery_timeout_ms
        self._compress = compress
        self._guard = guard
        self._producer: aiokafka.AIOKafkaProducer | None = None
        self._failure: BaseException | None = None
        self._turns: dict[tuple[str, int], asyncio.Lock] = {}
        self._log = structlog.get_logger("streams.producer")
        self.idempotent = False
        """Whether the broker drops what a retry would store twice; known once started."""

    async def start(self) -> "Producer":
        """Connect; raises RetryableError if no broker can be reached."""
        use_fast_lz4()
        self.idempotent = await offers_idempotence(self._connection)
        if not self.idempotent:
            self._log.debug("idempotence_refused", consequence="a retry may store a record twice; readers drop repeats")
        producer = aiokafka.AIOKafkaProducer(
            **self._connection.client_options(),
            acks="all",
            enable_idempotence=self.idempotent,
            compression_type="lz4" if self._compress else None,
            linger_ms=self._linger_ms,
            max_batch_size=self._max_batch_bytes,
            request_timeout_ms=self._delivery_timeout_ms,
            partitioner=_partition_of,
        )
        try:
            await producer.start()
        except KafkaError as error:
            await producer.stop()
            raise RetryableError(
                f"no broker of {', '.join(self._connection.servers)} can be reached: {error}"
            ) from error
        self._producer = producer
        return self

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> None:
        """Hand one record over; waits only while the partition's buffer is full.

        ``partition`` None leaves it to the key's hash. Raises FatalError once any delivery failed, and if there is
        still no room after ``delivery_timeout_ms``.
        """
        producer = self._usable()
        try:
            future = await producer.send(topic, value, key, partition=partition, timestamp_ms=timestamp_ms)
        except KafkaError as error:
            raise self._fail(error) from error
        future.add_done_callback(self._delivered)

    async def send_many(
        self, topic: str, partition: int, rows: Iterable[Row], *, timestamp_ms: int | None = None
    ) -> None:
        """Hand over many records of one partition, in order; otherwise like ``send``."""
        producer = self._usable()
        batch = producer.create_batch()
        for key, value in rows:
            if batch.append(key=key, value=value, timestamp=timestamp_ms) is None:
                await self._send_batch(batch, topic, partition)
                batch = self._usable().create_batch()
                if batch.append(key=key, value=value, timestamp=timestamp_ms) is None:
                    raise ValueError(f"a record of {len(value or b'')} bytes does not fit in a record batch")
        if batch.record_count():
            await self._send_batch(batch, topic, partition)

    async def flush(self) -> None:
        """Return when all that was sent is stored; raises FatalError if something was not, now or earlier."""
        await self._usable().flush()
        self._usable()

    async def stop(self) -> None:
        """Send what is buffered, then disconnect; does not raise for failed deliveries (``flush`` does)."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await producer.stop()

    async def __aenter__(self) -> "Producer":
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _send_batch(
        self, batch: aiokafka.producer.message_accumulator.BatchBuilder, topic: str, partition: int
    ) -> None:
        # Closed, or a later ``send`` would put its record into it.
        batch.close()
        # One after the other: where many wait for room, aiokafka charges each with its whole wait again at every turn
        # that another takes, so that the last of fifty times out within seconds.
        async with self._turns.setdefault((topic, partition), asyncio.Lock()):
            try:
                future = await self._usable().send_batch(batch, topic, partition=partition)
            except KafkaError as error:
                raise self._fail(error) from error
        future.add_done_callback(self._delivered)

    def _usable(self) -> aiokafka.AIOKafkaProducer:
        if self._failure is not None:
            raise self._lost()
        if self._producer is None:
            raise RuntimeError("the producer is not started")
        self._guard()
        return self._producer

    def _delivered(self, future: asyncio.Future) -> None:
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> FatalError:
        if self._failure is None:
            self._failure = error
            self._log.error("delivery_failed", error=repr(error))
        return self._lost()

    def _lost(self) -> FatalError:
        return FatalError(
            f"Kafka did not store a record that was sent ({self._failure!r}): restart to repeat from the last "
            "checkpoint"
        )
