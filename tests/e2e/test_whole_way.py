"""From usage events to windows, sessions and alerts, through workers that stop, die and come back.

The result must be that of a replay of the same events, to the nano-dollar, whatever happens on the way.
"""

import asyncio

import pytest

from loadtest.receiver import Receiver

RECEIVERS = """\
[notify]
retry_min = "100ms"
retry_max = "1s"
[[receivers]]
name = "slack"
type = "slack"
url = "{slack}"
min_severity = "critical"
[[receivers]]
name = "on-call"
type = "pagerduty"
url = "{pagerduty}"
routing_key = "0123456789abcdef0123456789abcdef"
min_severity = "critical"
"""


async def compare(deployment, events: list[dict]) -> None:
    """Every window and every run as the replay has it."""
    windows, runs, summary = deployment.expected(events)
    assert summary["rejected"] == 0
    found = await deployment.windows()
    assert found.keys() == windows.keys()
    assert {key: found[key] for key in windows if found[key] != windows[key]} == {}
    found_runs = await deployment.runs()
    assert found_runs.keys() == runs.keys()
    assert {key: found_runs[key] for key in runs if found_runs[key] != runs[key]} == {}
    assert await deployment.read(deployment.topics.rejected) == []


@pytest.mark.broker
async def test_two_workers_come_to_the_replays_result_and_alerts_arrive(embedded_broker, kit, tmp_path):
    events, end_ms = kit.sample()
    async with Receiver() as receiver:
        receiver.script.extend([429, 500, "close", 429, 503, "close"])
        more = RECEIVERS.format(slack=receiver.url("slack"), pagerduty=receiver.url("pagerduty"))
        async with kit.Deployment(embedded_broker, tmp_path, more=more) as deployment:
            await deployment.start(2)
            await deployment.send(events)
            # Retries of the producer: known identities, whenever they come.
            await deployment.send(events[100:400])
            sentinels = await deployment.send_sentinels(end_ms + kit.SESSIONS_END_MS)
            await deployment.settled()
            await compare(deployment, [*events, *sentinels])

            findings = await deployment.read(deployment.topics.anomalies)
            opened = {f["id"] for f in findings if f["severity"] == "critical" and f["status"] != "resolved"}
            incident = [f for f in findings if f["detector"] == "unit_price"]
            assert incident[0]["example_event_ids"] == ["aider-04966"]
            assert incident[0]["observed_nano_usd"] == 9_990_012_528_750

            def alerted() -> bool:
                pages = {m.body["dedup_key"] for m in receiver.messages if m.service == "pagerduty"}
                posts = "\n".join(line for m in receiver.messages if m.service == "slack" for line in m.lines())
                return opened <= pages and incident[0]["reason"][:100] in posts and not receiver.script

            await deployment.until(alerted, "alerts are missing", 60)
            for finding in incident:
                page, *_ = [m for m in receiver.messages if m.body.get("dedup_key") == finding["id"]]
                assert page.body["event_action"] == "trigger"
                assert page.body["payload"]["severity"] == "critical"
                assert "$9,990.01" in page.body["payload"]["summary"]
            for worker in deployment.workers:
                await worker.stop()


@pytest.mark.kafka
async def test_stops_and_crashes_on_the_way_change_nothing(kafka_broker, kit, tmp_path):
    events, end_ms = kit.sample()
    third = len(events) // 3
    async with kit.Deployment(kafka_broker, tmp_path) as deployment:
        await deployment.start(2)
        first, second = deployment.workers

        async def counting(at_least: int) -> None:
            async def reached() -> bool:
                return sum(await deployment.committed(deployment.topics.usage)) >= at_least

            await deployment.until(reached, f"fewer than {at_least} events are committed")

        await deployment.send(events[:third])
        await counting(third // 2)
        producing = asyncio.create_task(trickle(deployment, events[third : 2 * third]))
        await first.stop()
        first.start()
        await producing
        await deployment.all_ready()
        await counting(third + third // 2)
        producing = asyncio.create_task(trickle(deployment, events[2 * third :]))
        await asyncio.sleep(0.5)
        await second.kill()
        second.start()
        await producing
        sentinels = await deployment.send_sentinels(end_ms + kit.SESSIONS_END_MS)
        await deployment.all_ready()
        await deployment.settled()
        await compare(deployment, [*events, *sentinels])
        for worker in (first, second):
            resumed = [entry["next_offset"] for entry in worker.events("state_restored")]
            assert max(resumed, default=0) > 0, "it went on from a checkpoint"
        incidents = [f for f in await deployment.read(deployment.topics.anomalies) if f["detector"] == "unit_price"]
        assert {f["id"] for f in incidents} == {incidents[0]["id"]}


async def trickle(deployment, events: list[dict]) -> None:
    """In small pieces, so that something is always on its way."""
    for at in range(0, len(events), 250):
        await deployment.send(events[at : at + 250])
        await asyncio.sleep(0.1)
