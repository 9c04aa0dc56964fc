"""A real HTTP destination that answers by script, a clock that never waits, and findings."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from models.findings import make_finding
from streams.notify.destinations import destinations
from streams.notify.notifier import Notifier
from streams.notify.receiver import Change, Notification
from streams.notify.retry_stage import Backoff


class FakeClock:
    """Sleeping moves the clock and gives the others a turn; nobody waits."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []
        self.on_sleep = None

    def now_ms(self) -> int:
        return int(self.now * 1000)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        self.now += seconds
        if self.on_sleep is not None:
            await self.on_sleep(len(self.slept))
        await asyncio.sleep(0)


class Destination:
    """Answers each request with the next of ``script``, then with 200.

    A number is a status; (status, headers, body) an answer; "close" takes the request and says nothing; "half"
    sends a good status line and breaks off. ``judge(body)`` may answer by content instead.
    """

    def __init__(self) -> None:
        self.script: list = []
        self.requests: list[tuple[dict, dict]] = []
        self.accepted: list[dict] = []
        self.judge = None
        self.hold: asyncio.Event | None = None
        self.arrived = asyncio.Event()
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def start(self, port: int = 0) -> None:
        app = web.Application()
        app.router.add_post("/hook", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.requests.append((dict(request.headers), body))
        self.arrived.set()
        if self.hold is not None:
            await self.hold.wait()
        action = self.judge(body) if self.judge is not None else self.script.pop(0) if self.script else 200
        if action == "close":
            request.transport.close()
            return web.Response()
        if action == "half":
            self.accepted.append(body)
            response = web.StreamResponse(headers={"Content-Length": "100"})
            await response.prepare(request)
            request.transport.close()
            return response
        status, headers, text = action if isinstance(action, tuple) else (action, {}, "")
        if 200 <= status < 300:
            self.accepted.append(body)
        return web.Response(status=status, headers=headers, text=text)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def destination():
    one = Destination()
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
def free_port() -> int:
    """A port that refuses connections."""
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def _finding(n: int = 1, revision: int = 1, status: str = "open", severity: str = "critical", **fields) -> dict:
    values = {
        "id": f"session_outlier-{n:04d}",
        "detector": "session_outlier",
        "scope_kind": "session",
        "scope_name": f"s-{n}",
        "session_id": f"s-{n}",
        "team": "payments",
        "agent": "loan-agent",
        "model": "gpt-5.4",
        "window_start": 1_700_000_000_000,
        "window_ms": 360_000,
        "observed_nano_usd": 41_600_000_000,
        "expected_nano_usd": 4_000_000_000,
        "score": 3.2,
        "confidence": 0.9,
        "baseline_size": 412,
        "first_event_time": 1_700_000_000_000,
        "last_event_time": 1_700_000_360_000,
        "detection_time": 1_700_000_360_100,
        "reason": f"Session s-{n} cost $41.60, 10.4 times the median of its peers.",
    }
    return make_finding(**{**values, **fields}, revision=revision, status=status, severity=severity)


@pytest.fixture(scope="session")
def finding():
    return _finding


def _receiver(kind: str, url: str, name: str = "", min_severity: str = "info", links=None, **fields):
    where = {"api_url": url} if "token" in fields else {"url": url}
    if kind == "pagerduty":
        where["routing_key"] = "r" * 32
    found = destinations()[kind]
    return found(found.Config(type=kind, name=name, min_severity=min_severity, **where, **fields), links)


def _notification(*findings: dict, group: str = "", **fields) -> Notification:
    """As if all of ``findings`` had just opened or ended, alone or in ``group``."""
    changes = tuple(Change(one, "resolved" if one["status"] == "resolved" else "opened") for one in findings)
    members = tuple(one for one in findings if one["status"] != "resolved")
    return Notification(group or findings[0]["id"], changes, **{"members": members, **fields})


@pytest.fixture(scope="session")
def notification():
    return _notification


@pytest.fixture(scope="session")
def receiver():
    return _receiver


@asynccontextmanager
async def _running(receivers, log, clock, **options):
    options.setdefault("backoff", Backoff(1.0, 60.0, uniform=lambda low, high: high))
    notifier = Notifier(receivers, log, clock=clock, **options)
    await notifier.start()
    try:
        yield notifier
    finally:
        await notifier.stop(0)


@pytest.fixture(scope="session")
def running():
    return _running
