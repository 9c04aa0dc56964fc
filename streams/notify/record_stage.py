"""Records in the notification log, for certain: a log that fails delays what builds on it and loses nothing.

``write`` under the lock under which the entries were worked out, so that they are in order; ``stored`` after it, so
that many wait for one round trip together.
"""

from collections.abc import Awaitable, Callable, Sequence

import structlog

from streams.log import redact
from streams.notify.clock import Clock
from streams.notify.notification_log import Entry, NotificationLog
from streams.notify.retry_stage import Backoff

logger = structlog.get_logger(__name__)


class Recorder:
    def __init__(self, log: NotificationLog, backoff: Backoff, clock: Clock) -> None:
        self._log = log
        self._backoff = backoff
        self._clock = clock

    async def write(self, entries: Sequence[Entry]) -> None:
        """Return once they are taken; the caller holds the lock."""
        await self._certainly(lambda: self._log.write(entries))

    async def stored(self) -> None:
        """Return once all that was written is stored."""
        await self._certainly(self._log.stored)

    async def probe(self) -> None:
        """Return once a log that is durable has taken a record."""
        if self._log.durable:
            await self._certainly(self._log.probe)

    async def _certainly(self, step: Callable[[], Awaitable[None]]) -> None:
        failures = 0
        while True:
            try:
                await step()
                return
            except Exception as error:
                failures += 1
                wait = self._backoff.wait_seconds(failures)
                logger.warning("notification_log_delayed", reason=redact(repr(error)), wait_seconds=round(wait, 3))
                await self._clock.sleep(wait)
