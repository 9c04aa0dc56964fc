"""Whether an event costs the same whatever there is of it: ``tenfold bench scaling``.

One load is the measure, and each case changes one thing of it: events, live sessions, teams, partitions, size; or is
hostile: one key, only new keys, ids chosen to collide, a session that has ended, nothing but late events. Every case
goes through the worker's own code with its data in memory, flushes and checkpoints included, as in
``tenfold bench stages``; what is not measured first fills the tables. CPU time of the thread, in a process per case.
Before and after each case the measure is taken anew, since a machine may be half as fast some minutes later.

Prints one JSON object: ns per event, and how many times that of the measure beside it.
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import click
import numpy as np
from numba import njit

from loadtest.bench import machine
from loadtest.bench.events import START_MS, Load, session_keys, session_numbers, values
from loadtest.bench.stages import Run, deliveries
from models.config import HOUR_MS, EngineConfig
from schemas.hashing import hash_span, secrets
from streams.memory import keep_freed_memory
from streams.transport import Connection, TransportSettings

EVENT_BYTES, WIRE_BYTES = 210, 96
"""Of an event of the measure, and of one in a topic with lz4."""
LIMIT = 2.0
AXES = ("events", "sessions", "teams", "partitions", "bytes", "hostile")
REFERENCE = Load(events=1_000_000)
WARM_UP = 1_200_000
COLLIDING_SESSIONS = 20_000
COLLIDING_BITS = 8
"""Low bits that the hashes of colliding ids share, under a key that is not the deployment's."""


@dataclass(frozen=True, slots=True)
class Case:
    """``warm_up`` and then ``load``, which is measured. ``colliding``: its sessions have ids that collide."""

    axis: str
    value: str
    load: Load
    warm_up: Load
    colliding: bool = False


def case(axis: str, value: object, warm_up: int = WARM_UP, **changes) -> Case:
    load = replace(REFERENCE, **changes)
    return Case(axis, str(value), replace(load, first=warm_up), replace(load, events=warm_up, seed=2))


def cases(full: bool) -> list[Case]:
    """The first one is the measure."""
    out = [case("measure", "")]
    out += [case("events", events, events=events) for events in (4_000_000, *(full * (10_000_000, 100_000_000)))]
    for sessions in (1_000, 1_000_000, *(full * (5_000_000,))):
        # As many warm-up events as it takes for nearly all of them to live.
        out.append(case("sessions", sessions, max(WARM_UP, 3 * sessions), sessions=sessions))
    for teams in (10, 10_000, *(full * (1_000_000,))):
        out.append(case("teams", teams, max(WARM_UP, 3 * teams), teams=teams, sessions=max(100_000, teams)))
    out += [case("partitions", partitions, partitions=partitions) for partitions in (1, 16, 64)]
    out.append(case("bytes", "130", lean=True))
    out += [case("bytes", size, padding=size - EVENT_BYTES) for size in (1_000, 4_000)]
    late = {"start_ms": START_MS - 2 * HOUR_MS}
    plain = replace(REFERENCE, events=WARM_UP, seed=2)
    out.append(case("hostile", "one key has all events", sessions=1))
    out.append(case("hostile", "every key is new", keys="new"))
    colliding = case("hostile", "ids that collide under another key", sessions=COLLIDING_SESSIONS)
    out.append(replace(colliding, colliding=True))
    # Of a session that has ended nothing is left: its late events begin a run, which ends at the next look.
    ended = replace(REFERENCE, sessions=1, first_session=10**9, first=WARM_UP, events_per_second=10**9, **late)
    out.append(Case("hostile", "all events for one ended session", ended, plain))
    out.append(Case("hostile", "every event is late", replace(REFERENCE, first=WARM_UP, **late), plain))
    return out


