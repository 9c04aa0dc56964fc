"""``tenfold demo``: the whole system on this machine, in about two minutes.

Starts the embedded broker, two workers (processes of their own, as in production) and a local receiver in place of
Slack and PagerDuty; plays the sample's hour forty times faster; shows what comes out of the topics. Whatever ends
it, no process stays behind: workers die with their parent.
"""

import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import click
from rich.console import Console
from rich.live import Live

from loadtest.demo_view import DemoView, alert_lines, finding_line
from loadtest.receiver import Received, Receiver
from loadtest.scenario import demo_events
from schemas.codec import decode
from streams import log
from streams.broker.embedded import EmbeddedBroker, end, free_port, spawn
from streams.config import Settings
from streams.errors import FatalError
from streams.follow import follow
from streams.produce import send_event
from streams.producer import Producer
from streams.topics import Topics, ensure_topics

WORKERS = 2
READY_SECONDS = 180
"""A first start compiles the kernels: some 40 s on two slow cores; later starts take a few seconds."""
STOP_SECONDS = 12.0
SETTLE_SECONDS = 6.0
"""After the last event: windows close, findings are published, alerts go out."""

CONFIG = """\
# The demo's settings: an hour of usage instead of months, hence shorter times than the defaults.
[broker]
servers = ["{servers}"]

[transport]
# The embedded broker holds the first join back for half a session timeout.
session_timeout = "10s"

[topics]
partitions = 4

[windows]
lateness = "20s"

[sessions]
idle = "5m"

[detectors.session_outlier]
min_excess_usd = 5

[detectors.spend_rate]
min_excess_usd = 0.50

[learner]
window_size = 20

[[budgets]]
team = "coding"
monthly_usd = 12000

[[budgets]]
team = "lending"
monthly_usd = 25000

[[budgets]]
team = "chat"
monthly_usd = 2000

[[budgets]]
team = "support"
monthly_usd = 60000

[[receivers]]
name = "finops-channel"
type = "slack"
url = "{slack}"
min_severity = "warning"

[[receivers]]
name = "on-call"
type = "pagerduty"
url = "{pagerduty}"
routing_key = "0123456789abcdef0123456789abcdef"
min_severity = "critical"

[web]
port = 0
"""


