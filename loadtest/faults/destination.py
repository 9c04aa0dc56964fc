"""The far side of alerts, misbehaving on demand, which remembers what it accepted and whether it said so.

The bodies are checked as in loadtest.receiver. ``mode`` counts for every request while it is set:

ok        accepts and answers
slow      accepts, answers after ``SLOW_SECONDS``, which is longer than the sender waits
silent    accepts and hangs up without a word
mid       accepts, and breaks off in the middle of a good answer
429, 500  refuses
hang_up   takes nothing, hangs up
down      does not listen
"""

import asyncio
import contextlib
import json
import re
import time
from dataclasses import dataclass, field

from aiohttp import web

from loadtest.service_limits import problem

MODES = ("slow", "silent", "mid", "429", "500", "hang_up", "down")
SLOW_SECONDS = 3.0
GONE_SECONDS = 0.005
"""Enough to hear that a sender has hung up."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """One message that was taken."""

    receiver: str
    finding: str
    """Dedup key: the finding's id."""
    revision: int
    """0 for PagerDuty's resolutions, which carry none."""
    resolved: bool
    answered: bool
    at: float
    """Seconds since 1970."""


@dataclass(slots=True)
class Destination:
    """``async with``; ``url(service)`` for the services ``webhook`` and ``pagerduty``."""

    mode: str = "ok"
    accepted: list[Accepted] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _runner: web.AppRunner | None = None
    _site: web.TCPSite | None = None
    _port: int = 0

    async def __aenter__(self) -> "Destination":
        app = web.Application(client_max_size=1 << 22)
        app.router.add_post("/{service:pagerduty|webhook}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self._port}/{service}"

    async def set_mode(self, mode: str) -> None:
        if mode == "down":
            await self._site.stop()
        elif self.mode == "down":
            await self._listen()
        self.mode = mode

    async def _listen(self) -> None:
        self._site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await self._site.start()
        self._port = self._port or self._site._server.sockets[0].getsockname()[1]

    async def _take(self, request: web.Request) -> web.StreamResponse:
        mode = self.mode
        if mode == "hang_up":
            request.transport.abort()
            return web.Response()
        if mode in ("429", "500"):
            return web.Response(status=int(mode), headers={"Retry-After": "1"} if mode == "429" else {})
        raw = await request.read()
        service = request.match_info["service"]
        body = json.loads(raw)
        if refused := problem(service, body, len(raw)):
            self.problems.append(f"{service}: {refused}")
            return web.Response(status=400, text=refused)
        # A busy machine may have kept the request waiting until its sender was gone, who cannot know then.
        await asyncio.sleep(GONE_SECONDS)
        gone = request.transport is None or request.transport.is_closing()
        answered = not gone and mode not in ("slow", "silent")
        self.accepted.append(_accepted(service, body, answered))
        if mode == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        elif mode == "silent":
            request.transport.abort()
            return web.Response()
        elif mode == "mid":
            response = web.StreamResponse(headers={"Content-Length": "100"})
            with contextlib.suppress(ConnectionError):
                await response.prepare(request)
                await response.write(b"acce")
            request.transport.close()
            return response
        return web.Response(status=202 if service == "pagerduty" else 200, text="ok")


def _accepted(service: str, body: dict, answered: bool) -> Accepted:
    now = time.time()
    if service == "webhook":
        return Accepted(service, body["id"], body["revision"], body["status"] == "resolved", answered, now)
    if body["event_action"] == "resolve":
        return Accepted(service, body["dedup_key"], 0, True, answered, now)
    revision = re.search(r"revision (\d+)$", body["payload"]["custom_details"]["Finding"])
    return Accepted(service, body["dedup_key"], int(revision[1]), False, answered, now)
