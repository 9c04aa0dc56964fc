"""Delivery against a real HTTP server that misbehaves by script: nothing lost, and repeats only where unavoidable."""

import asyncio
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.errors import RetryableError
from streams.notify.acks import DeliveredOffsets
from streams.notify.notification_log import MemoryNotificationLog

LIMIT = 20.0
"""Seconds of real time after which a test that hangs fails."""


def ids(destination) -> list[str]:
    return [body["id"] for body in destination.accepted]


async def within(awaitable):
    return await asyncio.wait_for(awaitable, LIMIT)


async def test_delivers_once_and_remembers(destination, clock, finding, receiver, running):
    """Lesson 16: what is told once is known by its id, which is rule, scope and period, at every receiver."""
    log, told = MemoryNotificationLog(), []
    hook = receiver("webhook", destination.url)
    async with running([hook], log, clock, on_delivered=lambda *call: told.append(call)) as notifier:
        future = await notifier.submit(finding(1))
        await within(future)
        again = await notifier.submit(finding(1))
        assert again.done() and notifier.pending() == 0
    assert destination.accepted == [finding(1)]
    assert told == [("webhook", finding(1), True)]
    assert log.get("webhook", finding(1)["id"]).state == "sent"
    assert log.sent("webhook", finding(1)["id"], 1) and not log.sent("webhook", finding(1)["id"], 2)


async def test_429_waits_as_long_as_asked(destination, clock, finding, receiver, running):
    """Lessons 22 and 24: a 429 dropped the notification (SigNoz#12891); the outbox waits as long as asked."""
    destination.script = [(429, {"Retry-After": "7"}, "slow down")]
    async with running([receiver("slack", destination.url)], MemoryNotificationLog(), clock) as notifier:
        await within(await notifier.submit(finding(1)))
    assert len(destination.requests) == 2 and len(destination.accepted) == 1
    assert 7.0 in clock.slept


async def test_retry_after_as_a_date(destination, clock, finding, receiver, running):
    destination.script = [(503, {"Retry-After": "Thu, 01 Jan 1970 00:17:10 GMT"}, "")]
    async with running([receiver("webhook", destination.url)], MemoryNotificationLog(), clock) as notifier:
        await within(await notifier.submit(finding(1)))
    assert 30.0 in clock.slept  # the clock stood at 1000 s, the date is 1030 s


async def test_5xx_backs_off_exponentially(destination, clock, finding, receiver, running):
    destination.script = [503] * 9
    async with running([receiver("pagerduty", destination.url)], MemoryNotificationLog(), clock) as notifier:
        await within(await notifier.submit(finding(1)))
    assert [wait for wait in clock.slept if wait >= 1] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert {body["dedup_key"] for _, body in destination.requests} == {finding(1)["id"]}
    assert len(destination.accepted) == 1


async def test_refused_then_up(destination, clock, finding, receiver, running, free_port):
    await destination.stop()
    hook = receiver("webhook", f"http://127.0.0.1:{free_port}/hook")

    async def come_up(sleeps):
        if sleeps == 5:
            await destination.start(free_port)

    clock.on_sleep = come_up
    async with running([hook], MemoryNotificationLog(), clock) as notifier:
        futures = await notifier.submit_many([finding(n) for n in range(20)])
        await within(asyncio.gather(*futures))
    assert ids(destination) == [finding(n)["id"] for n in range(20)]


async def test_unanswered_request_is_repeated_with_the_same_key(destination, clock, finding, receiver, running):
    """Lesson 22: retries made hundreds of alerts (elastalert#1345); a repeat has the key of the first."""
    destination.script = ["close"]
    hook = receiver("webhook", destination.url, authorization="Bearer token-1")
    async with running([hook], MemoryNotificationLog(), clock) as notifier:
        await within(await notifier.submit(finding(1)))
    keys = [headers["Idempotency-Key"] for headers, _ in destination.requests]
    assert keys == [f"{finding(1)['id']}:1"] * 2
    assert destination.requests[0][0]["Authorization"] == "Bearer token-1"


async def test_good_status_counts_even_if_the_body_breaks_off(destination, clock, finding, receiver, running):
    destination.script = ["half"]
    async with running([receiver("slack", destination.url)], MemoryNotificationLog(), clock) as notifier:
        await within(await notifier.submit(finding(1)))
    assert len(destination.requests) == 1


