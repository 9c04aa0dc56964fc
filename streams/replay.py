"""The whole engine over event files, without a broker: ``tenfold replay``.

Runs the code of the worker (decoder, UsageEngine, RollupEngine) on one partition, in event-time order over all
files, and writes what the topics would have got: ``findings.jsonl``, ``sessions.jsonl``, ``spend.jsonl``,
``budgets.jsonl``, ``decisions.jsonl``, ``shares.jsonl``, ``unit_costs.jsonl``, ``rejected.jsonl`` and
``summary.json``. The clock is the newest event time read so far, so the same files always give the same output.

Spend, budgets, decisions, shares and unit costs are written once, as they stand at the end; findings with every
revision, in order.
"""

import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from models.config import EngineConfig
from models.engine import UsageEngine, UsageOutputs
from models.pricing import PriceTable
from models.rollup import RollupEngine, RollupOutputs
from models.scopes import Scope
from schemas.codec import encode
from schemas.columns import OK, REJECT_REASONS
from schemas.decode import Decoder

CHUNK_EVENTS = 5_000
CHUNK_MS = 60_000
"""Between two looks at baselines and windows lie at most this many events and this much event time: what a busy
second brings a worker, and about how long it takes a live one to know what an ended session cost.
"""


@dataclass(slots=True)
class Replay:
    """Collects the outputs of both engines; feed it events, then ``finish``."""

    config: EngineConfig
    on_finding: Callable[[dict], None] = lambda finding: None
    on_session: Callable[[dict], None] = lambda session: None
    on_rejected: Callable[[dict], None] = lambda rejected: None
    feedback: Iterable[dict] = ()
    """Feedback dicts in order of ``at_ms``: each is taken once the clock has come so far."""
    spend: dict[tuple, dict] = field(default_factory=dict)
    budgets: dict[tuple, dict] = field(default_factory=dict)
    decisions: dict[str, dict] = field(default_factory=dict)
    shares: dict[tuple, dict] = field(default_factory=dict)
    unit_costs: dict[tuple, dict] = field(default_factory=dict)
    counts: Counter = field(default_factory=Counter)

    _usage: UsageEngine = field(init=False)
    _rollup: RollupEngine = field(init=False)
    _decoder: Decoder = field(init=False)
    _clock_ms: int = field(init=False, default=0)
    _unsaid: deque[dict] = field(init=False)

    def __post_init__(self):
        self._usage = UsageEngine(self.config, 0, PriceTable(self.config.prices))
        self._rollup = RollupEngine(self.config)
        self._decoder = Decoder(self.config.hash_key)
        self._unsaid = deque(self.feedback)

    def feed(self, events: list[dict]) -> None:
        """Count events (dicts of the canonical form), in order."""
        values = [encode("usage_event", event) for event in events]
        ends = np.cumsum([len(value) for value in values], dtype=np.int64)
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        first = self._usage.next_offset
        offsets = np.arange(first, first + len(values), dtype=np.int64)
        # Writable, as the transport's payloads are: kernels compile anew for read-only arrays.
        payload = np.frombuffer(bytearray(b"".join(values)), np.uint8)
        columns = self._decoder.decode(payload, starts, ends, offsets)
        newest = max((event["event_time"] for event in events), default=0)
        self._clock_ms = max(self._clock_ms, min(newest, int(time.time() * 1000)))
        while self._unsaid and self._unsaid[0]["at_ms"] <= self._clock_ms:
            said = self._unsaid.popleft()
            self._usage.feedback(said)
            self._rollup.feedback(said)
        out = self._usage.apply(columns, first + len(values), self._clock_ms)
        for row in np.flatnonzero(columns.status != OK).tolist():
            self.on_rejected(
                {
                    "reason": REJECT_REASONS[columns.status[row]],
                    "offset": int(columns.offset[row]),
                    "event": events[row],
                }
            )
        self._take(out)
        self._take(self._usage.advance(self._clock_ms))
        self._roll_up()

    def finish(self) -> dict:
        """End all sessions and return the summary."""
        self._take(self._usage.finish(self._clock_ms))
        self._rollup.apply(self._usage.flush(), self._clock_ms)
        self._publish(self._rollup.finish(self._clock_ms))
        teams: Counter = Counter()
        models: Counter = Counter()
        for row in self.spend.values():
            if row["window_ms"] == 3_600_000 and row["scope_kind"] == "team":
                teams[row["team"]] += row["cost_nano_usd"]
            if row["window_ms"] == 3_600_000 and row["scope_kind"] == "model":
                models[row["model"]] += row["cost_nano_usd"]
        return {
            **{name: self.counts[name] for name in ("events", "duplicates", "late", "unpriced", "rejected")},
            "sessions": self.counts["sessions"],
            "findings": {name[8:]: count for name, count in sorted(self.counts.items()) if name[:8] == "finding:"},
            "cost_nano_usd": sum(teams.values()),
            "cost_nano_usd_by_team": dict(sorted(teams.items())),
            "cost_nano_usd_by_model": dict(sorted(models.items())),
            "price_version": self._usage.prices.version,
        }

    def _take(self, out: UsageOutputs) -> None:
        self.counts.update(
            events=out.counted,
            duplicates=out.duplicates,
            late=out.late,
            unpriced=out.unpriced,
            rejected=out.rejected,
            sessions=len(out.sessions),
        )
        for session in out.sessions:
            self.on_session(session)
        self._take_findings(out.findings)

    def _roll_up(self) -> None:
        self._rollup.apply(self._usage.flush(), self._clock_ms)
        self._publish(self._rollup.advance(self._clock_ms))

    def _publish(self, out: RollupOutputs) -> None:
        for row in out.spend:
            scope = Scope.of(
                row["scope_kind"], team=row["team"], model=row["model"], agent=row["agent"], use_case=row["use_case"]
            )
            self.spend[(scope, row["window_start"], row["window_ms"])] = row
        for row in out.budgets:
            self.budgets[(row["budget"], row["period"])] = row
        for row in out.decisions:
            self.decisions[row["scope"]] = row
        for row in out.shares:
            self.shares[(row["what"], row["day"])] = row
        for row in out.unit_costs:
            self.unit_costs[(row["transaction_type"], row["day"])] = row
        self._take_findings(out.findings)
        self._usage.update_baselines(out.baselines)

    def _take_findings(self, findings: list[dict]) -> None:
        for finding in findings:
            if finding["status"] == "open":
                self.counts[f"finding:{finding['detector']}"] += 1
            self.on_finding(finding)


