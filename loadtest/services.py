"""Slack and PagerDuty as far as alerts go: they keep what they are sent, and enforce limits, rates and secrets.

Slack: incoming webhooks (``/services/CHANNEL``), ``chat.postMessage`` and ``chat.update``. PagerDuty: ``/v2/enqueue``.
Past a documented rate the answer is 429 with Retry-After: one message a second and channel with a short burst, fifty
updates a minute, 120 events a minute and integration. ``press`` and ``webhook`` make what a person's answer sends us,
signed as the services do.
"""

import hashlib
import hmac
import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from urllib.parse import urlencode

from aiohttp import web

from loadtest.service_limits import pagerduty_problem, slack_problem

TOKEN = "xoxb-local-stand-in-0123456789"
ROUTING_KEY = "0123456789abcdef0123456789abcdef"


@dataclass(slots=True)
class Message:
    """One message in a channel, as it stands."""

    channel: str
    ts: str
    body: dict
    at: float
    thread_ts: str = ""
    edits: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Incident:
    state: str
    events: list[dict] = field(default_factory=list)


class _Rate:
    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second, self._burst = per_second, burst
        self._tokens, self._at = float(burst), time.monotonic()

    def take(self) -> float:
        """0 if one more is allowed, else seconds to wait."""
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._per_second
        self._tokens -= 1
        return 0.0


@dataclass(slots=True)
class Services:
    """``async with``; ``slack``, ``slack_api`` and ``pagerduty`` are the addresses to configure."""

    messages: list[Message] = field(default_factory=list)
    incidents: dict[str, Incident] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    """What broke a rule other than a rate."""
    rate_limited: int = 0
    _rates: dict[tuple, _Rate] = field(default_factory=dict)
    _runner: web.AppRunner | None = None
    _port: int = 0

    async def __aenter__(self) -> "Services":
        app = web.Application(client_max_size=4 << 20)
        app.router.add_post("/services/{channel}", self._hook)
        app.router.add_post("/api/{method}", self._method)
        app.router.add_post("/v2/enqueue", self._enqueue)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = site._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc) -> None:
        await self._runner.cleanup()

    def slack(self, channel: str) -> str:
        return f"http://127.0.0.1:{self._port}/services/{channel}"

    @property
    def slack_api(self) -> str:
        return f"http://127.0.0.1:{self._port}/api/"

    @property
    def pagerduty(self) -> str:
        return f"http://127.0.0.1:{self._port}/v2/enqueue"

    def most_in_a_minute(self) -> dict[str, int]:
        """By channel: the most new messages in any 60 seconds; a change of a message is none."""
        times = defaultdict(list)
        for message in self.messages:
            times[message.channel].append(message.at)
        return {
            channel: max(sum(0 <= other - at < 60 for other in found) for at in found)
            for channel, found in times.items()
        }

    def _limited(self, key: tuple, per_second: float, burst: int) -> web.Response | None:
        wait = self._rates.setdefault(key, _Rate(per_second, burst)).take()
        if not wait:
            return None
        self.rate_limited += 1
        return web.Response(status=429, headers={"Retry-After": str(int(wait) + 1)}, text="ratelimited")

    async def _hook(self, request: web.Request) -> web.Response:
        channel = request.match_info["channel"]
        if limited := self._limited(("post", channel), 1.0, 5):
            return limited
        body = await request.json()
        if bad := slack_problem(body):
            self.refused.append(f"slack: {bad}")
            return web.Response(status=400, text=bad)
        self._keep(channel, body)
        return web.Response(text="ok")

    async def _method(self, request: web.Request) -> web.Response:
        method, body = request.match_info["method"], await request.json()
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.refused.append("slack: invalid_auth")
            return web.json_response({"ok": False, "error": "invalid_auth"})
        channel = body.get("channel", "")
        update = method == "chat.update"
        limit = (("update",), 50 / 60, 50) if update else (("post", channel), 1.0, 5)
        if limited := self._limited(*limit):
            return limited
        found = [one for one in self.messages if (one.channel, one.ts) == (channel, body.get("ts"))] if update else []
        bad = "message_not_found" if update and not found else slack_problem(body)
        if bad:
            self.refused.append(f"slack: {bad}")
            return web.json_response({"ok": False, "error": bad})
        if update:
            found[0].body = body
            found[0].edits.append(time.time())
            return web.json_response({"ok": True, "channel": channel, "ts": found[0].ts, "text": body.get("text", "")})
        message = self._keep(channel, body)
        return web.json_response({"ok": True, "channel": channel, "ts": message.ts, "message": body})

    def _keep(self, channel: str, body: dict) -> Message:
        now = time.time()
        ts = f"{int(now)}.{len(self.messages):06}"
        self.messages.append(Message(channel, ts, body, now, body.get("thread_ts", "")))
        return self.messages[-1]

    async def _enqueue(self, request: web.Request) -> web.Response:
        raw = await request.read()
        body = json.loads(raw)
        if limited := self._limited(("event", body.get("routing_key")), 2.0, 120):
            return limited
        if bad := pagerduty_problem(body, len(raw)):
            self.refused.append(f"pagerduty: {bad}")
            return web.json_response({"status": "invalid event", "errors": [bad]}, status=400)
        states = {"trigger": "triggered", "acknowledge": "acknowledged", "resolve": "resolved"}
        action, key = body["event_action"], body["dedup_key"]
        incident = self.incidents.setdefault(key, Incident(""))
        # A trigger leaves an incident that is open as it is; one that is not open takes nothing but triggers.
        if action != "trigger" or incident.state in ("", "resolved"):
            incident.state = (
                states[action] if incident.state not in ("", "resolved") or action == "trigger" else incident.state
            )
        incident.events.append(body)
        answer = {"status": "success", "message": "Event processed", "dedup_key": key}
        return web.json_response(answer, status=202)


def press(message: dict, action_id: str, secret: str, *, user: str = "ann") -> tuple[dict[str, str], bytes]:
    """Headers and body that Slack sends when ``user`` presses a button of a message."""
    buttons = [one for block in message["blocks"] if block["type"] == "actions" for one in block["elements"]]
    (button,) = [one for one in buttons if one["action_id"] == action_id]
    action = {"type": "button", "action_id": action_id, "block_id": "tenfold", "value": button["value"]}
    payload = {"type": "block_actions", "user": {"id": "U1", "username": user}, "actions": [action]}
    body = urlencode({"payload": json.dumps(payload)}).encode()
    at = str(int(time.time()))
    signature = hmac.new(secret.encode(), b"v0:%s:%s" % (at.encode(), body), hashlib.sha256).hexdigest()
    headers = {"X-Slack-Request-Timestamp": at, "X-Slack-Signature": f"v0={signature}"}
    return {**headers, "Content-Type": "application/x-www-form-urlencoded"}, body


def webhook(event_type: str, incident_key: str, secret: str, *, user: str = "Ann") -> tuple[dict[str, str], bytes]:
    """Headers and body of PagerDuty's webhook (v3) about an incident."""
    event = {
        "id": "5ac64822",
        "event_type": event_type,
        "resource_type": "incident",
        "occurred_at": "2026-11-25T07:00:00.000Z",
        "agent": {"id": "PXPGF42", "summary": user, "type": "user_reference"},
        "data": {"id": "PT4KHLK", "type": "incident", "status": "acknowledged", "incident_key": incident_key},
    }
    body = json.dumps({"event": event}).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-PagerDuty-Signature": f"v1={signature}", "Content-Type": "application/json"}, body
