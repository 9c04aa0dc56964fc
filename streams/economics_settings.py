"""Sections of ``tenfold.toml`` about economics: policy, attribution and unit costs (docs/economics.md).

``models.config`` has what they become, and the defaults.
"""

from decimal import Decimal
from typing import Any

from pydantic import Field, model_validator

from models import config as engine
from models.money import to_nano_usd
from streams.config_section import Section
from streams.config_values import TimeZone, Usd

_POLICY = engine.PolicyConfig()
_UNIT_COST = engine.UnitCostConfig("")
_ATTRIBUTION = engine.AttributionConfig()
_ZONE = 'an IANA time zone, such as "UTC" or "America/New_York"'
_PATTERNS = 'a list of model names or patterns, such as ["gpt-5-mini", "claude-haiku-*"]'


def _usd(default_nano: int) -> Any:
    return Field(default=Decimal(default_nano) / engine.USD, gt=0, description="dollars above 0, such as 10")


class UnitCostSettings(Section):
    """What one transaction of a type should cost."""

    transaction_type: str = Field(min_length=1, max_length=200, description="a type as events carry it")
    target_usd: Usd | None = Field(default=None, gt=0, description="dollars per transaction, such as 7.20")
    tolerance: float = Field(default=_UNIT_COST.tolerance, gt=0, le=100, description="a number above 0, such as 0.2")
    """Share above the target, or above what is usual."""
    min_transactions: int = Field(
        default=_UNIT_COST.min_transactions, ge=1, le=10**9, description="a whole number of transactions a day"
    )
    min_excess_usd: Usd = _usd(_UNIT_COST.min_excess_nano_usd)
    timezone: TimeZone = Field(default="UTC", description=_ZONE)

    def engine(self) -> engine.UnitCostConfig:
        return engine.UnitCostConfig(
            transaction_type=self.transaction_type,
            target_nano_usd=None if self.target_usd is None else to_nano_usd(self.target_usd),
            tolerance=self.tolerance,
            min_transactions=self.min_transactions,
            min_excess_nano_usd=to_nano_usd(self.min_excess_usd),
            timezone=self.timezone,
        )


class AttributionSettings(Section):
    """How much of a day's spend should be known by team and use case."""

    timezone: TimeZone = Field(default="UTC", description=_ZONE)
    min_share: float = Field(
        default=_ATTRIBUTION.min_percent, ge=0, le=100, description="percent of a day's spend, such as 95; 0 for never"
    )
    margin: float = Field(
        default=_ATTRIBUTION.margin_points, ge=0, le=100, description="percentage points from 0 on, such as 1"
    )
    min_day_usd: Usd = _usd(_ATTRIBUTION.min_day_nano_usd)

    def engine(self) -> engine.AttributionConfig:
        return engine.AttributionConfig(
            timezone=self.timezone,
            min_percent=self.min_share,
            margin_points=self.margin,
            min_day_nano_usd=to_nano_usd(self.min_day_usd),
        )


class TierSettings(Section):
    name: str = Field(min_length=1, max_length=200, description="a name for the tier")
    share: float = Field(ge=0, le=100, description="percent of the spend on models, from 0 to 100")
    models: tuple[str, ...] = Field(min_length=1, max_length=1_000, description=_PATTERNS)

    def engine(self) -> engine.Tier:
        return engine.Tier(self.name, self.share, self.models)


class RouteToSettings(Section):
    models: tuple[str, ...] = Field(min_length=1, max_length=1_000, description=_PATTERNS)
    to: str = Field(min_length=1, max_length=200, description="the cheaper model")
    max_tokens_per_call: int = Field(default=0, ge=0, le=10**9, description="a whole number of tokens; 0 for any")
    """Only teams whose calls have fewer tokens on average."""

    def engine(self) -> engine.CheaperRoute:
        return engine.CheaperRoute(self.models, self.to, self.max_tokens_per_call)


class PolicySettings(Section):
    """Which models should be used how much, judged by the day."""

    timezone: TimeZone = Field(default="UTC", description=_ZONE)
    tiers: tuple[TierSettings, ...] = Field(
        default=(), max_length=20, description="a list of [[policy.tiers]] tables, the cheapest first"
    )
    tolerance: float = Field(
        default=_POLICY.tolerance_points, gt=0, le=100, description="percentage points above 0, such as 5"
    )
    min_day_usd: Usd = _usd(_POLICY.min_day_nano_usd)
    routes: tuple[RouteToSettings, ...] = Field(
        default=(), max_length=100, description="a list of [[policy.routes]] tables"
    )
    min_saving_usd: Usd = _usd(_POLICY.min_saving_nano_usd)
    self_host_tokens: int = Field(
        default=_POLICY.self_host_tokens, ge=0, lt=1 << 62, description="tokens a day, such as 2000000; 0 for never"
    )
    self_host_models: tuple[str, ...] = Field(
        default=_POLICY.self_host_models, min_length=1, max_length=1_000, description=_PATTERNS
    )
    days: int = Field(default=_POLICY.days, ge=1, le=14, description="a whole number of days from 1 to 14")

    @model_validator(mode="after")
    def _consistent(self) -> "PolicySettings":
        names = [tier.name for tier in self.tiers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"tiers: the name {twice[0]!r} is used twice; give each a name of its own")
        total = sum(tier.share for tier in self.tiers)
        if self.tiers and abs(total - 100) > 0.01:
            raise ValueError(f"tiers: the shares add up to {total:g}; let them add up to 100")
        return self

    def engine(self) -> engine.PolicyConfig:
        return engine.PolicyConfig(
            timezone=self.timezone,
            tiers=tuple(tier.engine() for tier in self.tiers),
            tolerance_points=self.tolerance,
            min_day_nano_usd=to_nano_usd(self.min_day_usd),
            routes=tuple(route.engine() for route in self.routes),
            min_saving_nano_usd=to_nano_usd(self.min_saving_usd),
            self_host_tokens=self.self_host_tokens,
            self_host_models=self.self_host_models,
            days=self.days,
        )
