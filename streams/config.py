"""The settings: ``tenfold.toml`` and TENFOLD_* environment variables, read and validated once, frozen.

``Settings.load(path)`` reads the file given, else the one TENFOLD_CONFIG names, else ``tenfold.toml`` where it
exists, else nothing: every setting has a default that runs. Variables win over the file, with ``__`` between
levels: TENFOLD_DETECTORS__SESSION_OUTLIER__RATIO=12. Lists of tables are JSON there (TENFOLD_RECEIVERS). A
value in the file that is just ``${NAME}`` is taken from the environment variable NAME: keep secrets there.

Durations are ``"30m"``, ``"90s"``, ``"14d"`` or whole milliseconds; money is in dollars, as number or string,
and exact. Unknown keys are errors. All problems are reported at once, as one ConfigError without any secret.

The command line calls this first; nothing else reads the environment.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from models import config as engine
from models.pricing.list_price import ListPrices
from streams import config_sections
from streams.budget_settings import BudgetSettings
from streams.config_problems import problems
from streams.config_sections import (
    BrokerSettings,
    DedupeSettings,
    DetectorSettings,
    FlushSettings,
    LearnerSettings,
    LogSettings,
    NotifySettings,
    PriceSettings,
    Receiver,
    SchemaSettings,
    SessionSettings,
    TopicSettings,
    WebSettings,
    WindowSettings,
)
from streams.config_values import parse_server
from streams.economics_settings import AttributionSettings, PolicySettings, UnitCostSettings
from streams.errors import ConfigError
from streams.notify.config import InhibitSettings, RouteSettings, SilenceSettings

if TYPE_CHECKING:
    from streams.topics import Topics
    from streams.transport.settings import Connection, TransportSettings

DEFAULT_FILE = "tenfold.toml"
PREFIX = "TENFOLD_"
_ANY_TIME_MS = 2**62
"""After every price change that is known."""


class Settings(BaseSettings):
    """All settings of one worker."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__", hide_input_in_errors=True
    )

    broker: BrokerSettings = BrokerSettings()
    topics: TopicSettings = TopicSettings()
    transport: config_sections.TransportSettings = config_sections.TransportSettings()
    flush: FlushSettings = FlushSettings()
    dedupe: DedupeSettings = DedupeSettings()
    windows: WindowSettings = WindowSettings()
    sessions: SessionSettings = SessionSettings()
    detectors: DetectorSettings = DetectorSettings()
    learner: LearnerSettings = LearnerSettings()
    budgets: tuple[BudgetSettings, ...] = Field(default=(), description="a list of [[budgets]] tables")
    policy: PolicySettings = PolicySettings()
    attribution: AttributionSettings = AttributionSettings()
    unit_costs: tuple[UnitCostSettings, ...] = Field(default=(), description="a list of [[unit_costs]] tables")
    prices: tuple[PriceSettings, ...] = Field(default=(), description="a list of [[prices]] tables")
    receivers: tuple[Receiver, ...] = Field(default=(), description="a list of [[receivers]] tables")
    routes: tuple[RouteSettings, ...] = Field(default=(), description="a list of [[routes]] tables")
    inhibit: tuple[InhibitSettings, ...] | None = Field(default=None, description="a list of [[inhibit]] tables")
    """In place of the default rules (``streams.notify.inhibit_stage``)."""
    silences: tuple[SilenceSettings, ...] = Field(default=(), description="a list of [[silences]] tables")
    notify: NotifySettings = NotifySettings()
    schemas: SchemaSettings = SchemaSettings()
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _unique(self) -> "Settings":
        for what, names in (
            ("budgets", [budget.full_name for budget in self.budgets]),
            ("unit_costs", [one.transaction_type for one in self.unit_costs]),
            ("receivers", [receiver.name or receiver.type for receiver in self.receivers]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what}: the name {twice[0]!r} is used twice; give each a name of its own")
        known = {receiver.name or receiver.type for receiver in self.receivers}
        for route in self.routes:
            if unknown := sorted(set(route.receivers) - known):
                raise ValueError(
                    f"routes: there is no receiver {unknown[0]!r}; there are {', '.join(sorted(known)) or 'none'}"
                )
        return self

    @model_validator(mode="after")
    def _priced(self) -> "Settings":
        if self.policy.routes:
            try:
                prices = ListPrices(tuple(price.engine() for price in self.prices))
            except ValueError:
                return self  # Prices are refused where they are used.
            for route in self.policy.routes:
                if prices.pico_usd(route.to, _ANY_TIME_MS) is None:
                    raise ValueError(
                        f"policy.routes: no list price is known for {route.to!r}; give a model as the catalogue names "
                        'it, such as "gpt-5-mini" or "anthropic/claude-haiku-4-5", or its price in [[prices]]'
                    )
        return self

    @classmethod
    def settings_customise_sources(cls, settings_cls, init_settings, env_settings, **_unused):
        """Variables win over what the file holds, which ``load`` passes as arguments."""
        return env_settings, init_settings

    @classmethod
    def load(cls, path: str | os.PathLike | None = None) -> "Settings":
        """The settings of ``path``, TENFOLD_CONFIG or ``tenfold.toml``, and the environment.

        Raises ConfigError with every problem found; not worth a retry.
        """
        file = _find(path)
        found: list[str] = []
        data = _read(file) if file else {}
        data = _filled_in(data, "", found)
        found += _unknown_variables(cls)
        settings = None
        if not found:
            try:
                settings = cls(**data)
            except ValidationError as error:
                found += problems(error, cls, os.environ, PREFIX)
            except SettingsError as error:
                found.append(_not_json(error))
        if settings is not None:
            settings = settings._with_paths_from(file.parent if file else Path("."))
            found += settings._missing_files()
        # Raised here, not in the handlers above: their errors hold the input, secrets and all.
        if found:
            raise ConfigError(found, where=str(file) if file else "the environment")
        return settings

    def engine(self) -> engine.EngineConfig:
        """The part that decides answers."""
        return engine.EngineConfig(
            windows=self.windows.engine(),
            sessions=self.sessions.engine(),
            session_outlier=self.detectors.session_outlier.engine(),
            runaway=self.detectors.runaway_agent.engine(),
            unit_price=self.detectors.unit_price.engine(),
            spend_rate=self.detectors.spend_rate.engine(),
            cache_share=self.detectors.cache_share.engine(),
            learner=self.learner.engine(),
            budgets=tuple(budget.engine() for budget in self.budgets),
            policy=self.policy.engine(),
            attribution=self.attribution.engine(),
            unit_costs=tuple(one.engine() for one in self.unit_costs),
            extra_scopes=self.windows.extra_scopes,
            prices=tuple(price.engine() for price in self.prices),
            dedupe_events=self.dedupe.events,
            hash_key=self.dedupe.hash_key,
        )

    def with_servers(self, servers: str) -> "Settings":
        """These settings with other brokers, ``host:port,host:port``; ConfigError if that is not what it is."""
        try:
            parts = tuple(parse_server(part) for part in servers.split(",") if part.strip())
        except ValueError:
            parts = ()
        if not parts:
            raise ConfigError(f"servers = {servers!r} is not accepted; give brokers as host:port,host:port")
        return self.model_copy(update={"broker": self.broker.model_copy(update={"servers": parts})})

    def topic_names(self) -> "Topics":
        """The topics of this deployment."""
        from streams.topics import topics

        return topics(self.topics.prefix, self.topics.partitions)

    def connection(self) -> "Connection":
        """How every Kafka client of this process connects."""
        from streams.transport.settings import Connection

        broker = self.broker
        return Connection(
            servers=broker.servers,
            client_id=broker.client_id,
            security_protocol=broker.security_protocol,
            sasl_mechanism=broker.sasl_mechanism,
            sasl_username=broker.sasl_username,
            sasl_password=broker.sasl_password.get_secret_value() if broker.sasl_password else "",
            ssl_cafile=broker.ssl_cafile,
            ssl_certfile=broker.ssl_certfile,
            ssl_keyfile=broker.ssl_keyfile,
        )

    def transport_settings(self) -> "TransportSettings":
        """What the consumer is built from."""
        from streams.transport.settings import TransportSettings

        transport = self.transport
        return TransportSettings(
            connection=self.connection(),
            group=transport.group,
            instance_id=transport.instance_id,
            delivery=transport.delivery,
            session_timeout_ms=transport.session_timeout,
            heartbeat_interval_ms=transport.heartbeat_interval,
            rebalance_timeout_ms=transport.rebalance_timeout,
            fetch_max_wait_ms=transport.fetch_max_wait,
            max_partition_fetch_bytes=transport.max_partition_fetch_bytes,
        )

    def writer_schemas(self) -> dict[int, str]:
        """Schema texts by Confluent schema id; ConfigError if a file has gone."""
        texts = {}
        for schema_id, file in self.schemas.files.items():
            try:
                texts[int(schema_id)] = file.read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"schemas.files.{schema_id} = {str(file)!r} cannot be read: {error}") from None
        return texts

    def secrets(self) -> list[str]:
        """Every secret in these settings, for ``streams.log.configure``."""
        return list(_secrets_in(self))

    def _with_paths_from(self, folder: Path) -> "Settings":
        files = {schema_id: folder / file for schema_id, file in self.schemas.files.items()}
        keys = ("ssl_cafile", "ssl_certfile", "ssl_keyfile")
        tls = {key: folder / file for key in keys if (file := getattr(self.broker, key)) is not None}
        return self.model_copy(
            update={
                "schemas": self.schemas.model_copy(update={"files": files}),
                "broker": self.broker.model_copy(update=tls),
            }
        )

    def _missing_files(self) -> Iterator[str]:
        files = {f"schemas.files.{schema_id}": file for schema_id, file in self.schemas.files.items()}
        for key in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
            files[f"broker.{key}"] = getattr(self.broker, key)
        for key, file in files.items():
            if file is not None and not file.is_file():
                yield f"{key} = {str(file)!r} is not a file; give the path of one, counted from the settings file"


