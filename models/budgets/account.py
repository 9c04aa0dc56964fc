"""One budget: its periods, what was said about them, and its burn.

Use counts in the period of its event time, in the budget's own time zone; late use counts in the period it happened
in, and in one that is over it is reported as an adjustment, never as a page. In zones that are not on a whole hour of
UTC, the one hour that two periods share is divided by its minute windows; use later than minute windows are kept
counts in the period that hour began in. Called by models.budgets.monitor only.
"""

from dataclasses import asdict

from models.budgets.burn_watch import BurnWatch, Minutes, exhaustion, remaining_burn
from models.budgets.calendar import Period, period_of
from models.budgets.findings import MILESTONE, milestone_finding
from models.budgets.forecast import forecast
from models.budgets.period import PeriodState
from models.budgets.season import Season, Usage
from models.config import DAY_MS, HOUR_MS, MINUTE_MS, BudgetConfig, Enforcement, Raise
from models.findings import finding_id
from models.scopes import Scope
from models.windows import NO_WATERMARK

_EVEN = Season()
"""Rolling windows have no beginning in the week, so their pace is even."""


class Account:
    """State of one budget; ``usage`` is shared by the budgets of one scope, ``told`` by all.

    ``told``: finding id -> (revision, end of its period) of milestones of budgets that are gone. One that comes back
    counts on from there, or what it says would be taken for a repeat.
    """

    def __init__(self, budget: BudgetConfig, usage: Usage, told: dict[str, tuple[int, int]] | None = None):
        self.budget = budget
        self.usage = usage
        self._told = {} if told is None else told
        self._definition: dict | None = None
        self.periods: dict[str, PeriodState] = {}
        self.burn = BurnWatch()
        self.projection: dict | None = None
        """Of the present period's total, made at the last whole hour; amounts in the budget's unit."""
        self._projected_hour: int | None = None

    @property
    def season(self) -> Season:
        return _EVEN if self.budget.rolling_ms else self.usage.season

    def period(self, time_ms: int) -> Period:
        """The period of an instant; of a rolling window the one that ends with its hour."""
        budget = self.budget
        if budget.rolling_ms:
            end = time_ms - time_ms % HOUR_MS + HOUR_MS
            return Period(rolling_id(budget.rolling_ms), end - budget.rolling_ms, end)
        return period_of(time_ms, budget.timezone, budget.period, budget.first_month)

    def state(self, time_ms: int) -> PeriodState:
        """The state of that period, made if missing."""
        period = self.period(time_ms)
        if period.id not in self.periods:
            self.periods[period.id] = PeriodState(period, self.budget.limit_at(time_ms))
        return self.periods[period.id]

    def count(self, start_ms: int, size_ms: int, amount: int, cost: int, estimated: int) -> None:
        """Hours count in the period they begin in; minutes of a period's first hour move there if they must."""
        if self.budget.rolling_ms:
            return
        state = self.state(start_ms)
        if size_ms == HOUR_MS:
            state.add(amount, cost, estimated)
        elif size_ms == MINUTE_MS:
            of_hour = self.state(start_ms - start_ms % HOUR_MS)
            if of_hour is not state:
                of_hour.add(-amount, -cost, -estimated)
                state.add(amount, cost, estimated)

    def evaluate(self, period: Period, ends, trailing, now_ms: int) -> list[dict]:
        """Burn at the minutes ``ends`` int64[k] of one period."""
        state = self.periods.get(period.id) or PeriodState(period, self.budget.limit)
        minutes = Minutes.of(self.budget, period, state, ends, trailing, self.season)
        return self.burn.evaluate(self.budget, minutes, self.projection, now_ms)

    def advance(
        self, watermark_ms: int, before_ms: int, retention_ms: int, now_ms: int
    ) -> tuple[list[dict], list[dict]]:
        """(BudgetStatus dicts that changed, milestone findings); ``before_ms``: the watermark of the last call."""
        current = self.state(watermark_ms)
        if self.budget.rolling_ms:
            current.period = self.period(watermark_ms)
            current.spent = self.usage.series.rolling(watermark_ms, self.budget.rolling_ms)
            current.cost = current.spent if self.budget.unit == "nano_usd" else 0
        else:
            self._project(current, watermark_ms)
        statuses, findings = [], []
        for period_id in sorted(self.periods):
            state = self.periods[period_id]
            if state.period.end_ms <= watermark_ms - retention_ms:
                del self.periods[period_id]
                continue
            findings += self._milestones(state, watermark_ms, before_ms, now_ms)
            statuses += self._status(state, watermark_ms)
        return statuses, findings

    def close(self, watermark_ms: int, now_ms: int) -> list[dict]:
        """The budget is no more, or another one: what was open is resolved."""
        findings = self.burn.close(now_ms)
        for state in self.periods.values():
            for level, milestone in sorted(state.levels.items()):
                if milestone.passed and milestone.revision and not state.ended:
                    findings.append(self._report(state, level, "resolved", "removed", [], watermark_ms, now_ms))
                if milestone.revision:
                    self._told[self._finding_id(state, level)] = (milestone.revision, state.period.end_ms)
        return findings

    def _finding_id(self, state: PeriodState, level: int) -> str:
        return finding_id(MILESTONE, self.budget.name, state.period.id, level)

    def _report(
        self,
        state: PeriodState,
        level: int,
        status: str,
        why: str,
        skipped: list[int],
        watermark_ms: int,
        now_ms: int,
    ) -> dict:
        id, milestone = self._finding_id(state, level), state.levels[level]
        milestone.revision = max(milestone.revision, self._told.get(id, (0, 0))[0]) + 1
        return milestone_finding(
            id=id,
            budget=self.budget,
            state=state,
            level=level,
            status=status,
            why=why,
            skipped=skipped,
            exhaustion_ms=self.exhaustion(state, watermark_ms),
            projection=self._projection(state, watermark_ms),
            expected_share=self._share_gone(state.period, watermark_ms),
            watermark_ms=watermark_ms,
            now_ms=now_ms,
        )

    def _milestones(self, state: PeriodState, watermark_ms: int, before_ms: int, now_ms: int) -> list[dict]:
        if state.period.start_ms > watermark_ms + DAY_MS:
            return []  # a producer whose clock is ahead: the period is not yet anybody's concern
        findings = []

        def report(level: int, status: str, why: str, skipped: list[int]) -> None:
            findings.append(self._report(state, level, status, why, skipped, watermark_ms, now_ms))

        # A period that is over keeps the limit of its last instant.
        limit = self.budget.limit_at(min(max(watermark_ms, state.period.start_ms), state.period.end_ms - 1))
        for level in state.rearm(limit):
            report(level, "resolved", "limit_changed", [])
        for level in [] if state.ended else state.drop(self.budget.milestones_percent):
            report(level, "resolved", "level_removed", [])
        if self.budget.rolling_ms:
            for level in state.fall_back():
                report(level, "resolved", "fell_back", [])
        crossed = state.cross(self.budget.milestones_percent)
        if state.exhausted_ms is None and state.reached(100):
            state.exhausted_ms = min(watermark_ms, state.period.end_ms - 1)
        late = before_ms >= state.period.end_ms
        if crossed:
            report(crossed[-1], "open", "late_usage" if late else "reached", crossed[:-1])
            if late:
                report(crossed[-1], "resolved", "period_over", [])
        if not state.ended and watermark_ms >= state.period.end_ms:
            state.ended = True
            if late:
                return findings  # first heard of after its end: there was nothing to settle
            for level, milestone in sorted(state.levels.items()):
                if milestone.passed and milestone.revision:
                    report(level, "resolved", "period_over", [])
        return findings

    def _project(self, state: PeriodState, watermark_ms: int) -> None:
        """Forecast the period's total, once for each hour of event time."""
        hour = watermark_ms // HOUR_MS
        if hour == self._projected_hour:
            return
        self._projected_hour = hour
        hours, first = self.usage.series.history(hour)
        ahead = sum(
            amount for start, amount in self.usage.series.hours.items() if hour * HOUR_MS <= start < state.period.end_ms
        )
        made = forecast(hours, first, -(-state.period.end_ms // HOUR_MS), state.spent - ahead)
        self.projection = made and {"made_at": hour * HOUR_MS, **asdict(made)}

    def _share_gone(self, period: Period, time_ms: int) -> float:
        """Share of the period's usual use that falls before an instant."""
        start, at, end = (
            float(self.season.elapsed(ms))
            for ms in (period.start_ms, min(max(time_ms, period.start_ms), period.end_ms), period.end_ms)
        )
        return (at - start) / (end - start)

    def exhaustion(self, state: PeriodState, watermark_ms: int) -> int | None:
        """When the limit was reached, or will be at the present pace; None if not within the period."""
        if state.exhausted_ms is not None:
            return state.exhausted_ms
        if self.budget.rolling_ms or not state.period.start_ms <= watermark_ms < state.period.end_ms:
            return None
        return exhaustion(self.season, state.period, state.limit, state.spent, self.burn.pace)

    def _projection(self, state: PeriodState, watermark_ms: int) -> dict | None:
        """If this is the present period: others have none."""
        return self.projection if state.period.start_ms <= watermark_ms < state.period.end_ms else None

    def _status(self, state: PeriodState, watermark_ms: int) -> list[dict]:
        """The BudgetStatus of a period, if it says anything new."""
        budget, period = self.budget, state.period
        current = period.start_ms <= watermark_ms < period.end_ms
        rates = self.burn.rates if current else []
        exhausted_ms = self.exhaustion(state, watermark_ms)
        remaining = None
        if current and not budget.rolling_ms and self.burn.pace.at_ms:
            remaining = remaining_burn(self.season, period, state.limit, state.spent, self.burn.pace)
        projection = self._projection(state, watermark_ms)
        news = [state.spent, state.limit, state.level(), exhausted_ms, projection]
        news.append([list(rate.values()) for rate in rates])
        if news == state.reported:
            return []
        state.reported = news
        state.revision += 1
        in_usd = budget.unit == "nano_usd"
        return [
            {
                "budget": budget.name,
                "scope_kind": budget.scope.kind,
                "scope_name": budget.scope.label,
                "period": period.id,
                "period_start": period.start_ms,
                "period_end": period.end_ms,
                "unit": budget.unit,
                "limit_nano_usd": state.limit if in_usd else 0,
                "spent_nano_usd": state.cost,
                "limit_tokens": 0 if in_usd else state.limit,
                "spent_tokens": 0 if in_usd else state.spent,
                "spent_ratio": state.ratio,
                "expected_ratio": 1.0 if budget.rolling_ms else self._share_gone(period, watermark_ms),
                "milestone_percent": state.level(),
                "burn": [dict(rate) for rate in rates],
                "remaining_burn": remaining,
                "projected_exhaustion": exhausted_ms,
                "projection": projection,
                "revision": state.revision,
                "watermark": watermark_ms,
            }
        ]

    def snapshot(self) -> dict:
        return {
            "name": self.budget.name,
            "key": self.key,
            "budget": self.definition,
            "periods": [state.snapshot() for state in self.periods.values()],
            "burn": self.burn.snapshot(),
            "projection": self.projection,
            "projected_hour": self._projected_hour,
        }

    @property
    def definition(self) -> dict:
        """The budget as plain values, the same object each time: what a restart resolves by if it has gone."""
        if self._definition is None:
            budget = asdict(self.budget)
            self._definition = {**budget, "scope": list(self.budget.scope), "raises": list(budget["raises"])}
        return self._definition

    @property
    def key(self) -> list:
        """What use is counted into which period; state of another key is of no use."""
        budget = self.budget
        return [budget.scope.key, *sorted(budget.teams), budget.unit, budget.timezone, budget.period,
                budget.first_month, budget.rolling_ms]  # fmt: skip

    def load(self, snapshot: dict) -> None:
        states = [PeriodState.restore(state) for state in snapshot["periods"]]
        self.periods = {state.period.id: state for state in states}
        self.burn = BurnWatch.restore(snapshot["burn"])
        self.projection, self._projected_hour = snapshot["projection"], snapshot["projected_hour"]

    def settle_history(self, watermark_ms: int) -> None:
        """Of a budget that is new, filled from windows that were kept: what is over is recorded, not announced."""
        for state in self.periods.values():
            if watermark_ms != NO_WATERMARK and state.period.end_ms <= watermark_ms:
                state.cross(self.budget.milestones_percent)
                state.ended = True


def defined(definition: dict) -> BudgetConfig:
    """Inverse of ``Account.definition``."""
    enforcement = definition["enforcement"]
    return BudgetConfig(
        **{
            **definition,
            "scope": Scope(*definition["scope"]),
            "milestones_percent": tuple(definition["milestones_percent"]),
            "teams": tuple(definition["teams"]),
            "raises": tuple(Raise(**one) for one in definition["raises"]),
            "enforcement": enforcement and Enforcement(**enforcement),
        }
    )


def rolling_id(rolling_ms: int) -> str:
    """Of a rolling window: ``rolling-30d``, ``rolling-36h``."""
    hours = rolling_ms // HOUR_MS
    return f"rolling-{hours // 24}d" if hours % 24 == 0 else f"rolling-{hours}h"
