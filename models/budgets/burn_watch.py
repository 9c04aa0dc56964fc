"""The burn of one budget from minute to minute: its pairs of windows, its open findings, how long the money lasts.

Evaluated once for every minute of event time, never by a clock, so a replay comes to the same findings. A burn is one
finding from opening to resolution: "page" while the fast or medium pair fires (critical), "ticket" while the slow one
does (warning), "remaining" while neither does but what is left will not last (models.budgets.remaining). An even pace
means even in the season's time (models.budgets.season). Called by models.budgets.account.
"""

from dataclasses import asdict, dataclass, field

import numpy as np

from models.budgets.burn import FLOOR, MIN_EVENTS, Pair, PairState, pairs
from models.budgets.calendar import Period
from models.budgets.findings import burn_finding, remaining_finding
from models.budgets.period import PeriodState
from models.budgets.remaining import MAX_BURN, Rest, calm_after, is_over
from models.budgets.season import Season
from models.budgets.series import Trailing
from models.config import BudgetConfig

KINDS = (("page", (0, 1)), ("ticket", (2,)))
REMAINING = "remaining"


@dataclass(slots=True)
class Incident:
    """An open burn finding."""

    opened_ms: int
    period_id: str
    revision: int = 1
    opening: dict = field(default_factory=dict)
    """The finding as it was opened."""
    calm: int = 0
    """Of ``remaining``: see models.budgets.remaining."""

    def resolved(self, reason: str, now_ms: int) -> dict:
        """The last word, with the figures of the first."""
        changes = {"status": "resolved", "revision": self.revision + 1, "reason": reason, "detection_time": now_ms}
        return {**self.opening, **changes}


@dataclass(slots=True)
class Pace:
    """How a budget was used up to the last evaluated minute; amounts per ms of the season's time."""

    at_ms: int = 0
    fast: float = 0.0
    """Over the fast pair's long window: in a month an hour, give or take two minutes."""
    slow: float = 0.0
    """Over the slow pair's long window: a tenth of the period."""


@dataclass(frozen=True, slots=True)
class Minutes:
    """What one call evaluates: minutes of one period; arrays int64[k]."""

    period: Period
    ends: np.ndarray
    limits: np.ndarray
    spent: np.ndarray
    """Known use of the period up to each minute."""
    price: float
    """nano-USD that a unit of it has cost."""
    trailing: Trailing
    season: Season

    @classmethod
    def of(
        cls,
        budget: BudgetConfig,
        period: Period,
        state: PeriodState,
        ends: np.ndarray,
        trailing: Trailing,
        season: Season,
    ) -> "Minutes":
        limits = np.full(len(ends), budget.limit, np.int64)
        for higher in budget.raises:
            limits += higher.amount * ((ends >= higher.from_ms) & (ends < higher.until_ms))
        if budget.rolling_ms:
            spent, _ = trailing.spent(ends, budget.rolling_ms)
        else:
            spent = state.spent - trailing.ahead(ends, period.end_ms)
        price = state.cost / state.spent if state.spent else 0.0
        return cls(period, ends, limits, spent, price, trailing, season)


@dataclass(frozen=True, slots=True)
class _Window:
    """One pair at those minutes; arrays of length k."""

    pair: Pair
    amount: np.ndarray
    """int64: use in the long window"""
    length_ms: np.ndarray
    """int64: true length of the long window"""
    rate: np.ndarray
    """float64: use of the long window per ms of the season's time"""
    long_burn: np.ndarray
    short_burn: np.ndarray
    short_rate: np.ndarray
    """float64: as ``rate``, of the short window"""
    enough: np.ndarray
    """bool: over both floors"""

    @classmethod
    def of(cls, pair: Pair, unit: str, minutes: Minutes) -> "_Window":
        elapsed, ends = minutes.season.elapsed, minutes.ends
        even = minutes.limits / (elapsed(minutes.period.end_ms) - elapsed(minutes.period.start_ms))
        amount, length_ms = minutes.trailing.spent(ends, pair.long_ms)
        short, short_ms = minutes.trailing.spent(ends, pair.short_ms)
        rate = amount / (elapsed(ends) - elapsed(ends - length_ms))
        short_rate = short / (elapsed(ends) - elapsed(ends - short_ms))
        enough = (amount >= FLOOR[unit]) & (minutes.trailing.events(ends, pair.long_ms) >= MIN_EVENTS)
        return cls(pair, amount, length_ms, rate, rate / even, short_rate / even, short_rate, enough)

    @property
    def exceeds(self) -> np.ndarray:
        """bool[k]: both windows over the factor."""
        return (self.long_burn > self.pair.factor) & (self.short_burn > self.pair.factor)

    def report(self, i: int, firing: bool) -> dict:
        """BurnRate dict of one minute."""
        return {
            "long_ms": self.pair.long_ms,
            "short_ms": self.pair.short_ms,
            "factor": self.pair.factor,
            "long_burn": float(self.long_burn[i]),
            "short_burn": float(self.short_burn[i]),
            "firing": firing,
        }


