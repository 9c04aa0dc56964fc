"""``[[receivers]] type = "slack"``."""

from typing import Literal

from pydantic import Field

from streams.notify.config import HttpUrl, ReceiverConfig


class SlackConfig(ReceiverConfig):
    """An incoming webhook of a Slack app."""

    type: Literal["slack"]
    url: HttpUrl = Field(description="the address of an incoming webhook, https://hooks.slack.com/services/...")
    digest_above: int = Field(default=5, ge=1, le=1000, description="a whole number from 1 to 1000")
    """With more findings waiting than this, up to twenty go in one message."""