async def test_4xx_is_recorded_and_not_retried(destination, clock, finding, receiver, running):
    destination.script = [(400, {}, "invalid_payload: " + "x" * 5000), (404, {}, "no_service")]
    log, told = MemoryNotificationLog(), []
    hook = receiver("webhook", destination.url)
    async with running([hook], log, clock, on_delivered=lambda *call: told.append(call)) as notifier:
        for n in (1, 2, 3):
            await within(await notifier.submit(finding(n)))
        assert (await notifier.submit(finding(1))).done()
    assert len(destination.requests) == 3 and ids(destination) == [finding(3)["id"]]
    entry = log.get("webhook", finding(1)["id"])
    assert entry.state == "failed" and entry.detail.startswith("HTTP 400: invalid_payload: xx")
    assert len(entry.detail) < 400
    assert [ok for _, _, ok in told] == [False, False, True]


async def test_redirect_is_not_followed(destination, clock, finding, receiver, running):
    destination.script = [(302, {"Location": "/elsewhere"}, "")]
    log = MemoryNotificationLog()
    async with running([receiver("webhook", destination.url)], log, clock) as notifier:
        await within(await notifier.submit(finding(1)))
    assert "set the receiver's url" in log.get("webhook", finding(1)["id"]).detail


async def test_a_dead_receiver_delays_nobody(destination, clock, finding, receiver, running, free_port):
    dead = receiver("webhook", f"http://127.0.0.1:{free_port}/hook", name="dead")
    alive = receiver("webhook", destination.url, name="alive")
    done = asyncio.Event()

    def on_delivered(name, _finding, ok):
        assert (name, ok) == ("alive", True)
        if len(destination.accepted) == 50:
            done.set()

    async with running([dead, alive], MemoryNotificationLog(), clock, on_delivered=on_delivered) as notifier:
        futures = await notifier.submit_many([finding(n) for n in range(50)])
        await within(done.wait())
        assert not any(future.done() for future in futures)
        assert notifier.pending_by_receiver() == {"dead": 50, "alive": 0}
        assert await notifier.stop(0) == 50


async def test_newer_revision_replaces_one_that_waits(destination, clock, finding, receiver, running):
    destination.hold = asyncio.Event()
    async with running([receiver("webhook", destination.url)], MemoryNotificationLog(), clock) as notifier:
        first = await notifier.submit(finding(1))
        await within(destination.arrived.wait())
        rest = await notifier.submit_many([finding(1, r, "updated") for r in (2, 3, 5, 4)])
        assert notifier.pending() == 1 and not first.done()
        destination.hold.set()
        await within(asyncio.gather(first, *rest))
    assert [body["revision"] for body in destination.accepted] == [1, 5]


async def test_changes_are_told_once_in_a_while(destination, clock, finding, receiver, running):
    """Lesson 15: an alert on each request after crossing (litellm#3113). Ten changes are the opening and, after the
    interval, the newest figures."""
    log = MemoryNotificationLog()
    async with running([receiver("slack", destination.url)], log, clock) as notifier:
        start = clock.now
        await within(await notifier.submit(finding(1, severity="warning")))
        futures = await notifier.submit_many([finding(1, n, "updated", "warning") for n in range(2, 12)])
        await within(asyncio.gather(*futures))
    assert len(destination.requests) == 2 and "revision 11" in str(destination.requests[1])
    assert 300 <= clock.now - start < 310


async def test_change_that_comes_during_the_first_message_is_held(destination, clock, finding, receiver, running):
    destination.hold = asyncio.Event()
    async with running([receiver("slack", destination.url)], MemoryNotificationLog(), clock) as notifier:
        first = await notifier.submit(finding(1))
        await within(destination.arrived.wait())
        second = await notifier.submit(finding(1, 2, "updated"))
        start = clock.now
        destination.hold.set()
        await within(asyncio.gather(first, second))
    assert len(destination.requests) == 2 and 299 < clock.now - start < 301


async def test_repeat_during_the_request_is_not_sent_again(destination, clock, finding, receiver, running):
    destination.hold = asyncio.Event()
    async with running([receiver("webhook", destination.url)], MemoryNotificationLog(), clock) as notifier:
        first = await notifier.submit(finding(1))
        await within(destination.arrived.wait())
        again = await notifier.submit(finding(1))
        destination.hold.set()
        await within(asyncio.gather(first, again))
        await within(notifier.drained())
    assert len(destination.requests) == 1


