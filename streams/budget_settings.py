"""One ``[[budgets]]`` table of ``tenfold.toml``, and the same as JSON in ``tenfold.budget-definitions``.

A budget says on what (exactly one scope), how much (dollars or tokens) and for how long (a calendar period or a
rolling window). ``models.config.BudgetConfig`` is what it becomes.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from models.config import DAY_MS, HOUR_MS, BudgetConfig, Enforcement, Raise
from models.money import to_nano_usd
from models.scopes import BUDGET_WINDOW_KINDS, Scope
from streams.config_section import Section, one_of
from streams.config_values import DurationMs, TimeZone, Usd

Percent = Annotated[int, Field(ge=1, le=1000)]
_PERIODS = ("day", "week", "month", "quarter", "year", "rolling")
_KINDS = ("team", "model", "agent", "use_case", "transaction_type", "user", "session", "tag")
_DEFAULT_KINDS = tuple(kind for kind in BUDGET_WINDOW_KINDS if kind != "session")
_ANY_NAME = "a name as events carry it"
_DOLLARS = "dollars above 0, such as 25000"
_TOKENS = "a whole number of tokens above 0"
_LEVEL = "a percent from 1 to 1000"


def _with_zone(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise ValueError("it has no time zone")
    return time


ZonedTime = Annotated[datetime, AfterValidator(_with_zone)]
_WHEN = 'a time with its zone, such as "2026-12-01T00:00:00Z"'


class RaiseSettings(Section):
    """A limit that is higher for a while."""

    usd: Usd | None = Field(default=None, gt=0, description=_DOLLARS)
    tokens: int | None = Field(default=None, gt=0, lt=1 << 62, description=_TOKENS)
    start: ZonedTime = Field(default=datetime(1970, 1, 1, tzinfo=UTC), description=_WHEN)
    until: ZonedTime = Field(description=_WHEN)

    @model_validator(mode="after")
    def _ordered(self) -> "RaiseSettings":
        if self.start >= self.until:
            raise ValueError(f"start {self.start.isoformat()} must be before until {self.until.isoformat()}")
        return self


class BudgetSettings(Section):
    name: str = Field(default="", max_length=200, description="a name of its own; the scope's if left out")
    organisation: bool = Field(default=False, description="true for all usage together")
    business_unit: str = Field(default="", max_length=200, description="a name for several teams together")
    teams: tuple[str, ...] = Field(default=(), max_length=10_000, description="the teams of the business unit")
    team: str = Field(default="", description=_ANY_NAME)
    model: str = Field(default="", description=_ANY_NAME)
    agent: str = Field(default="", description=_ANY_NAME)
    use_case: str = Field(default="", description=_ANY_NAME)
    transaction_type: str = Field(default="", description=_ANY_NAME)
    user: str = Field(default="", description=_ANY_NAME)
    session: str = Field(default="", description="a session's id as events carry it")
    tag: str = Field(default="", max_length=1000, description="the name of a tag, with its value")
    value: str = Field(default="", max_length=1000, description="the value of the tag")
    default_for: Literal[("", *BUDGET_WINDOW_KINDS)] = Field(default="", description=one_of(*_DEFAULT_KINDS))
    """Each scope of that kind without a budget of its own gets this one with its first event; of a tag each value."""
    usd: Usd | None = Field(default=None, gt=0, description=_DOLLARS)
    monthly_usd: Usd | None = Field(default=None, gt=0, description=_DOLLARS)
    """Short for ``usd`` with the period "month"."""
    tokens: int | None = Field(default=None, gt=0, lt=1 << 62, description=_TOKENS)
    period: Literal[_PERIODS] = Field(default="month", description=one_of(*_PERIODS))
    fiscal_start: int = Field(default=1, ge=1, le=12, description="the month, 1 to 12, that the fiscal year begins in")
    window: DurationMs | None = Field(
        default=None, ge=3_600_000, le=366 * DAY_MS, description='whole hours from "1h" to "366d"'
    )
    """Length of a rolling budget."""
    timezone: TimeZone = Field(default="UTC", description='an IANA time zone, such as "UTC" or "America/New_York"')
    milestones: tuple[Percent, ...] = Field(
        default=(50, 80, 100), max_length=20, description="percents from 1 to 1000, each higher than the one before"
    )
    raises: tuple[RaiseSettings, ...] = Field(default=(), max_length=100, description="a list of raises")
    throttle_at: Percent | None = Field(default=None, description=_LEVEL)
    route_at: Percent | None = Field(default=None, description=_LEVEL)
    route_to: str = Field(default="", max_length=200, description="the cheaper model to route to")
    block_at: Percent | None = Field(default=None, description=_LEVEL)
    fail: Literal["open", "closed"] = Field(default="open", description=one_of("open", "closed"))

    @model_validator(mode="after")
    def _checked(self) -> "BudgetSettings":
        if self.default_for == "session":
            raise ValueError(
                "default_for cannot be session: there is no end of sessions. All are watched by session_outlier; "
                "absolute_cap_usd in [detectors.session_outlier] is its limit where peers are too few to compare with"
            )
        default_tag = self.default_for == "tag"
        if bool(self.tag) != bool(self.value or default_tag) or (default_tag and self.value):
            raise ValueError('tag and value belong together; give both, or tag with default_for = "tag" for each value')
        named = [kind for kind in _KINDS if getattr(self, kind) and not (kind == "tag" and default_tag)]
        scopes = [name for name in ("organisation", "business_unit", "default_for") if getattr(self, name)] + named
        if scopes not in [[name] for name in ("organisation", "business_unit", "default_for", *_KINDS)] + [
            ["team", "model"]
        ]:
            raise ValueError(
                f"it is on {' and '.join(scopes) or 'nothing'}; give one of organisation, business_unit (with teams), "
                "team, model, agent, use_case, transaction_type, user, session, tag (with value), team and model "
                "together, or default_for"
            )
        if bool(self.business_unit) != bool(self.teams):
            raise ValueError("business_unit and teams belong together; give both")
        amounts = [name for name in ("usd", "monthly_usd", "tokens") if getattr(self, name) is not None]
        if len(amounts) != 1:
            raise ValueError(f"it has {' and '.join(amounts) or 'no amount'}; give one of usd, monthly_usd, tokens")
        if self.monthly_usd is not None and self.period != "month":
            raise ValueError(f'monthly_usd is by month and period is "{self.period}"; give usd')
        if (self.period == "rolling") != (self.window is not None):
            raise ValueError('period = "rolling" and window belong together; give both')
        if self.window is not None and self.window % HOUR_MS:
            raise ValueError("window must be whole hours")
        if self.fiscal_start != 1 and self.period not in ("quarter", "year"):
            raise ValueError(f'fiscal_start is for quarters and years, and period is "{self.period}"')
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones {list(self.milestones)} must rise; give them as in [50, 80, 100]")
        for one in self.raises:
            if (one.tokens is None, one.usd is None) != (self.tokens is None, self.tokens is not None):
                raise ValueError("a raise must be in the budget's unit; give each either usd or tokens")
        if (self.route_at is None) != (not self.route_to):
            raise ValueError("route_at and route_to belong together; give both")
        return self

    @property
    def scope(self) -> Scope:
        """What it is on; of a default one, the kind."""
        if self.organisation:
            return Scope("organisation")
        if self.business_unit:
            return Scope("business_unit", self.business_unit)
        if self.default_for:
            return Scope(self.default_for, tag=self.tag)
        kind = "team_model" if self.team and self.model else next(kind for kind in _KINDS if getattr(self, kind))
        return Scope.of(
            kind,
            team=self.team,
            model=self.model,
            agent=self.agent,
            use_case=self.use_case,
            transaction_type=self.transaction_type,
            user=self.user,
            session=self.session,
            tag=self.tag,
            tag_value=self.value,
        )

    @property
    def full_name(self) -> str:
        default = f"default {self.default_for} {self.tag}".strip() if self.default_for else ""
        return self.name or default or self.scope.label

    def engine(self) -> BudgetConfig:
        usd = self.monthly_usd if self.usd is None else self.usd
        return BudgetConfig(
            name=self.full_name,
            scope=self.scope,
            limit=self.tokens if usd is None else to_nano_usd(usd),
            timezone=self.timezone,
            milestones_percent=self.milestones,
            unit="tokens" if usd is None else "nano_usd",
            period=self.period,
            first_month=self.fiscal_start,
            rolling_ms=self.window or 0,
            teams=self.teams,
            default=bool(self.default_for),
            raises=tuple(
                Raise(
                    to_nano_usd(one.usd) if one.tokens is None else one.tokens,
                    int(one.start.timestamp() * 1000),
                    int(one.until.timestamp() * 1000),
                )
                for one in self.raises
            ),
            enforcement=self._enforcement(),
        )

    def _enforcement(self) -> Enforcement | None:
        if self.throttle_at is self.route_at is self.block_at is None:
            return None
        return Enforcement(
            throttle_percent=self.throttle_at or 0,
            route_percent=self.route_at or 0,
            route_to=self.route_to,
            block_percent=self.block_at or 0,
            fail=self.fail,
        )
