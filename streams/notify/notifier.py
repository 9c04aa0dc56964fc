"""Findings in, messages out: at least once to every receiver, and once unless a destination hides its answer.

How the alert agent keeps at-least-once:

- ``await submit_many(findings)`` returns once every finding is accepted: routed, deduplicated, recorded as
  pending in the notification log, and queued. With a durable log (``log.durable``) the agent may then commit
  the findings' offsets: a crash loses nothing, since ``start`` takes up what the log holds as pending.
- With a log in memory the agent may commit an offset only once everything below it is delivered: each finding
  has a future that is done then, and ``acks.DeliveredOffsets`` turns futures into the offset to commit. After a
  crash the rest is read and sent again, with the same dedup keys.
- A receiver holds at most ``queue_max`` findings. Beyond that ``submit`` waits, so the agent stops reading: a
  destination that is down for long then delays the others too, but only past that bound.

A finding's future is done when every receiver has it or has refused it for good (any 4xx but 408, 425, 429;
recorded, logged as an error and reported to ``on_delivered``). Failures of the network, 408, 425, 429 and 5xx
are retried for ever. A newer revision of a waiting finding replaces it; a resolution follows its alert. A
receiver that knows of a finding hears of its changes once in ``update_interval``, of a higher severity and of
the resolution at once.

A finding that is muted (``silence_stage``, ``inhibit_stage``) goes to nobody while it is, and counts as done; ``tick``
tells of it once it is muted no more and still open. The end of what a receiver was told of is never muted. What is
open, what is muted and what was told as which alert are all in the log, so a restart changes nothing.

All on one event loop. Cost: a record in the log for the finding, and two and a request for each receiver, 3 KB each
while it waits.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import aiohttp
import structlog

from streams.errors import RetryableError
from streams.notify.clock import Clock, SystemClock
from streams.notify.config import InhibitSettings
from streams.notify.dedupe_stage import is_repeat, is_waiting
from streams.notify.delivery import Delivery, OnDelivered
from streams.notify.group_stage import group_key
from streams.notify.hold_stage import is_minor
from streams.notify.inhibit_stage import Inhibitor
from streams.notify.notification_log import Entry, NotificationLog
from streams.notify.open_findings import OPEN, OpenFindings
from streams.notify.receiver import Outcome, Receiver, Request
from streams.notify.record_stage import Recorder
from streams.notify.retry_stage import Backoff
from streams.notify.route_stage import Router
from streams.notify.send_stage import send
from streams.notify.silence_stage import Silences

logger = structlog.get_logger(__name__)

UPKEEP_SECONDS = 60.0
"""How often ``tick`` looks for what is to be repeated or forgotten."""
CHUNK = 500
"""Findings recorded together: enough to hide a log's latency, few enough to fit any queue in turn."""


