"""Slack incoming webhooks.

About one message a second is allowed, with short bursts; past that Slack answers 429 with Retry-After. An
incoming webhook cannot change what it posted, so an update or a resolution is a message of its own, with the
same id. There is no dedup key: an answer that gets lost repeats its message.
"""

import json
from collections.abc import Sequence

from streams.notify.receiver import Failed, Outcome, Request, classify_http
from streams.notify.slack.config import SlackConfig
from streams.notify.slack.message import DIGEST_MAX, digest, message


class SlackReceiver:
    rate_per_second = 1.0
    burst = 3
    digest_max = DIGEST_MAX

    def __init__(self, config: SlackConfig) -> None:
        self.name = config.name or config.type
        self.min_severity = config.min_severity
        self.update_interval_ms = config.update_interval
        self.digest_above = config.digest_above
        self._url = config.url.get_secret_value()

    def build(self, findings: Sequence[dict]) -> Request:
        content = message(findings[0]) if len(findings) == 1 else digest(findings)
        body = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
        return Request(self._url, body, {"Content-Type": "application/json; charset=utf-8"})

    def classify(self, status: int, body: str, retry_after_seconds: float | None = None) -> Outcome:
        # The Web API, and proxies that speak like it, refuse with status 200.
        if status == 200 and body.startswith("{"):
            try:
                answer = json.loads(body)
            except ValueError:
                answer = {}
            if answer.get("ok") is False:
                return Failed(f"Slack answered {answer.get('error', 'ok: false')}")
        return classify_http(status, body, retry_after_seconds)
