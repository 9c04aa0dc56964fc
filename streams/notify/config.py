"""What the settings of alerts share: receivers, and the rules between a finding and its receivers."""

from datetime import UTC, datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from streams.config_values import DurationMs, TimeZone
from streams.notify.matchers import LABELS, MatcherText

Severity = Literal["info", "warning", "critical"]
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MATCHERS = 'a list of matchers, such as ["team=payments", "severity=~warning|critical"]'


def _http_url(url: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(url.get_secret_value())
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise ValueError("it is not an http:// or https:// address")
    return url


HttpUrl = Annotated[SecretStr, AfterValidator(_http_url)]
"""An address that is itself a secret: who knows a Slack webhook may post."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _interval(default_ms: int, example: str) -> object:
    return Field(default=default_ms, ge=0, le=30 * 86_400_000, description=f'a duration up to "30d", such as {example}')


class ReceiverConfig(_Frozen):
    """One place that findings are sent to."""

    name: str = Field(
        default="",
        max_length=64,
        pattern=r"^[A-Za-z0-9_.-]*$",
        description="up to 64 letters, digits, '_', '.' or '-'",
    )
    """Shown in logs and metrics, and the key of what was sent: another name sends everything open again."""
    min_severity: Severity = Field(default="warning", description='one of "info", "warning", "critical"')
    """Findings below this are not sent."""
    update_interval: DurationMs = _interval(300_000, '"5m"')
    """Changes of a finding that was sent are told once in this time; a higher severity or its end at once."""
    group_by: tuple[Literal[LABELS], ...] = Field(
        default=(), max_length=5, description="a list of labels out of " + ", ".join(LABELS)
    )
    """Findings that agree in these are one alert; each is one by itself without any."""
    group_wait: DurationMs = _interval(0, '"10s"')
    """How long a new alert waits for company; what is over by then is not told at all."""
    group_interval: DurationMs = _interval(1_000, '"1m"')
    """How long a group's next message waits after its last; a higher severity is told at once."""
    repeat_interval: DurationMs = _interval(0, '"4h"')
    """An alert that is still open is told again after this long; 0 for never."""


class RouteSettings(_Frozen):
    """Which receivers take which findings; the first route that matches counts."""

    match: tuple[MatcherText, ...] = Field(default=(), description=_MATCHERS)
    receivers: tuple[str, ...] = Field(min_length=1, description='a list of receivers\' names, such as ["payments"]')
    go_on: bool = Field(default=False, description="true or false")
    """Look at the routes after this one as well."""


class InhibitSettings(_Frozen):
    """While a finding that ``source`` matches is open, those that ``target`` matches are not told."""

    source: tuple[MatcherText, ...] = Field(min_length=1, description=_MATCHERS)
    target: tuple[MatcherText, ...] = Field(min_length=1, description=_MATCHERS)
    equal: tuple[str, ...] = Field(default=(), description='labels that both share, such as ["team"]')
    explains: float = Field(default=0.0, ge=0, le=1, description="a number from 0 to 1, such as 0.5")
    """The share of the target's excess per hour that the sources together must make up."""


class SilenceSettings(_Frozen):
    """A time in which findings are not told: once, or every week; such as a migration or a nightly batch."""

    name: str = Field(min_length=1, max_length=200, description="a name, such as the planned event's")
    match: tuple[MatcherText, ...] = Field(min_length=1, description=_MATCHERS)
    starts: datetime | None = Field(default=None, description="a date and time, such as 2026-12-01T18:00:00")
    ends: datetime | None = Field(default=None, description="a date and time, such as 2026-12-02T06:00:00")
    weekdays: tuple[Literal[WEEKDAYS], ...] = Field(default=(), description="a list out of " + ", ".join(WEEKDAYS))
    start_time: str = Field(
        default="00:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description='a time, such as "22:00"'
    )
    end_time: str = Field(
        default="24:00",
        pattern=r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$",
        description='a time up to "24:00", such as "06:00"',
    )
    """At or before ``start_time`` it is on the next day."""
    timezone: TimeZone = Field(default="UTC", description='an IANA time zone, such as "UTC" or "America/New_York"')

    @model_validator(mode="after")
    def _one_kind(self) -> "SilenceSettings":
        once = self.starts is not None and self.ends is not None
        if once == bool(self.weekdays) or (self.starts is None) != (self.ends is None):
            raise ValueError("give starts and ends, or weekdays (with start_time and end_time)")
        if once and self.instant(self.starts) >= self.instant(self.ends):
            raise ValueError("starts must be before ends")
        return self

    def instant(self, at: datetime) -> datetime:
        """``at`` in UTC; without an offset it is in ``timezone``."""
        return (at if at.tzinfo else at.replace(tzinfo=ZoneInfo(self.timezone))).astimezone(UTC)
