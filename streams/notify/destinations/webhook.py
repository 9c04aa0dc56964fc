"""Any HTTP endpoint: a POST of each finding as JSON, with the field names of ``schemas/finding.avsc``.

``format = "cloudevents"`` wraps it as a CloudEvent (structured mode, 1.0). ``Idempotency-Key`` is the finding's id and
revision, so that the endpoint can recognise a repeat after a lost answer. With a ``secret`` the request is signed:
``X-Tenfold-Timestamp`` (seconds since 1970) and ``X-Tenfold-Signature: v1=HEX``, the HMAC-SHA256 of
``v1:TIMESTAMP:BODY``; check both, against replays. Money is nano-USD in JSON integers, past 2**53 for sums above nine
million dollars.
``[[receivers]] type = "webhook"``.
"""

import contextlib
import hashlib
import hmac
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import quote

from pydantic import Field, SecretStr

from streams.config_values import DurationMs, OneLineSecret
from streams.notify.config import HttpUrl, ReceiverConfig
from streams.notify.links import Links
from streams.notify.receiver import Change, Notification, Rate, Receiver, Request


class WebhookConfig(ReceiverConfig):
    """Any endpoint that takes a POST of JSON."""

    type: Literal["webhook"]
    url: HttpUrl = Field(description="an http:// or https:// address that takes a POST of JSON")
    authorization: OneLineSecret | None = Field(
        default=None, description='the value of the Authorization header, such as "Bearer ..."'
    )
    secret: SecretStr | None = Field(
        default=None, min_length=16, description="a key of 16 characters or more to sign with"
    )
    format: Literal["finding", "cloudevents"] = Field(default="finding", description='one of "finding", "cloudevents"')
    update_interval: DurationMs = Field(
        default=0, ge=0, le=86_400_000, description='a duration from 0 to "1d", such as "5m"'
    )
    """Machines take every change."""
    requests_per_second: int = Field(default=50, ge=1, le=1_000, description="a whole number from 1 to 1000")


class WebhookReceiver(Receiver):
    Config = WebhookConfig

    def __init__(self, config: WebhookConfig, links: Links | None = None) -> None:
        super().__init__(config, links)
        self.group_by = ()
        self.rates = (Rate(float(config.requests_per_second), config.requests_per_second),)
        self._url = config.url.get_secret_value()
        self._format = config.format
        self._authorization = config.authorization.get_secret_value() if config.authorization else ""
        self._secret = config.secret.get_secret_value() if config.secret else ""

    def build(self, notification: Notification) -> Sequence[Request]:
        return [self._request(change, notification.at_ms // 1000) for change in notification.changes]

    def _request(self, change: Change, at_seconds: int) -> Request:
        finding = change.finding
        content = {name: _json(value) for name, value in finding.items()}
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": f"{quote(finding['id'])}:{finding['revision']}",
        }
        if self._format == "cloudevents":
            headers["Content-Type"] = "application/cloudevents+json; charset=utf-8"
            content = _cloud_event(finding, change.kind, content)
        if self._authorization:
            headers["Authorization"] = self._authorization
        body = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
        if self._secret:
            headers["X-Tenfold-Timestamp"] = str(at_seconds)
            headers["X-Tenfold-Signature"] = signature(self._secret, at_seconds, body)
        return Request(self._url, body, headers)


def signature(secret: str, at_seconds: int, body: bytes) -> str:
    """What ``X-Tenfold-Signature`` must be; for the endpoint to compare with ``hmac.compare_digest``."""
    return "v1=" + hmac.new(secret.encode(), b"v1:%d:%s" % (at_seconds, body), hashlib.sha256).hexdigest()


def _cloud_event(finding: dict, kind: str, content: dict) -> dict:
    event = {
        "specversion": "1.0",
        "id": f"{finding['id']}:{finding['revision']}",
        "source": "tenfold",
        "type": f"tenfold.finding.{kind}",
        "subject": finding["id"],
        "datacontenttype": "application/json",
        "data": content,
    }
    # It is optional, and may be no time that a calendar knows.
    with contextlib.suppress(ValueError, OverflowError, OSError):
        event["time"] = datetime.fromtimestamp(finding["detection_time"] / 1000, UTC).isoformat(timespec="milliseconds")
    return event


def _json(value):
    """JSON has no infinity and no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


RECEIVER = WebhookReceiver
