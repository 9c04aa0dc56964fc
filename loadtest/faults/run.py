"""``python -m loadtest.faults``: proof by counting that nothing is lost and nothing is counted twice.

Each run: a real Kafka broker (shared by the runs of a job), two or three workers with topics and a group of their own,
the known stream of loadtest.faults.stream, one fault at a random time, and a comparison of every output with the
replay of the same records. It waits until they agree and everything has been still for a moment, or until time is up.

Prints a JSON line per run and a summary; exit code 1 if anything differs. A run is done again, up to timing, with
``--runs 1 --seed SEED --only FAULT`` as its line says. The logs of runs that differ are kept in ``--keep``.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import itertools
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from loadtest.cluster import Cluster
from loadtest.faults.compare import Difference, Expected, compare, repeats_without_answer, replay
from loadtest.faults.destination import Destination
from loadtest.faults.disk import SmallDisk
from loadtest.faults.scenarios import SCENARIOS, SESSION_SECONDS, SHORT, Scenario, Stage
from loadtest.faults.stream import CONFIG, Record, make_stream
from loadtest.faults.topics import Outputs
from streams import log
from streams.broker.kafka import KafkaBroker
from streams.config import Settings
from streams.producer import Producer
from streams.topics import Topics, ensure_topics

PARTITIONS = 4
TICK_SECONDS = 0.05
GIVE_UP_SECONDS = 15.0
"""Nothing has changed for so long, and it is not right: it never will be."""
SETTLE_SECONDS = 1.5
"""How long everything must have been right and still: what is wrong may come late."""
READY_SECONDS = 90.0
EXPECTED = (-9, 70, 75)
"""How a worker may end that nobody asked to: killed, with a reason, or because no broker can be reached."""

WORKER_CONFIG = f"""
[broker]
servers = ["{{servers}}"]

[topics]
prefix = "{{prefix}}."
partitions = {PARTITIONS}

[transport]
group = "{{prefix}}"
session_timeout = "{SESSION_SECONDS:.0f}s"

[flush]
checkpoint_interval = "1s"

[notify]
timeout = "2s"
retry_min = "100ms"
retry_max = "1s"

[[receivers]]
type = "webhook"
url = "{{webhook}}"
min_severity = "info"

[[receivers]]
type = "pagerduty"
url = "{{pagerduty}}"
routing_key = "0123456789abcdef0123456789abcdef"
min_severity = "critical"

[log]
format = "json"
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """How long things take."""

    feed_seconds: float
    away_seconds: float
    """Of a broker that cannot be reached."""
    deadline_seconds: float
    """For everything to come right after the last event and the end of the fault."""


LONG = Form(feed_seconds=12.0, away_seconds=60.0, deadline_seconds=90.0)
QUICK = Form(feed_seconds=8.0, away_seconds=8.0, deadline_seconds=60.0)


async def one_run(
    name: str, seed: int, broker: KafkaBroker, form: Form, folder: Path, disk: SmallDisk | None = None
) -> dict:
    """One fault; the JSON line as a dict, with ``differences`` in words."""
    started = time.monotonic()
    rng = random.Random(seed)
    scenario = SCENARIOS[name]
    prefix = f"f{seed}-{int(time.time()) % 100_000}"
    async with contextlib.AsyncExitStack() as stack:
        destination = await stack.enter_async_context(Destination())
        config = folder / "tenfold.toml"
        config.write_text(
            # Which finding mutes which depends on which came first: here every one must be told.
            "inhibit = []\n"
            + CONFIG
            + WORKER_CONFIG.format(
                servers=broker.bootstrap,
                prefix=prefix,
                webhook=destination.url("webhook"),
                pagerduty=destination.url("pagerduty"),
            )
        )
        settings = Settings.load(config)
        topics = settings.topic_names()
        await ensure_topics(settings.connection(), topics)
        static = rng.random() < 0.5
        cluster = await stack.enter_async_context(Cluster(config, folder, static=static))
        stage = Stage(rng, cluster, broker, destination, topics, form.away_seconds, disk)
        cluster.add(**scenario.first_worker(rng))
        for _ in range(rng.choice((1, 1, 2))):
            cluster.add()
        # In threads: another job's destination must go on answering.
        now_ms = int(time.time() * 1000)
        records = await asyncio.to_thread(make_stream, seed, partitions=PARTITIONS, now_ms=now_ms)
        expected = await asyncio.to_thread(replay, settings.engine(), records)
        outputs = await stack.enter_async_context(Outputs(settings.connection().client_options(), topics))
        await _until_ready(cluster)

        fault_at = rng.uniform(0.1, 0.9) * form.feed_seconds
        producer = await stack.enter_async_context(Producer(settings.connection(), delivery_timeout_ms=180_000))
        injecting = asyncio.create_task(_inject(scenario, stage, fault_at))
        feed_started = time.monotonic()
        await _feed(producer, topics, records, form.feed_seconds)
        await injecting
        difference = await _until_right(expected, outputs, destination, cluster, form.deadline_seconds)
        right_after = time.monotonic() - feed_started - form.feed_seconds
        if not await cluster.ready():
            stage.problems.append("not every worker was ready at the end")
        ends = await cluster.stop_all()
        stage.problems += [f"a worker ended with code {c}, {s:.1f} s after SIGTERM" for c, s in ends if c or s > 10]
        await asyncio.sleep(0.3)
        if difference.clean:
            difference = compare(expected, outputs, destination.accepted, cluster.cuts())
        stage.problems += destination.problems
        stage.problems += [f"{name} ended with code {code}" for name, code, _ in cluster.exits if code not in EXPECTED]
        line = {
            "fault": name,
            "seed": seed,
            "ok": difference.clean and not stage.problems,
            "events": expected.events,
            **difference.counts(),
            "alerts_repeated_unanswered": repeats_without_answer(destination.accepted) - difference.alerts_twice,
            **_pauses(outputs),
            "restore_seconds": _restore_seconds(cluster),
            "right_after_seconds": round(right_after, 1),
            "seconds": round(time.monotonic() - started, 1),
            "workers": len(cluster.workers),
            "static": static,
            "fault_at": round(fault_at, 2),
            "exits": [code for _, code, _ in cluster.exits],
            "windows_stale": len(outputs.windows_stale),
            "records": {topic.removeprefix(f"{prefix}."): count for topic, count in sorted(outputs.records.items())},
            "differences": difference.said + stage.problems,
        }
    await _delete_topics(broker, [topic.name for topic in topics])
    return line