class Notifier:
    def __init__(
        self,
        receivers: Sequence[Receiver],
        log: NotificationLog,
        *,
        router: Router | None = None,
        silences: Silences | None = None,
        inhibit: Sequence[InhibitSettings] | None = None,
        clock: Clock | None = None,
        session_factory: Callable[[], aiohttp.ClientSession] | None = None,
        on_delivered: OnDelivered | None = None,
        backoff: Backoff | None = None,
        queue_max: int = 10_000,
        timeout_seconds: float = 10.0,
        proxy: str | None = None,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        """``guard`` is called before every request and raises, or ends the process, if another may be sending too.

        ``silences`` may learn more while this runs; ``recheck`` then. No ``inhibit`` rules given: the default ones.
        """
        self._receivers = tuple(receivers)
        self._router = router or Router(self._receivers)
        self._silences = silences or Silences()
        self._inhibit = inhibit
        self._inhibitor = Inhibitor(inhibit)
        self._log = log
        self._open = OpenFindings(log)
        self._clock = clock or SystemClock()
        self._timeout_seconds = timeout_seconds
        self._session_factory = session_factory or self._new_session
        self._on_delivered = on_delivered
        self._backoff = backoff or Backoff()
        self._recorder = Recorder(log, self._backoff, self._clock)
        self._queue_max = queue_max
        self._proxy = proxy
        self._guard = guard
        self._deliveries: dict[str, Delivery] = {}
        self._tasks: list[asyncio.Task] = []
        self._session: aiohttp.ClientSession | None = None
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._stopping = False
        self._recheck = True
        self._upkeep_at = 0.0

    async def start(self) -> None:
        """Take up what the log holds as pending, which must have been read by now, and begin to deliver."""
        self._session = self._session_factory()
        self._inhibitor = Inhibitor(self._inhibit, self._open)
        for receiver in self._receivers:
            delivery = Delivery(
                receiver,
                self._log,
                self._open,
                self._clock,
                self._backoff,
                self._send,
                self._lock,
                self._notify_change,
                self._on_delivered,
            )
            self._deliveries[receiver.name] = delivery
            for entry in self._log.pending(receiver.name):
                delivery.put(entry)
            self._tasks.append(asyncio.create_task(delivery.run(), name=f"notify {receiver.name}"))
        if pending := self.pending():
            logger.info("notifications_resumed", pending=pending)

    async def stop(self, timeout_seconds: float = 10.0) -> int:
        """Deliver what can be delivered within the time, then stop; returns how many findings are left waiting."""
        self._stopping = True
        self._notify_change()
        try:
            due = self._until(lambda: not any(delivery.due() for delivery in self._deliveries.values()))
            await asyncio.wait_for(due, timeout_seconds)
        except TimeoutError:
            pass
        if left := self.pending():
            logger.warning("notifications_left_pending", pending=left, durable=self._log.durable)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._session is not None:
            await self._session.close()
        return self.pending()

    async def submit(self, finding: dict) -> "asyncio.Future[None]":
        """Accept one finding; see ``submit_many``."""
        return (await self.submit_many([finding]))[0]

    async def submit_many(self, findings: Sequence[dict]) -> "list[asyncio.Future[None]]":
        """Accept findings in order (after ``start``), waiting while a receiver's queue is full.

        Returns one future per finding, done when no receiver waits for it any more. Waits if the log cannot
        record. Safe to repeat: what is settled or waiting is not taken twice.

        Raises RetryableError if ``stop`` comes first: of these findings some may be accepted, none is lost.
        """
        futures: list[asyncio.Future[None]] = []
        size = min(CHUNK, self._queue_max)
        for start in range(0, len(findings), size):
            futures += await self._accept(findings[start : start + size])
        return futures

    def pending(self) -> int:
        """Findings that wait, over all receivers."""
        return sum(len(delivery.outbox) for delivery in self._deliveries.values())

    def pending_by_receiver(self) -> dict[str, int]:
        return {name: len(delivery.outbox) for name, delivery in self._deliveries.items()}

    async def drained(self) -> None:
        """Wait until nothing is pending."""
        await self._until(lambda: self.pending() == 0)

    def recheck(self) -> None:
        """Silences or acknowledgements have changed: the next ``tick`` looks at what is open."""
        self._recheck = True

    async def tick(self) -> None:
        """Tell what is muted no more, pass acknowledgements on, repeat and forget; call it every second or so."""
        now_ms, now = self._clock.now_ms(), self._clock.monotonic()
        async with self._lock:
            told = _Told(self._log)
            muted = self._open.muted()
            for finding, reason in muted:
                # Silences end without a word; what explains a finding says so.
                if self._recheck or not reason.startswith("explained"):
                    self._retell(told, finding, now_ms)
            if self._recheck:
                self._pass_on_acknowledgements(told)
            self._recheck = False
            if now >= self._upkeep_at:
                self._upkeep_at = now + UPKEEP_SECONDS
                self._repeat(told, now_ms)
                for entry in self._open.expired(now_ms):
                    told.add(entry)
                    self._forget(entry.finding_id)
            await self._recorder.write(told.entries)
        await self._commit(told)

    def open_groups(self, key: str) -> set[str]:
        """Ids of the findings in an alert, at any receiver; ``key`` itself if it is no group's."""
        ids = set()
        for delivery in self._deliveries.values():
            if (group := delivery.groups.get(key)) is not None:
                ids |= group.open_ids
        return ids or {key}

    async def _accept(self, chunk: Sequence[dict]) -> "list[asyncio.Future[None]]":
        await self._until(lambda: self._stopping or self._has_room(chunk))
        if self._stopping:
            raise RetryableError("the notifier is stopping: submit these findings again after its next start")
        async with self._lock:
            # Worked out under the lock, since each entry builds on the one before it.
            told, futures = _Told(self._log), []
            for finding in chunk:
                countdown = _Countdown()
                self._take(told, finding, countdown)
                futures.append(countdown.armed())
            await self._recorder.write(told.entries)
        await self._commit(told)
        return futures

    def _take(self, told: "_Told", finding: dict, countdown: "_Countdown") -> None:
        was = told.get(OPEN, finding["id"])
        if not _newest(finding, was):
            # What was to be done for it was recorded before the later revision was.
            return
        now_ms = self._clock.now_ms()
        self._recheck |= self._inhibitor.update(finding)
        before = was.detail if was is not None else ""
        muted = "" if finding["status"] == "resolved" else self._muted(finding, now_ms)
        if not muted:
            self._tell(told, finding, countdown, only_told=before != "" and finding["status"] == "resolved")
        kept = before if finding["status"] == "resolved" else muted
        if (entry := self._open.entry(finding, now_ms, kept, was)) is not None:
            told.add(entry)

    def _tell(self, told: "_Told", finding: dict, countdown: "_Countdown", only_told: bool = False) -> None:
        """Let each receiver that wants it know; ``only_told``: those who know of it already."""
        now_ms = self._clock.now_ms()
        acknowledged = self._silences.acknowledged(finding["id"]) is not None
        for receiver in self._router.route(finding, told.knowing(finding["id"])):
            entry = told.get(receiver.name, finding["id"])
            if is_repeat(finding, entry) or (only_told and entry is None):
                continue
            if acknowledged and is_minor(finding, entry):
                continue
            if not is_waiting(finding, entry):
                delivery = self._deliveries[receiver.name]
                if finding["status"] == "resolved" and delivery.waits_for_company(finding["id"]):
                    told.drop(replace(entry, state="dropped", settled_revision=finding["revision"], pending=()))
                    continue
                entry = _with_pending(entry, receiver, finding, now_ms)
                told.add(entry)
            told.join(receiver.name, finding, countdown.one_more())

    async def _commit(self, told: "_Told") -> None:
        """Queue what was worked out, once it is stored; its entries are written."""
        await self._recorder.stored()
        for entry in told.dropped:
            self._deliveries[entry.receiver].drop(entry)
        for (receiver, finding_id), waiters in told.joining.items():
            # Others may have written since.
            self._deliveries[receiver].put(self._log.get(receiver, finding_id), waiters)

    def _muted(self, finding: dict, now_ms: int) -> str:
        groups = {
            self._group(receiver, finding) for receiver in self._receivers if receiver.in_place or receiver.group_by
        }
        if reason := self._silences.reason(finding, now_ms, groups):
            return reason
        by = self._inhibitor.by(finding)
        return f"explained by {by}" if by else ""

    def _group(self, receiver: Receiver, finding: dict) -> str:
        entry = self._log.get(receiver.name, finding["id"])
        return entry.group if entry is not None and entry.told_open else group_key(finding, receiver)

    def _retell(self, told: "_Told", finding: dict, now_ms: int) -> None:
        """Tell of a finding that was muted, unless it still is."""
        muted = self._muted(finding, now_ms)
        entry = self._open.entry(finding, now_ms, muted)
        if entry is not None:
            if not muted:
                self._tell(told, finding, _Countdown())
            told.add(entry)

    def _pass_on_acknowledgements(self, told: "_Told") -> None:
        """Receivers that show an alert's state hear who has taken it, but for the one that said so."""
        for said in self._silences.acknowledgements():
            for finding_id in self.open_groups(said["finding_id"]):
                finding = self._open.get(finding_id)
                entries = [told.get(receiver.name, finding_id) for receiver in self._receivers]
                # What has joined the alert since then nobody has seen.
                if finding is None or not any(entry and 0 < entry.told_ms <= said["at_ms"] for entry in entries):
                    continue
                self._silences.acknowledge(finding_id, said)
                for receiver in self._receivers:
                    entry = told.get(receiver.name, finding_id)
                    if (
                        not receiver.in_place
                        or receiver.type == said["source"]
                        or entry is None
                        or not entry.told_open
                        or entry.acknowledged_ms >= said["at_ms"]
                    ):
                        continue
                    note = {**finding, "status": "updated", **_acknowledged(said)}
                    told.add(_with_pending(entry, receiver, note, self._clock.now_ms()))
                    told.join(receiver.name, note, None)

    def _repeat(self, told: "_Told", now_ms: int) -> None:
        for receiver in self._receivers:
            if not receiver.repeat_interval_ms:
                continue
            for finding in self._open:
                entry = told.get(receiver.name, finding["id"])
                if (
                    entry is not None
                    and entry.told_open
                    and entry.state != "pending"
                    and now_ms - entry.told_ms >= receiver.repeat_interval_ms
                    and self._silences.acknowledged(finding["id"]) is None
                    and not self._muted(finding, now_ms)
                ):
                    note = {**finding, "status": "updated"}
                    told.add(_with_pending(entry, receiver, note, now_ms))
                    told.join(receiver.name, note, None)

    def _forget(self, finding_id: str) -> None:
        self._inhibitor.forget(finding_id)
        for delivery in self._deliveries.values():
            delivery.groups.forget(finding_id)

    def _has_room(self, chunk: Sequence[dict]) -> bool:
        for delivery in self._deliveries.values():
            if len(delivery.outbox) + len(chunk) <= self._queue_max:
                continue
            new = {finding["id"] for finding in chunk if not delivery.outbox.holds(finding["id"])}
            if len(delivery.outbox) + len(new) > self._queue_max:
                return False
        return True

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _notify_change(self) -> None:
        self._changed.set()

    async def _send(self, receiver: Receiver, request: Request) -> Outcome:
        self._guard()
        return await send(self._session, receiver, request, self._clock, self._proxy)

    def _new_session(self) -> aiohttp.ClientSession:
        # Connections are not kept: one that the destination has closed meanwhile would fail the next alert, with
        # no telling whether it was received.
        return aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout_seconds),
            connector=aiohttp.TCPConnector(force_close=True),
        )