@dataclass(slots=True)
class BurnWatch:
    """State of one budget."""

    states: dict[str, PairState] = field(default_factory=dict)
    incidents: dict[str, Incident] = field(default_factory=dict)
    rates: list[dict] = field(default_factory=list)
    """BurnRate dicts, fast to slow."""
    pace: Pace = field(default_factory=Pace)

    def evaluate(self, budget: BudgetConfig, minutes: Minutes, projection: dict | None, now_ms: int) -> list[dict]:
        """Move on by these minutes; findings that opened or were resolved. ``projection``: the last one made."""
        windows = [_Window.of(pair, budget.unit, minutes) for pair in pairs(minutes.period.length_ms)]
        states = [self.states.setdefault(window.pair.name, PairState()) for window in windows]
        rest = None if budget.rolling_ms else _rest(minutes, windows)
        quiet = not any(state.firing for state in states) and not any(window.exceeds.any() for window in windows)
        quiet &= rest is None or (REMAINING not in self.incidents and not rest.exceeds.any())
        findings = []
        # A month of replay has 43,200 minutes, of which most cannot change anything.
        for i in [len(minutes.ends) - 1] if quiet else range(len(minutes.ends)):
            findings += self._evaluate_minute(budget, minutes, windows, states, i, projection, now_ms)
            if rest is not None:
                findings += self._evaluate_rest(budget, minutes, windows[2], rest, i, now_ms)
        self.rates = [window.report(-1, state.firing) for window, state in zip(windows, states, strict=True)]
        self.pace = Pace(int(minutes.ends[-1]), float(windows[0].rate[-1]), float(windows[2].rate[-1]))
        return findings

    def _evaluate_minute(
        self,
        budget: BudgetConfig,
        minutes: Minutes,
        windows: list[_Window],
        states: list[PairState],
        i: int,
        projection: dict | None,
        now_ms: int,
    ) -> list[dict]:
        period, end_ms, limit, spent = (
            minutes.period,
            int(minutes.ends[i]),
            int(minutes.limits[i]),
            int(minutes.spent[i]),
        )
        rest = float(minutes.season.elapsed(period.end_ms) - minutes.season.elapsed(end_ms))
        for window, state in zip(windows, states, strict=True):
            overrun = spent + window.rate[i] * rest > limit
            state.evaluate(
                window.pair,
                float(window.long_burn[i]),
                float(window.short_burn[i]),
                bool(window.enough[i]),
                bool(overrun or budget.rolling_ms),
            )
        findings = []
        for kind, members in KINDS:
            firing = [member for member in members if states[member].firing]
            incident = self.incidents.get(kind)
            if bool(firing) == (incident is not None):
                continue
            if incident is None:
                incident = self.incidents[kind] = Incident(end_ms, period.id)
            else:
                incident.revision += 1
                del self.incidents[kind]
            window = windows[firing[0] if firing else members[0]]
            pace = Pace(end_ms, float(windows[0].rate[i]))
            findings.append(
                burn_finding(
                    budget=budget,
                    limit=limit,
                    period=period,
                    kind=kind,
                    status="open" if firing else "resolved",
                    opened_ms=incident.opened_ms,
                    opened_period=incident.period_id,
                    revision=incident.revision,
                    pair=window.pair,
                    rate=window.report(i, bool(firing)),
                    spent=spent,
                    amount=int(window.amount[i]),
                    price=minutes.price,
                    window_ms=int(window.length_ms[i]),
                    expected_share=float(
                        (minutes.season.elapsed(end_ms) - minutes.season.elapsed(end_ms - window.length_ms[i]))
                        / (minutes.season.elapsed(period.end_ms) - minutes.season.elapsed(period.start_ms))
                    ),
                    end_ms=end_ms,
                    exhaustion_ms=exhaustion(minutes.season, period, limit, spent, pace),
                    # It is of another period in a new one's first hour.
                    projection=projection if projection and projection["made_at"] >= period.start_ms else None,
                    now_ms=now_ms,
                )
            )
            if firing:
                incident.opening = findings[-1]
        return findings

    def _evaluate_rest(
        self, budget: BudgetConfig, minutes: Minutes, slow: _Window, rest: Rest, i: int, now_ms: int
    ) -> list[dict]:
        """Whether what is left lasts, after the pairs have been looked at."""
        incident, end_ms, period = self.incidents.get(REMAINING), int(minutes.ends[i]), minutes.period
        told = any(kind in self.incidents for kind, _ in KINDS)
        if incident is None:
            if told or not rest.exceeds[i]:
                return []
            incident = self.incidents[REMAINING] = Incident(end_ms, period.id)
            elapsed = minutes.season.elapsed
            window_ms, limit, spent = int(slow.length_ms[i]), int(minutes.limits[i]), int(minutes.spent[i])
            incident.opening = remaining_finding(
                budget=budget,
                limit=limit,
                spent=spent,
                period=period,
                burn=rest.least_burn(i),
                amount=int(slow.amount[i]),
                price=minutes.price,
                window_ms=window_ms,
                rest_share=float((elapsed(end_ms) - elapsed(end_ms - window_ms)) / rest.rest_ms[i]),
                end_ms=end_ms,
                exhaustion_ms=exhaustion(minutes.season, period, limit, spent, Pace(end_ms, float(rest.pace[i]))),
                now_ms=now_ms,
            )
            return [incident.opening]
        incident.calm = calm_after(incident.calm, float(rest.burn[i]))
        if incident.period_id != period.id:
            reason = f"{incident.period_id} of budget {budget.name} is over."
        elif told:
            reason = f"Budget {budget.name} burns fast now, which is a finding of its own."
        elif is_over(incident.calm):
            reason = f"What is left of budget {budget.name} lasts for {period.id} again."
        else:
            return []
        del self.incidents[REMAINING]
        return [incident.resolved(reason, now_ms) | {"last_event_time": end_ms - 1}]

    def close(self, now_ms: int) -> list[dict]:
        """The budget is no more: its open findings, resolved."""
        return [
            incident.resolved(f"Budget {incident.opening['scope_name']} was removed.", now_ms)
            for incident in self.incidents.values()
        ]

    def snapshot(self) -> dict:
        """Plain values; ``rates`` is the list itself, which is replaced and never changed."""
        return {
            "states": {name: [state.firing, state.calm] for name, state in self.states.items()},
            "incidents": {kind: asdict(incident) for kind, incident in self.incidents.items()},
            "rates": self.rates,
            "pace": asdict(self.pace),
        }

    @classmethod
    def restore(cls, snapshot: dict) -> "BurnWatch":
        return cls(
            states={name: PairState(*state) for name, state in snapshot["states"].items()},
            incidents={kind: Incident(**incident) for kind, incident in snapshot["incidents"].items()},
            rates=snapshot["rates"],
            pace=Pace(**snapshot["pace"]),
        )


