"""``tenfold alerts``: what is open, what is silent, what was delivered; and a sample through each receiver.

Reads the notification log and the feedback topic as the alert agent does, and changes nothing. The sample goes out
with the receivers' own requests, without the log: it opens and ends, so it leaves nothing behind but its messages.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from models.findings import make_finding
from schemas.codec import decode
from streams.agents.notification_topic import KafkaNotificationLog
from streams.agents.spend_series import SpendSeries
from streams.config import Settings
from streams.follow import read_all
from streams.notify.clock import SystemClock
from streams.notify.notification_log import Entry
from streams.notify.open_findings import OPEN, OpenFindings
from streams.notify.receiver import Change, Delivered, Notification, Outcome, Receiver
from streams.notify.receivers import build_links, build_receivers
from streams.notify.send_stage import send
from streams.notify.silence_stage import Silences

MAX_CONCURRENT = 4


@dataclass(frozen=True, slots=True)
class Overview:
    """``open``: findings with the reason why nobody is told; ``silences``: subject, reason, end in ms."""

    open: list[tuple[dict, str]]
    silences: list[tuple[str, str, int]]
    deliveries: list[Entry]
    """Latest first."""


async def overview(settings: Settings) -> Overview:
    """What the topics say. Raises TenfoldError if they cannot be read."""
    client_settings, topics = settings.connection().client_options(), settings.topic_names()
    notifications = KafkaNotificationLog(topics.notifications.name, None)
    await notifications.load(client_settings)
    silences = Silences(settings.silences)
    for record in await read_all(client_settings, topics.feedback.name):
        if record.value is not None:
            silences.take(decode("feedback", record.value))
    muted = {finding["id"]: reason for finding, reason in OpenFindings(notifications).muted()}
    found = [(finding, muted.get(finding["id"], "")) for finding in OpenFindings(notifications)]
    names = [name for name in notifications.receivers() if name != OPEN]
    deliveries = [entry for name in names for entry in notifications.entries(name)]
    return Overview(
        sorted(found, key=lambda pair: -pair[0]["last_event_time"]),
        silences.active(time.time_ns() // 1_000_000),
        sorted(deliveries, key=lambda entry: -entry.at_ms),
    )


async def send_samples(settings: Settings, names: Sequence[str] = ()) -> list[tuple[str, str, Outcome]]:
    """(receiver, step, outcome) of a sample that opens, and ends, at each receiver, or at those named."""
    receivers = build_receivers(settings, build_links(settings, SpendSeries()))
    chosen = [receiver for receiver in receivers if not names or receiver.name in names]
    proxy = settings.notify.proxy.get_secret_value() if settings.notify.proxy else None
    timeout = aiohttp.ClientTimeout(total=settings.notify.timeout / 1000)
    limit = asyncio.Semaphore(MAX_CONCURRENT)
    async with aiohttp.ClientSession(timeout=timeout) as session:

        async def through(receiver: Receiver) -> list[tuple[str, str, Outcome]]:
            async with limit:
                return await _sample_through(receiver, session, proxy)

        return [row for rows in await asyncio.gather(*map(through, chosen)) for row in rows]


async def _sample_through(receiver: Receiver, session: aiohttp.ClientSession, proxy: str | None) -> list:
    clock = SystemClock()
    opened = sample(clock.now_ms())
    ended = {**opened, "revision": 2, "status": "resolved"}
    rows, ref = [], ""
    for finding, kind in ((opened, "opened"), (ended, "resolved")):
        members = () if kind == "resolved" else (finding,)
        told = Notification(finding["id"], (Change(finding, kind),), members, {}, ref, at_ms=clock.now_ms())
        for request in receiver.build(told):
            outcome = await send(session, receiver, request, clock, proxy)
            rows.append((receiver.name, kind, outcome))
            if not isinstance(outcome, Delivered):
                return rows
            ref = ref or outcome.ref
    return rows


def sample(now_ms: int) -> dict:
    """A finding that says that it is a test; its id is new each time."""
    return make_finding(
        id=f"test-{now_ms:x}",
        detector="session_outlier",
        severity="critical",
        scope_kind="session",
        scope_name="sample-session",
        session_id="sample-session",
        team="sample-team",
        agent="sample-agent",
        model="sample-model",
        window_start=now_ms - 360_000,
        window_ms=360_000,
        observed_nano_usd=41_600_000_000,
        expected_nano_usd=4_000_000_000,
        score=3.2,
        confidence=0.9,
        baseline_size=412,
        first_event_time=now_ms - 360_000,
        last_event_time=now_ms,
        detection_time=now_ms,
        reason="This is a test by `tenfold alerts test`: session sample-session would have cost $41.60, "
        "10.4x the median $4.00 of its peers.",
        cause=[
            {"dimension": "volume", "name": "events per session", "excess_nano_usd": 30_000_000_000},
            {"dimension": "price", "name": "cost per event", "excess_nano_usd": 7_600_000_000},
        ],
    )
