"""How a day's spend on models divides between tiers, against the share that each should have.

Of the spend on models only: tools and people have no tier. A model that no tier names is in ``(other)``, whose share
should be nothing. A tier is over when its share is ``tolerance_points`` above its own; the first and cheapest may
have as much as it likes. Days with less than ``min_day_nano_usd`` on models are not judged. Called by
models.economics.monitor only.
"""

from fnmatch import fnmatchcase

import numpy as np

from models.budgets.calendar import Period
from models.config import HOUR_MS, PolicyConfig
from models.counters import COST, ESTIMATED
from models.economics.episodes import Episodes, Verdict, day_finding
from models.economics.hours import NO_CLASS, HourSums, scope_totals
from models.economics.pace import days_before, expected_volume
from models.economics.records import DayRecords, day_shares
from models.explain import by_share, part
from models.findings import percent
from models.money import format_usd
from models.panes_merge import MergedPanes
from models.scopes import Scope

NAME = "model_mix"
OTHER = "(other)"
CLEAR_SHARE = 0.8
"""Of the tolerance: a tier that is over is back when it is no further over than that."""
MAX_CAUSES = 5


class ModelMix:
    """The tiers of one policy."""

    def __init__(self, config: PolicyConfig):
        self.config = config
        self.days = DayRecords(config.timezone)
        self.episodes = {NAME: Episodes(NAME)}
        self._names = [*(tier.name for tier in config.tiers), OTHER]
        self._shares = [*(tier.share_percent / 100 for tier in config.tiers), 0.0]
        self._sums = HourSums(len(self._names), self._tier)

    def _tier(self, scope: Scope) -> int:
        if scope.kind != "model" or not scope.model:
            return NO_CLASS
        tiers = self.config.tiers
        return next((at for at, tier in enumerate(tiers) if matches(scope.model, tier.models)), len(tiers))

    def changed(self, starts: list[int]) -> None:
        self._sums.changed(starts)
        self.days.changed(starts)

    def records(self, panes: MergedPanes, watermark_ms: int) -> list[dict]:
        """DayShares dicts that changed."""
        records = []
        for due in self.days.take_due(watermark_ms):
            sums = self._sums.day(panes, due.period)
            parts = zip(self._names, sums[:, COST].tolist(), self._shares, strict=True)
            records.append(day_shares(NAME, due, parts, int(sums[:, ESTIMATED].sum()), watermark_ms))
        return records

    def judge(self, panes: MergedPanes, hour_end_ms: int, now_ms: int) -> list[dict]:
        """Finding dicts after the hour that ends at ``hour_end_ms``."""
        period = self.days.period(hour_end_ms - HOUR_MS)
        costs = self._sums.day(panes, period, hour_end_ms)[:, COST]
        total, closing = int(costs.sum()), hour_end_ms >= period.end_ms
        volume = self._volume(panes, period, total, 1.0 if closing else period.gone(hour_end_ms))
        findings = []
        for at, (name, share) in enumerate(zip(self._names, self._shares, strict=True)):
            if at == 0 and self.config.tiers:
                continue
            cost = int(costs[at])
            over = cost / volume - share if volume else 0.0
            verdict = Verdict.BETWEEN
            if total >= self.config.min_day_nano_usd and over > self.config.tolerance_points / 100:
                verdict = Verdict.BROKEN
            elif closing and (
                total < self.config.min_day_nano_usd or over <= CLEAR_SHARE * self.config.tolerance_points / 100
            ):
                verdict = Verdict.KEPT
            findings += self.episodes[NAME].judge(
                name,
                verdict,
                lambda status, at=at: self._finding(panes, period, at, costs, status, hour_end_ms, now_ms),
                hour_end_ms,
                always=closing,
            )
        return findings

    def expire(self, oldest_ms: int) -> None:
        self._sums.expire(oldest_ms)
        self.days.expire(oldest_ms)

    def _volume(self, panes: MergedPanes, period: Period, so_far: int, gone: float) -> float:
        past = []
        if gone < 1:
            past = [int(self._sums.day(panes, day)[:, COST].sum()) for day in days_before(period, self.days.period)]
        return expected_volume(so_far, past, gone)

    def _finding(
        self, panes: MergedPanes, period: Period, at: int, costs: np.ndarray, status: str, end_ms: int, now_ms: int
    ) -> dict:
        name, share, cost, total = self._names[at], self._shares[at], int(costs[at]), int(costs.sum())
        expected = round(share * total)
        so_far = "" if end_ms >= period.end_ms else " so far"
        cause = self._cause(panes, period, at, end_ms, cost - expected)
        reason = (
            f"{_called(name)} had {percent(cost / max(total, 1), 1)} of what models cost on {period.id}{so_far}, "
            f"{format_usd(cost)} of {format_usd(total)}; the policy is {percent(share)}"
        )
        if status == "resolved":
            reason += "; that is within the policy again"
        elif cause:
            reason += f"; most of it is {cause[0]['name']}"
        return day_finding(
            period,
            end_ms,
            now_ms,
            detector=NAME,
            status=status,
            scope_kind="organisation",
            scope_name=name,
            observed_nano_usd=cost,
            expected_nano_usd=expected,
            score=100 * (cost / total - share) if total else 0.0,
            reason=reason + ".",
            cause=cause,
            details={
                "day": period.id,
                "tier": name,
                "share_percent": f"{100 * cost / max(total, 1):.2f}",
                "target_percent": f"{100 * share:g}",
                "tolerance_points": f"{self.config.tolerance_points:g}",
            },
        )

    def _cause(self, panes: MergedPanes, period: Period, at: int, end_ms: int, excess: int) -> list[dict]:
        models = scope_totals(panes, period, "model", end_ms)
        costs = {scope.model: counters[COST] for scope, counters in models if self._tier(scope) == at}
        return largest(by_share("model", excess, costs))


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a name fits one of the patterns, without case.

    >>> matches("GPT-5-mini", ("claude-haiku-*", "*-mini"))
    True
    """
    return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)


def largest(parts: list[dict]) -> list[dict]:
    """The largest contributions, and what the others come to together; the sum stays the same."""
    if len(parts) <= MAX_CAUSES + 1:
        return parts
    rest = sum(one["excess_nano_usd"] for one in parts[MAX_CAUSES:])
    return [*parts[:MAX_CAUSES], part(parts[0]["dimension"], "other", rest)]


def _called(name: str) -> str:
    return "Models that no tier names" if name == OTHER else f"Tier {name}"
