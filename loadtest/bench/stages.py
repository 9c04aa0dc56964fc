"""What each stage of the hot path costs: ``tenfold bench stages``.

One input partition, its events in memory, applied batch by batch by the worker's own code, with partials flushed and
checkpoints taken as often as a busy worker does. Each stage is timed where it is called, in CPU time of the thread, so
that other processes on the machine do not count. The first WARM_UP_EVENTS are not: tables grow and names are new.

What decodes and counts is the worker's own code; fetching, Faust and the producer are not here (``tenfold bench run``
has them). Prints one JSON object: ns per event and stage beside its budget.
"""

import contextlib
import json
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path

import click
import numpy as np

from loadtest.bench import machine
from loadtest.bench.events import START_MS, Load, values
from models.config import EngineConfig
from models.dedupe import DedupeSet
from models.detectors.unit_price import UnitPrice
from models.engine import UsageEngine
from models.pricing import PriceTable
from models.rolling import SLICES
from models.sessions import Sessions
from models.windows import Panes
from schemas.codec import encode
from schemas.decode import Decoder
from streams.memory import keep_freed_memory
from streams.state import codec
from streams.web.metrics import Metrics

BUDGET_NS = {"decode": 250, "dedupe": 80, "price": 60, "sessions": 150, "panes": 120, "else": 150}
"""Of one event; ``sessions`` includes judging them against their peers."""
ELSE = ("detectors", "output", "checkpoint", "rest")
"""Stages that share the budget for everything else: price errors; partials, spend for metrics and the ends of
sessions; what is saved; counters of an event, its names, the checks of a batch."""
_STAGES = (
    (Decoder, "decode", "decode"),
    (DedupeSet, "mark", "dedupe"),
    (PriceTable, "price", "price"),
    (Sessions, "apply", "sessions"),
    (Panes, "add", "panes"),
    (UnitPrice, "check", "detectors"),
)
FLUSH_EVENTS = 50_000
"""Between two flushes: what one of four partitions gets in 200 ms when their worker counts a million a second."""
FLUSHES_PER_LOOK = 5
"""The worker looks for ended sessions, and counts what was spent for metrics, once a second."""
WARM_UP_EVENTS = 1_200_000
"""By then the set of identities has its full size."""
CHECKPOINT_EVENTS = 2_500_000
"""Likewise in 10 s."""


