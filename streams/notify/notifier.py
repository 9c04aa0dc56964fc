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

All on one event loop. Cost: a record and a request per finding and receiver, 3 KB each while it waits.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import aiohttp
import structlog

from streams.errors import RetryableError
from streams.notify.clock import Clock, SystemClock
from streams.notify.dedupe_stage import is_repeat, is_waiting
from streams.notify.delivery import Delivery, OnDelivered
from streams.notify.hold_stage import is_minor
from streams.notify.notification_log import Entry, NotificationLog
from streams.notify.receiver import Outcome, Receiver, Request
from streams.notify.retry_stage import Backoff
from streams.notify.route_stage import route
from streams.notify.send_stage import send

logger = structlog.get_logger(__name__)

CHUNK = 100
"""Findings recorded together: enough to hide a log's latency, few enough to fit any queue in turn."""


class Notifier:
    def __init__(
        self,
        receivers: Sequence[Receiver],
        log: NotificationLog,
        *,
        clock: Clock | None = None,
        session_factory: Callable[[], aiohttp.ClientSession] | None = None,
        on_delivered: OnDelivered | None = None,
        backoff: Backoff | None = None,
        queue_max: int = 10_000,
        timeout_seconds: float = 10.0,
        proxy: str | None = None,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        """``guard`` is called before every request and raises, or ends the process, if another may be sending too."""
        self._receivers = tuple(receivers)
        self._log = log
        self._clock = clock or SystemClock()
        self._timeout_seconds = timeout_seconds
        self._session_factory = session_factory or self._new_session
        self._on_delivered = on_delivered
        self._backoff = backoff or Backoff()
        self._queue_max = queue_max
        self._proxy = proxy
        self._guard = guard
        self._deliveries: dict[str, Delivery] = {}
        self._tasks: list[asyncio.Task] = []
        self._session: aiohttp.ClientSession | None = None
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._stopping = False

    async def start(self) -> None:
        """Take up what the log holds as pending, which must have been read by now, and begin to deliver."""
        self._session = self._session_factory()
        for receiver in self._receivers:
            delivery = Delivery(
                receiver,
                self._log,
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

    async def _accept(self, chunk: Sequence[dict]) -> "list[asyncio.Future[None]]":
        await self._until(lambda: self._stopping or self._has_room(chunk))
        if self._stopping:
            raise RetryableError("the notifier is stopping: submit these findings again after its next start")
        async with self._lock:
            # Worked out under the lock, since each entry builds on the one before it.
            recorded: dict[tuple[str, str], Entry] = {}
            joining: dict[tuple[str, str], list] = defaultdict(list)
            futures, entries = [], []

            def latest(receiver: str, finding_id: str) -> Entry | None:
                return recorded.get((receiver, finding_id)) or self._log.get(receiver, finding_id)

            for finding in chunk:
                countdown = _Countdown()
                for receiver in route(finding, self._receivers, latest):
                    entry = latest(receiver.name, finding["id"])
                    if is_repeat(finding, entry):
                        continue
                    if not is_waiting(finding, entry):
                        entry = _with_pending(entry, receiver.name, finding, self._clock.now_ms())
                        recorded[receiver.name, finding["id"]] = entry
                        entries.append(entry)
                    joining[receiver.name, finding["id"]].append((finding["revision"], countdown.one_more()))
                futures.append(countdown.armed())
            if entries:
                await self._deliveries[entries[0].receiver].record(entries)
            for (receiver_name, finding_id), waiters in joining.items():
                self._deliveries[receiver_name].put(latest(receiver_name, finding_id), waiters)
        return futures

    def _has_room(self, chunk: Sequence[dict]) -> bool:
        for delivery in self._deliveries.values():
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


def _with_pending(entry: Entry | None, receiver: str, finding: dict, at_ms: int) -> Entry:
    """The entry with ``finding`` to be delivered: in place of what waits, or after it if it is a resolution.

    Only an alert that tells the receiver something new is kept in front of its resolution.
    """
    entry = entry or Entry(receiver, finding["id"], "pending", 0, at_ms)
    first: tuple[dict, ...] = ()
    if finding["status"] == "resolved":
        first = tuple(held for held in entry.pending if held["status"] != "resolved" and not is_minor(held, entry))
    return replace(entry, state="pending", at_ms=at_ms, detail="", pending=(*first, finding))


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
