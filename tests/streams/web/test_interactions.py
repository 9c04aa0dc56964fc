"""What people answer arrives as feedback, and nothing that is not signed does."""

import json
import time
from urllib.parse import urlencode

import pytest
from aiohttp import ClientSession, web

from loadtest.services import press, webhook
from models.findings import make_finding
from schemas.codec import decode
from streams.config_sections import WebSettings
from streams.notify.destinations.slack.message import posted
from streams.notify.links import Links
from streams.notify.receiver import Change, Notification
from streams.web.interactions import feedback_key, interaction_routes

SECRETS = {"slack_signing_secret": "slack-secret-1", "pagerduty_webhook_secret": "pagerduty-secret-1"}


@pytest.fixture
async def site():
    """Address, what was stored, and a switch to the clock."""
    stored, now = [], [time.time()]

    async def store(key: bytes, value: bytes) -> None:
        stored.append((key, decode("feedback", value)))

    app = web.Application()
    app.add_routes(interaction_routes(WebSettings(**SECRETS), store, lambda: int(now[0] * 1000)))
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", stored, now
    await runner.cleanup()


async def post(url: str, headers: dict, body: bytes) -> int:
    async with ClientSession() as session, session.post(url, headers=headers, data=body) as response:
        return response.status


def message(**fields) -> dict:
    finding = make_finding(
        id="f-1", detector="spend_rate", severity="warning", scope_kind="team", scope_name="a & <b>", team="a & <b>",
        window_start=0, window_ms=60_000, observed_nano_usd=2, expected_nano_usd=1, score=1.0, confidence=1.0,
        baseline_size=1, first_event_time=0, last_event_time=1, detection_time=1, reason="r", **fields,
    )  # fmt: skip
    told = Notification("f-1", (Change(finding, "opened"),), (finding,))
    return posted(told, Links(interactive=True))


@pytest.mark.parametrize(
    ("action", "verdict", "hours"),
    [
        ("acknowledged", "acknowledged", 0),
        ("silenced-1h", "silenced", 1),
        ("silenced-24h", "silenced", 24),
        ("planned-24h", "planned", 24),
        ("false", "false", 0),
    ],
)
async def test_each_button_of_a_message_comes_back(site, action, verdict, hours):
    url, stored, now = site
    headers, body = press(message(), action, SECRETS["slack_signing_secret"])
    assert await post(f"{url}/slack/interactions", headers, body) == 200
    ((key, feedback),) = stored
    at = int(now[0] * 1000)
    assert feedback == {
        "finding_id": "f-1", "scope_kind": "team", "scope_name": "a & <b>", "detector": "spend_rate",
        "verdict": verdict, "until_ms": at + hours * 3_600_000 if hours else 0, "user": "ann", "source": "slack",
        "at_ms": at, "note": "",
    }  # fmt: skip
    assert key == feedback_key(feedback) == f"f-1/{verdict}".encode()


async def test_unsigned_old_or_changed_requests_are_refused(site):
    url, stored, now = site
    headers, body = press(message(), "false", SECRETS["slack_signing_secret"])
    wrong, _ = press(message(), "false", "another-secret")
    for bad, content in (
        ({}, body),
        (wrong, body),
        (headers, body + b"x"),
        ({**headers, "X-Slack-Request-Timestamp": "soon"}, body),
        ({**headers, "X-Slack-Request-Timestamp": str(int(now[0]) + 1)}, body),
        ({**headers, "X-Slack-Signature": "v0=\N{POUND SIGN}"}, body),
    ):
        assert await post(f"{url}/slack/interactions", bad, content) == 401
    now[0] += 301
    assert await post(f"{url}/slack/interactions", headers, body) == 401
    signed, content = webhook("incident.acknowledged", "f-1", SECRETS["pagerduty_webhook_secret"])
    for bad in ({}, {"X-PagerDuty-Signature": "v1=00"}, {"X-PagerDuty-Signature": "v1=\N{POUND SIGN}"}):
        assert await post(f"{url}/pagerduty/webhooks", bad, content) == 401
    assert await post(f"{url}/pagerduty/webhooks", signed, content + b" ") == 401
    assert stored == []


@pytest.mark.parametrize(
    "payload", ["", "{", "[]", '{"type": "block_actions"}', '{"type": "block_actions", "user": {}}']
)
async def test_signed_nonsense_is_no_crash(site, payload):
    import hashlib
    import hmac

    url, stored, now = site
    body = urlencode({"payload": payload}).encode()
    at = str(int(now[0]))
    signature = hmac.new(SECRETS["slack_signing_secret"].encode(), f"v0:{at}:".encode() + body, hashlib.sha256)
    headers = {
        "X-Slack-Request-Timestamp": at,
        "X-Slack-Signature": f"v0={signature.hexdigest()}",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    assert await post(f"{url}/slack/interactions", headers, body) == 400
    assert stored == []


async def test_pagerduty_tells_who_took_an_incident(site):
    url, stored, _ = site
    for event, count in (("incident.acknowledged", 1), ("incident.resolved", 2), ("incident.triggered", 2)):
        headers, body = webhook(event, "f-1", SECRETS["pagerduty_webhook_secret"])
        assert await post(f"{url}/pagerduty/webhooks", headers, body) == 200
        assert len(stored) == count
    key, feedback = stored[0]
    assert key == b"f-1/acknowledged"
    assert (feedback["finding_id"], feedback["verdict"], feedback["user"], feedback["source"]) == (
        "f-1", "acknowledged", "Ann", "pagerduty",
    )  # fmt: skip


async def test_what_we_resolved_ourselves_is_no_feedback(site):
    url, stored, _ = site
    import hashlib
    import hmac

    _, body = webhook("incident.resolved", "f-1", SECRETS["pagerduty_webhook_secret"])
    event = json.loads(body)
    event["event"]["agent"] = {"type": "inbound_integration_reference"}
    body = json.dumps(event).encode()
    new = hmac.new(b"the-new-one", body, hashlib.sha256).hexdigest()
    old = hmac.new(SECRETS["pagerduty_webhook_secret"].encode(), body, hashlib.sha256).hexdigest()
    # While the secret is changed there are two signatures.
    headers = {"X-PagerDuty-Signature": f"v1={new}, v1={old}"}
    assert await post(f"{url}/pagerduty/webhooks", headers, body) == 200
    assert stored == []


def test_without_secrets_there_are_no_routes():
    assert interaction_routes(WebSettings(), None, lambda: 0) == []