def _rest(minutes: Minutes, windows: list[_Window]) -> Rest:
    fast, _, slow = windows
    elapsed, ends = minutes.season.elapsed, minutes.ends
    rest_ms = elapsed(minutes.period.end_ms) - elapsed(ends)
    enough = slow.enough & (minutes.trailing.events(ends, slow.pair.short_ms) >= MIN_EVENTS)
    return Rest.of(minutes.limits, minutes.spent, rest_ms, slow.rate, (slow.short_rate, fast.rate), enough)


def exhaustion(season: Season, period: Period, limit: int, spent: int, pace: Pace) -> int | None:
    """When the rest of the limit is used at the pace of the last hour; None if not before the period's end."""
    rest = limit - spent
    if rest <= 0:
        return pace.at_ms
    if pace.fast <= 0:
        return None
    at = season.when(float(season.elapsed(pace.at_ms)) + rest / pace.fast)
    return int(at) if at < period.end_ms else None


def remaining_burn(season: Season, period: Period, limit: int, spent: int, pace: Pace) -> float | None:
    """The pace of the last hour against the rest of the limit over the rest of the period; None without a rest.

    Above 1 the limit is reached before the period ends, whatever was used so far.
    """
    rest_ms = float(season.elapsed(period.end_ms) - season.elapsed(pace.at_ms))
    if limit <= spent or rest_ms <= 0:
        return None
    return min(pace.fast * rest_ms / (limit - spent), MAX_BURN)
