"""The alert agent: findings in, messages to receivers out, none lost, none twice unless a receiver hides its answer.

One partition on purpose, since grouping needs the whole view. A finding's offset may be committed as soon as the
notification log, which is a topic, holds it as pending: from then on a crash loses nothing. What people said of
findings is read whole before the first is judged.
"""

import asyncio
from collections.abc import Callable, Iterable

import structlog

from schemas.codec import decode
from streams.agents.notification_topic import KafkaNotificationLog
from streams.agents.rejects import rejected_row
from streams.config import Settings
from streams.notify.links import Links
from streams.notify.notifier import Notifier
from streams.notify.receivers import build_notifier
from streams.notify.silence_stage import Silences
from streams.producer import Producer
from streams.topics import Topics
from streams.transport import PartitionBatch
from streams.web.metrics import Metrics

log = structlog.get_logger()

STOP_SECONDS = 2.0
"""What is still undelivered after this stays pending in the log for the next owner."""


class AlertAgent:
    """The findings partition, if it is assigned to this worker."""

    def __init__(
        self,
        *,
        settings: Settings,
        client_settings: dict,
        topics: Topics,
        producer: Producer,
        metrics: Metrics,
        clock_ms: Callable[[], int],
        guard: Callable[[], None] = lambda: None,
        links: Links | None = None,
    ):
        """``guard`` is called before every request and ends what must not send any more."""
        self._settings = settings
        self._client_settings = client_settings
        self._topics = topics
        self._producer = producer
        self._metrics = metrics
        self._clock_ms = clock_ms
        self._guard = guard
        self._links = links
        self._notifier: Notifier | None = None
        self._accepted: dict[int, int] = {}
        self._silences = Silences(settings.silences)
        self.feedback_read = asyncio.Event()
        """To be set once ``take_feedback`` has had all that is there."""

    async def assign(self, partition: int, generation: int | None = None) -> None:
        """Read the notification log and take up what it holds as pending."""
        notification_log = KafkaNotificationLog(self._topics.notifications.name, self._producer)
        await notification_log.load(self._client_settings)
        await self.feedback_read.wait()
        self._notifier = build_notifier(
            self._settings,
            notification_log,
            links=self._links,
            silences=self._silences,
            on_delivered=self._delivered,
            guard=self._guard,
        )
        await self._notifier.start()
        self._accepted.pop(partition, None)

    async def revoke(self, partition: int, generation: int | None = None) -> None:
        """Deliver what goes quickly, leave the rest pending in the log."""
        if self._notifier is not None:
            notifier, self._notifier = self._notifier, None
            await notifier.stop(STOP_SECONDS)
        self._accepted.pop(partition, None)

    def resume_offset(self, partition: int) -> int | None:
        """None: the committed offset, which is never past what the log holds."""
        return None

    def durable_offset(self, partition: int) -> int | None:
        return self._accepted.get(partition, 0)

    def pending(self) -> int:
        return self._notifier.pending() if self._notifier else 0

    async def handle(self, batch: PartitionBatch) -> None:
        """Accept a batch of findings; waits while a receiver's queue is full."""
        findings = []
        for row in range(len(batch)):
            value = batch.value(row)
            if value is None:
                continue
            try:
                findings.append(decode("finding", value))
            except Exception as error:  # fastavro raises what its C code met. Something else writes to our topic.
                log.error("finding_unreadable", offset=int(batch.offset[row]), error=repr(error))
                key, record = rejected_row(batch, row, "unreadable", repr(error))
                await self._producer.send(self._topics.rejected.name, key, record)
        await self._notifier.submit_many(findings)
        self._accepted[batch.tp.partition] = batch.next_offset
        self._metrics.set_pending(self._notifier.pending_by_receiver())

    def take_feedback(self, feedback: Iterable[dict]) -> None:
        """Feedback dicts, in order."""
        for said in feedback:
            if self._silences.take(said) and self._notifier is not None:
                self._notifier.recheck()

    async def tick(self) -> None:
        """Once a second: what is muted no more, acknowledged, or due again."""
        if self._notifier is not None:
            await self._notifier.tick()

    def _delivered(self, receiver: str, finding: dict, ok: bool) -> None:
        self._metrics.notification_settled(receiver, finding, ok, self._clock_ms())
