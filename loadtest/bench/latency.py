"""From an event to its finding on the topic, at a given rate, in one worker with default settings.

First an hour of quiet history, with teams that begin to overspend in its last two whole minutes. Then events come at
the rate with their event time running as the clock does; every 20 ms one session gets an event that costs more than
the cap for sessions, and in the middle the event time passes a minute by the lateness, which closes the second
overspent minute. Measured, by a consumer of the findings beside the producer:

session   from handing the dear event's record batch to the broker until its session_outlier finding arrives
rate      from the time at which the minute closed until a spend_rate finding of it arrives

Both include the producer's, broker's and consumer's part of the way. ``behind_ms`` says how late the producer was at
its worst: a machine too small for producer, broker and worker together shows there, and in the lag at the end.
"""

import asyncio
import contextlib
import tempfile
import time
import urllib.request
import uuid
from itertools import pairwise
from pathlib import Path

import numpy as np

from loadtest.bench.events import Encoder, Load
from loadtest.bench.paced import TICK_MS, Sender, Tick, single, tick
from loadtest.bench.race import cores, pinned
from loadtest.cluster import Worker
from schemas.codec import decode, encode
from streams.errors import FatalError
from streams.follow import follow
from streams.topics import topics
from streams.transport import Connection

MINUTE_MS = 60_000
HISTORY_MINUTES = 60
HISTORY_EVENTS = 16
"""Of a team in a quiet minute."""
HISTORY_TEAMS = 24
"""Few, since an hour at once is a lot for the rate detectors, which get a minute at a time from then on."""
HOT_TEAMS, HOT_FACTOR, HOT_MINUTES = 20, 8, 2
SESSIONS = 100_000
DEAR_NANO_USD = 60_000_000_000
"""Above the cap for sessions without peers, which is $50."""
PARTITIONS = 4
QUICK_SECONDS = 0.2
"""In which a worker answers that is not busy with the history any more."""
READY_SECONDS, HISTORY_SECONDS, DRAIN_SECONDS, SETTLE_SECONDS = 180.0, 60.0, 60.0, 2.0

CONFIG = """\
[broker]
servers = ["{servers}"]
[topics]
prefix = "{prefix}"
partitions = {partitions}
[transport]
group = "{prefix}"
"""


