"""Budgets in their months: milestones, burn rates and when the money will be gone.

Guarantee: what a budget has spent is the sum of its team's hour windows whose event time is in the month, in the
budget's own time zone; late usage counts in the month it happened in, and in a month that is over it is reported as
an adjustment, never as a page. In zones that are not on a whole hour of UTC, the one hour a month that both months
share is divided by its minute windows; usage later than minute windows are kept counts in the month that hour began
in. Every budget is evaluated, the team seen or not, and each finding names its budget and period.

Milestones are looked at with every ``advance``, burn rates once for every minute of event time, never by a clock, so
a replay comes to the same burn findings. A burn is one finding from opening to resolution: "page" while the fast or
medium pair fires (critical), "ticket" while the slow one does (warning).

Cost: some 0.2 ms a budget and minute, 8 hours of minutes and 4 days of hours per team. Called by models.rollup only.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np

from models.budgets.burn import Pair, PairState, pairs
from models.budgets.calendar import Period, period_of
from models.budgets.findings import burn_finding, milestone_finding
from models.budgets.month import Month
from models.budgets.series import SpendSeries, Trailing
from models.config import DAY_MS, HOUR_MS, MINUTE_MS, BudgetConfig, EngineConfig
from models.panes_merge import MergedPanes
from models.windows import NO_WATERMARK

MAX_CATCH_UP = 2_000
"""Minutes evaluated at most after a gap."""
LearnerScore = Callable[[str], float | None]


@dataclass(slots=True)
class Incident:
    """An open burn finding."""

    opened_ms: int
    period_id: str
    revision: int = 1


@dataclass(slots=True)
class _Burn:
    """Burn of one budget at the latest evaluated minute."""

    states: dict[str, PairState] = field(default_factory=dict)
    incidents: dict[str, Incident] = field(default_factory=dict)
    rates: list[dict] = field(default_factory=list)
    """BurnRate dicts, fast to slow."""
    nano_usd_per_ms: float = 0.0
    """Over the fast pair's long window: an hour, give or take two minutes."""

    def snapshot(self) -> dict:
        """Plain values; ``rates`` is the list itself, which is replaced and never changed."""
        return {
            "states": {name: [state.firing, state.calm] for name, state in self.states.items()},
            "incidents": {kind: asdict(incident) for kind, incident in self.incidents.items()},
            "rates": self.rates,
            "nano_usd_per_ms": self.nano_usd_per_ms,
        }


@dataclass(frozen=True, slots=True)
class _Window:
    """One pair at the minutes of one call; arrays of length k."""

    pair: Pair
    nano_usd: np.ndarray
    """int64: spend of the long window"""
    length_ms: np.ndarray
    """int64: true length of the long window"""
    long_burn: np.ndarray
    short_burn: np.ndarray

    @classmethod
    def of(cls, pair: Pair, budget: BudgetConfig, period: Period, trailing: Trailing, ends: np.ndarray) -> "_Window":
        even = budget.limit_nano_usd / period.length_ms
        nano_usd, length_ms = trailing.spent(ends, pair.long_ms)
        short_nano_usd, short_ms = trailing.spent(ends, pair.short_ms)
        return cls(pair, nano_usd, length_ms, nano_usd / length_ms / even, short_nano_usd / short_ms / even)

    @property
    def exceeds(self) -> np.ndarray:
        """bool[k]: both windows over the factor."""
        return (self.long_burn > self.pair.factor) & (self.short_burn > self.pair.factor)

    def rate(self, i: int, firing: bool) -> dict:
        """BurnRate dict of one minute."""
        return {
            "long_ms": self.pair.long_ms,
            "short_ms": self.pair.short_ms,
            "factor": self.pair.factor,
            "long_burn": float(self.long_burn[i]),
            "short_burn": float(self.short_burn[i]),
            "firing": firing,
        }


