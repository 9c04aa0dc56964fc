"""Entries into the notification log, for certain: a log that fails delays what builds on it and loses nothing."""

from collections.abc import Sequence

import structlog

from streams.log import redact
from streams.notify.clock import Clock
from streams.notify.notification_log import Entry, NotificationLog
from streams.notify.retry_stage import Backoff

logger = structlog.get_logger(__name__)


async def record_for_certain(log: NotificationLog, entries: Sequence[Entry], backoff: Backoff, clock: Clock) -> None:
    """Return once they are recorded; the caller holds the lock under which they were worked out."""
    failures = 0
    while True:
        try:
            await log.record(entries)
            return
        except Exception as error:
            failures += 1
            wait = backoff.wait_seconds(failures)
            logger.warning("notification_log_delayed", reason=redact(repr(error)), wait_seconds=round(wait, 3))
            await clock.sleep(wait)