def history(encoder: Encoder, close_ms: int, start_ms: int, teams: int) -> tuple[list[Tick], int]:
    """(a tick per minute, events): an hour up to ``start_ms``; the minutes that end a minute before ``close_ms``
    are hot."""
    ticks, number = [], 1 << 40
    for minute in range(-HISTORY_MINUTES, 0):
        team = np.repeat(np.arange(HISTORY_TEAMS), HISTORY_EVENTS)
        if -1 - HOT_MINUTES <= minute < -1:
            hot = np.repeat(np.arange(HOT_TEAMS), HISTORY_EVENTS * (HOT_FACTOR - 1))
            team = np.concatenate([team, hot])
        n = len(team)
        # Eight sessions of each team that last the whole hour, beside those of the load.
        session = teams * (SESSIONS + np.arange(n) % 8 * 7) + team
        time_ms = np.sort(close_ms + minute * MINUTE_MS + np.arange(n) * MINUTE_MS // n)
        rows = time_ms < start_ms
        ticks.append(tick(encoder, number + np.arange(n)[rows], session[rows], time_ms[rows], PARTITIONS))
        number += int(rows.sum())
    return ticks, number - (1 << 40)


def live(encoder: Encoder, per_second: int, start_ms: int, seconds: float) -> list[Tick]:
    """The load: a tick every TICK_MS, each with its share of events."""
    rng = np.random.default_rng(7)
    edges = np.arange(round(seconds * 1000 / TICK_MS) + 1) * per_second * TICK_MS // 1000
    ticks = []
    for position, (first, end) in enumerate(pairwise(edges.tolist())):
        n = end - first
        time_ms = start_ms + position * TICK_MS + np.arange(n) * TICK_MS // max(n, 1)
        ticks.append(tick(encoder, first + np.arange(n), rng.integers(0, SESSIONS, n), time_ms, PARTITIONS))
    return ticks


def dear(position: int, time_ms: int) -> Tick:
    """An event that alone makes its session too dear."""
    session = _dear_session(position)
    event = {
        "source": "bench",
        "event_id": session,
        "event_time": time_ms,
        "session_id": session,
        "team": "dear",
        "kind": "OTHER",
        "cost_nano_usd": DEAR_NANO_USD,
    }
    return single(position % PARTITIONS, session.encode(), encode("usage_event", event), time_ms)


def _dear_session(position: int) -> str:
    return f"dear-{position}"


class Observer:
    """When each finding arrived, in monotonic seconds: its first revision; and the newest window of spend."""

    def __init__(self) -> None:
        self.sessions: dict[str, float] = {}
        self.rates: dict[str, float] = {}
        self.newest_window_ms = 0

    def take_spend(self, records: list) -> None:
        starts = (decode("window_spend", record.value)["window_start"] for record in records)
        self.newest_window_ms = max(self.newest_window_ms, *starts)

    def take_findings(self, records: list) -> None:
        now = time.monotonic()
        for record in records:
            finding = decode("finding", record.value)
            if finding["detector"] == "session_outlier":
                self.sessions.setdefault(finding["session_id"], now)
            elif finding["detector"] == "spend_rate":
                self.rates.setdefault(finding["id"], now)


async def latency(bootstrap: str, per_second: int, seconds: float) -> dict:
    """Latencies at ``per_second`` events; raises FatalError if the worker does not start or ends."""
    load = Load(events=0, sessions=SESSIONS)
    encoder = Encoder(load)
    close_ms = int(time.time()) * 1000 // MINUTE_MS * MINUTE_MS
    closing = round(seconds * 1000 / TICK_MS) // 2
    start_ms = close_ms - closing * TICK_MS
    ticks = live(encoder, per_second, start_ms, seconds)
    past, past_events = history(encoder, close_ms, start_ms, load.teams)
    dears = [dear(position, start_ms + position * TICK_MS) for position in range(len(ticks))]
    prefix = f"latency-{uuid.uuid4().hex[:8]}."
    names = topics(prefix, PARTITIONS)
    observer = Observer()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "tenfold.toml"
        config.write_text(CONFIG.format(servers=bootstrap, prefix=prefix, partitions=PARTITIONS))
        worker = Worker("latency", config, Path(folder) / "worker.log")
        with pinned(cores()[0]):
            worker.start()
        try:
            await until(lambda: _ready(worker), READY_SECONDS, worker)
            client = Connection.to(bootstrap).client_options()
            following = [
                asyncio.create_task(follow(client, names.anomalies.name, observer.take_findings)),
                asyncio.create_task(follow(client, names.spend.name, observer.take_spend)),
            ]
            async with Sender(bootstrap, names.usage.name) as sender:
                for one in past:
                    await sender.send(one)
                await until(lambda: _counted(worker) >= past_events, HISTORY_SECONDS, worker)
                await until(lambda: observer.newest_window_ms >= close_ms - MINUTE_MS, HISTORY_SECONDS, worker)
                await asyncio.sleep(SETTLE_SECONDS)
                await until(lambda: _ready(worker, QUICK_SECONDS), HISTORY_SECONDS, worker)
                before = set(observer.rates)
                behind = await sender.play([list(pair) for pair in zip(ticks, dears, strict=True)], time.monotonic())
                ended = time.monotonic()
                total = past_events + len(dears) + len(ticks) * TICK_MS * per_second // 1000
                await until(lambda: _counted(worker) >= total, DRAIN_SECONDS, worker)
                drained = time.monotonic() - ended
                await asyncio.sleep(SETTLE_SECONDS)
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
        finally:
            if worker.running:
                worker.process.kill()
                worker.process.wait()
    found = [
        observer.sessions[name] - one.sent
        for position, one in enumerate(dears)
        if (name := _dear_session(position)) in observer.sessions
    ]
    closed = ticks[closing].sent
    rates = [at - closed for name, at in observer.rates.items() if name not in before]
    return {
        "events_per_second": per_second,
        "seconds": seconds,
        "session_ms": {**percentiles(found), "missing": len(dears) - len(found)},
        "rate_ms": {**percentiles(rates), "early": len(before)},
        "producer_behind_ms": round(1000 * behind, 1),
        "drain_ms": round(1000 * drained),
    }


def percentiles(seconds: list[float]) -> dict:
    """p50, p99 and max in ms, and how many there are."""
    if not seconds:
        return {"n": 0}
    p50, p99, most = (round(1000 * float(value), 1) for value in np.quantile(seconds, (0.5, 0.99, 1.0)))
    return {"n": len(seconds), "p50": p50, "p99": p99, "max": most}


async def until(true, seconds: float, worker: Worker) -> None:
    """Return once ``true()`` is; raises FatalError with the worker's last words if it ends or takes too long."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(true):
        if not worker.running or time.monotonic() > deadline:
            raise FatalError(f"the worker ended, or was not done after {seconds:.0f} s:\n{worker.tail()}")
        await asyncio.sleep(0.1)


def _ready(worker: Worker, seconds: float = 2.0) -> bool:
    url = f"http://127.0.0.1:{worker.port}/readyz"
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=seconds):
        return True
    return False


def _counted(worker: Worker) -> int:
    """Events that the worker says it has counted."""
    return sum(entry["counted"] for entry in worker.entries() if entry.get("event") == "batches_applied")
