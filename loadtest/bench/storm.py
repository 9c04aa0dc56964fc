"""``tenfold bench storm``: thousands of findings at once through a real worker, to services that enforce limits.

10,000 findings of 50 teams are written to ``tenfold.anomalies``, a tenth of them critical, with a Slack channel for
each team (webhooks), one PagerDuty service and one shared channel with a bot, both grouped by detector. Once all is
told all of them are resolved. One worker runs as users run it, on an embedded broker; broker, worker and services share
the machine. The delay of a finding is from when it was sent to Kafka to when a receiver had accepted a message that
tells it, be it the first of its alert or a change of it: the first entry in the notification log that says so.
``first_seconds`` is the delay of each receiver's first finding, when no rate holds it back, ``delay_seconds`` that of
all; a webhook's channel is held to a handful of messages a minute, so there what follows has to wait for the next.

Lost is a finding that a receiver on its route was never told of; unresolved what it was told of and not of the end.
"""

import asyncio
import json
import os
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import aiohttp
import click
import numpy as np

from loadtest.bench.machine import describe
from loadtest.cluster import Worker
from loadtest.services import ROUTING_KEY, TOKEN, Services
from models.findings import make_finding
from schemas.codec import encode
from streams.broker.embedded import EmbeddedBroker
from streams.follow import read_all
from streams.notify.notification_log import Entry
from streams.notify.open_findings import OPEN
from streams.producer import Producer
from streams.topics import ensure_topics, topics
from streams.transport.settings import Connection

RESULT = Path("loadtest/results/storm.json")
READY_SECONDS, DRAIN_SECONDS, CALM_SECONDS = 180, 300, 3.0


def is_critical(n: int, teams: int) -> bool:
    return n // teams % 10 == 0


def finding(n: int, teams: int, now_ms: int, revision: int, status: str) -> dict:
    team = f"team-{n % teams:02}"
    return make_finding(
        id=f"session_outlier-storm{n:06}",
        revision=revision,
        status=status,
        detector="session_outlier",
        severity="critical" if is_critical(n, teams) else "warning",
        scope_kind="session",
        scope_name=f"s-{n}",
        session_id=f"s-{n}",
        team=team,
        agent="agent",
        model="gpt-5.4",
        window_start=now_ms - 360_000,
        window_ms=360_000,
        observed_nano_usd=41_600_000_000 + n * 1_000_000,
        expected_nano_usd=4_000_000_000,
        score=3.2,
        confidence=0.9,
        baseline_size=412,
        first_event_time=now_ms - 360_000,
        last_event_time=now_ms,
        detection_time=now_ms,
        reason=f"Session s-{n} of {team} has cost $41.60, 10.4x the median $4.00 of 412 sessions.",
    )


def settings(services: Services, servers: str, teams: int) -> str:
    """tenfold.toml of the storm."""
    parts = [f'[broker]\nservers = ["{servers}"]\n[topics]\npartitions = 1\n']
    for n in range(teams):
        parts.append(
            f'[[receivers]]\ntype = "slack"\nname = "slack-{n:02}"\nurl = "{services.slack(f"team-{n:02}")}"\n'
            f'[[routes]]\nmatch = ["team=team-{n:02}"]\nreceivers = ["slack-{n:02}", "pager", "finops"]\n'
        )
    parts.append(
        f'[[receivers]]\ntype = "pagerduty"\nname = "pager"\nrouting_key = "{ROUTING_KEY}"\n'
        f'url = "{services.pagerduty}"\nmin_severity = "critical"\ngroup_by = ["detector"]\n'
        f'[[receivers]]\ntype = "slack"\nname = "finops"\ntoken = "{TOKEN}"\nchannel = "C0FINOPS"\n'
        f'api_url = "{services.slack_api}"\ngroup_by = ["detector"]\n'
    )
    return "\n".join(parts)


@click.command()
@click.option("--findings", default=10_000, show_default=True, type=click.IntRange(1, 1_000_000))
@click.option("--teams", default=50, show_default=True, type=click.IntRange(1, 100))
@click.option(
    "--seconds", default=10.0, show_default=True, help="Spread the storm over so long; 0: as fast as it goes."
)
@click.option(
    "--out",
    default=RESULT,
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for the result.",
)
def storm(findings: int, teams: int, seconds: float, out: Path) -> None:
    """A storm of findings: delay, messages per channel and minute, and that none is lost."""
    text = json.dumps(asyncio.run(run(findings, teams, seconds)))
    click.echo(text)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text + "\n")


