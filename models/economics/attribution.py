"""How much of a day's spend is known by team and use case.

Nothing is dropped for being unattributed: it is counted under the empty name, and here it is added up by what is
missing. ``attributed`` is all spend (the windows of all teams, the nameless one among them) less what lacks a team, a
use case or both. A finding says when it is less than ``min_percent``, and which teams' use cases, and whose teams, are
unknown. Called by models.economics.monitor only.
"""

from models.budgets.calendar import Period
from models.config import HOUR_MS, AttributionConfig
from models.counters import COST, ESTIMATED
from models.economics.episodes import Episodes, Verdict, day_finding
from models.economics.hours import NO_CLASS, HourSums, scope_totals
from models.economics.model_mix import largest
from models.economics.pace import days_before, expected_volume
from models.economics.records import DayRecords, day_shares
from models.explain import by_share
from models.findings import percent
from models.money import format_usd
from models.panes_merge import MergedPanes
from models.scopes import Scope
from models.windows import NO_WATERMARK

NAME = "attribution"
PARTS = ("attributed", "no_team", "no_use_case", "neither")
"""The first class holds all spend until the others are taken off."""


class Attribution:
    """All spend of one rollup partition."""

    def __init__(self, config: AttributionConfig):
        self.config = config
        self.days = DayRecords(config.timezone)
        self.episodes = {NAME: Episodes(NAME)}
        self.since_ms = NO_WATERMARK
        """Days that began before are not told: what lacks a team or use case was not kept apart."""
        self._sums = HourSums(len(PARTS), _class)

    def changed(self, starts: list[int]) -> None:
        self._sums.changed(starts)
        self.days.changed(start for start in starts if self.days.period(start).start_ms >= self.since_ms)

    def records(self, panes: MergedPanes, watermark_ms: int) -> list[dict]:
        """DayShares dicts that changed."""
        targets = (self.config.min_percent / 100, None, None, None)
        records = []
        for due in self.days.take_due(watermark_ms):
            parts = zip(PARTS, self._costs(panes, due.period), targets, strict=True)
            estimated = int(self._sums.day(panes, due.period)[0, ESTIMATED])
            records.append(day_shares(NAME, due, parts, estimated, watermark_ms))
        return records

    def judge(self, panes: MergedPanes, hour_end_ms: int, now_ms: int) -> list[dict]:
        """Finding dicts after the hour that ends at ``hour_end_ms``."""
        period = self.days.period(hour_end_ms - HOUR_MS)
        if period.start_ms < self.since_ms:
            return []
        costs, closing = self._costs(panes, period, hour_end_ms), hour_end_ms >= period.end_ms
        total, unknown = sum(costs), sum(costs[1:])
        past = [] if closing else [sum(self._costs(panes, day)) for day in days_before(period, self.days.period)]
        volume = expected_volume(total, past, 1.0 if closing else period.gone(hour_end_ms))
        allowed = 1 - self.config.min_percent / 100
        verdict = Verdict.BETWEEN
        if (
            total >= self.config.min_day_nano_usd
            and unknown > (allowed + self.config.margin_points / 100) * volume
            and unknown > allowed * total
        ):
            verdict = Verdict.BROKEN
        elif closing and (total < self.config.min_day_nano_usd or unknown <= allowed * total):
            verdict = Verdict.KEPT
        return self.episodes[NAME].judge(
            NAME,
            verdict,
            lambda status: self._finding(panes, period, costs, status, hour_end_ms, now_ms),
            hour_end_ms,
            always=closing,
        )

    def expire(self, oldest_ms: int) -> None:
        self._sums.expire(oldest_ms)
        self.days.expire(oldest_ms)

    def _costs(self, panes: MergedPanes, period: Period, until_ms: int | None = None) -> list[int]:
        """nano-USD by PARTS."""
        everything, *lacking = self._sums.day(panes, period, until_ms)[:, COST].tolist()
        return [everything - sum(lacking), *lacking]

    def _finding(
        self, panes: MergedPanes, period: Period, costs: list[int], status: str, end_ms: int, now_ms: int
    ) -> dict:
        total, unknown = sum(costs), sum(costs[1:])
        allowed = round((1 - self.config.min_percent / 100) * total)
        so_far = "" if end_ms >= period.end_ms else " so far"
        lacking = [
            (_lacks(scope), counters[COST]) for scope, counters in scope_totals(panes, period, "unattributed", end_ms)
        ]
        cause = largest(by_share("team", unknown - allowed, dict(lacking)))
        share = f"{percent(costs[0] / max(total, 1), 1)} of {format_usd(total)} on {period.id}{so_far}"
        reason = f"Team and use case are known for {share}; at least {self.config.min_percent:g} % should be"
        if status == "resolved":
            reason += ", and is again"
        else:
            reason += f". Without them are {format_usd(unknown)}, most of it {cause[0]['name']}"
        return day_finding(
            period,
            end_ms,
            now_ms,
            detector=NAME,
            status=status,
            scope_kind="organisation",
            scope_name="unattributed",
            observed_nano_usd=unknown,
            expected_nano_usd=allowed,
            score=100 * unknown / max(total, 1),
            reason=reason + ".",
            cause=cause,
            details={
                "day": period.id,
                "attributed_percent": f"{100 * costs[0] / max(total, 1):.2f}",
                "min_percent": f"{self.config.min_percent:g}",
                **{f"{name}_nano_usd": str(cost) for name, cost in zip(PARTS, costs, strict=True)},
            },
        )


def _class(scope: Scope) -> int:
    if scope.kind == "team":
        return 0
    if scope.kind != "unattributed":
        return NO_CLASS
    return 2 if scope.team else 1 if scope.use_case else 3


def _lacks(scope: Scope) -> str:
    if scope.team:
        return f"{scope.team} without a use case"
    return f"{scope.use_case} without a team" if scope.use_case else "usage without either"
