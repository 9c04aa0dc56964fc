"""``[[receivers]] type = "webhook"``."""

from typing import Literal

from pydantic import Field

from streams.config_values import OneLineSecret
from streams.notify.config import HttpUrl, ReceiverConfig


class WebhookConfig(ReceiverConfig):
    """Any endpoint that takes a POST of JSON."""

    type: Literal["webhook"]
    url: HttpUrl = Field(description="an http:// or https:// address that takes a POST of JSON")
    authorization: OneLineSecret | None = Field(
        default=None, description='the value of the Authorization header, such as "Bearer ..."'
    )
