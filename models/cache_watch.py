"""Runs cache_share over closed windows of each team's use of a model, and words its findings.

Guarantee: every window is judged once, by event time (models.watched). Keys with enough calls a minute are judged by
minutes; the others by hours, which may open only while the minutes have not learnt what is usual. An incident is one
finding: opened, updated whenever its extra cost has doubled, resolved with the total. Contributions (input, cache
reads, cache writes) add up to the extra cost to the nano-dollar.

Called by models.rollup only.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from models.config import HOUR_MS, MINUTE_MS, EngineConfig
from models.detectors.cache_share import (
    LAST_LOW_MS,
    PARTS,
    RUN_COST,
    RUN_EXTRA,
    RUN_READ,
    RUN_START_MS,
    RUN_USUAL,
    USUAL_WEIGHTS,
    WINDOWS,
    CacheShare,
    Judgement,
    empty,
)
from models.findings import finding_id, make_finding
from models.money import format_usd
from models.panes_merge import MergedPanes
from models.pricing.list_price import ListPrices
from models.rate_watch import HALF_CONFIDENCE_WINDOWS, length_in_words, utc_time
from models.scopes import Scope
from models.verdicts import Verdicts
from models.watched import Watched

NAME = "cache_share"


@dataclass(slots=True)
class Incident:
    """What people have heard of an open one; what it has come to is in the detector's state."""

    revision: int = 1
    reported_nano_usd: int = 0


class _Watch(Watched):
    """The keys of one window size."""

    def __init__(self, shares: CacheShare):
        super().__init__(shares, ("team_model",), shares.window_ms)
        self.shares = shares
        self.incidents: dict[Scope, Incident] = {}

    def totals(
        self, panes: MergedPanes, start_ms: int, weights: Callable[[str, int], tuple[float, float, float]]
    ) -> np.ndarray:
        """int64[n, 8] counters of the window at ``start_ms`` for all keys, new ones included: with ``weights``."""
        numbers, totals = panes.window(start_ms, self.size_ms)
        rows = self.rows_of(panes, numbers)
        new = self.keys[len(self.shares) :]
        self.shares.add(len(new), [weights(scope.model, start_ms) for scope in new])
        found = empty(len(self.keys))
        found[rows[rows >= 0]] = totals[rows >= 0]
        return found

    def snapshot(self) -> dict:
        return {
            **super().snapshot(),
            "incidents": [[list(key), asdict(incident)] for key, incident in self.incidents.items()],
            "shares": self.shares.snapshot(),
        }

    @classmethod
    def restore(cls, shares: CacheShare, snapshot: dict) -> "_Watch":
        self = cls(shares)
        self.load(snapshot)
        self.incidents = {Scope(*key): Incident(**incident) for key, incident in snapshot["incidents"]}
        return self


