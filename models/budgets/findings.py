"""Findings about budgets, in a finance person's words. Each carries its budget and period (maximhq/bifrost#5770)."""

from datetime import UTC, datetime

from models.budgets.burn import Pair
from models.budgets.calendar import Period
from models.budgets.period import PeriodState
from models.config import HOUR_MS, MINUTE_MS, BudgetConfig
from models.findings import finding_id, make_finding, percent
from models.money import format_usd

MILESTONE = "budget_milestone"
BURN = "budget_burn"
CRITICAL_PERCENT = 100
WARNING_PERCENT = 80


def milestone_finding(
    *,
    id: str,
    budget: BudgetConfig,
    state: PeriodState,
    level: int,
    status: str,
    why: str,
    skipped: list[int],
    exhaustion_ms: int | None,
    projection: dict | None,
    expected_share: float,
    watermark_ms: int,
    now_ms: int,
) -> dict:
    """A level of a period was passed or is settled.

    ``why`` is reached, late_usage, limit_changed, level_removed, fell_back, period_over or removed.
    ``expected_share`` of the limit is what would have been used by the watermark at an even pace. ``skipped`` are lower
    levels passed in the same step.
    """
    period = state.period
    severity = "critical" if level >= CRITICAL_PERCENT else "warning" if level >= WARNING_PERCENT else "info"
    if why == "late_usage":
        severity = "info"
    limit, spent = amount_text(budget, state.limit), amount_text(budget, state.spent)
    used = f"{state.percent} % of {limit} for {period.id}"
    if why == "limit_changed":
        reason = f"Budget {budget.name} was changed to {limit}: it has used {state.percent} % of it"
    elif why == "level_removed":
        reason = f"Budget {budget.name} no longer has a milestone of {level} %; it has used {used}"
    elif why == "removed":
        reason = f"Budget {budget.name} was removed; it had used {used}"
    elif why == "fell_back":
        reason = f"Budget {budget.name} has used {used}, well below {level} % again"
    elif why == "period_over":
        reason = f"Budget {budget.name} ended {period.id} with {spent} used, {used}"
    elif why == "late_usage":
        reason = f"Adjustment: late usage brought budget {budget.name} to {used}, a {budget.period} that is over"
    else:
        reason = f"Budget {budget.name} has used {used}{_gone(budget, period, watermark_ms)}"
        reason += _outlook(budget, state.spent >= state.limit, exhaustion_ms) + _expected(budget, projection)
    if skipped:
        reason += f"; {' and '.join(f'{other} %' for other in skipped)} passed in the same step"
    if state.estimated > 0:
        reason += f"; not counting about {format_usd(state.estimated)} without a known price"
    price = state.cost / state.spent if state.spent else 0.0
    return make_finding(
        id=id,
        revision=state.levels[level].revision,
        status=status,
        detector=MILESTONE,
        severity=severity,
        **_scope(budget),
        window_start=period.start_ms,
        window_ms=period.length_ms,
        observed_nano_usd=state.cost,
        expected_nano_usd=_nano_usd(budget, state.limit * expected_share, price),
        score=state.ratio,
        confidence=1.0,
        baseline_size=0,
        first_event_time=period.start_ms,
        last_event_time=min(max(watermark_ms, period.start_ms), period.end_ms - 1),
        detection_time=now_ms,
        reason=reason + ".",
        details={
            **_details(budget, period, state.limit),
            "level_percent": str(level),
            "why": why,
            **(_bands(projection) if why in ("reached", "limit_changed") else {}),
            **({"also_passed_percent": ",".join(map(str, skipped))} if skipped else {}),
        },
    )


def burn_finding(
    *,
    budget: BudgetConfig,
    limit: int,
    period: Period,
    kind: str,
    status: str,
    opened_ms: int,
    opened_period: str,
    revision: int,
    pair: Pair,
    rate: dict,
    spent: int,
    amount: int,
    price: float,
    window_ms: int,
    expected_share: float,
    end_ms: int,
    exhaustion_ms: int | None,
    projection: dict | None,
    now_ms: int,
) -> dict:
    """A budget burns too fast, or no longer does; rate: the pair's BurnRate dict.

    Observed is the use of the long window, expected its share of the limit at an even pace; tokens are valued at
    ``price``, what they cost in this period, nano-USD each. ``kind``: page or ticket.
    """
    length = _length(window_ms)
    used = f"{spent * 100 // limit} % of {amount_text(budget, limit)} for {period.id}"
    if status == "resolved":
        reason = (
            f"Budget {budget.name} burns at {rate['short_burn']:.1f}x an even pace again, below its alert of "
            f"{pair.factor:g}x; {used} is used{_gone(budget, period, end_ms)}"
        )
    else:
        reason = (
            f"Budget {budget.name} spent {amount_text(budget, amount)} in {length}, {rate['long_burn']:.1f}x an even "
            f"pace; it has used {used}{_gone(budget, period, end_ms)}"
        )
        reason += _outlook(budget, spent >= limit, exhaustion_ms) + _expected(budget, projection)
    return make_finding(
        id=finding_id(BURN, budget.name, opened_period, kind, opened_ms),
        revision=revision,
        status=status,
        detector=BURN,
        severity="critical" if kind == "page" else "warning",
        **_scope(budget),
        window_start=end_ms - window_ms,
        window_ms=window_ms,
        observed_nano_usd=_nano_usd(budget, amount, price),
        expected_nano_usd=_nano_usd(budget, limit * expected_share, price),
        score=rate["long_burn"],
        confidence=0.9 if kind == "page" else 0.8,
        baseline_size=0,
        first_event_time=end_ms - window_ms,
        last_event_time=end_ms - 1,
        detection_time=now_ms,
        reason=reason + ".",
        details={
            **_details(budget, period, limit),
            "rule": kind,
            "pair": pair.name,
            "factor": f"{pair.factor:g}",
            "long_window_ms": str(pair.long_ms),
            "short_window_ms": str(pair.short_ms),
            "long_burn": f"{rate['long_burn']:.3f}",
            "short_burn": f"{rate['short_burn']:.3f}",
            **({"projected_exhaustion_ms": str(exhaustion_ms)} if exhaustion_ms is not None else {}),
            **_bands(projection),
        },
    )