@click.command()
@click.option("--speed", default=40.0, show_default=True, type=click.FloatRange(1, 200), help="Times faster than real.")
@click.option("--live/--lines", default=None, help="A live page, or plain lines. Default: a page on a terminal.")
@click.option("--keep-logs", type=click.Path(file_okay=False, path_type=Path), help="Folder for the workers' logs.")
def demo(speed: float, live: bool | None, keep_logs: Path | None) -> None:
    """Watch an hour of real AI usage go through the whole system in 90 seconds.

    Everything runs on this machine: an embedded Kafka-compatible broker, two workers, and a local receiver that
    shows the alerts as Slack and PagerDuty would get them. Nothing leaves it. Ctrl-C ends everything.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=140)
    log.configure("warning")
    live = console.is_terminal if live is None else live
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        asyncio.run(_demo(console, speed, live, keep_logs))
    except KeyboardInterrupt:
        console.print("stopped; no process is left behind")
        sys.exit(130)


def _interrupt(*_: object) -> None:
    """As Ctrl-C, which asyncio turns into a cancelled task; an exception from here could end in a ``__del__``."""
    signal.raise_signal(signal.SIGINT)


async def _demo(console: Console, speed: float, live: bool, keep_logs: Path | None) -> None:
    async with contextlib.AsyncExitStack() as stack:
        folder = keep_logs or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tenfold-demo-")))
        folder.mkdir(parents=True, exist_ok=True)
        broker = stack.enter_context(EmbeddedBroker())
        console.print(f"embedded broker on {broker.bootstrap}")
        receiver = await stack.enter_async_context(Receiver())
        config = folder / "tenfold.toml"
        config.write_text(
            CONFIG.format(servers=broker.bootstrap, slack=receiver.url("slack"), pagerduty=receiver.url("pagerduty"))
        )
        settings = Settings.load(config)
        topics = settings.topic_names()
        await ensure_topics(settings.connection(), topics)
        await _start_workers(stack, console, config, folder)

        events = list(demo_events(int(time.time() * 1000), speed))
        view = DemoView(len(events))
        printer = None if live else _printer(console)
        await _watch(stack, settings, topics, view, receiver, printer)
        page = stack.enter_context(Live(console=console, auto_refresh=False, screen=False)) if live else None
        async with Producer(settings.connection()) as producer:
            await _play(producer, topics.usage.name, events, view, console, page)
        until = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < until:
            _draw(view, console, page)
            await asyncio.sleep(0.25)
    console.print(view.summary())
    console.print(
        "\nThat was the embedded broker. On your own Kafka: `tenfold topics --create -s HOST:PORT`, then "
        "`tenfold worker -s HOST:PORT`; see README.md."
    )


async def _start_workers(stack: contextlib.AsyncExitStack, console: Console, config: Path, folder: Path) -> None:
    """Spawn the workers and wait until all of them are ready."""
    command = [sys.executable, "-m", "streams", "worker", "--config", str(config), "--web-port"]
    ports = [free_port() for _ in range(WORKERS)]
    with console.status("compiling kernels (the first time takes up to a minute) ..."):
        warm = await asyncio.create_subprocess_exec(sys.executable, "-m", "streams.warm")
        if await warm.wait() != 0:
            raise FatalError("compiling the kernels failed: run `python -m streams.warm` to see why")
    workers = []
    for number, port in enumerate(ports, 1):
        log_file = stack.enter_context((folder / f"worker-{number}.log").open("w"))
        worker = spawn([*command, str(port)], stdout=log_file, stderr=log_file)
        stack.callback(end, worker, STOP_SECONDS)
        workers.append(worker)
    with console.status("starting two workers ..."):
        async with aiohttp.ClientSession() as session:
            deadline = time.monotonic() + READY_SECONDS
            for number, (worker, port) in enumerate(zip(workers, ports, strict=True), 1):
                while not await _ready(session, port):
                    if worker.poll() is not None or time.monotonic() > deadline:
                        tail = (folder / f"worker-{number}.log").read_text().splitlines()[-15:]
                        raise FatalError(f"worker {number} did not get ready:\n" + "\n".join(tail))
                    await asyncio.sleep(0.2)
    console.print(f"{WORKERS} workers ready; health on " + ", ".join(f"http://127.0.0.1:{port}" for port in ports))


async def _ready(session: aiohttp.ClientSession, port: int) -> bool:
    try:
        async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def _watch(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    topics: Topics,
    view: DemoView,
    receiver: Receiver,
    printer: Callable | None,
) -> None:
    """Feed the view from the topics and the receiver until the stack closes."""

    def take_finding(finding: dict) -> None:
        news = view.take_finding(finding) and finding["status"] != "resolved"
        if news and printer and finding["severity"] != "info":
            printer(finding_line(finding))

    def take_alert(alert: Received) -> None:
        view.take_alert(alert)
        if printer:
            for line in alert_lines(alert):
                printer(line)

    def take_session(_: dict) -> None:
        view.sessions += 1

    receiver.on_message = take_alert
    client = settings.connection().client_options()
    for topic, schema, take in (
        (topics.spend.name, "window_spend", view.take_spend),
        (topics.budgets.name, "budget_status", view.take_budget),
        (topics.anomalies.name, "finding", take_finding),
        (topics.sessions.name, "session_summary", take_session),
    ):

        def on_records(records, schema=schema, take=take):
            for record in records:
                if record.value is not None:
                    take(decode(schema, record.value))

        task = asyncio.create_task(follow(client, topic, on_records))
        stack.push_async_callback(_cancel, task)


async def _cancel(task: asyncio.Task) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _play(producer: Producer, topic: str, events: list, view: DemoView, console: Console, page) -> None:
    """Send each event at its time."""
    started = time.monotonic()
    drawn = 0.0
    for play_at, event in events:
        wait = play_at - (time.monotonic() - started)
        if wait > 0.02:
            await asyncio.sleep(wait)
        await send_event(producer, topic, event)
        view.sent += 1
        if view.sent % 200 == 0:
            await asyncio.sleep(0)
        if time.monotonic() - drawn > (0.25 if page else 10.0):
            drawn = time.monotonic()
            _draw(view, console, page)
    await producer.flush()


def _draw(view: DemoView, console: Console, page) -> None:
    if page:
        page.update(view.render(console.size.height), refresh=True)


def _printer(console: Console) -> Callable:
    return lambda line: console.print(line, soft_wrap=True)
