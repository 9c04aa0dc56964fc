"""``[[receivers]] type = "webhook"``."""

from typing import Literal

from pydantic import Field

from streams.config_values import DurationMs, OneLineSecret
from streams.notify.config import HttpUrl, ReceiverConfig


class WebhookConfig(ReceiverConfig):
    """Any endpoint that takes a POST of JSON."""

    type: Literal["webhook"]
    url: HttpUrl = Field(description="an http:// or https:// address that takes a POST of JSON")
    authorization: OneLineSecret | None = Field(
        default=None, description='the value of the Authorization header, such as "Bearer ..."'
    )
    update_interval: DurationMs = Field(
        default=0, ge=0, le=86_400_000, description='a duration from 0 to "1d", such as "5m"'
    )
    """Machines take every change."""
