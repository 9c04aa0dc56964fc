"""PagerDuty Events API v2: an incident per finding.

The finding's id is the dedup key, so a repeat changes nothing, a later revision updates the same incident and
a resolution resolves it. Limits: dedup_key 255, summary 1024, an event 512 KB.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime

from streams.notify import text
from streams.notify.pagerduty.config import PagerDutyConfig
from streams.notify.receiver import Outcome, Request, classify_http

MAX_EVENT_BYTES = 500_000
"""Below 512 KB, whichever kilobyte is meant."""
_DETAIL_LIMITS = (2_000, 200, 20)


class PagerDutyReceiver:
    rate_per_second = 2.0
    burst = 10
    digest_above = 1
    digest_max = 1

    def __init__(self, config: PagerDutyConfig) -> None:
        self.name = config.name or config.type
        self.min_severity = config.min_severity
        self.update_interval_ms = config.update_interval
        self._url = config.url.get_secret_value()
        self._routing_key = config.routing_key.get_secret_value()

    def build(self, findings: Sequence[dict]) -> Request:
        (finding,) = findings
        for limit in _DETAIL_LIMITS:
            body = json.dumps(self._event(finding, limit), ensure_ascii=False).encode("utf-8", "replace")
            if len(body) <= MAX_EVENT_BYTES:
                break
        return Request(self._url, body, {"Content-Type": "application/json"})

    def classify(self, status: int, body: str, retry_after_seconds: float | None = None) -> Outcome:
        return classify_http(status, body, retry_after_seconds)

    def _event(self, finding: dict, limit: int) -> dict:
        event = {
            "routing_key": self._routing_key,
            "event_action": "resolve" if finding["status"] == "resolved" else "trigger",
            "dedup_key": dedup_key(finding["id"]),
        }
        if event["event_action"] == "resolve":
            return event
        return event | {
            "client": "Tenfold",
            "payload": {
                "summary": text.clip(finding["reason"] or text.title(finding), 1_024),
                "source": text.clip(finding["scope_name"] or "tenfold", 255),
                "severity": finding["severity"],
                "timestamp": _timestamp(finding["detection_time"]),
                "component": text.clip(finding["agent"] or finding["model"], 255),
                "group": text.clip(finding["team"], 255),
                "class": text.clip(finding["detector"], 255),
                "custom_details": _details(finding, limit),
            },
        }


def dedup_key(finding_id: str) -> str:
    """The id itself, or a digest of one that is too long."""
    if len(finding_id) <= 255:
        return finding_id
    return f"{finding_id[:180]}-{hashlib.blake2b(finding_id.encode(), digest_size=16).hexdigest()}"


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
