"""One receiver's queue and the loop that empties it: rate limit, digest, send, retry, record.

Each receiver has its own, so one that is down delays nobody else. A finding stays here until the destination
has answered for good; a failure delays it and never drops it. An answer that may be the finding's own fault
(a plain 500) lets the others pass, with a growing wait of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from streams.log import redact
from streams.notify.clock import Clock
from streams.notify.hold_stage import hold_ms
from streams.notify.notification_log import Entry, NotificationLog
from streams.notify.outbox import Item, Outbox
from streams.notify.rate_limit_stage import TokenBucket
from streams.notify.receiver import Delivered, Failed, Outcome, Receiver, Request, Retry
from streams.notify.retry_stage import Backoff

logger = structlog.get_logger(__name__)

Send = Callable[[Receiver, Request], Awaitable[Outcome]]
OnDelivered = Callable[[str, dict, bool], None]
"""Called with the receiver's name, the finding, and False if it was refused for good."""


class Delivery:
    def __init__(
        self,
        receiver: Receiver,
        log: NotificationLog,
        clock: Clock,
        backoff: Backoff,
        send: Send,
        lock: asyncio.Lock,
        on_change: Callable[[], None],
        on_delivered: OnDelivered | None = None,
    ) -> None:
        """``lock`` is held while an entry is computed and recorded, by everybody who records."""
        self.receiver = receiver
        self.outbox = Outbox()
        self._log = log
        self._clock = clock
        self._backoff = backoff
        self._send = send
        self._lock = lock
        self._on_change = on_change
        self._on_delivered = on_delivered
        self._bucket = TokenBucket(receiver.rate_per_second, receiver.burst, clock)
        self._failures = 0
        self._added = asyncio.Event()

    def put(self, entry: Entry, waiters: Sequence[tuple[int, Callable[[], None]]] = ()) -> None:
        """Queue what the log holds as pending; ``waiters`` with the revision each waits for."""
        item = self.outbox.put(entry.finding_id, entry.pending)
        item.waiters += waiters
        self._hold(item, entry)
        self._added.set()

    def due(self) -> int:
        """Findings that wait for nothing but their turn."""
        return self.outbox.ready_count(self._clock.monotonic())

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            try:
                await self._until_ready()
                await self._bucket.take()
                if items := self.outbox.ready(self._clock.monotonic(), self._batch_size()):
                    await self._attempt(items)
            except Exception:
                # A defect here must not end deliveries; whatever was in hand is still in the outbox.
                logger.exception("delivery_stumbled", receiver=self.receiver.name)
                await self._pause(Retry("internal error"))

    def _batch_size(self) -> int:
        # After a failure a single finding probes: a digest that fails again would put the blame on all in it.
        if self._failures or self.due() <= self.receiver.digest_above:
            return 1
        return self.receiver.digest_max

    async def _until_ready(self) -> None:
        while True:
            self._added.clear()
            at = self.outbox.ready_at()
            wait = None if at is None else at - self._clock.monotonic()
            if wait is not None and wait <= 0:
                return
            waits = {asyncio.ensure_future(self._added.wait())}
            if wait is not None:
                waits.add(asyncio.ensure_future(self._clock.sleep(wait)))
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waits:
                    task.cancel()

    async def _attempt(self, items: Sequence[Item]) -> None:
        findings = [item.head for item in items]
        try:
            request = self.receiver.build(findings)
        except Exception as error:
            outcome: Outcome = Failed(redact(f"cannot be rendered: {error!r}"))
        else:
            await self._note_attempt(items)
            outcome = await self._send(self.receiver, request)
        if isinstance(outcome, Retry):
            for item in items if outcome.suspect else ():
                item.attempts += 1
                item.alone = item.alone or item.attempts >= 3
                wait = self._backoff.wait_seconds(item.attempts, outcome.after_seconds)
                self.outbox.postpone(item, self._clock.monotonic() + wait)
            self._on_change()
            await self._pause(outcome)
            return
        self._failures = 0
        if isinstance(outcome, Failed) and len(items) > 1:
            # One of them spoils the digest; each gets its own verdict.
            for item in items:
                item.alone = True
            return
        await self._settle(list(zip(items, findings, strict=True)), outcome)

    async def _note_attempt(self, items: Sequence[Item]) -> None:
        """Return once the log has taken a record: what it could not note must not be sent, or it is sent again."""
        if self._log.durable:
            async with self._lock:
                entries = [self._log.get(self.receiver.name, item.finding_id) for item in items]
                await self.record([entry for entry in entries if entry is not None])

    async def _pause(self, retry: Retry) -> None:
        self._failures += 1
        wait = self._backoff.wait_seconds(self._failures, retry.after_seconds)
        logger.warning(
            "notification_delayed",
            receiver=self.receiver.name,
            reason=retry.reason,
            failures=self._failures,
            wait_seconds=round(wait, 3),
            pending=len(self.outbox),
        )
        await self._clock.sleep(wait)

    async def _settle(self, pairs: list[tuple[Item, dict]], outcome: Delivered | Failed) -> None:
        ok = isinstance(outcome, Delivered)
        detail = "" if ok else outcome.reason
        async with self._lock:
            entries = [self._entry(item, finding, ok, detail) for item, finding in pairs]
            await self.record(entries)
            waiters = []
            for (item, finding), entry in zip(pairs, entries, strict=True):
                waiters += self.outbox.settle(item, finding)
                if item.findings:
                    self._hold(item, entry)
        for _, finding in pairs:
            facts = {"receiver": self.receiver.name, "finding": finding["id"], "revision": finding["revision"]}
            if ok:
                logger.info("notification_sent", **facts)
            else:
                logger.error("notification_failed", **facts, reason=detail)
            if self._on_delivered is not None:
                self._on_delivered(self.receiver.name, finding, ok)
        for waiter in waiters:
            waiter()
        self._on_change()

    def _entry(self, item: Item, finding: dict, ok: bool, detail: str) -> Entry:
        left = item.without(finding)
        before = self._log.get(self.receiver.name, finding["id"])
        now_ms = self._clock.now_ms()
        told = (finding["severity"], now_ms) if ok else (before.told_severity, before.told_ms) if before else ("", 0)
        state = "pending" if left else "sent" if ok else "failed"
        return Entry(self.receiver.name, finding["id"], state, finding["revision"], now_ms, detail, left, *told)

    def _hold(self, item: Item, entry: Entry) -> None:
        wait_ms = hold_ms(item.head, entry, self.receiver.update_interval_ms, self._clock.now_ms())
        # A finding that is in trouble with the destination keeps its own, longer wait.
        earliest = item.not_before if item.attempts else 0.0
        item.not_before = max(earliest, self._clock.monotonic() + wait_ms / 1000 if wait_ms else 0.0)

    async def record(self, entries: Sequence[Entry]) -> None:
        """Record for certain; the caller holds the lock. Once a destination has answered there is no way back."""
        failures = 0
        while True:
            try:
                await self._log.record(entries)
                return
            except Exception as error:
                failures += 1
                wait = self._backoff.wait_seconds(failures)
                logger.warning("notification_log_delayed", reason=redact(repr(error)), wait_seconds=round(wait, 3))
                await self._clock.sleep(wait)
