"""A Slack bot against a stand-in that enforces the Web API's rules: one message that changes, and a thread."""

import asyncio
from dataclasses import replace

import pytest

from loadtest.services import TOKEN, Services
from streams.notify.clock import SystemClock
from streams.notify.notification_log import MemoryNotificationLog
from streams.notify.receiver import Change, Delivered, Failed, Gone, Notification, Retry

LIMIT = 20.0


@pytest.fixture
async def services():
    async with Services() as running:
        yield running


def bot(receiver, services, **fields):
    return receiver("slack", services.slack_api, token=TOKEN, channel="C1", **fields)


async def told(notifier, *findings):
    await asyncio.wait_for(asyncio.gather(*await notifier.submit_many(findings)), LIMIT)


def head(message) -> str:
    return message.body["blocks"][0]["text"]["text"]


async def test_one_message_changes_and_its_thread_tells(services, finding, receiver, running):
    log = MemoryNotificationLog()
    async with running([bot(receiver, services)], log, SystemClock()) as notifier:
        await told(notifier, finding(1, severity="warning"))
        await told(notifier, finding(1, 2, "updated", "critical"))
    # A new owner of the partition changes the same message.
    async with running([bot(receiver, services)], log, SystemClock()) as notifier:
        await told(notifier, finding(1, 3, "resolved"))
    root, *thread = services.messages
    assert len(root.edits) == 2 and head(root).endswith("Resolved: session costs far more than its peers")
    assert {one.thread_ts for one in thread} <= {root.ts}
    assert not services.refused and log.get("slack", finding(1)["id"]).ref == ""


async def test_a_group_is_one_message_with_all_that_is_open(services, finding, receiver, running):
    log = MemoryNotificationLog()
    settings = {"group_by": ["team"], "group_interval": "0s"}
    async with running([bot(receiver, services, **settings)], log, SystemClock()) as notifier:
        for n in (1, 2, 3):
            await told(notifier, finding(n))
        assert head(services.messages[0]) == "\N{LARGE RED CIRCLE} 3 findings of payments open"
        await told(notifier, *[finding(n, 2, "resolved") for n in (1, 2, 3)])
        assert head(services.messages[0]) == "\N{WHITE HEAVY CHECK MARK} Resolved: payments"
        await told(notifier, finding(4))
    roots = [one for one in services.messages if not one.thread_ts]
    assert len(roots) == 2 and not services.refused


def asked(receiver, services, notification):
    return [request.url.rpartition("/")[2] for request in bot(receiver, services).build(notification)]


def test_what_the_thread_says(receiver, finding):
    class Nowhere:
        slack_api = "http://h/api/"

    one = finding(1)
    known = Notification(one["id"], (Change(one, "amended"),), (one,), ref="C1/5.1")
    assert asked(receiver, Nowhere, replace(known, ref="")) == ["chat.postMessage"]
    assert asked(receiver, Nowhere, known) == ["chat.update"]
    worse = replace(known, changes=(Change(one, "escalated"),))
    assert asked(receiver, Nowhere, worse) == ["chat.update", "chat.postMessage"]
    assert asked(receiver, Nowhere, replace(worse, quiet=True)) == ["chat.update"]


async def test_a_message_that_was_deleted_is_posted_anew(services, finding, receiver, running):
    log = MemoryNotificationLog()
    async with running([bot(receiver, services)], log, SystemClock()) as notifier:
        await told(notifier, finding(1, severity="warning"))
        services.messages.clear()
        await told(notifier, finding(1, 2, "updated", "critical"))
    assert len(services.messages) == 1 and "message_not_found" in services.refused[0]
    assert log.get("slack", finding(1)["id"]).state == "sent"


def test_verdicts_of_the_web_api(receiver):
    slack = receiver("slack", "http://h", token=TOKEN, channel="C1")
    assert slack.classify(200, '{"ok": true, "channel": "C1", "ts": "5.1"}') == Delivered("C1/5.1")
    assert isinstance(slack.classify(200, '{"ok": false, "error": "ratelimited"}', 3.0), Retry)
    assert isinstance(slack.classify(200, '{"ok": false, "error": "message_not_found"}'), Gone)
    assert isinstance(slack.classify(200, '{"ok": false, "error": "invalid_auth"}'), Failed)


def test_the_token_is_nowhere_to_be_seen(receiver, finding, notification):
    slack = receiver("slack", "http://h", token=TOKEN, channel="C1")
    (request,) = slack.build(notification(finding(1)))
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in repr(request) and TOKEN.encode() not in request.body


@pytest.mark.parametrize(
    "fields", [{}, {"token": "xoxb-1"}, {"url": "https://h", "token": "xoxb-1", "channel": "C1"}, {"channel": "C1"}]
)
def test_a_webhook_or_a_bot(fields):
    from streams.notify.destinations import destinations

    with pytest.raises(ValueError):
        destinations()["slack"].Config(type="slack", **fields)
