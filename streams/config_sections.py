"""The sections of ``tenfold.toml``, one frozen model each; ``streams.config`` puts them together.

Each field's ``description`` says what it accepts and is shown when a value is not accepted. Defaults of what
the engines use come from ``models.config``, which also says what each setting means.
"""

from decimal import Decimal
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from models import config as engine
from models.money import to_nano_usd
from schemas.columns import KINDS
from streams.config_section import Section, one_of
from streams.config_values import DurationMs, Servers, Usd
from streams.notify.destinations import destinations

DAY_MS = engine.DAY_MS
_DEFAULT = engine.EngineConfig()


def _duration(default_ms: int, low: str = "1ms", *, ge: int = 1, le: int = 3_660 * DAY_MS) -> Any:
    text = f'a duration such as "{_as_text(default_ms)}" or whole milliseconds, at least {low}'
    if le < 3_660 * DAY_MS:
        text += f" and at most {_as_text(le)}"
    return Field(default=default_ms, ge=ge, le=le, description=text)


def _as_text(ms: int) -> str:
    for unit, size in (("d", DAY_MS), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if ms and ms % size == 0:
            return f"{ms // size}{unit}"
    return f"{ms}ms"


def _usd(default_nano: int) -> Any:
    return Field(default=Decimal(default_nano) / engine.USD, gt=0, description="dollars above 0, such as 1.50 or 50")


class BrokerSettings(Section):
    """How to reach Kafka; without ``servers`` an embedded broker is started, which forgets when it ends."""

    servers: Annotated[Servers, NoDecode] = Field(
        default=(), description='a list of brokers, such as ["kafka-1:9092", "kafka-2:9092"]'
    )
    client_id: str = Field(
        default="tenfold",
        max_length=200,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="up to 200 letters, digits, '.', '_' or '-'",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description=one_of("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="PLAIN", description=one_of("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
    )
    sasl_username: str = Field(default="", description="the user's name at the broker")
    sasl_password: SecretStr | None = Field(default=None, description="the user's password at the broker")
    ssl_cafile: Path | None = Field(default=None, description="a PEM file with the authority that signed the brokers")
    ssl_certfile: Path | None = Field(default=None, description="a PEM file with this client's certificate")
    ssl_keyfile: Path | None = Field(default=None, description="a PEM file with this client's key")

    @property
    def embedded(self) -> bool:
        return not self.servers

    @model_validator(mode="after")
    def _complete(self) -> "BrokerSettings":
        sasl = self.security_protocol.startswith("SASL")
        if sasl and not (self.sasl_username and self.sasl_password):
            raise ValueError(
                f"security_protocol {self.security_protocol!r} needs sasl_username and sasl_password; give both"
            )
        if not sasl and (self.sasl_username or self.sasl_password):
            raise ValueError(
                f"sasl_username and sasl_password are not used with security_protocol {self.security_protocol!r}; "
                'give "SASL_SSL" or remove them'
            )
        if self.embedded and self.security_protocol != "PLAINTEXT":
            raise ValueError(f"security_protocol {self.security_protocol!r} needs servers; give them")
        return self


class TopicSettings(Section):
    prefix: str = Field(
        default="tenfold.",
        max_length=100,
        pattern=r"^[A-Za-z0-9._-]*$",
        description="up to 100 letters, digits, '.', '_' or '-', such as \"tenfold.\"",
    )
    partitions: int = Field(default=8, ge=1, le=10_000, description="a whole number from 1 to 10000")
    """Of the usage topic, hence the most workers that can share it; fixed once it exists."""
    replication: int = Field(default=1, ge=1, le=10, description="a whole number from 1 to 10, at most the brokers")
    rejected_texts: bool = Field(default=True, description="true or false")
    """Whether prompts and answers stay in foreign records that could not be counted."""


class TransportSettings(Section):
    delivery: Literal["raw_spans", "consumer_records"] = Field(
        default="raw_spans", description=one_of("raw_spans", "consumer_records")
    )
    """``consumer_records`` is the slower way through aiokafka's own record objects."""
    group: str = Field(default="tenfold", min_length=1, max_length=200, description="a consumer group's name")
    instance_id: str | None = Field(
        default=None, min_length=1, max_length=249, description="a name that no other worker of the group has"
    )
    """Static membership: a restart within ``session_timeout`` moves no partition."""
    session_timeout: DurationMs = _duration(45_000, "1s", ge=1_000, le=1_800_000)
    heartbeat_interval: DurationMs = _duration(1_000, "100ms", ge=100, le=600_000)
    rebalance_timeout: DurationMs = _duration(60_000, "1s", ge=1_000, le=1_800_000)
    fetch_max_wait: DurationMs = _duration(100, "1ms", le=30_000)
    """How long a broker holds a fetch that has nothing to give: part of the delay of a quiet topic."""
    max_partition_fetch_bytes: int = Field(
        default=2 << 20, ge=1 << 14, le=1 << 26, description="bytes from 16384 to 67108864"
    )

    @model_validator(mode="after")
    def _ordered(self) -> "TransportSettings":
        if self.heartbeat_interval * 3 > self.session_timeout:
            raise ValueError(
                f"heartbeat_interval {_as_text(self.heartbeat_interval)} must be at most a third of session_timeout "
                f"{_as_text(self.session_timeout)}; lower the one or raise the other"
            )
        return self


class FlushSettings(Section):
    usage_interval: DurationMs = _duration(200, "10ms", ge=10, le=60_000)
    """Partials of the usage agents: part of the delay of every rate and budget finding."""
    rollup_interval: DurationMs = _duration(250, "10ms", ge=10, le=60_000)
    """Windows, budgets and baselines of the rollup agents."""
    checkpoint_interval: DurationMs = _duration(10_000, "50ms", ge=50, le=600_000)
    """State is durable at most this long after its input; a restart reads that much again."""


class DedupeSettings(Section):
    events: int = Field(
        default=_DEFAULT.dedupe_events, ge=1_000, le=200_000_000, description="a whole number from 1000 to 200000000"
    )
    """Each partition remembers at least this many of its latest event identities."""
    hash_key: int = Field(default=_DEFAULT.hash_key, ge=0, lt=1 << 64, description="a whole number below 2**64")
    """Key of the string hash, the same for all workers of one deployment and for its stored state."""


class WindowSettings(Section):
    lateness: DurationMs = _duration(_DEFAULT.windows.lateness_ms, "0ms", ge=0)
    max_future_skew: DurationMs = _duration(_DEFAULT.windows.max_future_skew_ms, "0ms", ge=0)
    minute_retention: DurationMs = _duration(_DEFAULT.windows.minute_retention_ms, "1h", ge=3_600_000)
    hour_retention: DurationMs = _duration(_DEFAULT.windows.hour_retention_ms, "32d", ge=32 * DAY_MS)
    idle_partition: DurationMs = _duration(_DEFAULT.windows.idle_partition_ms, "100ms", ge=100)
    silent_partition: DurationMs = _duration(_DEFAULT.windows.silent_partition_ms, "1s", ge=1_000)
    extra_scopes: tuple[Annotated[str, Field(pattern="^(transaction_type|user|tag:(?s:.)+)$")], ...] = Field(
        default=(), description='a list of "transaction_type", "user" and, for a tag, "tag:NAME"'
    )
    """Windows of all of these are kept, for budgets that come by the topic of definitions."""

    @model_validator(mode="after")
    def _ordered(self) -> "WindowSettings":
        if not self.lateness < self.minute_retention <= self.hour_retention:
            raise ValueError(
                f"lateness {_as_text(self.lateness)} must be below minute_retention "
                f"{_as_text(self.minute_retention)}, and that at most hour_retention {_as_text(self.hour_retention)}"
            )
        if self.silent_partition < self.idle_partition:
            raise ValueError(
                f"silent_partition {_as_text(self.silent_partition)} must be at least idle_partition "
                f"{_as_text(self.idle_partition)}"
            )
        return self

    def engine(self) -> engine.WindowConfig:
        return engine.WindowConfig(
            lateness_ms=self.lateness,
            max_future_skew_ms=self.max_future_skew,
            minute_retention_ms=self.minute_retention,
            hour_retention_ms=self.hour_retention,
            idle_partition_ms=self.idle_partition,
            silent_partition_ms=self.silent_partition,
        )


class SessionSettings(Section):
    idle: DurationMs = _duration(_DEFAULT.sessions.idle_ms, "1s", ge=1_000, le=30 * DAY_MS)

    def engine(self) -> engine.SessionConfig:
        return engine.SessionConfig(idle_ms=self.idle)


_RATIO = "a number above 1, such as 10"
_FROM_0 = "a number from 0 on, such as 0.5"


class SessionOutlierSettings(Section):
    """A session against its peers' median."""

    ratio: float = Field(default=_DEFAULT.session_outlier.ratio, gt=1, le=1e6, description=_RATIO)
    warn_margin: float = Field(default=_DEFAULT.session_outlier.warn_margin, ge=0, le=100, description=_FROM_0)
    page_margin: float = Field(default=_DEFAULT.session_outlier.page_margin, ge=0, le=100, description=_FROM_0)
    min_baseline: int = Field(
        default=_DEFAULT.session_outlier.min_baseline, ge=1, le=1_000_000, description="a whole number from 1 on"
    )
    min_excess_usd: Usd = _usd(_DEFAULT.session_outlier.min_excess_nano_usd)
    absolute_cap_usd: Usd = _usd(_DEFAULT.session_outlier.absolute_cap_nano_usd)
    half_life: DurationMs = _duration(int(_DEFAULT.session_outlier.half_life_days * DAY_MS), "1h", ge=3_600_000)

    @model_validator(mode="after")
    def _ordered(self) -> "SessionOutlierSettings":
        if self.warn_margin > self.page_margin:
            raise ValueError(f"warn_margin {self.warn_margin} must be at most page_margin {self.page_margin}")
        return self

    def engine(self) -> engine.SessionOutlierConfig:
        return engine.SessionOutlierConfig(
            ratio=self.ratio,
            warn_margin=self.warn_margin,
            page_margin=self.page_margin,
            min_baseline=self.min_baseline,
            min_excess_nano_usd=to_nano_usd(self.min_excess_usd),
            absolute_cap_nano_usd=to_nano_usd(self.absolute_cap_usd),
            half_life_days=self.half_life / DAY_MS,
        )


class RunawaySettings(Section):
    """A session that calls far more often than its peers, or behaves like a loop."""

    ratio: float = Field(default=_DEFAULT.runaway.ratio, gt=1, le=1e6, description=_RATIO)
    min_calls: int = Field(default=_DEFAULT.runaway.min_calls, ge=2, le=10**9, description="a whole number from 2 on")
    calls_cap: int = Field(default=_DEFAULT.runaway.calls_cap, ge=2, le=10**9, description="a whole number from 2 on")
    min_cost_usd: Usd = _usd(_DEFAULT.runaway.min_cost_nano_usd)
    watch_ratio: float = Field(default=_DEFAULT.runaway.watch_ratio, gt=1, le=1e6, description=_RATIO)
    repeats: int = Field(default=_DEFAULT.runaway.repeats, ge=2, le=10**6, description="a whole number from 2 on")
    growing_calls: int = Field(default=_DEFAULT.runaway.growing_calls, ge=2, le=10**6, description="2 or more calls")
    agents: int = Field(default=_DEFAULT.runaway.agents, ge=2, le=100, description="a whole number from 2 to 100")
    acceleration: float = Field(default=_DEFAULT.runaway.acceleration, gt=2, le=1e6, description="a number above 2")

    def engine(self) -> engine.RunawayConfig:
        given = self.model_dump()
        return engine.RunawayConfig(min_cost_nano_usd=to_nano_usd(given.pop("min_cost_usd")), **given)


class UnitPriceSettings(Section):
    """An event's reported cost against the price table."""

    ratio: float = Field(default=_DEFAULT.unit_price.ratio, gt=1, le=1e6, description=_RATIO)
    min_excess_usd: Usd = _usd(_DEFAULT.unit_price.min_excess_nano_usd)
    call_cap_usd: Usd = _usd(_DEFAULT.unit_price.call_cap_nano_usd)

    def engine(self) -> engine.UnitPriceConfig:
        return engine.UnitPriceConfig(
            ratio=self.ratio,
            min_excess_nano_usd=to_nano_usd(self.min_excess_usd),
            call_cap_nano_usd=to_nano_usd(self.call_cap_usd),
        )


_WINDOWS = "a whole number from 1 to 10000"


class SpendRateSettings(Section):
    """Spend per window of a team or model against its own past."""

    window: DurationMs = _duration(_DEFAULT.spend_rate.window_ms, "1m", ge=60_000, le=DAY_MS)
    margin: float = Field(default=_DEFAULT.spend_rate.margin, gt=0, le=100, description="a number above 0, such as 1")
    ratio: float = Field(default=_DEFAULT.spend_rate.ratio, gt=1, le=1e6, description="a number above 1, such as 2")
    min_excess_usd: Usd = _usd(_DEFAULT.spend_rate.min_excess_nano_usd)
    windows: int = Field(default=_DEFAULT.spend_rate.windows, ge=1, le=10_000, description=_WINDOWS)
    warm_up_windows: int = Field(default=_DEFAULT.spend_rate.warm_up_windows, ge=1, le=10_000, description=_WINDOWS)
    clear_windows: int = Field(default=_DEFAULT.spend_rate.clear_windows, ge=1, le=10_000, description=_WINDOWS)

    @model_validator(mode="after")
    def _consistent(self) -> "SpendRateSettings":
        if self.window % engine.MINUTE_MS or DAY_MS % self.window:
            raise ValueError(f"window {_as_text(self.window)} must be whole minutes that divide a day, such as 5m")
        return self

    def engine(self) -> engine.SpendRateConfig:
        return engine.SpendRateConfig(
            window_ms=self.window,
            margin=self.margin,
            ratio=self.ratio,
            min_excess_nano_usd=to_nano_usd(self.min_excess_usd),
            windows=self.windows,
            warm_up_windows=self.warm_up_windows,
            clear_windows=self.clear_windows,
        )


class CacheShareSettings(Section):
    """Share of prompts read from the cache."""

    ratio: float = Field(
        default=_DEFAULT.cache_share.ratio, gt=0, lt=1, description="a number between 0 and 1, such as 0.5"
    )
    min_events: int = Field(default=_DEFAULT.cache_share.min_events, ge=1, le=1_000_000, description="a whole number")
    min_excess_usd: Usd = _usd(_DEFAULT.cache_share.min_excess_nano_usd)
    windows: int = Field(default=_DEFAULT.cache_share.windows, ge=1, le=10_000, description=_WINDOWS)
    warm_up_windows: int = Field(default=_DEFAULT.cache_share.warm_up_windows, ge=1, le=10_000, description=_WINDOWS)
    clear_windows: int = Field(default=_DEFAULT.cache_share.clear_windows, ge=1, le=10_000, description=_WINDOWS)

    def engine(self) -> engine.CacheShareConfig:
        values = self.model_dump()
        return engine.CacheShareConfig(min_excess_nano_usd=to_nano_usd(values.pop("min_excess_usd")), **values)


class DetectorSettings(Section):
    session_outlier: SessionOutlierSettings = SessionOutlierSettings()
    runaway_agent: RunawaySettings = RunawaySettings()
    unit_price: UnitPriceSettings = UnitPriceSettings()
    spend_rate: SpendRateSettings = SpendRateSettings()
    cache_share: CacheShareSettings = CacheShareSettings()


class LearnerSettings(Section):
    """Half-space trees on each team's spend."""

    n_trees: int = Field(default=_DEFAULT.learner.n_trees, ge=0, le=200, description="a whole number from 0 to 200")
    height: int = Field(default=_DEFAULT.learner.height, ge=1, le=15, description="a whole number from 1 to 15")
    window_size: int = Field(default=_DEFAULT.learner.window_size, ge=1, le=100_000, description="a whole number")
    seed: int = Field(default=_DEFAULT.learner.seed, ge=0, lt=1 << 32, description="a whole number below 2**32")

    def engine(self) -> engine.LearnerConfig:
        return engine.LearnerConfig(**self.model_dump())


class PriceSettings(Section):
    kind: Literal[KINDS] = Field(description=one_of(*KINDS))
    usd: Usd = Field(ge=0, description="dollars per unit, from 0 on, such as 0.002")
    unit: str = Field(default="", description='what is counted, such as "call", "second", "minute"')
    provider: str = Field(default="", description="the provider's name as events carry it; any if left out")
    model: str = Field(default="", description="the model's name as events carry it; any if left out")

    def engine(self) -> engine.PriceOverride:
        return engine.PriceOverride(
            kind=self.kind,
            unit_nano_usd=float(self.usd * engine.USD),
            provider=self.provider,
            model=self.model,
            unit=self.unit,
        )


Receiver = Annotated[
    reduce(or_, (kind.Config for kind in destinations().values())),
    Field(discriminator="type"),
]
"""One of what ``streams.notify.destinations`` holds."""


class NotifySettings(Section):
    queue_max: int = Field(default=10_000, ge=10, le=1_000_000, description="a whole number from 10 to 1000000")
    """Findings that wait for one receiver in memory; beyond it the alert agent is held back."""
    timeout: DurationMs = _duration(10_000, "100ms", ge=100, le=120_000)
    retry_min: DurationMs = _duration(1_000, "10ms", ge=10, le=60_000)
    retry_max: DurationMs = _duration(60_000, "100ms", ge=100, le=3_600_000)
    proxy: SecretStr | None = Field(default=None, description="the address of an HTTP proxy, http://host:port")
    finding_url: str = Field(
        default="",
        max_length=2_000,
        pattern=r"^(https?://.*)?$",
        description='an address such as "https://dash/?finding={id}&team={team}"',
    )
    """Where alerts link to; every label may stand in it."""

    @model_validator(mode="after")
    def _ordered(self) -> "NotifySettings":
        if self.retry_min > self.retry_max:
            raise ValueError(
                f"retry_min {_as_text(self.retry_min)} must be at most retry_max {_as_text(self.retry_max)}"
            )
        return self


class SchemaSettings(Section):
    files: dict[str, Path] = Field(
        default={}, description='files by Confluent schema id, such as { "7" = "usage_event_v1.avsc" }'
    )
    """Writers' schemas of Confluent-framed events; paths count from the settings file."""
    registry_url: SecretStr | None = Field(default=None, description="the address of a schema registry")

    @model_validator(mode="after")
    def _ids(self) -> "SchemaSettings":
        for schema_id in self.files:
            if not (schema_id.isascii() and schema_id.isdigit() and int(schema_id) < 1 << 32):
                raise ValueError(f"files has the key {schema_id!r}; give a schema id, a whole number below 2**32")
        return self


class WebSettings(Section):
    enabled: bool = Field(default=True, description="true or false")
    host: str = Field(default="127.0.0.1", min_length=1, description='an address to listen on, such as "127.0.0.1"')
    port: int = Field(default=8010, ge=0, le=65535, description="a port from 0 to 65535; 0 takes any free one")
    public_url: str = Field(
        default="",
        max_length=500,
        pattern=r"^(https?://.*)?$",
        description="an address such as https://tenfold.example",
    )
    """Where Slack and PagerDuty reach this server: for buttons, their webhooks, and charts."""
    chart_key: SecretStr | None = Field(default=None, min_length=16, description="a key of 16 characters or more")
    """Signs the addresses of charts; without it alerts carry none."""
    slack_signing_secret: SecretStr | None = Field(
        default=None, min_length=8, description="the signing secret of the Slack app"
    )
    """Checks what Slack's buttons send; without it messages carry none."""
    pagerduty_webhook_secret: SecretStr | None = Field(
        default=None, min_length=8, description="the signing secret of a PagerDuty webhook subscription (v3)"
    )


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description=one_of("debug", "info", "warning", "error")
    )
    format: Literal["auto", "console", "json"] = Field(default="auto", description=one_of("auto", "console", "json"))