async def test_refused_change_leaves_what_was_told(destination, clock, finding, receiver, running):
    destination.script = [200, 400]
    async with running([receiver("slack", destination.url)], MemoryNotificationLog(), clock) as notifier:
        start = clock.now
        for revision, severity in ((1, "warning"), (2, "critical"), (3, "warning")):
            status = "open" if revision == 1 else "updated"
            await within(await notifier.submit(finding(1, revision, status, severity)))
    assert len(destination.requests) == 3 and clock.now - start >= 299


async def test_worse_or_over_is_told_at_once(destination, clock, finding, receiver, running):
    async with running([receiver("slack", destination.url)], MemoryNotificationLog(), clock) as notifier:
        start = clock.now
        for revision, status, severity in ((1, "open", "warning"), (2, "updated", "critical")):
            await within(await notifier.submit(finding(1, revision, status, severity)))
        held, end = await notifier.submit_many([finding(1, 3, "updated"), finding(1, 4, "resolved")])
        await within(asyncio.gather(held, end))
        assert clock.now - start < 10
    notes = [body["blocks"][-1]["elements"][0]["text"] for body in destination.accepted]
    assert [note.partition("revision ")[2] for note in notes] == ["1 · open", "2 · updated", "4 · resolved"]


async def test_held_changes_survive_a_restart_and_do_not_hold_up_a_stop(destination, clock, finding, receiver, running):
    class Still(type(clock)):
        async def sleep(self, seconds):
            await asyncio.Event().wait()

    log, still = MemoryNotificationLog(), Still()
    async with running([receiver("slack", destination.url)], log, still) as notifier:
        await within(await notifier.submit(finding(1)))
        held = await notifier.submit(finding(1, 2, "updated"))
        assert await within(notifier.stop(LIMIT)) == 1 and not held.done()
    clock.now = still.now
    async with running([receiver("slack", destination.url)], log, clock) as notifier:
        await within(notifier.drained())
    assert len(destination.accepted) == 2 and 299 < clock.now - still.now < 301


async def test_resolution_follows_the_alert_it_ends(destination, clock, finding, receiver, running):
    destination.script = [503, 503]
    async with running([receiver("pagerduty", destination.url)], MemoryNotificationLog(), clock) as notifier:
        futures = await notifier.submit_many([finding(1, 1), finding(1, 2, "updated"), finding(1, 3, "resolved")])
        await within(asyncio.gather(*futures))
    assert [body["event_action"] for body in destination.accepted] == ["trigger", "resolve"]
    assert {body["dedup_key"] for body in destination.accepted} == {finding(1)["id"]}


async def test_reopened_finding_is_told_as_open(destination, clock, finding, receiver, running):
    destination.hold = asyncio.Event()
    async with running([receiver("pagerduty", destination.url)], MemoryNotificationLog(), clock) as notifier:
        futures = [await notifier.submit(finding(1))]
        await within(destination.arrived.wait())
        futures += await notifier.submit_many([finding(1, 2, "resolved"), finding(1, 3)])
        destination.hold.set()
        await within(asyncio.gather(*futures))
    assert [body["event_action"] for body in destination.accepted] == ["trigger", "trigger"]


async def test_severity_routes_and_a_calmer_revision_follows(destination, clock, finding, receiver, running):
    pager = receiver("pagerduty", destination.url, min_severity="critical")
    async with running([pager], MemoryNotificationLog(), clock) as notifier:
        assert (await notifier.submit(finding(1, 1, severity="warning"))).done()
        both = [finding(2, 1), finding(2, 2, "resolved", severity="info")]
        await within(asyncio.gather(*await notifier.submit_many(both)))
        await within(await notifier.submit(finding(1, 2, "updated")))
    assert [(body["dedup_key"][-1], body["event_action"]) for body in destination.accepted] == [
        ("2", "trigger"),
        ("2", "resolve"),
        ("1", "trigger"),
    ]


