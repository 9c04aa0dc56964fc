"""Throughput side by side: every contender in a process of its own, on the same topic, the same core, in turns.

One core runs the contender, the others the broker and this process; with one core they share it. Rounds go through
the contenders forwards and backwards in alternation, so that what the machine does over time falls on all of them.
A contender's rates are medians over its runs. The first tenth of a run is not counted (loadtest.bench.child). CPU
seconds are of the whole process with all its threads; peak memory is what the kernel accounts to the ended child.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from loadtest.bench import kafka_streams
from streams.broker.embedded import spawn
from streams.errors import FatalError

_AVAILABLE = sorted(os.sched_getaffinity(0))
RUN_SECONDS = 180.0
"""Of one run; a contender that takes longer has failed."""


@dataclass(frozen=True, slots=True)
class Contender:
    """``command(bootstrap, topic, partitions, events)`` runs it; ``lacking()`` says why it cannot run here, or ""."""

    name: str
    title: str
    command: Callable[[str, str, int, int], list[str]]
    lacking: Callable[[], str]
    most_events: int
    """Read in one run: enough for several seconds. Rates do not depend on it."""

    @property
    def fast(self) -> bool:
        return self.most_events >= 10_000_000


def _python(name: str, title: str, most_events: int, module: str, package: str, *more: str) -> Contender:
    def command(bootstrap: str, topic: str, partitions: int, events: int) -> list[str]:
        return [
            sys.executable,
            "-m",
            f"loadtest.bench.{module}",
            bootstrap,
            topic,
            str(partitions),
            str(events),
            *more,
        ]

    def lacking() -> str:
        return "" if find_spec(package) else f"{package} is not installed; pip install 'tenfold[bench]'"

    return Contender(name, title, command, lacking, most_events)


CONTENDERS = (
    _python("tenfold", "Tenfold, the whole job", 10_000_000, "tenfold", "streams"),
    _python("ceiling", "librdkafka, doing nothing", 10_000_000, "ceiling", "confluent_kafka"),
    Contender(
        "kafka_streams",
        "Kafka Streams, decode and one sum",
        kafka_streams.command,
        kafka_streams.lacking,
        3_000_000,
    ),
    _python("bytewax", "bytewax, decode and one sum", 300_000, "bytewax_sum", "bytewax"),
    _python("quixstreams", "quixstreams, decode and one sum", 200_000, "quix_sum", "quixstreams"),
    _python("faust_dict", "Faust, decode and a dict", 100_000, "faust_sum", "uvloop", "dict"),
    _python("faust", "Faust, decode and one sum in a table", 40_000, "faust_sum", "uvloop"),
)


def cores() -> tuple[set[int], set[int]]:
    """(of the contender, of everything else), whatever the caller is pinned to."""
    if len(_AVAILABLE) == 1:
        return set(_AVAILABLE), set(_AVAILABLE)
    return {_AVAILABLE[-1]}, set(_AVAILABLE[:-1])


@contextlib.contextmanager
def pinned(to: set[int]) -> Iterator[None]:
    """This thread, and the children it starts meanwhile, on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, to)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run(command: list[str], core: set[int], seconds: float = RUN_SECONDS) -> dict:
    """What one process measured of itself, and its peak memory; raises FatalError if it fails or hangs."""
    with pinned(core):
        child = spawn(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    too_long = threading.Timer(seconds, child.kill)
    too_long.start()
    errors: list[bytes] = []
    reader = threading.Thread(target=lambda: errors.append(child.stderr.read()))
    reader.start()
    said = child.stdout.read().splitlines()
    reader.join()
    _, status, usage = os.wait4(child.pid, 0)
    too_long.cancel()
    child.returncode = os.waitstatus_to_exitcode(status)
    results = [line for line in said if line.startswith(b'{"events"')]
    if not results:
        name = " ".join(command[:3])
        tail = b"\n".join([*said[-20:], *errors[0].splitlines()[-20:]]).decode(errors="replace")
        raise FatalError(f"{name} ended with {child.returncode} and no result: {tail}")
    result = json.loads(results[-1])
    return {**result, "peak_rss_mb": round(usage.ru_maxrss / 1024)}


def race(
    bootstrap: str,
    topic: str,
    partitions: int,
    events: int,
    runs: int,
    names: tuple[str, ...],
    peer_share: float = 1.0,
    said: Callable[[str], None] = lambda line: None,
) -> dict:
    """Medians per contender, of which the slow ones read ``peer_share`` of their most. One that cannot run here,
    or fails, has ``skipped`` or ``failed`` instead."""
    chosen = [contender for contender in CONTENDERS if contender.name in names]
    results: dict[str, dict] = {contender.name: {"title": contender.title} for contender in chosen}
    able = []
    for contender in chosen:
        if missing := contender.lacking():
            results[contender.name]["skipped"] = missing
            said(f"{contender.name}: skipped, {missing}")
        else:
            able.append(contender)
    measured: dict[str, list[dict]] = {contender.name: [] for contender in able}
    mine, _ = cores()
    for number in range(runs):
        for contender in able if number % 2 == 0 else reversed(able):
            if "failed" in results[contender.name]:
                continue
            command = contender.command(bootstrap, topic, partitions, _share(contender, events, peer_share))
            try:
                found = run(command, mine)
            except FatalError as error:
                results[contender.name]["failed"] = str(error)
                said(f"{contender.name}: {error}")
                continue
            measured[contender.name].append(found)
            said(f"run {number + 1} of {runs}, {contender.name}: {found['events'] / found['wall_seconds']:,.0f} "
                 f"events/s, {found['events'] / found['cpu_seconds']:,.0f} per CPU second")  # fmt: skip
    for contender in able:
        if samples := measured[contender.name]:
            results[contender.name] |= _summary(samples)
    return results


def _share(contender: Contender, events: int, peer_share: float) -> int:
    return min(events, contender.most_events if contender.fast else round(contender.most_events * peer_share))


def _summary(samples: list[dict]) -> dict:
    def rates(seconds: str) -> list[int]:
        return [round(sample["events"] / sample[seconds]) for sample in samples]

    return {
        "events": samples[0]["events"],
        "runs": len(samples),
        "events_per_second": round(statistics.median(rates("wall_seconds"))),
        "events_per_cpu_second": round(statistics.median(rates("cpu_seconds"))),
        "all_events_per_second": rates("wall_seconds"),
        "all_events_per_cpu_second": rates("cpu_seconds"),
        "peak_rss_mb": round(statistics.median(sample["peak_rss_mb"] for sample in samples)),
    }
