"""``[[receivers]] type = "slack"``."""

from typing import Literal

from pydantic import Field, model_validator

from streams.config_values import OneLineSecret
from streams.notify.config import HttpUrl, ReceiverConfig


class SlackConfig(ReceiverConfig):
    """An incoming webhook of a Slack app, or a bot's token and a channel."""

    type: Literal["slack"]
    url: HttpUrl | None = Field(
        default=None, description="the address of an incoming webhook, https://hooks.slack.com/services/..."
    )
    token: OneLineSecret | None = Field(default=None, description="a bot's token, xoxb-..., with the scope chat:write")
    channel: str = Field(default="", max_length=80, description="a channel's id, such as C0123456789")
    api_url: HttpUrl = Field(
        default="https://slack.com/api/", validate_default=True, description="the address of the Web API"
    )
    digest_above: int = Field(default=5, ge=1, le=1000, description="a whole number from 1 to 1000")
    """With more alerts waiting than this, all go in one message."""
    messages_per_minute: int = Field(default=8, ge=2, le=60, description="a whole number from 2 to 60")
    """New messages in the channel, at most; what comes on top waits for the next and goes in it."""

    @model_validator(mode="after")
    def _one_way(self) -> "SlackConfig":
        if (self.url is None) == (self.token is None):
            raise ValueError("give url (an incoming webhook), or token and channel (a bot)")
        if (self.token is None) != (not self.channel):
            raise ValueError("token and channel belong together; give both or neither")
        return self
