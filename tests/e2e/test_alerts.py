"""A finding, its alert, and what a person answers to it, through a real worker that dies in between."""

import asyncio
import os
import subprocess
import sys
import time

import aiohttp
import pytest

from loadtest.services import ROUTING_KEY, TOKEN, Services, press
from schemas.codec import encode
from streams.alerts_command import sample

SECRET = "slack-signing-secret-1"
MORE = """\
[[receivers]]
type = "slack"
token = "{token}"
channel = "C1"
api_url = "{slack}"
[[receivers]]
type = "pagerduty"
routing_key = "{key}"
url = "{pagerduty}"
[web]
public_url = "https://tenfold.example"
chart_key = "0123456789abcdef"
slack_signing_secret = "{secret}"
"""


@pytest.mark.broker
async def test_an_alert_is_acknowledged_and_ends_across_a_crash(embedded_broker, kit, tmp_path):
    async with Services() as services:
        more = MORE.format(
            token=TOKEN, key=ROUTING_KEY, secret=SECRET, slack=services.slack_api, pagerduty=services.pagerduty
        )
        async with kit.Deployment(embedded_broker, tmp_path, more=more) as deployment:
            await deployment.start(1)
            (worker,) = deployment.workers

            async def publish(finding: dict) -> None:
                value = encode("finding", finding)
                await deployment._producer.send(deployment.topics.anomalies.name, finding["id"].encode(), value)
                await deployment._producer.flush()

            one = sample(int(time.time() * 1000))
            await publish(one)
            await deployment.until(lambda: services.messages and services.incidents, "no alert")
            (message,) = services.messages
            picture = next(block for block in message.body["blocks"] if block["type"] == "image")
            async with aiohttp.ClientSession() as session:
                local = picture["image_url"].replace("https://tenfold.example", f"http://127.0.0.1:{worker.port}")
                async with session.get(local) as answer:
                    assert answer.status == 200 and (await answer.read()).startswith(b"\x89PNG")
                headers, body = press(message.body, "acknowledged", SECRET)
                url = f"http://127.0.0.1:{worker.port}/slack/interactions"
                async with session.post(url, headers=headers, data=body) as answer:
                    assert answer.status == 200
                async with session.post(url, data=body) as answer:
                    assert answer.status == 401
            incident = services.incidents[one["id"]]
            await deployment.until(lambda: incident.state == "acknowledged", "not acknowledged")
            assert [row["verdict"] for row in await deployment.read(deployment.topics.feedback)] == ["acknowledged"]

            shown = subprocess.run(
                [sys.executable, "-m", "streams", "alerts", "--config", str(deployment.config)],
                capture_output=True, text=True, timeout=60, cwd=kit.ROOT, check=True,
                env={**os.environ, "COLUMNS": "200"},
            ).stdout  # fmt: skip
            assert "open findings: 1" in shown and "sample-session" in shown and "deliveries: 2" in shown

            await worker.kill()
            worker.start()
            await deployment.all_ready()
            await publish({**one, "revision": 2, "status": "resolved"})
            await deployment.until(lambda: incident.state == "resolved" and message.edits, "not resolved")
            await deployment.until(lambda: "Resolved" in message.body["text"], "the message does not say so")
            assert [event["event_action"] for event in incident.events] == ["trigger", "acknowledge", "resolve"]
            assert (
                services.refused == [] and TOKEN not in worker.log.read_text() and SECRET not in worker.log.read_text()
            )


@pytest.mark.broker
async def test_a_sample_through_each_receiver(kit, tmp_path):
    async with Services() as services:
        config = tmp_path / "tenfold.toml"
        config.write_text(
            MORE.format(
                token=TOKEN, key=ROUTING_KEY, secret=SECRET, slack=services.slack_api, pagerduty=services.pagerduty
            )
            + f'[[receivers]]\ntype = "slack"\nname = "gone"\nurl = "{services.pagerduty}"\n'
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streams", "alerts", "test", "--config", str(config), cwd=kit.ROOT,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), 60)
    lines = [line.split() for line in out.decode().splitlines()]
    assert process.returncode == 1
    assert ["slack", "resolved", "taken"] in lines and ["pagerduty", "resolved", "taken"] in lines
    assert [line[:2] for line in lines if line[0] == "gone"] == [["gone", "opened"]]
    assert {incident.state for incident in services.incidents.values()} == {"resolved"}
