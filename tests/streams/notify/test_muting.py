"""What is silenced, inhibited, acknowledged or repeated, and that a restart changes none of it."""

import asyncio
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.notify.notification_log import Entry, MemoryNotificationLog
from streams.notify.open_findings import FORGET_MS, OPEN, OpenFindings
from streams.notify.silence_stage import Silences

LIMIT = 20.0
SAID_MS = 2**50
"""After anything was told."""


async def told(notifier, *findings):
    """Submit, and wait until all that is to be told is told."""
    await asyncio.wait_for(asyncio.gather(*await notifier.submit_many(findings)), LIMIT)
    await asyncio.wait_for(notifier.drained(), LIMIT)


def budget(scope):
    return {"detector": "budget_burn", "scope_kind": "budget", "details": {"scope": scope}}


async def ticked(notifier):
    await notifier.tick()
    await asyncio.wait_for(notifier.drained(), LIMIT)


def seen(destination):
    return [(body["id"][-1], body["status"]) for body in destination.accepted]


def silence(finding, until_ms, verdict="silenced", at_ms=1, source="slack"):
    return {
        "finding_id": finding["id"], "scope_kind": "", "scope_name": "", "detector": "", "verdict": verdict,
        "until_ms": until_ms, "user": "ann", "source": source, "at_ms": at_ms,
    }  # fmt: skip


async def test_silenced_findings_wait_for_its_end_and_survive_a_restart(destination, clock, finding, receiver, running):
    log, silences = MemoryNotificationLog(), Silences()
    silences.take(silence(finding(1), clock.now_ms() + 60_000))
    silences.take(silence(finding(2), clock.now_ms() + 60_000))
    async with running([receiver("webhook", destination.url)], log, clock, silences=silences) as notifier:
        await told(notifier, finding(1), finding(2), finding(3))
        await told(notifier, finding(1, 2, "updated"), finding(2, 2, "resolved"))
        assert seen(destination) == [("3", "open")]
        assert [(one["revision"], why) for one, why in OpenFindings(log).muted()] == [(2, "silenced by ann")]
    async with running([receiver("webhook", destination.url)], log, clock, silences=silences) as notifier:
        # The batch is read again.
        await told(notifier, finding(1), finding(2), finding(1, 2, "updated"), finding(2, 2, "resolved"))
        await ticked(notifier)
        assert seen(destination) == [("3", "open")]
        clock.now += 61
        await ticked(notifier)
    assert seen(destination) == [("3", "open"), ("1", "updated")]
    assert OpenFindings(log).muted() == []


async def test_the_end_of_what_was_told_is_never_silent(destination, clock, finding, receiver, running):
    silences = Silences()
    log = MemoryNotificationLog()
    async with running([receiver("webhook", destination.url)], log, clock, silences=silences) as notifier:
        await told(notifier, finding(1))
        silences.take(silence(finding(1), 0, "false", 2**50))
        notifier.recheck()
        await told(notifier, finding(1, 2, "updated"), finding(1, 3, "resolved"))
    assert seen(destination) == [("1", "open"), ("1", "resolved")]


async def test_a_team_s_burn_waits_behind_its_organisation_s(destination, clock, finding, receiver, running):
    log = MemoryNotificationLog()
    team, whole = budget("team:payments"), budget("organisation:")
    async with running([receiver("webhook", destination.url)], log, clock) as notifier:
        await told(notifier, finding(1, **whole), finding(2, **team))
        assert seen(destination) == [("1", "open")]
        assert OpenFindings(log).muted()[0][1] == f"explained by {finding(1)['id']}"
    async with running([receiver("webhook", destination.url)], log, clock) as notifier:
        await ticked(notifier)
        assert len(destination.accepted) == 1
        await told(notifier, finding(1, 2, "resolved", **whole))
        await ticked(notifier)
    assert seen(destination) == [("1", "open"), ("1", "resolved"), ("2", "open")]


async def test_what_never_was_told_ends_without_a_word(destination, clock, finding, receiver, running):
    team, whole = budget("team:payments"), budget("organisation:")
    async with running([receiver("webhook", destination.url)], MemoryNotificationLog(), clock) as notifier:
        await told(notifier, finding(1, **whole), finding(2, **team), finding(2, 2, "resolved", **team))
        await told(notifier, finding(1, 2, "resolved", **whole))
        await ticked(notifier)
    assert seen(destination) == [("1", "open"), ("1", "resolved")]


async def test_an_acknowledgement_reaches_pagerduty_once_and_calms_it(destination, clock, finding, receiver, running):
    log, silences = MemoryNotificationLog(), Silences()
    pager = receiver("pagerduty", destination.url)
    async with running([pager], log, clock, silences=silences) as notifier:
        await told(notifier, finding(1))
        silences.take(silence(finding(1), 0, "acknowledged", at_ms=SAID_MS))
        notifier.recheck()
        await ticked(notifier)
        await told(notifier, finding(1, 2, "updated"))
        assert [body["event_action"] for body in destination.accepted] == ["trigger", "acknowledge"]
    # The topic is read whole after a restart.
    again = Silences()
    again.take(silence(finding(1), 0, "acknowledged", at_ms=SAID_MS))
    async with running([receiver("pagerduty", destination.url)], log, clock, silences=again) as notifier:
        await ticked(notifier)
        await told(notifier, finding(1, 3, "resolved"))
    assert [body["event_action"] for body in destination.accepted] == ["trigger", "acknowledge", "resolve"]
    assert {body["dedup_key"] for body in destination.accepted} == {finding(1)["id"]}