def delivery_events(load: Load) -> int:
    """How many are delivered at once to a busy worker with default settings: more partitions are smaller deliveries."""
    fetch = TransportSettings(Connection(()))
    wire = min(fetch.max_partition_fetch_bytes, fetch.fetch_max_bytes // load.partitions) // WIRE_BYTES
    return min(wire, fetch.limits.records, fetch.limits.bytes // (EVENT_BYTES + load.padding))


@njit
def _colliding(ids, k0, k1, k2, bits, out):
    """Mark the rows of ids uint8[n, 32] whose hash ends in ``bits`` zero bits."""
    for row in range(len(ids)):
        value, _ = hash_span(np.int64(ids.ctypes.data + row * ids.shape[1]), np.int64(ids.shape[1]), k0, k1, k2)
        out[row] = value & np.uint64((1 << bits) - 1) == 0


def colliding_numbers(count: int, hash_key: int) -> np.ndarray:
    """int64[count]: sessions whose ids would all begin to be looked for in a 256th of the slots."""
    found, at, step = [], 0, 1 << 18
    while sum(map(len, found)) < count:
        ids = np.ascontiguousarray(session_keys(np.arange(at, at + step)))
        chosen = np.zeros(step, np.bool_)
        _colliding(ids, *secrets(hash_key), COLLIDING_BITS, chosen)
        found.append(at + np.flatnonzero(chosen))
        at += step
    return np.concatenate(found)[:count]


def measure(case: Case) -> float:
    """ns of CPU time per event."""
    keep_freed_memory()
    numbers = session_numbers
    if case.colliding:
        pool = colliding_numbers(case.load.sessions, EngineConfig().hash_key ^ 1)

        def numbers(load: Load) -> Iterator[np.ndarray]:
            return (pool[sessions] for sessions in session_numbers(load))

    partitions = case.load.partitions
    runs = [Run(partition=partition, events_per_flush=50_000 * 4 // partitions) for partition in range(partitions)]
    now_ms = START_MS + 24 * HOUR_MS
    size = delivery_events(case.load)
    for load in (case.warm_up, case.load):
        events, seconds = 0, 0.0
        waiting: list[list[bytes]] = [[] for _ in runs]
        for sessions, chunk in values(load, numbers):
            if partitions == 1:
                waiting[0] += chunk
            else:
                for partition, value in zip((sessions % partitions).tolist(), chunk, strict=True):
                    waiting[partition].append(value)
            for run, ready in zip(runs, waiting, strict=True):
                batches = deliveries(ready[: len(ready) // size * size], size)
                del ready[: len(ready) // size * size]
                started = time.thread_time()
                for batch in batches:
                    run.feed(batch, now_ms)
                seconds += time.thread_time() - started
                events += size * len(batches)
    return seconds / events * 1e9


def _alone(case: Case) -> float:
    """``measure`` in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, case).result()


@click.command()
@click.option("--full", is_flag=True, help="Also 10 and 100 M events, 5 M sessions and 1 M teams: half an hour, 8 GB.")
@click.option("--only", type=click.Choice(AXES), help="Cases of this axis.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File for the result.")
def scaling(full: bool, only: str | None, out: Path | None) -> None:
    """What an event costs as everything grows, and under hostile input; takes some six minutes."""
    first, *others = cases(full)
    rows: list[dict] = []
    before = _alone(first)
    for each in others:
        if only and each.axis != only:
            continue
        ns, after = _alone(each), _alone(first)
        beside, before = (before + after) / 2, after
        times = ns / beside
        found = {"ns_per_event": round(ns, 1), "measure_ns_per_event": round(beside, 1), "times": round(times, 2)}
        rows.append({"axis": each.axis, "value": each.value, **found})
        click.echo(f"{each.axis} {each.value}: {ns:.0f} ns an event, {times:.2f} times the measure", err=True)
    worst = max(row["times"] for row in rows)
    result = {"machine": machine.describe(), "limit": LIMIT, "worst": worst, "within": worst <= LIMIT, "cases": rows}
    text = json.dumps(result, indent=2)
    click.echo(text)
    if out:
        out.write_text(text + "\n")