class BudgetMonitor:
    """All budgets of one rollup partition."""

    def __init__(self, config: EngineConfig):
        self._retention_ms = config.windows.hour_retention_ms
        self._budgets = {budget.name: budget for budget in config.budgets}
        self.teams: dict[str, list[BudgetConfig]] = {}
        for budget in self._budgets.values():
            self.teams.setdefault(budget.team, []).append(budget)
        self._series = {team: SpendSeries() for team in self.teams}
        self._months: dict[str, dict[str, Month]] = {name: {} for name in self._budgets}
        self._burns = {name: _Burn() for name in self._budgets}
        self._evaluated_ms: int | None = None
        self._watermark_ms = NO_WATERMARK
        """Of the last ``advance``: usage that comes for a month which was over then is late."""

    def add(self, team: str, start_ms: int, size_ms: int, nano_usd: int, estimated_nano_usd: int) -> None:
        """Spend added to one window of a team that has budgets."""
        self._series[team].add(start_ms, size_ms, nano_usd)
        for budget in self.teams[team]:
            self._count(budget, start_ms, size_ms, nano_usd, estimated_nano_usd)

    def advance(
        self, watermark_ms: int, now_ms: int, learner_score: LearnerScore = lambda team: None
    ) -> tuple[list[dict], list[dict]]:
        """(BudgetStatus dicts that changed, Finding dicts) at this watermark."""
        findings = self._evaluate(watermark_ms, now_ms)
        statuses = []
        for name, budget in self._budgets.items():
            self._month(budget, watermark_ms)
            for period_id in sorted(self._months[name]):
                month = self._months[name][period_id]
                if month.period.end_ms <= watermark_ms - self._retention_ms:
                    del self._months[name][period_id]
                    continue
                findings += self._milestones(budget, month, watermark_ms, now_ms)
                statuses += self._status(budget, month, watermark_ms)
        for finding in findings:
            finding["learner_score"] = learner_score(finding["team"])
        for series in self._series.values():
            series.expire(watermark_ms)
        self._watermark_ms = watermark_ms
        return statuses, findings

    def _month(self, budget: BudgetConfig, time_ms: int) -> Month:
        period = period_of(time_ms, budget.timezone)
        months = self._months[budget.name]
        if period.id not in months:
            months[period.id] = Month(period, budget.limit_nano_usd)
        return months[period.id]

    def _count(self, budget: BudgetConfig, start_ms: int, size_ms: int, nano_usd: int, estimated: int) -> None:
        """Hours count in the month they begin in; minutes of the month's first hour move there if they must."""
        month = self._month(budget, start_ms)
        if size_ms == HOUR_MS:
            month.spent += nano_usd
            month.estimated += estimated
        elif size_ms == MINUTE_MS:
            of_hour = self._month(budget, start_ms - start_ms % HOUR_MS)
            if of_hour is not month:
                of_hour.spent -= nano_usd
                of_hour.estimated -= estimated
                month.spent += nano_usd
                month.estimated += estimated

    def _evaluate(self, watermark_ms: int, now_ms: int) -> list[dict]:
        """Burn rates for every minute of event time since the last call."""
        last = watermark_ms // MINUTE_MS * MINUTE_MS
        if self._evaluated_ms is None:
            starts = [start for series in self._series.values() for start in series.minutes]
            self._evaluated_ms = min(min(starts, default=last), last - MINUTE_MS)
        first = max(self._evaluated_ms, last - MAX_CATCH_UP * MINUTE_MS) + MINUTE_MS
        if first > last:
            return []
        findings = []
        ends = np.arange(first, last + 1, MINUTE_MS, dtype=np.int64)
        trailing = {team: Trailing(series, first, last) for team, series in self._series.items()}
        for budget in self._budgets.values():
            at = 0
            while at < len(ends):
                period = period_of(int(ends[at]), budget.timezone)
                after = int(np.searchsorted(ends, period.end_ms))
                findings += self._burn(budget, period, trailing[budget.team], ends[at:after], now_ms)
                at = after
        self._evaluated_ms = last
        return sorted(findings, key=lambda finding: finding["last_event_time"])

    def _burn(
        self, budget: BudgetConfig, period: Period, trailing: Trailing, ends: np.ndarray, now_ms: int
    ) -> list[dict]:
        """Burn rates at the minutes ``ends`` int64[k] of one month; the state is that of the last one."""
        burn = self._burns[budget.name]
        windows = [_Window.of(pair, budget, period, trailing, ends) for pair in pairs(period.length_ms)]
        states = [burn.states.setdefault(window.pair.name, PairState()) for window in windows]
        quiet = not any(state.firing for state in states) and not any(window.exceeds.any() for window in windows)
        findings = []
        # A month of replay has 43,200 minutes, of which most cannot change anything.
        for i in [len(ends) - 1] if quiet else range(len(ends)):
            findings += self._evaluate_minute(budget, period, windows, states, i, int(ends[i]), now_ms)
        burn.rates = [window.rate(-1, state.firing) for window, state in zip(windows, states, strict=True)]
        burn.nano_usd_per_ms = float(windows[0].nano_usd[-1] / windows[0].length_ms[-1])
        return findings

    def _evaluate_minute(
        self,
        budget: BudgetConfig,
        period: Period,
        windows: list["_Window"],
        states: list[PairState],
        i: int,
        end_ms: int,
        now_ms: int,
    ) -> list[dict]:
        months = self._months[budget.name]
        spent = months[period.id].spent if period.id in months else 0
        for window, state in zip(windows, states, strict=True):
            nano_usd = int(window.nano_usd[i])
            rate = nano_usd / int(window.length_ms[i])
            overrun = spent + rate * (period.end_ms - end_ms) > budget.limit_nano_usd
            state.evaluate(window.pair, float(window.long_burn[i]), float(window.short_burn[i]), nano_usd, overrun)
        findings = []
        incidents = self._burns[budget.name].incidents
        for kind, members in (("page", (0, 1)), ("ticket", (2,))):
            firing = [member for member in members if states[member].firing]
            incident = incidents.get(kind)
            if bool(firing) == (incident is not None):
                continue
            if incident is None:
                incident = incidents[kind] = Incident(end_ms, period.id)
            else:
                incident.revision += 1
                del incidents[kind]
            window = windows[firing[0] if firing else members[0]]
            fast = float(windows[0].nano_usd[i] / windows[0].length_ms[i])
            findings.append(
                burn_finding(
                    budget=budget,
                    period=period,
                    kind=kind,
                    status="open" if firing else "resolved",
                    opened_ms=incident.opened_ms,
                    opened_period=incident.period_id,
                    revision=incident.revision,
                    pair=window.pair,
                    rate=window.rate(i, bool(firing)),
                    spent_nano_usd=spent,
                    window_nano_usd=int(window.nano_usd[i]),
                    window_ms=int(window.length_ms[i]),
                    end_ms=end_ms,
                    exhaustion_ms=_exhaustion(budget, period, spent, fast, end_ms),
                    now_ms=now_ms,
                )
            )
        return findings

    def _milestones(self, budget: BudgetConfig, month: Month, watermark_ms: int, now_ms: int) -> list[dict]:
        if month.period.start_ms > watermark_ms + DAY_MS:
            return []  # a producer whose clock is ahead: the month is not yet anybody's concern
        findings = []

        def report(level: int, status: str, why: str, skipped: list[int]) -> None:
            milestone = month.levels[level]
            milestone.revision += 1
            findings.append(
                milestone_finding(
                    budget=budget,
                    month=month,
                    level=level,
                    status=status,
                    why=why,
                    skipped=skipped,
                    exhaustion_ms=self._projection(budget, month, watermark_ms),
                    watermark_ms=watermark_ms,
                    now_ms=now_ms,
                )
            )

        for level in month.rearm(budget):
            report(level, "resolved", "limit_raised", [])
        crossed = month.cross(budget)
        if month.exhausted_ms is None and month.reached(100):
            month.exhausted_ms = min(watermark_ms, month.period.end_ms - 1)
        late = self._watermark_ms >= month.period.end_ms
        if crossed:
            report(crossed[-1], "open", "late_usage" if late else "reached", crossed[:-1])
        if not month.ended and watermark_ms >= month.period.end_ms:
            month.ended = True
            if late:
                return findings  # first heard of after its end: there was nothing to settle
            for level, milestone in sorted(month.levels.items()):
                if milestone.passed and milestone.revision:
                    report(level, "resolved", "period_over", [])
        return findings

    def _projection(self, budget: BudgetConfig, month: Month, watermark_ms: int) -> int | None:
        if month.exhausted_ms is not None:
            return month.exhausted_ms
        if not month.period.start_ms <= watermark_ms < month.period.end_ms:
            return None
        rate = self._burns[budget.name].nano_usd_per_ms
        return _exhaustion(budget, month.period, month.spent, rate, self._evaluated_ms)

    def _status(self, budget: BudgetConfig, month: Month, watermark_ms: int) -> list[dict]:
        """The BudgetStatus of a month, if it says anything new."""
        current = month.period.start_ms <= watermark_ms < month.period.end_ms
        rates = self._burns[budget.name].rates if current else []
        projection = self._projection(budget, month, watermark_ms)
        news = [month.spent, month.limit, month.level(), projection, [list(rate.values()) for rate in rates]]
        if news == month.reported:
            return []
        month.reported = news
        month.revision += 1
        return [
            {
                "budget": budget.name,
                "scope_kind": "team",
                "scope_name": budget.team,
                "period": month.period.id,
                "period_start": month.period.start_ms,
                "period_end": month.period.end_ms,
                "limit_nano_usd": month.limit,
                "spent_nano_usd": month.spent,
                "spent_ratio": month.ratio,
                "milestone_percent": month.level(),
                "burn": [dict(rate) for rate in rates],
                "projected_exhaustion": projection,
                "revision": month.revision,
                "watermark": watermark_ms,
            }
        ]

    def snapshot(self) -> dict:
        return {
            "budgets": [
                {
                    "name": name,
                    "team": budget.team,
                    "timezone": budget.timezone,
                    "months": [month.snapshot() for month in self._months[name].values()],
                    "burn": self._burns[name].snapshot(),
                }
                for name, budget in self._budgets.items()
            ],
            "series": [[team, series.snapshot()] for team, series in self._series.items()],
            "evaluated_ms": self._evaluated_ms,
            "watermark": self._watermark_ms,
        }

    @classmethod
    def restore(cls, config: EngineConfig, snapshot: dict, panes: MergedPanes) -> "BudgetMonitor":
        """As it was; budgets that are new, or whose team or time zone changed, are filled from ``panes``."""
        self = cls(config)
        self._evaluated_ms, self._watermark_ms = snapshot["evaluated_ms"], snapshot["watermark"]
        known_series = dict(snapshot["series"])
        for team in self.teams:
            if team in known_series:
                self._series[team] = SpendSeries.restore(known_series[team])
            else:
                for start_ms, size_ms, nano_usd, _ in panes.history(_team(team)):
                    self._series[team].add(start_ms, size_ms, nano_usd)
        saved = {entry["name"]: entry for entry in snapshot["budgets"]}
        for name, budget in self._budgets.items():
            entry = saved.get(name)
            if entry is not None and (entry["team"], entry["timezone"]) == (budget.team, budget.timezone):
                months = [Month.restore(month) for month in entry["months"]]
                self._months[name] = {month.period.id: month for month in months}
                self._burns[name] = _restore_burn(entry["burn"])
            else:
                for start_ms, size_ms, nano_usd, estimated in panes.history(_team(budget.team)):
                    self._count(budget, start_ms, size_ms, nano_usd, estimated)
                for month in self._months[name].values():
                    if month.period.end_ms <= self._watermark_ms:
                        month.cross(budget)  # history of a new budget: recorded, not announced
                        month.ended = True
        return self


def _team(team: str) -> tuple[str, ...]:
    return ("team", team, "", "", "")


def _restore_burn(snapshot: dict) -> _Burn:
    return _Burn(
        states={name: PairState(*state) for name, state in snapshot["states"].items()},
        incidents={kind: Incident(**incident) for kind, incident in snapshot["incidents"].items()},
        rates=snapshot["rates"],
        nano_usd_per_ms=snapshot["nano_usd_per_ms"],
    )


def _exhaustion(budget: BudgetConfig, period: Period, spent: int, nano_usd_per_ms: float, at_ms: int) -> int | None:
    """When the rest of the limit is spent at this rate; None if not before the period's end."""
    rest = budget.limit_nano_usd - spent
    if rest <= 0:
        return at_ms
    if nano_usd_per_ms <= 0:
        return None
    at = at_ms + rest / nano_usd_per_ms
    return int(at) if at < period.end_ms else None
