"""Findings about budgets, in a finance person's words. Each carries its budget and period (maximhq/bifrost#5770)."""

from datetime import UTC, datetime

from models.budgets.burn import Pair
from models.budgets.calendar import Period
from models.budgets.month import Month
from models.config import HOUR_MS, MINUTE_MS, BudgetConfig
from models.findings import finding_id, make_finding
from models.money import format_usd

MILESTONE = "budget_milestone"
BURN = "budget_burn"
CRITICAL_PERCENT = 100
WARNING_PERCENT = 80


def milestone_finding(
    *,
    budget: BudgetConfig,
    month: Month,
    level: int,
    status: str,
    why: str,
    skipped: list[int],
    exhaustion_ms: int | None,
    watermark_ms: int,
    now_ms: int,
) -> dict:
    """A level of a month was passed or is settled; why: reached, late_usage, limit_raised, period_over.

    Expected is an even spend of the limit up to the watermark. ``skipped`` are lower levels passed in the same step.
    """
    period = month.period
    severity = "critical" if level >= CRITICAL_PERCENT else "warning" if level >= WARNING_PERCENT else "info"
    if why == "late_usage":
        severity = "info"
    used = f"{month.percent} % of {format_usd(month.limit)} for {period.id}"
    if why == "limit_raised":
        reason = f"Budget {budget.name} was changed to {format_usd(month.limit)}: it has used {month.percent} % of it"
    elif why == "period_over":
        reason = f"Budget {budget.name} ended {period.id} with {format_usd(month.spent)} used, {used}"
    elif why == "late_usage":
        reason = f"Adjustment: late usage brought budget {budget.name} to {used}, a month that is over"
    else:
        reason = f"Budget {budget.name} has used {used} with {_gone(period, watermark_ms)} of the month gone"
        reason += _outlook(month.spent >= month.limit, exhaustion_ms)
    if skipped:
        reason += f"; {' and '.join(f'{other} %' for other in skipped)} passed in the same step"
    if month.estimated > 0:
        reason += f"; not counting about {format_usd(month.estimated)} without a known price"
    return make_finding(
        id=finding_id(MILESTONE, budget.name, period.id, level),
        revision=month.levels[level].revision,
        status=status,
        detector=MILESTONE,
        severity=severity,
        scope_kind="budget",
        scope_name=budget.name,
        team=budget.team,
        window_start=period.start_ms,
        window_ms=period.length_ms,
        observed_nano_usd=month.spent,
        expected_nano_usd=round(month.limit * period.gone(watermark_ms)),
        score=month.ratio,
        confidence=1.0,
        baseline_size=0,
        first_event_time=period.start_ms,
        last_event_time=min(max(watermark_ms, period.start_ms), period.end_ms - 1),
        detection_time=now_ms,
        reason=reason + ".",
        details={
            "budget": budget.name,
            "period": period.id,
            "level_percent": str(level),
            "limit": format_usd(month.limit),
            "limit_nano_usd": str(month.limit),
            "why": why,
            **({"also_passed_percent": ",".join(map(str, skipped))} if skipped else {}),
        },
    )


def burn_finding(
    *,
    budget: BudgetConfig,
    period: Period,
    kind: str,
    status: str,
    opened_ms: int,
    opened_period: str,
    revision: int,
    pair: Pair,
    rate: dict,
    spent_nano_usd: int,
    window_nano_usd: int,
    window_ms: int,
    end_ms: int,
    exhaustion_ms: int | None,
    now_ms: int,
) -> dict:
    """A budget burns too fast, or no longer does; rate: the pair's BurnRate dict.

    Observed is the spend of the long window, expected the limit's even share of it. ``kind``: page or ticket.
    """
    length = _length(window_ms)
    if status == "resolved":
        reason = (
            f"Budget {budget.name} burns at {rate['short_burn']:.1f}x an even pace again, below its alert of "
            f"{pair.factor:g}x; {_percent(spent_nano_usd, budget)} of {format_usd(budget.limit_nano_usd)} for "
            f"{period.id} is used with {_gone(period, end_ms)} of the month gone"
        )
    else:
        reason = (
            f"Budget {budget.name} spent {format_usd(window_nano_usd)} in {length}, {rate['long_burn']:.1f}x an even "
            f"pace; it has used {_percent(spent_nano_usd, budget)} of {format_usd(budget.limit_nano_usd)} for "
            f"{period.id} with {_gone(period, end_ms)} of the month gone"
        ) + _outlook(spent_nano_usd >= budget.limit_nano_usd, exhaustion_ms)
    return make_finding(
        id=finding_id(BURN, budget.name, opened_period, kind, opened_ms),
        revision=revision,
        status=status,
        detector=BURN,
        severity="critical" if kind == "page" else "warning",
        scope_kind="budget",
        scope_name=budget.name,
        team=budget.team,
        window_start=end_ms - window_ms,
        window_ms=window_ms,
        observed_nano_usd=window_nano_usd,
        expected_nano_usd=round(budget.limit_nano_usd * window_ms / period.length_ms),
        score=rate["long_burn"],
        confidence=0.9 if kind == "page" else 0.8,
        baseline_size=0,
        first_event_time=end_ms - window_ms,
        last_event_time=end_ms - 1,
        detection_time=now_ms,
        reason=reason + ".",
        details={
            "budget": budget.name,
            "period": period.id,
            "limit": format_usd(budget.limit_nano_usd),
            "limit_nano_usd": str(budget.limit_nano_usd),
            "rule": kind,
            "pair": pair.name,
            "factor": f"{pair.factor:g}",
            "long_window_ms": str(pair.long_ms),
            "short_window_ms": str(pair.short_ms),
            "long_burn": f"{rate['long_burn']:.3f}",
            "short_burn": f"{rate['short_burn']:.3f}",
            **({"projected_exhaustion_ms": str(exhaustion_ms)} if exhaustion_ms is not None else {}),
        },
    )


def _percent(spent: int, budget: BudgetConfig) -> str:
    return f"{spent * 100 // budget.limit_nano_usd} %"


def _gone(period: Period, time_ms: int) -> str:
    return f"{period.gone(time_ms):.0%}".replace("%", " %")


def _outlook(exhausted: bool, exhaustion_ms: int | None) -> str:
    if exhausted:
        return "; it is exhausted"
    if exhaustion_ms is None:
        return "; at the rate of the last hour it lasts to the end of the month"
    at = datetime.fromtimestamp(exhaustion_ms / 1000, UTC)
    return f"; at the rate of the last hour it is exhausted on {at:%Y-%m-%d %H:%M} UTC"


def _length(ms: int) -> str:
    """The window in words: an hour, 62 minutes, 6.2 hours, 3.1 days."""
    if ms == HOUR_MS:
        return "an hour"
    for unit_ms, unit in ((24 * HOUR_MS, "days"), (HOUR_MS, "hours")):
        if ms >= 2 * unit_ms:
            return f"{ms / unit_ms:.1f} {unit}".replace(".0 ", " ")
    return f"{ms // MINUTE_MS} minutes"
