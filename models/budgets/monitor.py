"""All budgets of one rollup partition: which use goes to which, and when they are looked at.

Guarantee: what a budget has used is the sum of its scope's hour windows whose event time is in the period. Every
budget of a scope is evaluated, none hides another (BerriAI/litellm#11083), and a scope that was never seen before has
its default budget with its first event (#40095). A budget of the organisation adds up the windows of all teams, one
of a business unit those of its teams.

Milestones are looked at with every ``advance``, burn rates once for every minute of event time. Each finding names its
budget and period.

Cost: some 0.2 ms a budget and minute; 8 hours of minutes and at least 22 days of hours per scope, as many as the
longest window needs. Called by models.rollup only.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from models.budgets.account import Account, defined
from models.budgets.burn import pairs
from models.budgets.decisions import decide, release
from models.budgets.season import WEEK_MS, Usage
from models.budgets.series import Trailing
from models.config import DAY_MS, MINUTE_MS, BudgetConfig, EngineConfig
from models.counters import CACHE_READ, CACHE_WRITE, COST, ESTIMATED, EVENTS, INPUT, OUTPUT
from models.panes_merge import MergedPanes
from models.scopes import BUDGET_WINDOW_KINDS, Scope
from models.windows import NO_WATERMARK

MAX_CATCH_UP = 2_000
"""Minutes evaluated at most after a gap."""
MAX_DEFAULTED = 2_000
"""Scopes that one default budget is given to: each costs as much as a budget written out. Later ones have none."""
_LONGEST_DAYS = {"day": 1, "week": 7, "month": 31, "quarter": 92, "year": 366}
LearnerScore = Callable[[str], float | None]


class BudgetMonitor:
    """All budgets of one rollup partition."""

    def __init__(self, config: EngineConfig):
        self._retention_ms = config.windows.hour_retention_ms
        self._accounts: dict[str, Account] = {}
        self._usages: dict[tuple[Scope, tuple[str, ...], str], Usage] = {}
        self._longest_ms = max(map(_window_ms, config.budgets), default=DAY_MS)
        self._explicit = [budget for budget in config.budgets if not budget.default]
        self._defaults = [budget for budget in config.budgets if budget.default]
        self._given = dict.fromkeys((budget.name for budget in self._defaults), 0)
        self._routes: dict[Scope, list[tuple[Usage, list[Account]]]] = {}
        self._judged: dict[str, list[Account]] = {}
        """The budgets that count the use of a scope, by its key: those that a decision about it goes by."""
        self._decided: dict[str, dict] = {}
        """The last decision about each."""
        self._parting: list[dict] = []
        """Resolutions of what budgets that are gone had open, for the next ``advance``."""
        self._told: dict[str, tuple[int, int]] = {}
        """See Account."""
        self.kinds = {_window_kind(budget.scope.kind) for budget in config.budgets}
        """Kinds of scopes whose windows some budget adds up."""
        for budget in self._explicit:
            account = self._open(budget)
            if budget.scope.kind not in BUDGET_WINDOW_KINDS:
                self._judged.setdefault(budget.scope.key, []).append(account)
        for budget in self._explicit:
            for scope in (budget.scope, *(Scope("team", team) for team in budget.teams)):
                if scope.kind in BUDGET_WINDOW_KINDS:
                    self._route(scope)
        self._evaluated_ms: int | None = None
        self._watermark_ms = NO_WATERMARK
        """Of the last ``advance``: use that comes for a period which was over then is late."""

    def add(self, scope: Scope, start_ms: int, size_ms: int, counters: Iterable[int]) -> None:
        """Counters added to one window of a scope."""
        cost, estimated, tokens = counters[COST], counters[ESTIMATED], None
        for usage, accounts in self._route(scope):
            amount = cost
            if accounts[0].budget.unit == "tokens":
                amount = tokens = tokens or sum(counters[i] for i in (INPUT, CACHE_READ, CACHE_WRITE, OUTPUT))
            usage.series.add(start_ms, size_ms, amount, counters[EVENTS])
            for account in accounts:
                account.count(start_ms, size_ms, amount, cost, estimated)

    def advance(
        self, watermark_ms: int, now_ms: int, learner_score: LearnerScore = lambda team: None
    ) -> tuple[list[dict], list[dict]]:
        """(BudgetStatus dicts that changed, Finding dicts) at this watermark."""
        findings = [{**finding, "detection_time": now_ms} for finding in self._parting]
        findings += self._evaluate(watermark_ms, now_ms)
        self._parting = []
        statuses = []
        for account in self._accounts.values():
            said, found = account.advance(watermark_ms, self._watermark_ms, self._retention_ms, now_ms)
            statuses += said
            findings += found
        for finding in findings:
            finding["learner_score"] = learner_score(finding["team"])
        for usage in self._usages.values():
            usage.series.expire(watermark_ms)
        for id in [id for id, (_, end_ms) in self._told.items() if end_ms <= watermark_ms - self._retention_ms]:
            del self._told[id]
        self._watermark_ms = watermark_ms
        return statuses, findings

    def decisions(self) -> list[dict]:
        """Decision dicts that changed, at the watermark of the last ``advance``."""
        changed = []
        for key in (*self._judged, *(key for key in self._decided if key not in self._judged)):
            last = self._decided.get(key)
            version = last["version"] if last else 0
            decision = decide(key, self._judged.get(key, []), self._watermark_ms)
            if decision is None and last is not None:
                decision = release(last)
            if decision is not None and {**decision, "version": version} != last:
                self._decided[key] = {**decision, "version": version + 1}
                changed.append(dict(self._decided[key]))
        return changed

    def _open(self, budget: BudgetConfig) -> Account:
        usage = self._usages.setdefault((budget.scope, budget.teams, budget.unit), Usage(self._longest_ms))
        account = self._accounts[budget.name] = Account(budget, usage, self._told)
        return account

    def _route(self, scope: Scope) -> list[tuple[Usage, list[Account]]]:
        """Where the use of a scope goes; found once per scope."""
        route = self._routes.get(scope)
        if route is None:
            if not any(budget.scope == scope for budget in self._explicit):
                self._give_defaults(scope)
            by_usage: dict[int, tuple[Usage, list[Account]]] = {}
            for account in self._accounts.values():
                if _counts(account.budget, scope):
                    by_usage.setdefault(id(account.usage), (account.usage, []))[1].append(account)
            route = self._routes[scope] = list(by_usage.values())
            self._judged[scope.key] = [account for _, accounts in route for account in accounts]
        return route

    def _give_defaults(self, scope: Scope) -> None:
        for default in self._defaults:
            same = default.scope.kind == scope.kind and default.scope.tag == scope.tag
            if same and self._given[default.name] < MAX_DEFAULTED:
                self._given[default.name] += 1
                self._open(replace(default, name=f"{default.name}/{scope.label}", scope=scope, default=False))

    def _evaluate(self, watermark_ms: int, now_ms: int) -> list[dict]:
        """Burn rates for every minute of event time since the last call."""
        last = watermark_ms // MINUTE_MS * MINUTE_MS
        if self._evaluated_ms is None:
            starts = [start for usage in self._usages.values() for start in usage.series.minutes]
            self._evaluated_ms = min(min(starts, default=last), last - MINUTE_MS)
        first = max(self._evaluated_ms, last - MAX_CATCH_UP * MINUTE_MS) + MINUTE_MS
        if first > last:
            return []
        findings = []
        ends = np.arange(first, last + 1, MINUTE_MS, dtype=np.int64)
        trailing = {id(usage): Trailing(usage.series, first, last) for usage in self._usages.values()}
        for week in np.split(ends, np.flatnonzero(np.diff(ends // WEEK_MS)) + 1):
            for usage in self._usages.values():
                usage.season.close(usage.series.hours, int(week[0]))
            for account in self._accounts.values():
                at = 0
                while at < len(week):
                    period = account.period(int(week[-1 if account.budget.rolling_ms else at]))
                    after = int(np.searchsorted(week, period.end_ms))
                    findings += account.evaluate(period, week[at:after], trailing[id(account.usage)], now_ms)
                    at = after
        self._evaluated_ms = last
        return sorted(findings, key=lambda finding: finding["last_event_time"])

    def snapshot(self) -> dict:
        return {
            "accounts": [account.snapshot() for account in self._accounts.values()],
            "usages": [[list(scope), list(teams), unit, usage.snapshot()]
                       for (scope, teams, unit), usage in self._usages.items()],
            "decided": list(self._decided.values()),
            "parting": self._parting,
            "told": [[id, *told] for id, told in self._told.items()],
            "evaluated_ms": self._evaluated_ms,
            "watermark": self._watermark_ms,
        }  # fmt: skip

    @classmethod
    def restore(cls, config: EngineConfig, snapshot: dict, panes: MergedPanes) -> "BudgetMonitor":
        """As it was; budgets that are new, or count something else than before, are filled from ``panes``.

        What was open of budgets that are gone, or count something else, is resolved at the next ``advance``.
        """
        self = cls(config)
        self._evaluated_ms, self._watermark_ms = snapshot["evaluated_ms"], snapshot["watermark"]
        self._decided = {decision["scope"]: decision for decision in snapshot["decided"]}
        self._parting = list(snapshot["parting"])
        self._told.update((id, (revision, end_ms)) for id, revision, end_ms in snapshot["told"])
        scopes = [scope for scope in panes.scopes if scope.kind in self.kinds]
        # Defaults are given in the order they were, and so to the same scopes if there are too many.
        seen = [Scope(*scope) for scope, *_ in snapshot["usages"]]
        for scope in [*(scope for scope in seen if scope.kind in BUDGET_WINDOW_KINDS), *scopes]:
            self._route(scope)
        saved_usages = {(Scope(*scope), tuple(teams), unit): usage for scope, teams, unit, usage in snapshot["usages"]}
        new_usages, new_accounts = set(), set(self._accounts)
        for key, usage in self._usages.items():
            if key in saved_usages:
                usage.load(saved_usages[key])
            else:
                new_usages.add(id(usage))
        for entry in snapshot["accounts"]:
            account = self._accounts.get(entry["name"])
            if account is not None and entry["key"] == account.key:
                account.load(entry)
                new_accounts.remove(entry["name"])
            else:
                self._part(entry, saved_usages)
        if new_usages or new_accounts:
            for scope in scopes:
                self._fill(scope, panes, new_usages, new_accounts)
        for name in new_accounts:
            self._accounts[name].settle_history(self._watermark_ms)
        return self

    def _part(self, entry: dict, usages: dict[tuple, dict]) -> None:
        """Resolve what a budget that is gone had open; ``entry`` of the snapshot is all that is known of it."""
        budget = defined(entry["budget"])
        usage = Usage(self._longest_ms)
        usage.load(usages[budget.scope, budget.teams, budget.unit])
        account = Account(budget, usage, self._told)
        account.load(entry)
        self._parting += account.close(self._watermark_ms, now_ms=0)

    def _fill(self, scope: Scope, panes: MergedPanes, new_usages: set[int], new_accounts: set[str]) -> None:
        for usage, accounts in self._route(scope):
            fresh = [account for account in accounts if account.budget.name in new_accounts]
            if not fresh and id(usage) not in new_usages:
                continue
            for start_ms, size_ms, counters in panes.history(scope):
                cost, amount = counters[COST], counters[COST]
                if accounts[0].budget.unit == "tokens":
                    amount = sum(counters[i] for i in (INPUT, CACHE_READ, CACHE_WRITE, OUTPUT))
                if id(usage) in new_usages:
                    usage.series.add(start_ms, size_ms, amount, counters[EVENTS])
                for account in fresh:
                    account.count(start_ms, size_ms, amount, cost, counters[ESTIMATED])


def _counts(budget: BudgetConfig, scope: Scope) -> bool:
    """Whether a budget adds up the windows of this scope."""
    if budget.scope.kind == "organisation":
        return scope.kind == "team"
    if budget.scope.kind == "business_unit":
        return scope.kind == "team" and scope.team in budget.teams
    return budget.scope == scope


def _window_kind(kind: str) -> str:
    return "team" if kind in ("organisation", "business_unit") else kind


def _window_ms(budget: BudgetConfig) -> int:
    """How far back hours must be known: the slow pair's window, or the rolling one."""
    length_ms = budget.rolling_ms or _LONGEST_DAYS[budget.period] * DAY_MS
    return max(budget.rolling_ms, pairs(length_ms)[-1].long_ms) + 2 * DAY_MS