async def run(count: int, teams: int, seconds: float) -> dict:
    machine = describe()
    with tempfile.TemporaryDirectory() as folder, EmbeddedBroker() as broker:
        async with Services() as services:
            config = Path(folder) / "tenfold.toml"
            config.write_text(settings(services, broker.bootstrap, teams))
            connection, found = Connection(servers=(broker.bootstrap,)), topics(usage_partitions=1)
            await ensure_topics(connection, found)
            worker = Worker("w", config, Path(folder) / "w.log")
            worker.start()
            try:
                await _ready(worker)
                async with Producer(connection) as producer:
                    sent = await _send(producer, found.anomalies.name, count, teams, seconds, 1, "open")
                    await _settled(worker, connection, found, sent)
                    await _send(producer, found.anomalies.name, count, teams, 0.0, 2, "resolved")
                    await _settled(worker, connection, found, sent, resolved=True)
                entries = await _entries(connection, found)
                cpu_seconds = _cpu_seconds(worker)
            finally:
                worker.process.terminate()
                worker.process.wait(15)
            return {"bench": "storm", "findings": count, "teams": teams, "seconds": seconds,
                    **_result(entries, sent, services, count, teams),
                    "worker_cpu_seconds": cpu_seconds, "machine": machine}  # fmt: skip


async def _ready(worker: Worker) -> None:
    deadline = time.monotonic() + READY_SECONDS
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < deadline:
            if not worker.running:
                raise click.ClickException(f"the worker ended: {worker.log.read_text()[-2_000:]}")
            try:
                async with session.get(f"http://127.0.0.1:{worker.port}/readyz") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)
    raise click.ClickException("the worker was not ready in time")


async def _send(producer, topic: str, count: int, teams: int, seconds: float, revision: int, status: str) -> np.ndarray:
    """Send them all; returns when each was, float64[count] ms since 1970."""
    at = np.zeros(count)
    start = time.time()
    for n in range(count):
        if seconds and (wait := start + n * seconds / count - time.time()) > 0.01:
            await asyncio.sleep(wait)
        at[n] = time.time() * 1000
        record = finding(n, teams, int(at[n]), revision, status)
        await producer.send(topic, record["id"].encode(), encode("finding", record))
    await producer.flush()
    return at


async def _entries(connection: Connection, found) -> list[Entry]:
    records = await read_all(connection.client_options(), found.notifications.name)
    return [Entry.decode(record.value) for record in records if record.value]


async def _settled(worker: Worker, connection: Connection, found, sent: np.ndarray, resolved: bool = False) -> None:
    """Wait until nothing is pending any more, or has been for too long."""
    deadline, want = time.monotonic() + DRAIN_SECONDS, 2 if resolved else 1
    while time.monotonic() < deadline:
        await asyncio.sleep(CALM_SECONDS)
        if not worker.running:
            raise click.ClickException(f"the worker ended: {worker.log.read_text()[-2_000:]}")
        latest = {entry.key: entry for entry in await _entries(connection, found)}
        told = [entry for entry in latest.values() if entry.receiver != OPEN]
        enough = len({entry.finding_id for entry in told}) == len(sent)
        if enough and all(entry.state != "pending" and entry.settled_revision >= want for entry in told):
            break


def _cpu_seconds(worker: Worker) -> float:
    """Of the worker so far, its start included."""
    fields = Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()
    return round((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), 1)


def _result(entries: list[Entry], sent: np.ndarray, services: Services, count: int, teams: int) -> dict:
    first: dict[tuple[str, int], int] = {}
    last: dict[tuple[str, int], Entry] = {}
    for entry in entries:
        if entry.receiver == OPEN:
            continue
        key = (entry.receiver, int(entry.finding_id[-6:]))
        if entry.told_ms:
            first.setdefault(key, entry.told_ms)
        last[key] = entry
    due = {("finops", n) for n in range(count)} | {(f"slack-{n % teams:02}", n) for n in range(count)}
    due |= {("pager", n) for n in range(count) if is_critical(n, teams)}
    delays, firsts, begun = defaultdict(list), defaultdict(list), set()
    for (receiver, n), at in sorted(first.items(), key=lambda told: told[0][1]):
        kind = "slack webhooks" if receiver.startswith("slack-") else receiver
        delays[kind].append((at - sent[n]) / 1000)
        if receiver not in begun:
            begun.add(receiver)
            firsts[kind].append(delays[kind][-1])
    messages = services.most_in_a_minute()
    pager = [incident.state for incident in services.incidents.values()]
    return {
        "lost": len(due - first.keys()),
        "unresolved": sum(last[key].told_open or last[key].state == "pending" for key in due & last.keys()),
        "incidents": len(pager),
        "incidents_open": sum(state != "resolved" for state in pager),
        "refused": len(services.refused),
        "rate_limited": services.rate_limited,
        "first_seconds": _percentiles(firsts),
        "delay_seconds": _percentiles(delays),
        "most_messages_per_channel_and_minute": max(messages.values()),
        "messages": len(services.messages),
        "seconds_to_send": round((sent[-1] - sent[0]) / 1000, 1),
    }


def _percentiles(delays: dict[str, list[float]]) -> dict:
    return {
        name: {f"p{p}": round(float(np.percentile(values, p)), 2) for p in (50, 99, 100)}
        for name, values in sorted(delays.items())
    }
