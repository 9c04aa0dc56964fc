"""A local stand-in for the far side of alerts: answers as Slack, PagerDuty Events v2 and a plain webhook do.

It keeps to the services' documented rules (required fields, limits, status codes), so what it accepts they would.
``script`` makes it misbehave on purpose: answer 429 or 500, or hang up. Used by the demo and by tests.
"""

import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from loadtest.service_limits import problem


@dataclass(frozen=True, slots=True)
class Received:
    """One accepted message."""

    service: str
    body: dict
    at: float = field(default_factory=time.time)

    def lines(self) -> list[str]:
        """As a person would read it, without markup."""
        return _slack_lines(self.body) if self.service == "slack" else _other_lines(self.service, self.body)


@dataclass(slots=True)
class Receiver:
    """Start with ``async with``; ``url(service)`` is where to send to."""

    on_message: Callable[[Received], None] = lambda message: None
    messages: list[Received] = field(default_factory=list)
    script: deque = field(default_factory=deque)
    """Statuses for the next requests, each used once: 429, 500, ... or "close"."""
    requests: int = 0
    _runner: web.AppRunner | None = None
    _port: int = 0

    async def __aenter__(self) -> "Receiver":
        app = web.Application(client_max_size=4 * 1024 * 1024)
        app.router.add_post("/{service:slack|pagerduty|webhook}", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = site._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc) -> None:
        await self._runner.cleanup()

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self._port}/{service}"

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        if self.script:
            step = self.script.popleft()
            if step == "close":
                request.transport.close()
                return web.Response()
            if step != 200:
                return web.Response(status=step, headers={"Retry-After": "1"} if step == 429 else {})
        service = request.match_info["service"]
        body = await request.json()
        refused = problem(service, body, request.content_length or 0)
        if refused:
            return web.Response(status=400, text=refused)
        message = Received(service, body)
        self.messages.append(message)
        self.on_message(message)
        if service == "pagerduty":
            answer = {"status": "success", "message": "Event processed", "dedup_key": body["dedup_key"]}
            return web.json_response(answer, status=202)
        return web.Response(text="ok")


def _plain(text: str) -> str:
    text = re.sub(r"<([^|>]+)\|([^>]+)>", r"\2", text)
    text = re.sub(r"[*`]", "", text)
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _slack_lines(body: dict) -> list[str]:
    lines = []
    for block in body.get("blocks", []):
        if "text" in block:
            lines += _plain(block["text"]["text"]).splitlines()
        fields = [" ".join(_plain(f["text"]).split("\n", 1)) for f in block.get("fields", [])]
        lines += ["   ".join(fields[at : at + 3]) for at in range(0, len(fields), 3)]
        if block["type"] == "context":
            lines += [_plain(element.get("text", "")) for element in block.get("elements", [])]
    return lines or [_plain(body.get("text", ""))]


def _other_lines(service: str, body: dict) -> list[str]:
    if service == "pagerduty":
        payload = body.get("payload", {})
        head = f"{body['event_action']} {payload.get('severity', '')}".strip()
        return [f"{head}: {payload.get('summary', body['dedup_key'])}"]
    return [str(body.get("reason", body))]
