"""What one loan, one ticket, one case costs: by transaction type and day, against a target and its own past.

cost / transactions, where cost is all usage that carries the transaction type, of every kind (tokens are 22 % of a
loan; tools, searches, checks and people are the rest), and transactions are those that began on the day. A day is too
dear by

- ``target``: more than ``tolerance`` above the target;
- ``own_history``: above the median of the type's last 28 days by more than four times their spread (median absolute
  deviation, scaled as for a normal distribution) and more than ``tolerance``; from seven days on.

Before a day is over its cost is held against the transactions that a day usually has, if it has fewer so far: the
evening's reviews of yesterday's loans say nothing about today's. Called by models.economics.monitor only.
"""

from statistics import median

import numpy as np

from models.budgets.calendar import Period
from models.config import HOUR_MS, UnitCostConfig
from models.counters import COST, ESTIMATED, EVENTS
from models.economics.episodes import Episodes, Verdict, day_finding
from models.economics.hours import NO_CLASS, HourSums, hours_of
from models.economics.pace import days_before, expected_volume
from models.economics.records import DayRecords
from models.economics.transactions import Transactions
from models.explain import by_share, part
from models.findings import counted, percent
from models.money import format_usd
from models.panes_merge import MergedPanes
from models.scopes import Scope
from schemas.columns import KINDS

NAME = "unit_cost"
TRAILING_DAYS = 7
HISTORY_DAYS = 28
MIN_HISTORY_DAYS = 7
SPREADS = 4.0
NORMAL_MAD = 1.4826
CLEAR_SHARE = 0.8
"""Of the tolerance: what is too dear is no longer when it is no further over than that."""


