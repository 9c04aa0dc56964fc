"""What rollup does with partials: merged windows, peer baselines, budgets, rate and cache findings.

A pure function of (state, partials, config, now): the worker, ``tenfold replay``, backtests and tests run this same
code. ``apply`` merges, ``advance`` publishes what changed and judges what the watermark has closed. ``now_ms``
decides only whether a source partition has gone silent and what is written into ``detection_time``; windows, rates
and budgets are judged by event time, so a replay comes to the same findings.

Give one engine all partials of its scopes. Causes need a team's or model's team_model windows in the same engine as
the team or model; those that are elsewhere appear as "other". ``config.budgets`` are those whose scope's windows come
here: an engine that gets other scopes' budgets reports them as unspent (BerriAI/litellm PR#7546: one owner a report).

Cost: see models.panes_merge. Called by streams.agents.rollup and streams.replay.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from models.baselines_merge import MergedBaselines
from models.budgets.monitor import BudgetMonitor
from models.cache_watch import CacheWatch
from models.config import BudgetConfig, EngineConfig
from models.economics.monitor import Economics
from models.economics.transactions import Transactions
from models.panes_merge import MergedPanes
from models.partials import unpacked
from models.rate_watch import RateWatch
from models.rolling import EVERYTHING
from models.sources import Sources
from models.spend import ChangedWindows
from models.transaction_reports import reports
from models.windows import NO_WATERMARK

STATE_VERSION = 12


@dataclass(slots=True)
class RollupOutputs:
    """Records ready to encode; a later revision of a key replaces an earlier one."""

    spend: ChangedWindows
    """WindowSpend, as columns"""
    budgets: list[dict] = field(default_factory=list)
    """BudgetStatus"""
    decisions: list[dict] = field(default_factory=list)
    """Decision"""
    shares: list[dict] = field(default_factory=list)
    """DayShares"""
    unit_costs: list[dict] = field(default_factory=list)
    """UnitCost"""
    baselines: list[dict] = field(default_factory=list)
    """Baseline"""
    findings: list[dict] = field(default_factory=list)
    """Finding"""


class RollupEngine:
    """State of one partials partition. Not thread-safe: one call at a time."""

    def __init__(self, config: EngineConfig):
        self.config = config
        self.sources = Sources(config.windows)
        self.panes = MergedPanes(config.windows)
        self.baselines = MergedBaselines(config.session_outlier)
        self.rates = RateWatch(config)
        self.caches = CacheWatch(config)
        self.budgets = BudgetMonitor(config)
        self.economics = Economics(config)

    @property
    def watermark_ms(self) -> int:
        """Event time up to which windows are closed; NO_WATERMARK before the first event."""
        return self.sources.value_ms

    def expect(self, source_partitions: int, now_ms: int) -> None:
        """Optional, after a start: windows wait until all these partitions have spoken or been silent for long."""
        self.sources.expect(source_partitions, now_ms)

    def apply(self, partials: dict, now_ms: int) -> None:
        """Merge one Partials dict; any number of repeats, in any order, changes nothing.

        Raises PartialsError, with nothing merged, for what cannot be partials.
        """
        transactions = partials.get("transactions") and reports(partials["transactions"])
        source, next_offset = partials["source_partition"], partials["next_offset"]
        rows, delta = self.panes.merge(source, next_offset, unpacked(partials["panes"]))
        self.sources.hear(source, next_offset, partials["watermark"], partials["idle"], now_ms)
        if self.budgets.kinds and len(rows):
            self._budget(rows, delta)
        if self.economics.active and len(rows):
            _, starts, sizes = self.panes.where(rows)
            self.economics.changed(starts, sizes)
        if transactions:
            self.economics.count(*transactions)
        self.baselines.merge(source, next_offset, partials["baselines"])

    def advance(self, now_ms: int) -> RollupOutputs:
        """Publish what changed and judge the windows that closed; call after ``apply`` and about once a second."""
        return self._publish(self.sources.advance(), now_ms)

    def set_budgets(self, budgets: tuple[BudgetConfig, ...]) -> None:
        """Other budgets from now on. New ones are filled from the windows kept; open findings of old ones end."""
        self.config = replace(self.config, budgets=budgets)
        self.budgets = BudgetMonitor.restore(self.config, self.budgets.snapshot(), self.panes)

    def finish(self, now_ms: int) -> RollupOutputs:
        """The input is over (replay): close the minute of the newest event too."""
        return self._publish(self.sources.finish(), now_ms)

    def feedback(self, feedback: Mapping) -> None:
        """Take one Feedback dict: what a person said about a finding, or about a scope; repeats change nothing."""
        self.rates.feedback(feedback)
        self.caches.feedback(feedback)

    def learner_score(self, team: str) -> float | None:
        """How unusual the team's latest closed window is, in [0, 1]; None if not learnt yet."""
        return self.rates.learner.score(team)

    def _publish(self, watermark_ms: int, now_ms: int) -> RollupOutputs:
        out = RollupOutputs(
            spend=self.panes.take_changed(watermark_ms), baselines=self.baselines.take_changed(watermark_ms)
        )
        if watermark_ms != NO_WATERMARK:
            out.findings += self.rates.advance(self.panes, watermark_ms, now_ms)
            out.findings += self.caches.advance(self.panes, watermark_ms, now_ms)
            out.budgets, findings = self.budgets.advance(watermark_ms, now_ms, self.learner_score)
            out.findings += findings
            out.decisions = self.budgets.decisions()
            economics = self.economics.advance(self.panes, watermark_ms, now_ms)
            out.shares, out.unit_costs = economics.shares, economics.unit_costs
            out.findings += economics.findings
            self.panes.expire(watermark_ms)
        return out

    def _budget(self, rows: np.ndarray, delta: np.ndarray) -> None:
        """Hand what was added to windows on to the budgets of their scopes."""
        scopes, kinds = self.panes.scopes, self.budgets.kinds
        number, start, size = self.panes.where(rows)
        used, place = np.unique(number, return_inverse=True)
        counts = np.array([scopes[scope].kind in kinds for scope in used.tolist()], np.bool_)[place]
        columns = (column[counts].tolist() for column in (number, start, size, delta))
        for scope, start_ms, size_ms, counters in zip(*columns, strict=True):
            self.budgets.add(scopes[scope], start_ms, size_ms, counters)

    @property
    def rows(self) -> int:
        """Rows of state: merged windows."""
        return len(self.panes)

    def take_delta(self, slice_number: int) -> dict:
        """What changed since the delta before, and one slice of all else (models.rolling): copied, for streams.state.

        Rates and learners change with every window that closes, all at once, so they are copied whole, and only then.
        The next delta builds on this one, so it must not get lost.
        """
        rates, caches = None, None
        if self.rates.changed or slice_number in (0, EVERYTHING):
            rates, self.rates.changed = self.rates.snapshot(), False
        if self.caches.changed or slice_number in (0, EVERYTHING):
            caches, self.caches.changed = self.caches.snapshot(), False
        transactions = self.economics.transactions
        return {
            "version": STATE_VERSION,
            "sources": self.sources.snapshot(),
            "panes": self.panes.take_delta(slice_number),
            "baselines": self.baselines.take_delta(slice_number),
            "rates": rates,
            "caches": caches,
            "budgets": self.budgets.snapshot(),
            "economics": self.economics.snapshot(),
            "transactions": None if transactions is None else transactions.take_delta(slice_number),
        }

    @classmethod
    def restore(cls, config: EngineConfig, deltas: Iterable[dict]) -> "RollupEngine":
        """The engine that ``deltas`` were taken from, in order: the last SLICES, or all since one of EVERYTHING.

        Raises ValueError for another state version. Settings may have changed since, as with ``set_budgets``.
        """
        self = cls(config)
        last, rates, caches = None, None, None
        transactions = Transactions() if config.unit_costs else None
        for delta in deltas:
            if delta["version"] != STATE_VERSION:
                raise ValueError(f"rollup state has version {delta['version']}, this program reads {STATE_VERSION}")
            self.panes.load_delta(delta["panes"])
            self.baselines.load_delta(delta["baselines"])
            if transactions is not None:
                if delta["transactions"] is None:  # They were not counted then: what came before has gaps.
                    transactions = Transactions()
                else:
                    transactions.load_delta(delta["transactions"])
            last, rates, caches = delta, delta["rates"] or rates, delta["caches"] or caches
        if last is None:
            raise ValueError("no delta to restore from")
        self.panes.rebuild()
        self.baselines.rebuild()
        self.sources = Sources.restore(config.windows, last["sources"])
        self.rates = RateWatch.restore(config, rates)
        self.rates.changed = False
        self.caches = CacheWatch.restore(config, caches)
        self.caches.changed = False
        self.budgets = BudgetMonitor.restore(config, last["budgets"], self.panes)
        if transactions is not None:
            transactions.rebuild()
        self.economics = Economics.restore(config, last["economics"], self.panes, transactions)
        return self
