"""What the settings of every destination share."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from streams.config_values import DurationMs

Severity = Literal["info", "warning", "critical"]


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


class ReceiverConfig(BaseModel):
    """One place that findings are sent to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        default="",
        max_length=64,
        pattern=r"^[A-Za-z0-9_.-]*$",
        description="up to 64 letters, digits, '_', '.' or '-'",
    )
    """Shown in logs and metrics, and the key of what was sent: another name sends everything open again."""
    min_severity: Severity = Field(default="warning", description='one of "info", "warning", "critical"')
    """Findings below this are not sent."""
    update_interval: DurationMs = Field(
        default=300_000, ge=0, le=86_400_000, description='a duration from 0 to "1d", such as "5m"'
    )
    """Changes of a finding that was sent are told once in this time; a higher severity or its end at once."""
