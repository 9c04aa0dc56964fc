"""What one input partition does with a batch of usage events: the system without Kafka.

A pure function of (state, columns, baselines, config, now): the worker, ``tenfold replay``, backtests and tests
run this same code. ``apply`` counts a batch, ``advance`` ends idle sessions and drops old panes, ``flush`` says
what changed, as cumulative partials that rollup may see any number of times. The order inside a batch is:
reject what is too old, dedupe, price, sessions and their detectors, panes.

The revision of a finding is one more than the offset of the event that led to it, and that of a resolution is beyond
all events so far. So what is said again after a restart is known as said, and what follows is news, although other
peers may be known then and the finding may have changed more or less often on the way. (models.detectors.unit_price,
whose findings may open again, has twice these.)

Nothing here does I/O or reads a clock. Called by streams.agents.usage and streams.replay.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from models.baselines import Baselines
from models.combos import Combos
from models.config import DAY_MS, EngineConfig
from models.counters import COST, COUNTERS, event_counters
from models.dedupe import DedupeSet
from models.detectors.runaway_agent import runaway_finding
from models.detectors.session_outlier import NAME as SESSION_OUTLIER
from models.detectors.session_outlier import session_finding
from models.detectors.session_story import SessionView
from models.detectors.unit_price import UnitPrice
from models.extra_scopes import ExtraScopes, asked_for
from models.findings import finding_id
from models.partials import PaneColumns, joined, packed
from models.pricing import UNPRICED, PriceTable
from models.session_kernels import COST_EDGES, PROJECTED, RUNAWAY
from models.session_verdicts import Change, SessionVerdicts
from models.sessions import Candidates, EndedRuns, Sessions
from models.spent import Bounded, Spent
from models.transaction_reports import TransactionReports
from models.windows import NO_WATERMARK, Panes, Watermark
from schemas.columns import OK, REJECT_REASONS, Columns, string_index

STATE_VERSION = 6
OUT_OF_RANGE, TOO_OLD = REJECT_REASONS.index("out_of_range"), REJECT_REASONS.index("too_old")
MAX_NAME_BYTES = 4096
"""Of each string of an event. Findings, windows and state carry names on, several at once and in keys, and a record
must stay below a megabyte; the longest model name of the catalogue has 92 bytes."""
_SOURCE, _EVENT_ID = string_index("source"), string_index("event_id")
FLAGS = ("none", "warning", "critical")


@dataclass(slots=True)
class UsageOutputs:
    """What a batch led to: records ready to encode, and counts for metrics."""

    findings: list[dict] = field(default_factory=list)
    sessions: list[dict] = field(default_factory=list)
    counted: int = 0
    duplicates: int = 0
    late: int = 0
    rejected: int = 0
    unpriced: int = 0


class UsageEngine:
    """State of one input partition. Not thread-safe: one batch at a time."""

    def __init__(self, config: EngineConfig, partition: int, prices: PriceTable):
        self.config = config
        self.partition = partition
        self.prices = prices
        self.next_offset = 0
        self.watermark = Watermark(config.windows)
        self.dedupe = DedupeSet(config.dedupe_events)
        self.combos = Combos()
        self.sessions = Sessions(config.sessions, config.runaway)
        self.baselines = Baselines(config.session_outlier, config.runaway)
        self.panes = Panes(config.windows)
        self.unit_price = UnitPrice(config.unit_price)
        self.verdicts = SessionVerdicts()
        self.spent = Spent()
        self.extra = ExtraScopes(config) if asked_for(config) else None
        types = tuple(one.transaction_type for one in config.unit_costs)
        self.transactions = TransactionReports(types) if types else None

    def apply(self, columns: Columns, next_offset: int, now_ms: int) -> UsageOutputs:
        """Count a batch whose records end before ``next_offset``; rows too old or with too long names get their status.

        Rows below the state's ``next_offset`` must have been left out by the caller.
        """
        out = UsageOutputs()
        self.next_offset = max(self.next_offset, next_offset)
        n = len(columns)
        oldest = self.watermark.value_ms - self.config.windows.hour_retention_ms
        timely = columns.status == OK
        columns.status[timely & (columns.event_time_ms < oldest)] = TOO_OLD
        if columns.length.max(initial=0) > MAX_NAME_BYTES:
            columns.status[timely & (columns.length > MAX_NAME_BYTES).any(axis=1)] = OUT_OF_RANGE
        fresh, out.duplicates = self.dedupe.mark(columns.status, columns.hash[:, _SOURCE], columns.hash[:, _EVENT_ID])
        priced = self.prices.price(columns)
        unpriced = priced.status == UNPRICED
        counters = np.zeros((n, len(COUNTERS)), np.int64)
        event_counters(fresh, columns.tokens, priced.cost_nano_usd, priced.estimate_nano_usd, unpriced, counters)
        combo = self.combos.assign(columns, fresh, self.baselines.register)
        times = columns.event_time_ms[fresh]
        out.counted = len(times)
        out.rejected = int(np.count_nonzero(columns.status != OK))
        out.unpriced = int(np.count_nonzero(unpriced & fresh))
        out.late = int(np.count_nonzero(times < self.watermark.value_ms))

        out.findings += self.unit_price.check(columns, fresh, priced.table_nano_usd, now_ms, self.prices.version)
        candidates, ended = self.sessions.apply(
            columns,
            combo,
            counters,
            self.combos.has_model,
            self.combos.group,
            self.baselines.limits,
        )
        for index in range(len(candidates)):
            out.findings += self._session_findings(candidates, index, columns, now_ms)
        self.panes.add(self.combos, combo, columns.kind, columns.event_time_ms, counters, self.watermark.value_ms)
        if self.extra is not None:
            self.extra.add(columns, fresh, counters, self.watermark.value_ms)
        if self.transactions is not None:
            self.transactions.add(columns, fresh)
        self._end(ended, out, now_ms, "idle")
        self.watermark.advance(times, now_ms)
        self.spent.add(self.panes.leaves)
        return out

    def advance(self, now_ms: int) -> UsageOutputs:
        """End what is over, drop panes past their retention; call after a batch and about once a second."""
        out = UsageOutputs()
        if self.watermark.value_ms != NO_WATERMARK:
            out.findings += self._price_errors_over(self.watermark.value_ms, now_ms)
            self._end(self.sessions.end_idle(self.watermark.value_ms), out, now_ms, "idle")
            self.panes.expire(self.watermark.value_ms)
            if self.extra is not None:
                self.extra.panes.expire(self.watermark.value_ms)
            self.baselines.expire(self.watermark.value_ms)
        return out

    def finish(self, now_ms: int) -> UsageOutputs:
        """End every session and price error: the input is over (replay)."""
        out = UsageOutputs(findings=self._price_errors_over(np.iinfo(np.int64).max, now_ms))
        self._end(self.sessions.end_idle(np.iinfo(np.int64).max), out, now_ms, "end_of_input")
        return out

    def _price_errors_over(self, watermark_ms: int, now_ms: int) -> list[dict]:
        return self.unit_price.resolve(watermark_ms, self.next_offset, now_ms, self.prices.version)

    def flush(self, idle: bool = False) -> dict:
        """Partials dict of what changed since the last flush; empty panes and baselines if nothing did."""
        panes = _columns(self.panes, self.combos.keys)
        if self.extra is not None:
            panes = joined(panes, _columns(self.extra.panes, self.extra.keys))
        return {
            "source_partition": self.partition,
            "next_offset": self.next_offset,
            "watermark": self.watermark.value_ms,
            "idle": idle,
            "panes": packed(panes),
            "transactions": None if self.transactions is None else self.transactions.take(),
            "baselines": self.baselines.take_dirty(),
        }

    def update_baselines(self, records: list[dict]) -> None:
        """Take merged peer baselines (Baseline dicts) from rollup; later batches are judged by them."""
        self.baselines.merge(records)

    def feedback(self, feedback: Mapping) -> None:
        """Take one Feedback dict: what a person said about a session's finding; repeats change nothing."""
        self._correct(self.verdicts.take(feedback))

    def _correct(self, change: Change | None) -> None:
        if change is not None:
            self.baselines.correct(change)

    def _view(self, found: Candidates | EndedRuns, index: int, now_ms: int, status: str, **more) -> SessionView:
        combo = int(found.combo[index])
        return SessionView(
            session_id=found.session_id[index],
            names=self.combos.names[combo],
            stats=self.baselines.stats[self.combos.group[combo]],
            sums=found.sums[index].tolist(),
            times=found.times[index].tolist(),
            status=status,
            now_ms=now_ms,
            price_version=self.prices.version,
            combo_names=self.combos.names,
            **more,
        )

    def _session_findings(self, found: Candidates, index: int, columns: Columns, now_ms: int) -> list[dict]:
        """One finding for the cost of a session, or for its behaviour while its cost is not striking."""
        level_before, level, signals_before, signals = found.flags[index].tolist()
        costly = level > 0 or (signals & ~signals_before) & PROJECTED > 0
        told = level_before > 0 or signals_before & PROJECTED if costly else signals_before & RUNAWAY
        watched = bool(found.watch[index].any())
        view = self._view(
            found,
            index,
            now_ms,
            "updated" if told else "open",
            level=level,
            signals=signals,
            revision=int(columns.offset[found.event[index]]) + 1,
            watch=found.watch[index] if watched else None,
            watch_ids=found.watch_ids[index] if watched else None,
            event_ids=[columns.text(int(found.event[index]), "event_id")],
        )
        finding = self._judged(view, costly)
        if level > 0 and costly:
            team, agent, _, model, _ = view.names
            self._correct(self.verdicts.tell(finding["id"], team, agent, model, view.times[2] // DAY_MS))
        return [finding]

    def _judged(self, view: SessionView, costly: bool) -> dict:
        return (
            session_finding(self.config.session_outlier, view) if costly else runaway_finding(self.config.runaway, view)
        )

    def _resolved(self, runs: EndedRuns, index: int, now_ms: int) -> list[dict]:
        """The last word on each finding that the run has opened."""
        level, signals = int(runs.level[index]), int(runs.signals[index])
        watched = int(runs.watched[index])
        view = self._view(
            runs,
            index,
            now_ms,
            "resolved",
            level=level,
            signals=signals,
            revision=self.next_offset + 1,
            watch=runs.watch[watched] if watched >= 0 else None,
            watch_ids=runs.watch_ids[watched] if watched >= 0 else None,
        )
        opened = (level > 0 or signals & PROJECTED > 0, True), (signals & RUNAWAY > 0, False)
        return [self._judged(view, costly) for is_open, costly in opened if is_open]

    def _end(self, runs: EndedRuns, out: UsageOutputs, now_ms: int, reason: str) -> None:
        """Summarise ended runs, resolve their findings, and only then learn from them."""
        if not len(runs):
            return
        for index, session_id in enumerate(runs.session_id):
            names = self.combos.names[runs.combo[index]]
            team, agent, use_case, model, _ = names
            _, first, last = runs.times[index].tolist()
            sums = runs.sums[index].tolist()
            level = int(runs.level[index])
            out.sessions.append(
                {
                    "session_id": session_id,
                    "team": team,
                    "agent": agent,
                    "use_case": use_case,
                    "model": model,
                    "first_event_time": first,
                    "last_event_time": last,
                    **dict(zip(COUNTERS, sums, strict=True)),
                    "flagged": FLAGS[level],
                    "close_reason": reason,
                    "source_partition": self.partition,
                }
            )
            if level or runs.signals[index] & (PROJECTED | RUNAWAY):
                out.findings += self._resolved(runs, index, now_ms)
        flagged = {
            index: finding_id(SESSION_OUTLIER, runs.session_id[index], int(runs.times[index][0]))
            for index in np.flatnonzero((runs.level > 0) & (runs.sums[:, COST] > 0)).tolist()
        }
        normal = np.array([index in flagged and self.verdicts.is_normal(flagged[index]) for index in range(len(runs))])
        capped_bin = self.baselines.observe(self.combos.group[runs.combo], runs, normal)
        for index, id in flagged.items():
            sums, day = runs.sums[index].tolist(), int(runs.times[index][2]) // DAY_MS
            true_bin = int(np.searchsorted(COST_EDGES, sums[COST], side="right"))
            model = self.combos.names[runs.combo[index]][3]
            self.verdicts.end(id, day, model, int(capped_bin[index]), true_bin, sums)

    def take_spent(self, bounded: Bounded) -> list[tuple[str, str, str, str, list[int]]]:
        """(team, model, provider, kind, counters) counted here since the last call: for metrics (models.spent)."""
        return self.spent.take(self.combos, bounded)

    @property
    def rows(self) -> int:
        """Rows of state: live sessions, panes and remembered identities."""
        return len(self.sessions) + len(self.panes) + len(self.dedupe)

    def take_delta(self, slice_number: int) -> dict:
        """What changed since the delta before, and one slice of all else (models.rolling): copied, for streams.state.

        Merged baselines are left out: whoever restores has them from their own topic, and newer.
        Cost: see loadtest.bench.checkpoints; the next delta builds on this one, so it must not get lost.
        """
        return {
            "version": STATE_VERSION,
            "partition": self.partition,
            "next_offset": self.next_offset,
            "watermark": self.watermark.value_ms,
            "dedupe": self.dedupe.take_delta(slice_number),
            "combos": self.combos.take_delta(slice_number),
            "sessions": self.sessions.take_delta(slice_number),
            "baselines": self.baselines.take_delta(slice_number),
            "panes": self.panes.take_delta(slice_number),
            "unit_price": self.unit_price.take_delta(),
            "extra": None if self.extra is None else self.extra.take_delta(slice_number),
            "transactions": None if self.transactions is None else self.transactions.take_delta(),
            "verdicts": self.verdicts.take_delta(slice_number),
        }

    @classmethod
    def restore(cls, config: EngineConfig, prices: PriceTable, deltas: Iterable[dict]) -> "UsageEngine":
        """The engine that ``deltas`` were taken from, in order: the last SLICES, or all since one of EVERYTHING.

        Raises ValueError for another state version, never misreads it. Give it the merged baselines next.
        """
        self = None
        for delta in deltas:
            if delta["version"] != STATE_VERSION:
                raise ValueError(
                    f"state of partition {delta['partition']} has version {delta['version']}, this program reads "
                    f"{STATE_VERSION}"
                )
            if self is None:
                self = cls(config, delta["partition"], prices)
            self.next_offset = delta["next_offset"]
            self.watermark.value_ms = delta["watermark"]
            for name in ("dedupe", "combos", "sessions", "baselines", "panes", "unit_price", "verdicts"):
                getattr(self, name).load_delta(delta[name])
            if self.extra is not None:
                if delta["extra"] is None:  # They were not asked for then: what came before has gaps.
                    self.extra = ExtraScopes(config)
                else:
                    self.extra.load_delta(delta["extra"])
            if self.transactions is not None and delta["transactions"] is not None:
                self.transactions.load_delta(delta["transactions"])
        if self is None:
            raise ValueError("no delta to restore from")
        self.baselines.rebuild()
        self.combos.rebuild(self.baselines.register)
        for part in (self.dedupe, self.sessions, self.panes, self.extra):
            if part is not None:
                part.rebuild()
        return self


def _columns(panes: Panes, keys: list[str]) -> PaneColumns:
    """What has changed since the last time; ``keys`` of the scopes, by number."""
    scope, start, size, sums = panes.columns(panes.take_dirty())
    used, place = np.unique(scope, return_inverse=True)
    return PaneColumns([keys[number] for number in used.tolist()], place.astype(np.int32), start, size, sums)