async def _until_ready(cluster: Cluster) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not await cluster.ready():
        if time.monotonic() > deadline:
            raise TimeoutError("workers did not get ready:\n" + "\n".join(worker.tail() for worker in cluster.workers))
        await asyncio.sleep(0.1)


async def _inject(scenario: Scenario, stage: Stage, after_seconds: float) -> None:
    await asyncio.sleep(after_seconds)
    await scenario.inject(stage)


async def _feed(producer: Producer, topics: Topics, records: list[Record], seconds: float) -> None:
    """Each record at its time; returns once the broker has them all."""
    started = time.monotonic()
    at = 0
    while at < len(records):
        elapsed = time.monotonic() - started
        rows = defaultdict(list)
        while at < len(records) and records[at].play * seconds <= elapsed:
            record = records[at]
            topic = topics.foreign if record.foreign else topics.usage
            rows[topic.name, record.partition].append((record.key, record.value))
            at += 1
        for (topic_name, partition), part in rows.items():
            await producer.send_many(topic_name, partition, part)
        await asyncio.sleep(TICK_SECONDS)
    await producer.flush()


async def _until_right(
    expected: Expected, outputs: Outputs, destination: Destination, cluster: Cluster, seconds: float
) -> Difference:
    deadline = time.monotonic() + seconds
    right_since, seen, changed_at = None, None, time.monotonic()
    while True:
        outputs.check()
        difference = compare(expected, outputs, destination.accepted, cluster.cuts())
        now = time.monotonic()
        ready = await cluster.ready()
        right = difference.clean and ready
        counts = (dict(outputs.records), len(destination.accepted))
        # Partials and heartbeats never end; what they lead to does.
        still = seen == _without_partials(counts)
        seen = _without_partials(counts)
        changed_at = changed_at if still and ready else now
        right_since = (right_since or now) if right and still else None
        if right_since and now - right_since >= SETTLE_SECONDS:
            return difference
        if now > deadline or now - changed_at > GIVE_UP_SECONDS:
            return difference
        await asyncio.sleep(0.3)


def _without_partials(counts: tuple[dict, int]) -> tuple:
    topics, alerts = counts
    return tuple(sorted(item for item in topics.items() if not item[0].endswith("partials"))), alerts