class _Told:
    """What one step records and queues, worked out in order."""

    def __init__(self, log: NotificationLog) -> None:
        self._log = log
        self._recorded: dict[tuple[str, str], Entry] = {}
        self._knowing: dict[str, set[str]] = defaultdict(set)
        self.entries: list[Entry] = []
        self.dropped: list[Entry] = []
        self.joining: dict[tuple[str, str], list] = defaultdict(list)

    def get(self, receiver: str, finding_id: str) -> Entry | None:
        return self._recorded.get((receiver, finding_id)) or self._log.get(receiver, finding_id)

    def knowing(self, finding_id: str) -> set[str]:
        """Names of the receivers that know of a finding."""
        return {*self._log.knowing(finding_id), *self._knowing.get(finding_id, ())}

    def add(self, entry: Entry) -> None:
        self._knowing[entry.finding_id].add(entry.receiver)
        self._recorded[entry.receiver, entry.finding_id] = entry
        self.entries.append(entry)

    def drop(self, entry: Entry) -> None:
        self.add(entry)
        self.dropped.append(entry)

    def join(self, receiver: str, finding: dict, waiter: Callable[[], None] | None) -> None:
        """Queue what the entry holds; ``waiter`` is called once this revision is settled."""
        self.joining[receiver, finding["id"]] += [(finding["revision"], waiter)] if waiter else []


