"""What a gateway may do for a scope: allow, route to a cheaper model, throttle, or block.

A decision is a function of the budgets that count the scope's use and of what they have used, of nothing else, so a
replay comes to the same decisions. All budgets are looked at and the strictest action counts
(BerriAI/litellm#11083): a team is also stopped by its business unit and by the organisation.

A decision expires with its budget's period. That lifts a block even if nothing more is heard of the scope, as will be
once it is blocked: then no event moves the watermark into the next period. One for a rolling window expires when use
has fallen below the action's level, if no more comes. Called by models.budgets.monitor.
"""

from models.budgets.account import Account
from models.budgets.findings import amount_text
from models.budgets.period import PeriodState
from models.config import HOUR_MS

ACTIONS = ("allow", "route", "throttle", "block")
"""From lax to strict."""
MIN_RATE_SHARE = 100
"""A throttled scope is left at least this part of its limit over the rest of the period: 0 would be a block."""


def decide(scope_key: str, accounts: list[Account], watermark_ms: int) -> dict | None:
    """The Decision dict of a scope but for its version; None if none of its budgets is enforced."""
    found = [_decision(account, watermark_ms) for account in accounts if account.budget.enforcement is not None]
    if not found:
        return None
    chosen = max(found, key=lambda one: (ACTIONS.index(one["action"]), one["expires"], one["budget"]))
    routes = [one["route_to"] for one in found if one["route_to"]]
    return {
        "scope": scope_key,
        **chosen,
        "route_to": "" if chosen["action"] == "block" else chosen["route_to"] or next(iter(routes), ""),
        "fail": "closed" if any(one["fail"] == "closed" for one in found) else "open",
    }


def release(decision: dict) -> dict:
    """The decision of a scope that no budget limits any more, after this one: or its block would stand to the end."""
    free = {"action": "allow", "rate_per_hour": None, "route_to": "", "fail": "open"}
    return {**decision, **free, "reason": f"Budget {decision['budget']} does not limit it any more."}


def _decision(account: Account, watermark_ms: int) -> dict:
    budget, state = account.budget, account.state(watermark_ms)
    rules = budget.enforcement
    levels = {"route": rules.route_percent, "throttle": rules.throttle_percent, "block": rules.block_percent}
    reached = [action for action, level in levels.items() if level and state.reached(level)]
    action = reached[-1] if reached else "allow"
    if reached:
        # The percent above which the action holds, not each one passed: fewer records, all a function of the state.
        limit = amount_text(budget, state.limit)
        reason = f"Budget {budget.name} has used {levels[action]} % or more of {limit} for {state.period.id}."
    else:
        reason = f"Budget {budget.name} allows it."
    return {
        "action": action,
        "rate_per_hour": _rate(account, state, watermark_ms) if action == "throttle" else None,
        "unit": budget.unit,
        "route_to": rules.route_to if "route" in reached else "",
        "reason": reason,
        "budget": budget.name,
        "period": state.period.id,
        "expires": _expires(account, state, levels.get(action, 0)),
        "fail": rules.fail,
    }


def _rate(account: Account, state: PeriodState, watermark_ms: int) -> int:
    """What is left of the limit, in whole percent, over the whole hours left: it changes once an hour or percent.

    In a rolling window, which is never over, an even pace.
    """
    hours = state.period.length_ms // HOUR_MS
    if account.budget.rolling_ms:
        return state.limit // hours
    hours_left = max(-(-(state.period.end_ms - watermark_ms) // HOUR_MS), 1)
    percent_left = max(100 - state.percent, 100 // MIN_RATE_SHARE)
    return state.limit * percent_left // 100 // hours_left


def _expires(account: Account, state: PeriodState, level: int) -> int:
    rolling_ms = account.budget.rolling_ms
    if not rolling_ms:
        return state.period.end_ms
    left, hours = state.spent, account.usage.series.hours
    end_ms = state.period.start_ms
    # The window's start moves on hour by hour; each takes its use away.
    while end_ms < state.period.end_ms and left * 100 >= level * state.limit:
        left -= hours.get(end_ms, 0)
        end_ms += HOUR_MS
    return end_ms - HOUR_MS + rolling_ms if level else state.period.end_ms