def chunks(events: Iterable[dict], size: int = CHUNK_EVENTS, span_ms: int = CHUNK_MS) -> Iterator[list[dict]]:
    """Lists of at most ``size`` events, none later than its first by ``span_ms``."""
    chunk: list[dict] = []
    for event in events:
        if chunk and (len(chunk) >= size or event["event_time"] - chunk[0]["event_time"] >= span_ms):
            yield chunk
            chunk = []
        chunk.append(event)
    if chunk:
        yield chunk


def replay_to(
    events: Iterable[dict],
    config: EngineConfig,
    out_dir: Path,
    on_progress: Callable[[int], None] = lambda events: None,
    rejected_lines: Iterable[dict] = (),
    feedback: Iterable[dict] = (),
) -> dict:
    """Replay events into files of ``out_dir`` (made if missing); returns the summary.

    ``feedback``: what people said meanwhile, in order of ``at_ms``.

    ``rejected_lines`` is read after the events: what the reader could not make an event of.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:

        def writer(name: str) -> Callable[[dict], None]:
            file = stack.enter_context((out_dir / name).open("w"))
            return lambda record: print(json.dumps(record, ensure_ascii=False), file=file)

        write_rejected = writer("rejected.jsonl")
        replay = Replay(config, writer("findings.jsonl"), writer("sessions.jsonl"), write_rejected, feedback)
        for chunk in chunks(events):
            replay.feed(chunk)
            on_progress(len(chunk))
        summary = replay.finish()
        for record in rejected_lines:
            summary["rejected"] += 1
            write_rejected(record)
        for name, rows in (
            ("spend.jsonl", replay.spend),
            ("budgets.jsonl", replay.budgets),
            ("decisions.jsonl", replay.decisions),
            ("shares.jsonl", replay.shares),
            ("unit_costs.jsonl", replay.unit_costs),
        ):
            write = writer(name)
            for key in sorted(rows):
                write(rows[key])
    (out_dir / "summary.json").write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    return summary