def _with_pending(entry: Entry | None, receiver: Receiver, finding: dict, at_ms: int) -> Entry:
    """The entry with ``finding`` to be delivered: in place of what waits, or after it if it is a resolution.

    Only an alert that tells the receiver something new is kept in front of its resolution.
    """
    entry = entry or Entry(receiver.name, finding["id"], "pending", 0, at_ms)
    first: tuple[dict, ...] = ()
    if finding["status"] == "resolved":
        first = tuple(held for held in entry.pending if held["status"] != "resolved" and not is_minor(held, entry))
    elif entry.pending and "acknowledged_by" in entry.pending[-1]:
        kept = ("acknowledged_by", "acknowledged_ms")
        finding = {**{name: entry.pending[-1][name] for name in kept}, **finding}
    group = entry.group if entry.told_open else group_key(finding, receiver)
    return replace(entry, state="pending", at_ms=at_ms, detail="", pending=(*first, finding), group=group)


def _acknowledged(said: Mapping) -> dict:
    return {"acknowledged_by": said["user"] or "someone", "acknowledged_ms": said["at_ms"]}


def _newest(finding: dict, entry: Entry | None) -> bool:
    """True unless a later revision of it is known."""
    if entry is None:
        return True
    return finding["revision"] >= (entry.pending[0]["revision"] if entry.pending else entry.settled_revision)


class _Countdown:
    """A future that is done once each of several has called back."""

    def __init__(self) -> None:
        self._left = 1
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def one_more(self) -> Callable[[], None]:
        self._left += 1
        return self._down

    def armed(self) -> "asyncio.Future[None]":
        self._down()
        return self._future

    def _down(self) -> None:
        self._left -= 1
        if self._left == 0 and not self._future.done():
            self._future.set_result(None)
