"""One receiver's queue and the loop that empties it: batch, rate limit, send, retry, record.

Each receiver has its own, so one that is down delays nobody else. A finding stays here until the destination
has answered for good; a failure delays it and never drops it. An answer that may be the finding's own fault
(a plain 500) lets the others pass, with a growing wait of its own.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import structlog

from streams.log import redact
from streams.notify.batch_stage import Batch, Batcher
from streams.notify.clock import Clock
from streams.notify.group_stage import Groups, rank, shared_labels
from streams.notify.hold_stage import hold_ms
from streams.notify.notification_log import Entry, NotificationLog
from streams.notify.open_findings import OpenFindings
from streams.notify.outbox import Item, Outbox
from streams.notify.receiver import (
    Change,
    Delivered,
    Failed,
    Gone,
    Kind,
    Notification,
    Outcome,
    Receiver,
    Request,
    Retry,
)
from streams.notify.record_stage import Recorder
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
        open_findings: OpenFindings,
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
        self.groups = Groups(entry for entry in log.entries(receiver.name) if entry.finding_id in open_findings)
        self._log = log
        self._open = open_findings
        self._clock = clock
        self._backoff = backoff
        self._recorder = Recorder(log, backoff, clock)
        self._send = send
        self._lock = lock
        self._on_change = on_change
        self._on_delivered = on_delivered
        self._batcher = Batcher(receiver, self.outbox, self.groups, clock)
        self._failures = 0
        self._added = asyncio.Event()

    def put(self, entry: Entry, waiters: Sequence[tuple[int, Callable[[], None]]] = ()) -> None:
        """Queue what the log holds as pending, if anything; ``waiters`` with the revision each waits for."""
        if not entry.pending:
            for _, waiter in waiters:
                waiter()
            return
        item = self.outbox.put(entry.finding_id, entry.pending, entry.group, self._clock.monotonic())
        item.waiters += waiters
        self._hold(item, entry)
        self._added.set()

    def drop(self, entry: Entry) -> None:
        """What waits was over before it was told; ``entry`` says so in the log."""
        if (item := self.outbox.get(entry.finding_id)) is not None:
            for waiter in [waiter for finding in item.findings for waiter in self.outbox.settle(item, finding)]:
                waiter()
        self._on_change()

    def waits_for_company(self, finding_id: str) -> bool:
        """True while a finding waits for the ``group_wait`` of an alert that nobody was told of."""
        wait = self.receiver.group_wait_ms / 1000
        item = self.outbox.get(finding_id) if wait else None
        return (
            item is not None
            and item.attempts == 0
            and self.groups.get(item.group) is None
            and item.created + wait > self._clock.monotonic()
        )

    def due(self) -> int:
        """Findings that wait for nothing but their turn."""
        return self._batcher.due()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            try:
                self._added.clear()
                # After a failure a single finding probes: a digest that fails again would blame all in it.
                batch = self._batcher.choose(single=self._failures > 0)
                if batch.items:
                    await self._attempt(batch)
                else:
                    await self._wait(batch.wait_until)
            except Exception:
                # A defect here must not end deliveries; whatever was in hand is still in the outbox.
                logger.exception("delivery_stumbled", receiver=self.receiver.name)
                await self._pause(Retry("internal error"))

    async def _wait(self, until: float) -> None:
        """Until something is added, or the time comes."""
        waits = {asyncio.ensure_future(self._added.wait())}
        if until < math.inf:
            waits.add(asyncio.ensure_future(self._clock.sleep(max(0.0, until - self._clock.monotonic()))))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()

    async def _attempt(self, batch: Batch) -> None:
        items = batch.items
        findings = [item.head for item in items]
        asked = self._clock.monotonic()
        try:
            notification = self._notification(batch, findings)
            requests = self.receiver.build(notification)
        except Exception as error:
            outcome: Outcome = Failed(redact(f"cannot be rendered: {error!r}"))
        else:
            # What the log could not note must not be sent, or it is sent again.
            await self._recorder.probe()
            outcome = await self._send_all(requests, batch.update)
        if isinstance(outcome, Gone) and (group := self.groups.get(batch.group)) is not None:
            logger.warning("alert_message_gone", receiver=self.receiver.name, group=batch.group, reason=outcome.reason)
            group.ref = ""
            return
        if isinstance(outcome, Gone):
            outcome = Failed(outcome.reason)
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
        await self._settle(list(zip(items, findings, strict=True)), batch.group, outcome, asked)

    async def _send_all(self, requests: Sequence[Request], update: bool) -> Outcome:
        """Send in order; the first answer that is not good counts, else the first of all."""
        first: Outcome = Delivered()
        for number, request in enumerate(requests):
            self._batcher.take(update and number == 0)
            outcome = await self._send(self.receiver, request)
            if number == 0:
                first = outcome
            if isinstance(outcome, Retry):
                return outcome
            if not isinstance(outcome, Delivered):
                if number == 0:
                    return outcome
                logger.error("notification_part_refused", receiver=self.receiver.name, reason=outcome.reason)
        return first

    def _notification(self, batch: Batch, findings: list[dict]) -> Notification:
        group = self.groups.get(batch.group)
        changed = {finding["id"]: finding for finding in findings}
        known = [self._open.get(id) for id in (group.open_ids if group else ()) if id not in changed]
        members = [
            finding for finding in (*known, *findings) if finding is not None and finding["status"] != "resolved"
        ]
        members.sort(key=lambda finding: (rank(finding["severity"]), finding["excess_nano_usd"]), reverse=True)
        return Notification(
            batch.group,
            tuple(Change(finding, self._kind(finding)) for finding in findings),
            tuple(members),
            shared_labels(findings[0], self.receiver, batch.group),
            group.ref if group else "",
            quiet=not self._batcher.may_post(),
            at_ms=self._clock.now_ms(),
        )

    def _kind(self, finding: dict) -> Kind:
        entry = self._log.get(self.receiver.name, finding["id"])
        if finding["status"] == "resolved":
            return "resolved"
        if entry is None or not entry.told_open:
            return "opened"
        if finding.get("acknowledged_ms", 0) > entry.acknowledged_ms:
            return "acknowledged"
        if rank(finding["severity"]) > rank(entry.told_severity):
            return "escalated"
        return "amended" if finding["revision"] > entry.settled_revision else "repeated"

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

    async def _settle(
        self, pairs: list[tuple[Item, dict]], group: str, outcome: Delivered | Failed, asked: float
    ) -> None:
        ok = isinstance(outcome, Delivered)
        detail = "" if ok else outcome.reason
        before = self.groups.get(group)
        ref = (outcome.ref if ok else "") or (before.ref if before else "")
        async with self._lock:
            entries = [self._entry(finding, group or item.group, ok, detail, ref) for item, finding in pairs]
            await self._recorder.write(entries)
            waiters = []
            for (item, finding), entry in zip(pairs, entries, strict=True):
                waiters += self.outbox.settle(item, finding)
                item.group = entry.group
                if ok:
                    self.groups.told(entry)
                if item.findings:
                    self._hold(item, entry)
            if ok and (after := self.groups.get(group)) is not None:
                after.asked = asked
        await self._recorder.stored()
        last = pairs[-1][1]
        facts = {
            "receiver": self.receiver.name,
            "findings": len(pairs),
            "finding": last["id"],
            "status": last["status"],
        }
        if ok:
            logger.info("notification_sent", **facts, revision=last["revision"])
        else:
            logger.error("notification_failed", **facts, revision=last["revision"], reason=detail)
        if self._on_delivered is not None:
            for _, finding in pairs:
                self._on_delivered(self.receiver.name, finding, ok)
        for waiter in waiters:
            waiter()
        self._on_change()

    def _entry(self, finding: dict, group: str, ok: bool, detail: str, ref: str) -> Entry:
        now_ms = self._clock.now_ms()
        entry = self._log.get(self.receiver.name, finding["id"])
        entry = entry or Entry(self.receiver.name, finding["id"], "pending", 0, now_ms)
        # Not what is queued: a later revision may be in the log and not in the queue yet.
        left = tuple(held for held in entry.pending if held is not finding)
        told = {}
        if ok:
            ended = finding["status"] == "resolved"
            told = {
                "told_severity": finding["severity"],
                "told_ms": now_ms,
                "told_open": not ended,
                "ref": "" if ended else ref,
                "acknowledged_ms": max(entry.acknowledged_ms, finding.get("acknowledged_ms", 0)),
            }
        return replace(
            entry,
            state="pending" if left else "sent" if ok else "failed",
            settled_revision=max(entry.settled_revision, finding["revision"]),
            at_ms=now_ms,
            detail=detail,
            pending=left,
            group=group,
            **told,
        )

    def _hold(self, item: Item, entry: Entry) -> None:
        wait_ms = hold_ms(item.head, entry, self.receiver.update_interval_ms, self._clock.now_ms())
        # A finding that is in trouble with the destination keeps its own, longer wait.
        earliest = item.not_before if item.attempts else 0.0
        item.not_before = max(earliest, self._clock.monotonic() + wait_ms / 1000 if wait_ms else 0.0)