async def test_slack_storm_becomes_digests_within_the_rate(destination, clock, finding, receiver, running):
    findings, log = [finding(n) for n in range(103)], MemoryNotificationLog()
    async with running([receiver("slack", destination.url)], log, clock) as notifier:
        start = clock.now
        await within(asyncio.gather(*await notifier.submit_many(findings)))
        elapsed = clock.now - start
    assert all(log.get("slack", one["id"]).state == "sent" for one in findings)
    heads = [body["blocks"][0]["text"]["text"] for body in destination.accepted]
    assert (
        heads[-1] == "\N{LARGE RED CIRCLE} 103 findings"
        or sum(int(re.search(r"(\d+) findings", head)[1]) if "findings" in head else 1 for head in heads) == 103
    )
    assert len(destination.requests) <= 4
    assert elapsed >= len(destination.requests) - 1 - 1e-6


async def test_one_finding_that_spoils_a_digest(destination, clock, finding, receiver, running):
    log = MemoryNotificationLog()
    destination.judge = lambda body: 400 if "s-7 " in str(body) else 200
    async with running([receiver("slack", destination.url)], log, clock) as notifier:
        await within(asyncio.gather(*await notifier.submit_many([finding(n) for n in range(12)])))
    states = [log.get("slack", finding(n)["id"]).state for n in range(12)]
    assert states == ["failed" if n == 7 else "sent" for n in range(12)]


async def test_one_finding_that_upsets_the_destination_lets_others_pass(destination, clock, finding, receiver, running):
    destination.judge = lambda body: 500 if body["id"].endswith("0003") and len(destination.requests) < 40 else 200
    async with running([receiver("webhook", destination.url)], MemoryNotificationLog(), clock) as notifier:
        await within(asyncio.gather(*await notifier.submit_many([finding(n) for n in range(8)])))
    assert sorted(ids(destination)) == [finding(n)["id"] for n in range(8)]
    assert ids(destination)[-1] == finding(3)["id"]


async def test_full_queue_holds_the_agent_back(destination, clock, finding, receiver, running):
    destination.hold = asyncio.Event()
    hook = receiver("webhook", destination.url)
    async with running([hook], MemoryNotificationLog(), clock, queue_max=10) as notifier:
        await notifier.submit_many([finding(n) for n in range(10)])
        more = asyncio.ensure_future(notifier.submit(finding(10)))
        await within(destination.arrived.wait())
        # A newer revision of what waits needs no room.
        await within(notifier.submit(finding(5, 2, "updated")))
        assert not more.done() and notifier.pending() == 10
        destination.hold.set()
        await within(await within(more))
        await within(notifier.drained())
    assert sorted(set(ids(destination))) == [finding(n)["id"] for n in range(11)]


async def test_stop_frees_an_agent_that_is_held_back(clock, finding, receiver, running, free_port):
    dead = receiver("webhook", f"http://127.0.0.1:{free_port}/hook")
    async with running([dead], MemoryNotificationLog(), clock, queue_max=10) as notifier:
        await notifier.submit_many([finding(n) for n in range(10)])
        more = asyncio.ensure_future(notifier.submit(finding(10)))
        await asyncio.sleep(0)
        assert not more.done()
        assert await notifier.stop(0) == 10
        with pytest.raises(RetryableError, match="submit these findings again"):
            await within(more)


async def test_restart_takes_up_what_the_log_holds(destination, clock, finding, receiver, running, free_port):
    """Lesson 18: one owner tells of a finding, and the next goes on from its log (litellm PR#7546)."""
    log = MemoryNotificationLog()
    async with running([receiver("webhook", f"http://127.0.0.1:{free_port}/x")], log, clock) as notifier:
        await notifier.submit_many([finding(1), finding(1, 2, "resolved"), finding(2)])
    async with running([receiver("webhook", destination.url)], log, clock) as notifier:
        # The agent reads its last batch again; it joins what waits.
        futures = await notifier.submit_many([finding(1), finding(1, 2, "resolved"), finding(2)])
        await within(asyncio.gather(*futures))
    told = [(body["id"][-1], body["status"]) for body in destination.accepted]
    assert told == [("1", "open"), ("1", "resolved"), ("2", "open")]


async def test_restart_between_an_alert_and_its_resolution(destination, clock, finding, receiver, running):
    log, told = MemoryNotificationLog(), asyncio.Event()
    destination.judge = lambda body: 202 if body["event_action"] == "trigger" else 503
    pager = receiver("pagerduty", destination.url)
    async with running([pager], log, clock, on_delivered=lambda *_: told.set()) as notifier:
        await notifier.submit_many([finding(1), finding(1, 2, "resolved")])
        await within(told.wait())
    assert log.get("pagerduty", finding(1)["id"]).settled_revision == 1
    destination.judge = None
    async with running([receiver("pagerduty", destination.url)], log, clock) as notifier:
        await within(notifier.drained())
    assert [body["event_action"] for body in destination.accepted] == ["trigger", "resolve"]


