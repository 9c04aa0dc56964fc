"""The notification log in a compacted topic: what was sent, and what is still to be sent, survives the worker.

Read whole when the alert partition is assigned; written before a finding is accepted and after it is settled.
Restart, rebalance or a resent finding therefore send nothing twice and forget nothing.
"""

import asyncio
from collections.abc import Iterable, Sequence

import structlog

from streams.errors import RetryableError
from streams.follow import read_all
from streams.notify.notification_log import Entry, MemoryNotificationLog
from streams.producer import Producer, Row

log = structlog.get_logger()

PROBE = b"@probe"


class KafkaNotificationLog(MemoryNotificationLog):
    """A memory log in front of the topic."""

    durable = True

    def __init__(self, topic: str, producer: Producer):
        super().__init__()
        self._topic = topic
        self._producer = producer
        self._probing: asyncio.Task | None = None
        self._next_probe: asyncio.Task | None = None

    async def load(self, client_settings: dict) -> None:
        """Read what is there; a record that is no entry is named and passed over."""
        records = await read_all(client_settings, self._topic)
        for record in records:
            if record.value is None:
                continue
            try:
                self.apply([Entry.decode(record.value)])
            except (ValueError, KeyError, TypeError) as error:
                log.warning("notification_entry_unreadable", offset=record.offset, error=str(error))
        log.info("notification_log_read", records=len(records), entries=len(self))

    async def write(self, entries: Sequence[Entry]) -> None:
        # A finding goes into the entry of each receiver, and writing it is most of the work.
        written: dict[int, str] = {}
        await self._send((entry.key.encode(), entry.encode(written)) for entry in entries)
        self.apply(entries)

    async def stored(self) -> None:
        try:
            await self._producer.flush()
        except Exception as error:
            raise RetryableError(f"the notification log could not be written: {error}") from error

    async def probe(self) -> None:
        """Delete what is not there: a record of a few bytes that compaction takes away again.

        All who ask while one is on its way share the next: with fifty channels in a storm each would wait for fifty.
        """
        if self._next_probe is None:
            self._next_probe = asyncio.create_task(self._probe_after(self._probing))
            self._next_probe.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._next_probe)

    async def _probe_after(self, running: asyncio.Task | None) -> None:
        if running is not None:
            await asyncio.wait([running])
        # One that has set out proves nothing to those who ask later.
        self._probing, self._next_probe = self._next_probe, None
        await self._send([(PROBE, None)])
        await self.stored()

    async def _send(self, rows: Iterable[Row]) -> None:
        try:
            await self._producer.send_many(self._topic, 0, rows)
        except Exception as error:
            raise RetryableError(f"the notification log could not be written: {error}") from error