def _pauses(outputs: Outputs) -> dict[str, int]:
    """Gaps between two signs of progress of a source partition, while there was progress to make."""
    gaps = sorted(
        later - earlier
        for times in outputs.progress.values()
        for earlier, later in itertools.pairwise(times)
        if later > earlier
    )
    if not gaps:
        return {"pause_p50_ms": 0, "pause_p99_ms": 0, "pause_max_ms": 0}
    return {
        "pause_p50_ms": gaps[len(gaps) // 2],
        "pause_p99_ms": gaps[min(len(gaps) * 99 // 100, len(gaps) - 1)],
        "pause_max_ms": gaps[-1],
    }


def _restore_seconds(cluster: Cluster) -> float:
    """The longest restore of one partition."""
    found = [
        entry["seconds"]
        for worker in cluster.workers
        for entry in worker.entries()
        if entry.get("event") in ("state_restored", "state_read") and "seconds" in entry
    ]
    return max(found, default=0.0)


async def _delete_topics(broker: KafkaBroker, names: list[str]) -> None:
    """So that a broker of a hundred runs restarts as quickly as that of one."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    with contextlib.suppress(KafkaError):
        await admin.start()
        await admin.delete_topics(names)
    await admin.close()


def plan(runs: int, seed: int, only: list[str]) -> list[tuple[str, int]]:
    """(fault, seed) of each run: every kind comes about as often as any other, in random order."""
    rng = random.Random(seed)
    kinds: list[str] = []
    while len(kinds) < runs:
        kinds += rng.sample(only, len(only))
    return [(kind, seed + number) for number, kind in enumerate(kinds[:runs])]


async def _all(runs: list[tuple[str, int]], form: Form, keep: Path, out, jobs: int) -> list[dict]:
    left, lines = iter(runs), []

    async def job() -> None:
        broker = await asyncio.to_thread(KafkaBroker().start)
        try:
            for name, seed in left:
                lines.append(await _line(name, seed, broker, form, keep))
                print(json.dumps(lines[-1]), file=out, flush=True)
        finally:
            await asyncio.to_thread(broker.stop)

    await asyncio.gather(*(job() for _ in range(jobs)))
    return lines


async def _line(name: str, seed: int, broker: KafkaBroker, form: Form, keep: Path) -> dict:
    """One run in a folder of its own, which is kept if anything differs."""
    folder = Path(tempfile.mkdtemp(prefix=f"tenfold-fault-{name}-{seed}-"))
    with contextlib.ExitStack() as stack:
        disk = None
        if SCENARIOS[name].small_disk:
            disk = stack.enter_context(SmallDisk())
            broker = KafkaBroker(parent=disk.folder)
            stack.callback(broker.stop)
            await asyncio.to_thread(broker.start)
        try:
            line = await one_run(name, seed, broker, form, folder, disk)
        except Exception as error:
            line = {"fault": name, "seed": seed, "ok": False, "differences": [f"the run failed: {error!r}"]}
    if not line["ok"]:
        kept = keep / f"{name}-{seed}"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder, kept)
        print(f"logs: {kept}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    return line


def summary(lines: list[dict]) -> dict:
    """Totals of all runs, and what each kind of fault cost."""
    totals: Counter = Counter()
    for line in lines:
        for name in ("events", *Difference().counts(), "alerts_repeated_unanswered"):
            totals[name] += line.get(name, 0)
    by_fault = defaultdict(list)
    for line in lines:
        by_fault[line["fault"]].append(line)
    return {
        "runs": len(lines),
        "bad": sum(not line["ok"] for line in lines),
        **totals,
        "pause_p99_ms": round(statistics.median(line.get("pause_p99_ms", 0) for line in lines)),
        "restore_seconds_max": max(line.get("restore_seconds", 0.0) for line in lines),
        "seconds": round(sum(line.get("seconds", 0.0) for line in lines), 1),
        "faults": {
            name: {
                "runs": len(some),
                "bad": sum(not line["ok"] for line in some),
                "pause_max_ms": max(line.get("pause_max_ms", 0) for line in some),
                "seconds": round(statistics.median(line.get("seconds", 0.0) for line in some), 1),
            }
            for name, some in sorted(by_fault.items())
        },
    }


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.faults", description="Faults on real Kafka, by counting.")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", choices=sorted(SCENARIOS), help="this fault; may be repeated")
    parser.add_argument("--short", action="store_true", help="ten runs, each of its own kind, in five minutes")
    parser.add_argument("--quick", action="store_true", help="the short form's times, whatever the runs")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, each with a Kafka of its own")
    parser.add_argument("--out", type=Path, help="write the lines and the summary here as well")
    parser.add_argument("--resume", action="store_true", help="leave out the runs that --out has already")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "tenfold-faults", help="logs")
    arguments = parser.parse_args(argv)
    if arguments.resume and not (arguments.out and arguments.out.exists()):
        parser.error("--resume needs --out FILE with the lines of the runs that were done")
    log.configure("error")
    kinds = arguments.only or (list(SHORT) if arguments.short else list(SCENARIOS))
    if "disk_full" in kinds and not arguments.only and (lacking := SmallDisk.missing()):
        print(f"left out: disk_full ({lacking})", file=sys.stderr)
        kinds.remove("disk_full")
    runs = plan(len(kinds) if arguments.short else arguments.runs, arguments.seed, kinds)
    form = QUICK if arguments.short or arguments.quick else LONG
    subprocess.run([sys.executable, "-m", "streams.warm"], check=True, stdout=subprocess.DEVNULL)
    with contextlib.ExitStack() as stack:
        out = sys.stdout
        if arguments.out:
            out = _Tee(sys.stdout, stack.enter_context(arguments.out.open("a" if arguments.resume else "w")))
        done = _lines(arguments.out) if arguments.resume else []
        known = {(line["fault"], line["seed"]) for line in done}
        runs = [run for run in runs if run not in known]
        totals = summary(done + asyncio.run(_all(runs, form, arguments.keep, out, arguments.jobs)))
        print(json.dumps({"summary": totals}), file=out, flush=True)
    return 1 if totals["bad"] else 0


def _lines(file: Path) -> list[dict]:
    """Runs that are in a file of lines; a summary or a line that was cut off is none."""
    lines = [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]
    return [line for line in lines if "fault" in line]


class _Tee:
    def __init__(self, *files):
        self._files = files

    def write(self, text: str) -> None:
        for file in self._files:
            file.write(text)

    def flush(self) -> None:
        for file in self._files:
            file.flush()
