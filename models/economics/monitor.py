"""All economics of one rollup partition: which parts are asked for, when they are told and when they judge.

Records are told about once a second of event or processing time; findings are judged after each whole hour of event
time, by the hours that are over, so a replay comes to the same ones. Everything is computed from the merged windows:
what is saved is only what was said. A part whose settings have changed resolves its open findings and tells its days
anew.

Guarantee: parts that no setting asks for cost nothing. Called by models.rollup only.
"""

from dataclasses import dataclass, field

import numpy as np

from models.config import HOUR_MS, MINUTE_MS, EngineConfig
from models.economics.advice import Advice
from models.economics.attribution import Attribution
from models.economics.episodes import no_longer_judged
from models.economics.model_mix import ModelMix
from models.economics.transactions import Transactions
from models.economics.unit_costs import UnitCosts
from models.panes_merge import MergedPanes
from models.windows import NO_WATERMARK

TELL_EVERY_MS = 5_000
"""Of processing time, while the minute of event time stays the same."""


@dataclass(slots=True)
class EconomicsOutputs:
    """Records ready to encode."""

    shares: list[dict] = field(default_factory=list)
    """DayShares"""
    unit_costs: list[dict] = field(default_factory=list)
    """UnitCost"""
    findings: list[dict] = field(default_factory=list)
    """Finding"""


class Economics:
    """The parts that settings ask for."""

    def __init__(self, config: EngineConfig, transactions: Transactions | None = None):
        self._retention_ms = config.windows.hour_retention_ms
        self._mix = ModelMix(config.policy) if config.policy.tiers else None
        self._attribution = Attribution(config.attribution) if config.attribution.min_percent else None
        advises = config.policy.self_host_tokens or config.policy.routes
        self._advice = Advice(config) if advises else None
        self.transactions = None
        if config.unit_costs:
            self.transactions = Transactions() if transactions is None else transactions
        self._units = {one.transaction_type: UnitCosts(one, self.transactions) for one in config.unit_costs}
        self._changed: set[int] = set()
        """Starts of the hours with windows that have changed since records were last told."""
        self._told: tuple[int, int] | None = None
        """Minute of the watermark and processing time of then."""
        self._judged_ms = NO_WATERMARK
        """End of the last hour judged."""
        self._parting: list[dict] = []
        """Findings as they were last told, to be resolved at the next ``advance``."""

    @property
    def active(self) -> bool:
        """Whether any part is asked for."""
        return bool(self._parts)

    def changed(self, starts: np.ndarray, sizes: np.ndarray) -> None:
        """Windows have changed."""
        self._changed.update(np.unique(starts[sizes == HOUR_MS]).tolist())

    def count(self, types: list[str], type_of: np.ndarray, hours: np.ndarray, ids: np.ndarray) -> None:
        """Take reports of transactions in (models.transaction_reports); repeats, in any order, change nothing."""
        if self.transactions is not None:
            self._changed |= self.transactions.merge(types, type_of, hours, ids)

    def advance(self, panes: MergedPanes, watermark_ms: int, now_ms: int) -> EconomicsOutputs:
        """What changed and what is found at this watermark."""
        out = EconomicsOutputs(findings=[no_longer_judged(told, now_ms) for told in self._parting])
        self._parting = []
        minute = watermark_ms // MINUTE_MS
        judges = watermark_ms // HOUR_MS * HOUR_MS > self._judged_ms
        if not judges and self._told and self._told[0] == minute and now_ms - self._told[1] < TELL_EVERY_MS:
            return out
        self._told = minute, now_ms
        for part in (*self._sharing, *self._units.values()):
            part.changed(sorted(self._changed))
        self._changed.clear()
        if judges:
            out.findings += self._judge(panes, watermark_ms, now_ms)
        for part in self._sharing:
            out.shares += part.records(panes, watermark_ms)
            part.expire(watermark_ms - self._retention_ms)
        for part in self._units.values():
            out.unit_costs += part.records(panes, watermark_ms)
            part.expire(watermark_ms - self._retention_ms)
        if judges and self.transactions is not None:
            self.transactions.expire(watermark_ms, watermark_ms - self._retention_ms)
        return out

    @property
    def _sharing(self) -> list:
        return [part for part in (self._mix, self._attribution) if part is not None]

    def _judge(self, panes: MergedPanes, watermark_ms: int, now_ms: int) -> list[dict]:
        last = watermark_ms // HOUR_MS * HOUR_MS
        first = last
        if self._judged_ms != NO_WATERMARK:
            first = max(self._judged_ms + HOUR_MS, last - self._retention_ms)
        findings = []
        for hour_end in range(first, last + 1, HOUR_MS):
            for part in self._parts.values():
                findings += part.judge(panes, hour_end, now_ms)
        self._judged_ms = last
        return findings

    @property
    def _parts(self) -> dict:
        """By the name they are saved under."""
        parts = {"mix": self._mix, "attribution": self._attribution, "advice": self._advice}
        parts |= {f"unit_cost:{name}": part for name, part in self._units.items()}
        return {name: part for name, part in parts.items() if part is not None}

    def snapshot(self) -> dict:
        return {
            "parts": {
                name: {
                    "settings": repr(part.config),
                    "days": None if part is self._advice else part.days.snapshot(),
                    "episodes": {detector: episodes.snapshot() for detector, episodes in part.episodes.items()},
                }
                for name, part in self._parts.items()
            },
            "attribution_since_ms": self._attribution.since_ms if self._attribution else None,
            "changed": sorted(self._changed),
            "judged_ms": self._judged_ms,
            "parting": self._parting,
        }

    @classmethod
    def restore(
        cls, config: EngineConfig, snapshot: dict, panes: MergedPanes, transactions: Transactions | None
    ) -> "Economics":
        """As it was; a part whose settings have changed starts anew, from the windows that are kept."""
        self = cls(config, transactions)
        self._changed, self._judged_ms = set(snapshot["changed"]), snapshot["judged_ms"]
        self._parting = list(snapshot["parting"])
        if self._attribution is not None:
            since = snapshot["attribution_since_ms"]
            self._attribution.since_ms = self._judged_ms + HOUR_MS if since is None else since
        same = set()
        for name, saved in snapshot["parts"].items():
            part = self._parts.get(name)
            if part is None or repr(part.config) != saved["settings"]:
                self._parting += [told for episodes in saved["episodes"].values() for _, told in episodes]
                continue
            same.add(name)
            for detector, episodes in saved["episodes"].items():
                part.episodes[detector].load(episodes)
            if part is not self._advice:
                part.days.load(saved["days"])
        for name, part in self._parts.items():
            if name not in same and part is not self._advice:
                part.changed(panes.starts(HOUR_MS))
        return self