def _find(path: str | os.PathLike | None) -> Path | None:
    named = path or os.environ.get(PREFIX + "CONFIG")
    if named:
        return Path(named)
    return Path(DEFAULT_FILE) if Path(DEFAULT_FILE).is_file() else None


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"), parse_float=Decimal)
    except FileNotFoundError:
        problem = "there is no such file; give the path of one with --config or TENFOLD_CONFIG"
    except OSError as error:
        problem = f"it cannot be read ({error.strerror}); check that it is a file and who may read it"
    except UnicodeDecodeError as error:
        problem = f"it is not UTF-8 text (byte {error.start}); save it as UTF-8"
    except tomllib.TOMLDecodeError as error:
        problem = f"it is not TOML: {error}; strings need quotes, tables are [name], lists of tables [[name]]"
    raise ConfigError([problem], where=str(file))


def _filled_in(value: Any, key: str, found: list[str]) -> Any:
    """The value with each ``${NAME}`` replaced by the environment's; what is not set there goes to ``found``."""
    if isinstance(value, dict):
        return {name: _filled_in(part, f"{key}.{name}".lstrip("."), found) for name, part in value.items()}
    if isinstance(value, list):
        return [_filled_in(part, f"{key}[{index}]", found) for index, part in enumerate(value)]
    if isinstance(value, str) and (match := re.fullmatch(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", value)):
        if match[1] not in os.environ:
            found.append(f"{key} = {value!r}: the environment variable {match[1]} is not set; set it")
        return os.environ.get(match[1], "")
    return value


def _unknown_variables(settings: type[Settings]) -> Iterator[str]:
    """Only names with ``__``: Kubernetes sets TENFOLD_PORT and the like for a service called tenfold."""
    for name in sorted(os.environ):
        section = name.upper().removeprefix(PREFIX).partition("__")[0].lower()
        if name.upper().startswith(PREFIX) and "__" in name and section not in settings.model_fields:
            known = ", ".join(sorted(settings.model_fields))
            yield f"the environment variable {name} is not known; after {PREFIX} give one of {known}"


def _not_json(error: SettingsError) -> str:
    match = re.search(r'field "([a-z_]+)"', str(error))
    name = PREFIX + match[1].upper() if match else "a variable"
    return f"the environment variable {name} is not JSON; give a list or table as JSON"


def _secrets_in(value: Any) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets_in(getattr(value, name))
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _secrets_in(part)
    elif isinstance(value, Mapping):
        yield from _secrets_in(tuple(value.values()))