class CacheWatch:
    """Minutes and hours."""

    def __init__(self, config: EngineConfig):
        self.config = config
        self.verdicts = Verdicts(NAME)
        self._prices = ListPrices(config.prices)
        self._minute = _Watch(CacheShare(config.cache_share, MINUTE_MS))
        self._hour = _Watch(CacheShare(config.cache_share, HOUR_MS))
        self.changed = True
        """Since somebody set this to False: nothing does between the windows that close."""

    def advance(self, panes: MergedPanes, watermark_ms: int, now_ms: int) -> list[dict]:
        """Findings of the windows that the watermark has closed since the last call."""
        findings = []
        for watch in (self._minute, self._hour):
            calm = watch.shares.calm()
            for start_ms in watch.closed(panes, watermark_ms):
                # Months without usage would else take minutes.
                if panes.any(start_ms, watch.size_ms) or not calm:
                    findings += self._judge(watch, panes, start_ms, now_ms)
                    calm = watch.shares.calm()
                watch.next_ms = start_ms + watch.size_ms
                if watch.next_ms % HOUR_MS == 0:
                    watch.forget(watch.shares.silent(watch.next_ms))
                self.changed = True
        return findings

    def feedback(self, feedback: Mapping) -> None:
        """What a person said (``schemas/feedback.avsc``); any number of repeats, in any order, changes nothing."""
        self.changed = True
        verdict = self.verdicts.take(feedback)
        if verdict is None:
            return
        size_ms, scope, steps = verdict
        watch = self._minute if size_ms == MINUTE_MS else self._hour
        if scope in watch.rows:
            watch.shares.verdict(watch.rows[scope], steps)

    def _judge(self, watch: _Watch, panes: MergedPanes, start_ms: int, now_ms: int) -> list[dict]:
        totals = watch.totals(panes, start_ms, self._weights)
        if not len(totals):
            return []
        judged = watch.shares.judge(totals, start_ms)
        planned = self.verdicts.planned(start_ms)
        findings = []
        for row in np.flatnonzero(judged.open | judged.closing).tolist():
            scope = watch.keys[row]
            if scope not in watch.incidents:
                wanted = f"{scope.kind}:{scope.label}" not in planned and self._eligible(watch, scope)
                if not judged.opening[row] or not wanted:
                    continue
            finding = self._follow(watch, scope, row, judged, now_ms)
            if finding is not None:
                findings.append(finding)
        return findings

    def _weights(self, model: str, at_ms: int) -> tuple[float, float, float]:
        """What a read, a write and an output token cost against an input token, by the list at this time."""
        prices = self._prices.pico_usd(model, at_ms)
        if prices is None or prices[0] <= 0:
            return USUAL_WEIGHTS
        return tuple(price / prices[0] for price in prices[1:])

    def _eligible(self, watch: _Watch, scope: Scope) -> bool:
        if watch is self._minute:
            return True
        row = self._minute.rows.get(scope)
        return row is None or self._minute.shares.counts[row, WINDOWS] < self.config.cache_share.warm_up_windows

    def _follow(self, watch: _Watch, scope: Scope, row: int, judged: Judgement, now_ms: int) -> dict | None:
        """Move one incident on by one window; its finding if people should hear of it."""
        values, counts = watch.shares.values[row].tolist(), watch.shares.counts[row].tolist()
        parts = [(name, round(part)) for name, part in zip(PARTS, values[RUN_EXTRA], strict=True)]
        spent, extra = round(values[RUN_COST]), sum(part for _, part in parts)
        incident = watch.incidents.get(scope)
        if incident is None:
            incident = watch.incidents[scope] = Incident()
            status = "open"
        elif judged.closing[row]:
            del watch.incidents[scope]
            status = "resolved"
        elif judged.low[row] and extra >= 2 * incident.reported_nano_usd:
            status = "updated"
        else:
            return None
        incident.revision += status != "open"
        incident.reported_nano_usd = extra
        begun_ms, end_ms, windows = counts[RUN_START_MS], counts[LAST_LOW_MS] + watch.size_ms, int(judged.windows[row])
        id = finding_id(NAME, scope.key, begun_ms, watch.size_ms)
        self.verdicts.remember(id, watch.size_ms, scope)
        return make_finding(
            id=id,
            revision=incident.revision,
            status=status,
            detector=NAME,
            severity="warning",
            scope_kind=scope.kind,
            scope_name=scope.label,
            team=scope.team,
            model=scope.model,
            window_start=begun_ms,
            window_ms=end_ms - begun_ms,
            observed_nano_usd=spent,
            expected_nano_usd=spent - extra,
            score=values[RUN_USUAL] / max(values[RUN_READ], 0.01),
            confidence=windows / (windows + HALF_CONFIDENCE_WINDOWS),
            baseline_size=windows,
            first_event_time=begun_ms,
            last_event_time=end_ms - 1,
            detection_time=now_ms,
            reason=_reason(scope, status, values[RUN_READ], values[RUN_USUAL], spent, extra, begun_ms, end_ms),
            cause=[{"dimension": "mix", "name": name, "excess_nano_usd": part} for name, part in parts if part],
            details={
                "cache_share": f"{values[RUN_READ]:.4f}",
                "usual_cache_share": f"{values[RUN_USUAL]:.4f}",
                "judged_window_ms": str(watch.size_ms),
            },
        )

    def snapshot(self) -> dict:
        return {
            "minute": self._minute.snapshot(),
            "hour": self._hour.snapshot(),
            "verdicts": self.verdicts.snapshot(),
        }

    @classmethod
    def restore(cls, config: EngineConfig, snapshot: dict) -> "CacheWatch":
        self = cls(config)
        self.verdicts.load(snapshot["verdicts"])
        for name in ("minute", "hour"):
            watch = getattr(self, f"_{name}")
            shares = CacheShare.restore(config.cache_share, watch.size_ms, snapshot[name]["shares"])
            setattr(self, f"_{name}", _Watch.restore(shares, snapshot[name]))
        return self


def _reason(
    scope: Scope, status: str, read: float, usual: float, spent: int, extra: int, begun_ms: int, end_ms: int
) -> str:
    who = f"{scope.team or 'An unnamed team'}'s use of {scope.model or 'an unnamed model'}"
    when = f"in the {length_in_words(end_ms - begun_ms)} from {utc_time(begun_ms)}"
    shares = f"{read:.0%} of its prompts from the cache where {usual:.0%} is usual"
    money = f"{when} that cost about {format_usd(extra)} more, of {format_usd(spent)}"
    if status == "resolved":
        return f"{who} no longer reads only {shares}; {money}."
    return f"{who} reads {shares}; {money}."
