"""PagerDuty Events API v2: an incident per alert.

The dedup key is the finding's id, or the group's, so a repeat changes nothing, a later revision updates the same
incident, an acknowledgement elsewhere is passed on, and the end of the last finding resolves it. Limits: dedup_key
255, summary 1024, an event 512 KB. ``[[receivers]] type = "pagerduty"``.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field, SecretStr

from streams.notify import text
from streams.notify.config import HttpUrl, ReceiverConfig
from streams.notify.links import Links
from streams.notify.receiver import Notification, Rate, Receiver, Request

MAX_EVENT_BYTES = 500_000
"""Below 512 KB, whichever kilobyte is meant."""
_DETAIL_LIMITS = (2_000, 200, 20)
MAX_LISTED = 50


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
    digest_above: int = Field(default=100, ge=1, le=10_000, description="a whole number from 1 to 10000")
    """With more new alerts waiting than this, they are one incident."""


class PagerDutyReceiver(Receiver):
    Config = PagerDutyConfig
    in_place = True
    rates = (Rate(2.0, 10),)
    update_rates = (Rate(2.0, 10),)

    def __init__(self, config: PagerDutyConfig, links: Links | None = None) -> None:
        super().__init__(config, links)
        self.digest_above = config.digest_above
        self._url = config.url.get_secret_value()
        self._routing_key = config.routing_key.get_secret_value()

    def build(self, notification: Notification) -> Sequence[Request]:
        for limit in _DETAIL_LIMITS:
            body = json.dumps(self._event(notification, limit), ensure_ascii=False).encode("utf-8", "replace")
            if len(body) <= MAX_EVENT_BYTES:
                break
        return [Request(self._url, body, {"Content-Type": "application/json"})]

    def _event(self, notification: Notification, limit: int) -> dict:
        kinds = {change.kind for change in notification.changes}
        action = "trigger" if notification.members else "resolve"
        if kinds == {"acknowledged"}:
            action = "acknowledge"
        event = {
            "routing_key": self._routing_key,
            "event_action": action,
            "dedup_key": dedup_key(notification.group),
        }
        if action != "trigger":
            return event
        worst = notification.members[0]
        event |= {"client": "Tenfold", "payload": self._payload(notification, worst, limit)}
        if link := self.links.to(worst):
            event |= {"client_url": link, "links": [{"href": link, "text": "Details"}]}
        if chart := self.links.chart(worst):
            event["images"] = [{"src": chart, "alt": "Spend against what was expected"}]
        return event

    def _payload(self, notification: Notification, worst: dict, limit: int) -> dict:
        summary = worst["reason"] or text.title(worst)
        details = _details(worst, limit)
        others = notification.members[1:]
        if others:
            of = ", ".join(filter(None, notification.labels.values()))
            summary = f"{len(notification.members):,} findings{f' of {of}' if of else ''}; the worst: {summary}"
            details["Others"] = [text.clip(f"{one['id']}: {one['reason']}", limit) for one in others[:MAX_LISTED]]
            if len(others) > MAX_LISTED:
                details["Not listed"] = f"{len(others) - MAX_LISTED:,} more: `tenfold alerts` lists all"
        return {
            "summary": text.clip(summary, 1_024),
            "source": text.clip(worst["scope_name"] or "tenfold", 255),
            "severity": notification.severity,
            "timestamp": _timestamp(worst["detection_time"]),
            "component": text.clip(worst["agent"] or worst["model"], 255),
            "group": text.clip(worst["team"], 255),
            "class": text.clip(worst["detector"], 255),
            "custom_details": details,
        }


def dedup_key(key: str) -> str:
    """The key itself, or a digest of one that is too long."""
    if len(key) <= 255:
        return key
    return f"{key[:180]}-{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}"


def _details(finding: dict, limit: int) -> dict:
    """Figures, causes and the detector's own details, each text at most ``limit`` long."""
    details = {label: text.clip(value, limit) for label, value in text.facts(finding)}
    details["Confidence"] = f"{finding['confidence']:.2f}"
    details["Causes"] = [text.clip(cause, limit) for cause in text.causes(finding, 10)]
    details["Examples"] = [text.clip(event_id, limit) for event_id in finding["example_event_ids"][:10]]
    for name in sorted(finding["details"])[:30]:
        details.setdefault(text.clip(name, min(limit, 100)), text.clip(finding["details"][name], limit))
    details["Finding"] = f"{dedup_key(finding['id'])}, revision {finding['revision']}"
    return details


def _timestamp(ms: int) -> str | None:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return None


RECEIVER = PagerDutyReceiver
