"""``[[receivers]] type = "pagerduty"``."""

from typing import Literal

from pydantic import Field, SecretStr

from streams.notify.config import HttpUrl, ReceiverConfig


class PagerDutyConfig(ReceiverConfig):
    """A service with an Events API v2 integration."""

    type: Literal["pagerduty"]
    routing_key: SecretStr = Field(
        min_length=1, description="the integration key of an Events API v2 integration, 32 characters"
    )
    url: HttpUrl = Field(
        default="https://events.pagerduty.com/v2/enqueue",
        validate_default=True,
        description="an https:// address, such as https://events.eu.pagerduty.com/v2/enqueue",
    )
