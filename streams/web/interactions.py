"""What people answer to an alert, from Slack's buttons and PagerDuty's webhooks (v3), into ``tenfold.feedback``.

Only signed requests are taken: Slack's ``v0`` signature over timestamp and body, not older than five minutes, and
PagerDuty's ``v1`` signature over the body. Anything else is answered 401 and leaves no trace but a count. Every worker
takes them, since the topic is what counts; an answer of 200 means that it is stored.

Sources: Slack, "Verifying requests from Slack" and "block_actions payload"; PagerDuty, "Webhooks v3" and "Verifying
signatures". A PagerDuty incident that a person resolves counts as acknowledged: small changes do not open it again.
"""

import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Iterator
from urllib.parse import parse_qs

import structlog
from aiohttp import web

from schemas.codec import encode
from streams.config_sections import WebSettings

Store = Callable[[bytes, bytes], Awaitable[None]]
"""Key and value into the feedback topic; returns once they are stored."""
MAX_AGE_SECONDS = 300
HOUR_MS = 3_600_000
_VERDICTS = ("acknowledged", "silenced", "planned", "true", "false")

log = structlog.get_logger()


def interaction_routes(settings: WebSettings, store: Store, clock_ms: Callable[[], int]) -> list[web.RouteDef]:
    """The routes whose secrets are configured."""
    routes = []
    if settings.slack_signing_secret is not None:
        slack_secret = settings.slack_signing_secret.get_secret_value()

        async def slack(request: web.Request) -> web.Response:
            body = await request.read()
            if not slack_signed(slack_secret, request.headers, body, clock_ms() // 1000):
                return _refused("slack")
            return await _stored("slack", from_slack(body, clock_ms()), store)

        routes.append(web.post("/slack/interactions", slack))
    if settings.pagerduty_webhook_secret is not None:
        pagerduty_secret = settings.pagerduty_webhook_secret.get_secret_value()

        async def pagerduty(request: web.Request) -> web.Response:
            body = await request.read()
            if not pagerduty_signed(pagerduty_secret, request.headers, body):
                return _refused("pagerduty")
            return await _stored("pagerduty", from_pagerduty(body, clock_ms()), store)

        routes.append(web.post("/pagerduty/webhooks", pagerduty))
    return routes


def slack_signed(secret: str, headers, body: bytes, now_seconds: int) -> bool:
    """Whether Slack sent this, and lately."""
    at = headers.get("X-Slack-Request-Timestamp", "")
    if not (at.isascii() and at.isdigit() and len(at) < 12 and abs(now_seconds - int(at)) <= MAX_AGE_SECONDS):
        return False
    expected = hmac.new(secret.encode(), b"v0:%s:%s" % (at.encode(), body), hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"v0={expected}".encode(), headers.get("X-Slack-Signature", "").encode())


def pagerduty_signed(secret: str, headers, body: bytes) -> bool:
    """Whether PagerDuty sent this; while a secret is being changed there is a signature for each."""
    expected = b"v1=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest().encode()
    given = headers.get("X-PagerDuty-Signature", "").split(",")
    return any(hmac.compare_digest(expected, one.strip().encode()) for one in given)


def from_slack(body: bytes, now_ms: int) -> Iterator[dict]:
    """Feedback of pressed buttons. Raises ValueError, KeyError or TypeError if it is no such payload."""
    payload = json.loads(parse_qs(body.decode())["payload"][0])
    if payload["type"] != "block_actions":
        return
    user = payload["user"]
    name = user.get("username") or user.get("name") or user["id"]
    for action in payload["actions"]:
        verdict, _, hours = action["action_id"].partition("-")
        if verdict not in _VERDICTS:
            continue
        finding_id, scope_kind, scope_name, detector = json.loads(action["value"])
        until_ms = now_ms + int(hours.removesuffix("h")) * HOUR_MS if hours else 0
        yield {
            "finding_id": finding_id,
            "scope_kind": scope_kind,
            "scope_name": scope_name,
            "detector": detector,
            "verdict": verdict,
            "until_ms": until_ms,
            "user": name,
            "source": "slack",
            "at_ms": now_ms,
        }


def from_pagerduty(body: bytes, now_ms: int) -> Iterator[dict]:
    """Feedback of an incident that a person took or ended. Raises ValueError, KeyError or TypeError if it is none."""
    event = json.loads(body)["event"]
    agent = event.get("agent") or {}
    by_person = str(agent.get("type", "")).startswith("user")
    if event["event_type"] == "incident.acknowledged" or (event["event_type"] == "incident.resolved" and by_person):
        yield {
            "finding_id": event["data"]["incident_key"],
            "verdict": "acknowledged",
            "user": agent.get("summary") or "",
            "source": "pagerduty",
            "at_ms": now_ms,
        }


def feedback_key(feedback: dict) -> bytes:
    """Key of the compacted topic: what it is about, and the verdict."""
    about = feedback.get("finding_id") or "\x1f".join(
        feedback.get(name, "") for name in ("scope_kind", "scope_name", "detector")
    )
    return f"{about}/{feedback['verdict']}".encode()


async def _stored(source: str, found: Iterator[dict], store: Store) -> web.Response:
    try:
        records = list(found)
        encoded = [(feedback_key(record), encode("feedback", record)) for record in records]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("feedback_not_understood", source=source, error=repr(error))
        return web.Response(status=400, text="this is not a payload that Tenfold knows")
    for (key, value), record in zip(encoded, records, strict=True):
        await store(key, value)
        log.info("feedback_taken", source=source, finding=record["finding_id"], verdict=record["verdict"])
    return web.Response()


def _refused(source: str) -> web.Response:
    log.warning("feedback_refused", source=source, reason="signature")
    return web.Response(status=401, text="the signature does not fit")