class FlakyLog(MemoryNotificationLog):
    """Fails every other record."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def write(self, entries) -> None:
        self.calls += 1
        if self.calls % 2:
            raise RetryableError("not acknowledged")
        await super().write(entries)


async def test_log_that_fails_delays_and_repeats_nothing(destination, clock, finding, receiver, running):
    log = FlakyLog()
    async with running([receiver("webhook", destination.url)], log, clock) as notifier:
        for n in range(3):
            await within(await notifier.submit(finding(n)))
    assert ids(destination) == [finding(n)["id"] for n in range(3)]
    assert log.calls == 12


class OutageLog(MemoryNotificationLog):
    """Durable, and out of reach once it has taken ``left`` records."""

    durable = True

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left
        self.refused = asyncio.Event()

    def _take_one(self) -> None:
        if self.left == 0:
            self.refused.set()
            raise RetryableError("no broker answers")
        self.left -= 1

    async def write(self, entries) -> None:
        self._take_one()
        await super().write(entries)

    async def probe(self) -> None:
        self._take_one()


async def test_nothing_is_sent_while_the_log_could_not_note_it(destination, clock, finding, receiver, running):
    # Taking each of two in is one record, and so are the first's attempt and its outcome.
    log = OutageLog(4)
    async with running([receiver("webhook", destination.url)], log, clock) as notifier:
        await within((await notifier.submit_many([finding(1)]))[0])
        await notifier.submit_many([finding(2)])
        await within(log.refused.wait())
        assert ids(destination) == [finding(1)["id"]]
        log.left = 2
        await within(notifier.drained())
    assert ids(destination) == [finding(1)["id"], finding(2)["id"]]


async def test_receiver_that_cannot_render_fails_that_finding_only(destination, clock, finding, receiver, running):
    hook, log = receiver("webhook", destination.url), MemoryNotificationLog()
    build = hook.build
    hook.build = lambda told: build(told) if told.findings[0]["id"][-1] != "1" else 1 / 0
    async with running([hook], log, clock) as notifier:
        await within(asyncio.gather(*await notifier.submit_many([finding(1), finding(2)])))
    assert log.get("webhook", finding(1)["id"]).detail.startswith("cannot be rendered: ZeroDivisionError")
    assert ids(destination) == [finding(2)["id"]]


async def test_no_receivers(clock, finding, running):
    async with running([], MemoryNotificationLog(), clock) as notifier:
        assert (await notifier.submit(finding(1))).done()


async def test_delivered_offsets_stop_at_the_first_gap():
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(3)]
    offsets = DeliveredOffsets(10)
    for n, future in enumerate(futures):
        offsets.track(11 + n, [future])
    futures[1].set_result(None)
    assert offsets.next_offset == 10
    futures[0].set_result(None)
    assert offsets.next_offset == 12
    futures[2].set_result(None)
    assert offsets.next_offset == 13


ACTIONS = st.sampled_from([200, 202, 408, (429, {"Retry-After": "3"}, ""), 500, 502, 503, "close", "half"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    script=st.lists(ACTIONS, max_size=25),
    steps=st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=15),
)
async def test_any_script_loses_nothing_and_repeats_only_the_unanswered(
    script, steps, clock, finding, receiver, running, destination
):
    """Findings with growing revisions against any answers: the last revision arrives, never an older one after it."""
    destination.script, destination.requests, destination.accepted = list(script), [], []
    log, revisions = MemoryNotificationLog(), {}
    async with running([receiver("webhook", destination.url)], log, clock) as notifier:
        futures = []
        for n, resolved in steps:
            revisions[n] = revisions.get(n, 0) + 1
            status = "resolved" if resolved else "open" if revisions[n] == 1 else "updated"
            futures.append(await notifier.submit(finding(n, revisions[n], status)))
        await within(asyncio.gather(*futures))
    told = {}
    for body in destination.accepted:
        told.setdefault(body["id"], []).append(body["revision"])
    for n, last in revisions.items():
        seen = told[finding(n)["id"]]
        assert seen[-1] == last
        assert seen == sorted(set(seen)), "a revision was told twice or out of order"
        assert log.get("webhook", finding(n)["id"]).state == "sent"
