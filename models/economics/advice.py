"""What a workload could save, said when it would have on several days in a row: cheaper models, own hardware.

A workload is a team's use of a model. Advice is judged when a day is over, given after ``days`` days in a row, and
taken back after as many without; it is never more than *info*. Called by models.economics.monitor only.
"""

from dataclasses import dataclass, field

from models.budgets.calendar import Period, period_of
from models.config import HOUR_MS, EngineConfig
from models.counters import CACHE_READ, CACHE_WRITE, COST, EVENTS, INPUT, OUTPUT
from models.economics.episodes import Episodes, Verdict, day_finding
from models.economics.hours import scope_totals
from models.economics.model_mix import largest, matches
from models.economics.pace import days_before
from models.explain import part
from models.findings import counted
from models.money import format_usd
from models.panes_merge import MergedPanes
from models.pricing.list_price import ListPrices

SELF_HOST = "self_host"
CHEAPER_MODEL = "cheaper_model"
_TOKENS = (INPUT, CACHE_READ, CACHE_WRITE, OUTPUT)


@dataclass(slots=True)
class Case:
    """What one workload or model came to on one day."""

    team: str
    model: str
    to: str = ""
    cost: int = 0
    cheaper: int = 0
    """What the same tokens cost at ``to``."""
    tokens: int = 0
    events: int = 0
    savings: dict[str, int] = field(default_factory=dict)
    """nano-USD by team."""

    @property
    def saving(self) -> int:
        return self.cost - self.cheaper


class Advice:
    """Self-hosting and cheaper models, of one policy."""

    def __init__(self, config: EngineConfig):
        self.config = config.policy
        self._prices = ListPrices(config.prices) if config.policy.routes else None
        self.episodes = {name: Episodes(name) for name in (SELF_HOST, CHEAPER_MODEL)}
        self._known: dict[int, dict[str, dict[str, Case]]] = {}
        """Start of a day -> detector -> key -> what is above the threshold or open."""

    def judge(self, panes: MergedPanes, hour_end_ms: int, now_ms: int) -> list[dict]:
        """Finding dicts if a day ended with this hour."""
        period = self._period(hour_end_ms - HOUR_MS)
        if hour_end_ms < period.end_ms:
            return []
        days = [period, *days_before(period, self._period, self.config.days - 1)]
        wanted = {day.start_ms for day in days}
        self._known = {start: cases for start, cases in self._known.items() if start in wanted}
        self._known[period.start_ms] = self._cases(panes, period)
        for day in days[1:]:
            if day.start_ms not in self._known:
                self._known[day.start_ms] = self._cases(panes, day)
        findings = []
        for name, episodes in self.episodes.items():
            above = [self._above(name, self._known[day.start_ms][name]) for day in days]
            cases = self._known[period.start_ms][name]
            for key in sorted({*cases, *episodes.keys}):
                hot = [key in keys for keys in above]
                verdict = Verdict.BETWEEN
                if all(hot) and len(hot) == self.config.days:
                    verdict = Verdict.BROKEN
                elif not any(hot):
                    verdict = Verdict.KEPT
                case = cases.get(key) or Case(*key.split("\n"))
                word = self._self_host if name == SELF_HOST else self._cheaper
                findings += episodes.judge(
                    key,
                    verdict,
                    lambda status, word=word, case=case: word(case, period, status, now_ms),
                    hour_end_ms,
                )
        return findings

    def _period(self, time_ms: int) -> Period:
        return period_of(time_ms, self.config.timezone, "day")

    def _above(self, name: str, cases: dict[str, Case]) -> set[str]:
        if name == SELF_HOST:
            return {key for key, case in cases.items() if case.tokens > self.config.self_host_tokens}
        return {key for key, case in cases.items() if case.saving >= self.config.min_saving_nano_usd}

    def _cases(self, panes: MergedPanes, period: Period) -> dict[str, dict[str, Case]]:
        own: dict[str, Case] = {}
        cheaper: dict[str, Case] = {}
        for scope, counters in scope_totals(panes, period, "team_model"):
            if not scope.model:
                continue
            tokens, cost = sum(counters[at] for at in _TOKENS), counters[COST]
            key = f"{scope.team}\n{scope.model}"
            above = 0 < self.config.self_host_tokens < tokens and matches(scope.model, self.config.self_host_models)
            if above or key in self.episodes[SELF_HOST]:
                own[key] = Case(scope.team, scope.model, "", cost, cost, tokens, counters[EVENTS])
            route = next(
                (r for r in self.config.routes if matches(scope.model, r.models) and scope.model != r.to), None
            )
            if route is None or (
                route.max_tokens_per_call and tokens >= route.max_tokens_per_call * max(counters[EVENTS], 1)
            ):
                continue
            prices = self._prices.pico_usd(route.to, period.start_ms)
            if prices is None:
                continue
            would = sum(counters[at] * price for at, price in zip(_TOKENS, prices, strict=True)) // 1000
            if would >= cost:
                continue
            case = cheaper.setdefault(f"\n{scope.model}", Case("", scope.model, route.to))
            case.cost += cost
            case.cheaper += would
            case.tokens += tokens
            case.events += counters[EVENTS]
            case.savings[scope.team] = case.savings.get(scope.team, 0) + cost - would
        return {SELF_HOST: own, CHEAPER_MODEL: cheaper}

    def _self_host(self, case: Case, period: Period, status: str, now_ms: int) -> dict:
        threshold = self.config.self_host_tokens
        who = f"{case.team or '(unknown)'} × {case.model}"
        reason = (
            f"{who} used {case.tokens:,} tokens on {period.id} for {format_usd(case.cost)}, more than {threshold:,} "
            f"on {counted(self.config.days, 'day')} in a row: see whether running it yourself is cheaper"
        )
        if status == "resolved":
            reason = f"{who} has used no more than {threshold:,} tokens on {counted(self.config.days, 'day')} in a row"
        return self._finding(
            case,
            period,
            status,
            now_ms,
            detector=SELF_HOST,
            scope_kind="team_model",
            scope_name=who,
            team=case.team,
            score=case.tokens / threshold,
            reason=reason + ".",
            details={"day": period.id, "tokens": str(case.tokens), "threshold_tokens": str(threshold)},
        )

    def _cheaper(self, case: Case, period: Period, status: str, now_ms: int) -> dict:
        reason = (
            f"{case.model} cost {format_usd(case.cost)} on {period.id} for {counted(case.events, 'call')} that the "
            f"policy would send to {case.to}, where their tokens cost {format_usd(case.cheaper)}: "
            f"{format_usd(case.saving)} a day"
        )
        if status == "resolved":
            reason = (
                f"{case.model} could have saved no more than {format_usd(self.config.min_saving_nano_usd)} a day on "
                f"{counted(self.config.days, 'day')} in a row"
            )
        savings = sorted(case.savings.items(), key=lambda item: (-item[1], item[0]))
        return self._finding(
            case,
            period,
            status,
            now_ms,
            detector=CHEAPER_MODEL,
            scope_kind="model",
            scope_name=case.model,
            score=case.saving / self.config.min_saving_nano_usd,
            reason=reason + ".",
            cause=largest([part("team", team or "(unknown)", saving) for team, saving in savings]),
            details={"day": period.id, "to": case.to, "saving_nano_usd": str(case.saving)},
        )

    def _finding(self, case: Case, period: Period, status: str, now_ms: int, **own) -> dict:
        return day_finding(
            period,
            period.end_ms,
            now_ms,
            severity="info",
            status=status,
            model=case.model,
            observed_nano_usd=case.cost,
            expected_nano_usd=case.cheaper,
            **own,
        )