def remaining_finding(
    *,
    budget: BudgetConfig,
    limit: int,
    spent: int,
    period: Period,
    burn: float,
    amount: int,
    price: float,
    window_ms: int,
    rest_share: float,
    end_ms: int,
    exhaustion_ms: int | None,
    now_ms: int,
) -> dict:
    """What is left of a budget will not last, though nothing burns: ``burn`` times an even use of it.

    Observed is the use of a window, expected what an even use of the rest is worth in it, ``rest_share``.
    """
    left = limit - spent
    reason = (
        f"Budget {budget.name} has {amount_text(budget, left)} left of {amount_text(budget, limit)} for {period.id}"
        f"{_gone(budget, period, end_ms)}; its pace of late, over {_length(window_ms)} and still in the last hour, is "
        f"{burn:.1f}x what that allows"
    )
    if exhaustion_ms is not None:
        reason += f", which uses it up by {datetime.fromtimestamp(exhaustion_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
    return make_finding(
        id=finding_id(BURN, budget.name, period.id, "remaining", end_ms),
        revision=1,
        status="open",
        detector=BURN,
        severity="warning",
        **_scope(budget),
        window_start=end_ms - window_ms,
        window_ms=window_ms,
        observed_nano_usd=_nano_usd(budget, amount, price),
        expected_nano_usd=_nano_usd(budget, left * rest_share, price),
        score=burn,
        confidence=0.8,
        baseline_size=0,
        first_event_time=end_ms - window_ms,
        last_event_time=end_ms - 1,
        detection_time=now_ms,
        reason=reason + ".",
        details={
            **_details(budget, period, limit),
            "rule": "remaining",
            "left": amount_text(budget, left),
            "remaining_burn": f"{burn:.3f}",
            "long_window_ms": str(window_ms),
            **({"projected_exhaustion_ms": str(exhaustion_ms)} if exhaustion_ms is not None else {}),
        },
    )


def amount_text(budget: BudgetConfig, amount: int) -> str:
    """Dollars or tokens, for people."""
    return format_usd(amount) if budget.unit == "nano_usd" else f"{amount:,} tokens"


def _nano_usd(budget: BudgetConfig, amount: float, price: float) -> int:
    return round(amount if budget.unit == "nano_usd" else amount * price)


def _scope(budget: BudgetConfig) -> dict:
    """Whom a finding is routed to."""
    scope = budget.scope
    own = {} if scope.kind == "business_unit" else {"team": scope.team}
    return {"scope_kind": "budget", "scope_name": budget.name, "team": "", **own, "model": scope.model,
            "agent": scope.agent, "use_case": scope.use_case}  # fmt: skip


def _details(budget: BudgetConfig, period: Period, limit: int) -> dict[str, str]:
    return {
        "budget": budget.name,
        "scope": budget.scope.key,
        "period": period.id,
        "limit": amount_text(budget, limit),
        f"limit_{budget.unit}": str(limit),
    }


def _gone(budget: BudgetConfig, period: Period, time_ms: int) -> str:
    if budget.rolling_ms:
        return ""
    return f" with {percent(period.gone(time_ms))} of the {budget.period} gone"


def _outlook(budget: BudgetConfig, exhausted: bool, exhaustion_ms: int | None) -> str:
    if exhausted:
        return "; it is exhausted"
    if budget.rolling_ms:
        return ""
    if exhaustion_ms is None:
        return f"; at the rate of the last hour it lasts to the end of the {budget.period}"
    at = datetime.fromtimestamp(exhaustion_ms / 1000, UTC)
    return f"; at the rate of the last hour it is exhausted on {at:%Y-%m-%d %H:%M} UTC"


def _expected(budget: BudgetConfig, projection: dict | None) -> str:
    if projection is None:
        return ""
    total, low, high = (amount_text(budget, projection[name]) for name in ("total", "low80", "high80"))
    return f"; it is expected to end at {total}, in 4 of 5 cases between {low} and {high}"


def _bands(projection: dict | None) -> dict[str, str]:
    return {f"projected_{name}": str(amount) for name, amount in (projection or {}).items() if name != "made_at"}


def _length(ms: int) -> str:
    """The window in words: an hour, 62 minutes, 6.2 hours, 3.1 days."""
    if ms == HOUR_MS:
        return "an hour"
    for unit_ms, unit in ((24 * HOUR_MS, "days"), (HOUR_MS, "hours")):
        if ms >= 2 * unit_ms:
            return f"{ms / unit_ms:.1f} {unit}".replace(".0 ", " ")
    return f"{ms // MINUTE_MS} minutes"