async def test_pagerduty_is_not_told_of_its_own_acknowledgement(destination, clock, finding, receiver, running):
    silences = Silences()
    pager = receiver("pagerduty", destination.url)
    async with running([pager], MemoryNotificationLog(), clock, silences=silences) as notifier:
        await told(notifier, finding(1, severity="warning"))
        silences.take(silence(finding(1), 0, "acknowledged", SAID_MS, "pagerduty"))
        notifier.recheck()
        await ticked(notifier)
        # Worse than what was acknowledged is told.
        await told(notifier, finding(1, 2, "updated", "critical"))
    assert [body["event_action"] for body in destination.accepted] == ["trigger", "trigger"]


async def test_an_open_alert_is_repeated_until_somebody_takes_it(destination, clock, finding, receiver, running):
    silences = Silences()
    hook = receiver("webhook", destination.url, repeat_interval="4h")
    async with running([hook], MemoryNotificationLog(), clock, silences=silences) as notifier:
        await told(notifier, finding(1))
        for hours in (3, 2, 5):
            clock.now += hours * 3_600
            await ticked(notifier)
        assert seen(destination) == [("1", "open"), ("1", "updated"), ("1", "updated")]
        silences.take(silence(finding(1), 0, "acknowledged", SAID_MS))
        clock.now += 5 * 3_600
        await ticked(notifier)
    assert len(destination.accepted) == 3


async def test_what_is_over_before_its_group_s_wait_ends_is_not_told(destination, clock, finding, receiver, running):
    """Alertmanager: resolved before group_wait ends, no message at all."""

    class Still(type(clock)):
        async def sleep(self, seconds):
            await asyncio.Event().wait()

    still = Still()
    slack = receiver("slack", destination.url, group_by=["team"], group_wait="30s")
    log = MemoryNotificationLog()
    async with running([slack], log, still) as notifier:
        await notifier.submit_many([finding(1)])
        done = await notifier.submit_many([finding(1, 2, "resolved")])
        await asyncio.wait_for(done[0], LIMIT)
        assert notifier.pending() == 0
    assert destination.requests == [] and log.get("slack", finding(1)["id"]).state == "dropped"


async def test_old_findings_are_forgotten(destination, clock, finding, receiver, running):
    log = MemoryNotificationLog()
    async with running([receiver("webhook", destination.url)], log, clock) as notifier:
        await told(notifier, finding(1))
        assert [one["id"] for one in OpenFindings(log)] == [finding(1)["id"]]
        clock.now += FORGET_MS / 1000
        await ticked(notifier)
    assert list(OpenFindings(log)) == [] and len(destination.accepted) == 1


async def test_open_findings_survive_their_encoding(destination, clock, finding, receiver, running):
    log, copy = MemoryNotificationLog(), MemoryNotificationLog()
    async with running([receiver("webhook", destination.url)], log, clock) as notifier:
        await told(notifier, finding(1), finding(2), finding(2, 2, "resolved"))
    for name in log.receivers():
        copy.apply(Entry.decode(entry.encode()) for entry in log.entries(name))
    assert json.dumps(list(OpenFindings(copy))) == json.dumps([finding(1)])
    assert copy.entries("webhook") == log.entries("webhook") and copy.entries(OPEN) == log.entries(OPEN)


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.integers(0, 5), st.sampled_from(["updated", "resolved"]), st.sampled_from(["warning", "critical"])
        ),
        st.sampled_from(["restart", "silence", "tick"]),
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_restarts_at_any_moment_change_nothing_in_the_end(steps, clock, finding, receiver, running, destination):
    """Findings of two teams, grouped by team in PagerDuty: every incident ends, whatever was silent or restarted."""
    destination.requests, destination.accepted = [], []
    log, silences, revisions, alive = MemoryNotificationLog(), Silences(), {}, set()

    def change(n, status, severity):
        revisions[n] = revisions.get(n, 0) + 1
        (alive.discard if status == "resolved" else alive.add)(n)
        return finding(n, revisions[n], status, severity, team=f"team-{n % 2}")

    steps = [*steps, *[(n, "resolved", "critical") for n in range(6)], "restart", "tick"]
    while steps:
        pager = receiver("pagerduty", destination.url, group_by=["team"])
        async with running([pager], log, clock, silences=silences) as notifier:
            while steps and (step := steps.pop(0)) != "restart":
                if step == "silence":
                    silences.take(silence(finding(1), clock.now_ms() + 30_000))
                    notifier.recheck()
                elif step == "tick":
                    clock.now += 40
                    await ticked(notifier)
                elif step[1] != "resolved" or step[0] in alive:
                    await notifier.submit_many([change(*step)])
                    if len(steps) % 3 == 0:
                        await asyncio.wait_for(notifier.drained(), LIMIT)
    incidents = {}
    for body in destination.accepted:
        incidents.setdefault(body["dedup_key"], []).append(body["event_action"])
    assert all(actions[0] == "trigger" and actions[-1] == "resolve" for actions in incidents.values()), incidents
    assert len(incidents) <= 2 and not log.pending("pagerduty") and not log.pending(OPEN)
    for n, revision in revisions.items():
        entry = log.get("pagerduty", finding(n)["id"])
        assert entry is None or (entry.settled_revision == revision and not entry.told_open)