class UnitCosts:
    """One transaction type."""

    def __init__(self, config: UnitCostConfig, transactions: Transactions):
        self.config = config
        self.days = DayRecords(config.timezone)
        self.episodes = {NAME: Episodes(NAME)}
        self._transactions = transactions
        self._sums = HourSums(len(KINDS), self._kind)

    def _kind(self, scope: Scope) -> int:
        ours = scope.kind == "transaction_kind" and scope.transaction_type == self.config.transaction_type
        return KINDS.index(scope.usage_kind) if ours and scope.usage_kind in KINDS else NO_CLASS

    def changed(self, starts: list[int]) -> None:
        self._sums.changed(starts)
        for start in {self.days.period(start).start_ms for start in starts}:
            self.days.changed([start])
            for _ in range(TRAILING_DAYS - 1):  # Days whose trailing figures hold this one.
                start = self.days.period(start).end_ms
                if self.days.told(start):
                    self.days.changed([start])

    def records(self, panes: MergedPanes, watermark_ms: int) -> list[dict]:
        """UnitCost dicts that changed."""
        return [self._record(panes, *due, watermark_ms) for due in self.days.take_due(watermark_ms)]

    def _record(self, panes: MergedPanes, period: Period, revision: int, final: bool, watermark_ms: int) -> dict:
        sums = self._sums.day(panes, period)
        cost, began, target = int(sums[:, COST].sum()), self._began(period), self.config.target_nano_usd
        week = [period, *days_before(period, self.days.period, TRAILING_DAYS - 1)]
        trailing_cost = sum(int(self._sums.day(panes, day)[:, COST].sum()) for day in week)
        trailing = sum(map(self._began, week))
        variance = None if target is None else cost - target * began
        kinds = [
            {
                "kind": kind,
                "cost_nano_usd": int(row[COST]),
                "events": int(row[EVENTS]),
                "share": int(row[COST]) / cost if cost else 0.0,
            }
            for kind, row in zip(KINDS, sums, strict=True)
            if row[EVENTS]
        ]
        return {
            "transaction_type": self.config.transaction_type,
            "day": period.id,
            "day_start": period.start_ms,
            "day_end": period.end_ms,
            "cost_nano_usd": cost,
            "estimated_nano_usd": int(sums[:, ESTIMATED].sum()),
            "transactions": began,
            "unit_nano_usd": _per(cost, began),
            "target_nano_usd": target,
            "variance_nano_usd": variance,
            "variance_ratio": variance / (target * began) if target and began else None,
            "kinds": sorted(kinds, key=lambda one: (-one["cost_nano_usd"], one["kind"])),
            "trailing_days": TRAILING_DAYS,
            "trailing_cost_nano_usd": trailing_cost,
            "trailing_transactions": trailing,
            "trailing_unit_nano_usd": _per(trailing_cost, trailing),
            "revision": revision,
            "final": final,
            "watermark": watermark_ms,
        }

    def judge(self, panes: MergedPanes, hour_end_ms: int, now_ms: int) -> list[dict]:
        """Finding dicts after the hour that ends at ``hour_end_ms``."""
        period = self.days.period(hour_end_ms - HOUR_MS)
        closing = hour_end_ms >= period.end_ms
        costs = self._sums.day(panes, period, hour_end_ms)[:, COST]
        began = self._began(period, hour_end_ms)
        before = days_before(period, self.days.period, HISTORY_DAYS)
        past = [(int(self._sums.day(panes, day)[:, COST].sum()), self._began(day)) for day in before]
        gone = 1.0 if closing else period.gone(hour_end_ms)
        volume = expected_volume(began, [n for _, n in past[:TRAILING_DAYS]], gone)
        units = [cost / n for cost, n in past if n >= self.config.min_transactions]
        rules: list[tuple[str, float, float]] = []
        if self.config.target_nano_usd is not None:
            target = self.config.target_nano_usd
            rules.append(("target", target, target * self.config.tolerance))
        if len(units) >= MIN_HISTORY_DAYS:
            usual = median(units)
            spread = NORMAL_MAD * median(abs(unit - usual) for unit in units)
            rules.append(("own_history", usual, max(SPREADS * spread, self.config.tolerance * usual)))
        findings = []
        for rule, usual, margin in rules:
            cost = int(costs.sum())
            enough = began >= self.config.min_transactions
            excess = cost - usual * volume
            verdict = Verdict.BETWEEN
            if enough and excess > max(margin * volume, self.config.min_excess_nano_usd):
                verdict = Verdict.BROKEN
            elif closing and (not enough or excess <= CLEAR_SHARE * margin * volume):
                verdict = Verdict.KEPT
            if rule == "own_history" and verdict is Verdict.BROKEN and self._key("target") in self.episodes[NAME]:
                continue  # It is told already.
            findings += self.episodes[NAME].judge(
                self._key(rule),
                verdict,
                lambda status, rule=rule, usual=usual: self._finding(
                    panes, period, rule, usual, costs, began, len(units), status, hour_end_ms, now_ms
                ),
                hour_end_ms,
                always=closing,
            )
        return findings

    def expire(self, oldest_ms: int) -> None:
        self._sums.expire(oldest_ms)
        self.days.expire(oldest_ms)

    def _key(self, rule: str) -> str:
        return f"{self.config.transaction_type}\n{rule}"

    def _began(self, period: Period, until_ms: int | None = None) -> int:
        hours = [start for start in hours_of(period) if until_ms is None or start < until_ms]
        return self._transactions.began(self.config.transaction_type, hours)

    def _finding(
        self,
        panes: MergedPanes,
        period: Period,
        rule: str,
        usual: float,
        costs: np.ndarray,
        began: int,
        known_days: int,
        status: str,
        end_ms: int,
        now_ms: int,
    ) -> dict:
        name, cost = self.config.transaction_type, int(costs.sum())
        expected = round(usual * began)
        cause = self._cause(panes, period, costs, expected)
        unit = _per(cost, began) or 0
        so_far = "" if end_ms >= period.end_ms else " so far"
        than = "the target" if rule == "target" else f"the usual {format_usd(round(usual))} of {known_days} days"
        reason = f"A {name} cost {format_usd(unit)} on {period.id}{so_far}, {_against(unit, usual)} {than}"
        if rule == "target":
            reason += f" of {format_usd(round(usual))}"
        reason += f" ({format_usd(cost)} for {counted(began, 'transaction')})"
        if status == "resolved":
            reason += "; that is within bounds again"
        elif cause and cause[0]["excess_nano_usd"] > 0:
            reason += f"; mainly {cause[0]['name']}, {format_usd(cause[0]['excess_nano_usd'])} of the excess"
        return day_finding(
            period,
            end_ms,
            now_ms,
            detector=NAME,
            status=status,
            scope_kind="transaction_type",
            scope_name=name,
            observed_nano_usd=cost,
            expected_nano_usd=expected,
            score=unit / usual if usual else 0.0,
            baseline_size=known_days if rule == "own_history" else 0,
            reason=reason + ".",
            cause=cause,
            details={
                "day": period.id,
                "transaction_type": name,
                "rule": rule,
                "transactions": str(began),
                "unit_nano_usd": str(unit),
                "expected_unit_nano_usd": str(round(usual)),
            },
        )

    def _cause(self, panes: MergedPanes, period: Period, costs: np.ndarray, expected: int) -> list[dict]:
        """By kind of usage: against its share of the week before, if there was one, else like its share of the cost."""
        week = days_before(period, self.days.period, TRAILING_DAYS)
        past = sum((self._sums.day(panes, day)[:, COST] for day in week), np.zeros(len(KINDS), np.int64))
        by_kind = dict(zip(KINDS, costs.tolist(), strict=True))
        excess = int(costs.sum()) - expected
        if past.sum() <= 0:
            return by_share("kind", excess, by_kind)
        shares = {one["name"]: one["excess_nano_usd"]
                  for one in by_share("kind", expected, dict(zip(KINDS, past.tolist(), strict=True)))}  # fmt: skip
        parts = [part("kind", kind, cost - shares.get(kind, 0)) for kind, cost in by_kind.items()
                 if cost or shares.get(kind, 0)]  # fmt: skip
        return sorted(parts, key=lambda one: -one["excess_nano_usd"])


def _per(cost: int, transactions: int) -> int | None:
    return (2 * cost + transactions) // (2 * transactions) if transactions else None


def _against(unit: float, usual: float) -> str:
    if not usual:
        return "against"
    change = unit / usual - 1
    return f"{percent(abs(change))} {'above' if change >= 0 else 'below'}"