@dataclass(slots=True)
class Timer:
    """CPU seconds of this thread by stage; a stage inside another one counts for itself alone."""

    seconds: dict[str, float] = field(default_factory=dict)
    _inner: float = 0.0

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        before, self._inner = self._inner, 0.0
        started = time.thread_time()
        try:
            yield
        finally:
            took = time.thread_time() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + took - self._inner
            self._inner = before + took

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Time the methods of _STAGES while it lasts."""
        saved = [(owner, method, getattr(owner, method)) for owner, method, _ in _STAGES]
        for owner, method, stage in _STAGES:
            setattr(owner, method, self._timed(getattr(owner, method), stage))
        try:
            yield
        finally:
            for owner, method, original in saved:
                setattr(owner, method, original)

    def _timed(self, call, stage: str):
        @wraps(call)
        def timed(*args, **kwargs):
            with self.stage(stage):
                return call(*args, **kwargs)

        return timed


@dataclass(slots=True)
class Batch:
    """Values of one delivery: payload uint8, spans int64[n]."""

    payload: np.ndarray
    start: np.ndarray
    end: np.ndarray


def deliveries(values: list[bytes], size: int) -> list[Batch]:
    """The values in deliveries of ``size`` events."""
    out: list[Batch] = []
    for at in range(0, len(values), size):
        part = values[at : at + size]
        end = np.cumsum([len(value) for value in part], dtype=np.int64)
        start = np.concatenate([np.zeros(1, np.int64), end[:-1]])
        # Writable, as the transport's payloads are: kernels compile anew for read-only arrays.
        out.append(Batch(np.frombuffer(bytearray(b"".join(part)), np.uint8), start, end))
    return out


@dataclass(slots=True)
class Run:
    """One engine fed with batches."""

    timer: Timer = field(default_factory=Timer)
    partition: int = 0
    events_per_flush: int = FLUSH_EVENTS
    engine: UsageEngine = field(init=False)
    events: int = 0
    _decoder: Decoder = field(init=False)
    _checkpoints: int = 0
    _flushed: int = 0
    _flushes: int = 0
    _metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self):
        config = EngineConfig()
        self.engine = UsageEngine(config, self.partition, PriceTable())
        self._decoder = Decoder(config.hash_key)

    def feed(self, batch: Batch, now_ms: int) -> None:
        """Apply one batch; flush and checkpoint when enough has come."""
        n = len(batch.start)
        first = self.engine.next_offset
        columns = self._decoder.decode(batch.payload, batch.start, batch.end, np.arange(first, first + n))
        with self.timer.stage("rest"):
            self.engine.apply(columns, first + n, now_ms)
        self.events += n
        if self.events - self._flushed >= self.events_per_flush:
            self._flushed = self.events
            with self.timer.stage("output"):
                encode("partials", self.engine.flush())
                self._flushes += 1
                if self._flushes % FLUSHES_PER_LOOK == 0:
                    self.engine.advance(now_ms)
                    self.engine.take_spent(self._metrics.bounded)
        if self.events // CHECKPOINT_EVENTS > self._checkpoints:
            self._checkpoints += 1
            with self.timer.stage("checkpoint"):
                zlib.crc32(codec.encode(self.engine.take_delta(self._checkpoints % SLICES)))


def measure(load: Load, size: int, warm_up: int = WARM_UP_EVENTS) -> dict:
    """ns per event by stage of ``load``, and of ``warm_up`` events before that are not counted."""
    load = replace(load, events=warm_up + load.events)
    batches = [batch for _, chunk in values(load) for batch in deliveries(chunk, size)]
    now_ms = START_MS + 1_000 + load.events * 1_000 // load.events_per_second
    run = Run()
    with run.timer.watching():
        counting = False
        for batch in batches:
            if not counting and run.events >= warm_up:
                run.timer.seconds.clear()
                counting, before = True, run.events
            run.feed(batch, now_ms)
    events = run.events - before
    spent = {name: run.timer.seconds.get(name, 0.0) * 1e9 / events for name in (*BUDGET_NS, *ELSE) if name != "else"}
    return {
        "events": events,
        "bytes_per_event": round(sum(len(batch.payload) for batch in batches) / run.events),
        "events_per_batch": size,
        "sessions": load.sessions,
        "keys": load.keys,
        "live_sessions": len(run.engine.sessions),
        "ns_per_event": {name: round(ns, 1) for name, ns in spent.items()},
        "total_ns_per_event": round(sum(spent.values())),
        "budget_ns_per_event": BUDGET_NS,
        "total_budget_ns_per_event": sum(BUDGET_NS.values()),
        "within_budget": all(spent[name] <= ns for name, ns in BUDGET_NS.items() if name != "else")
        and sum(spent[name] for name in ELSE) <= BUDGET_NS["else"],
    }


@click.command()
@click.option("--events", default=2_000_000, show_default=True, help="Events measured.")
@click.option("--sessions", default=100_000, show_default=True, help="Live sessions.")
@click.option("--keys", type=click.Choice(("uniform", "zipf")), default="uniform", show_default=True)
@click.option("--batch", default=16_000, show_default=True, help="Events per delivery.")
@click.option("--warm-up", default=WARM_UP_EVENTS, show_default=True, help="Events before, not counted.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File for the result.")
def stages(events: int, sessions: int, keys: str, batch: int, warm_up: int, out: Path | None) -> None:
    """What each stage costs: ns of CPU time per event, with the data in memory."""
    keep_freed_memory()
    load = Load(events, sessions=sessions, keys=keys, partitions=1)
    result = {"machine": machine.describe(), **measure(load, batch, warm_up)}
    text = json.dumps(result, indent=2)
    click.echo(text)
    if out:
        out.write_text(text + "\n")
