"""Any HTTP endpoint: a POST of the finding as JSON, with the field names of ``schemas/finding.avsc``.

``Idempotency-Key`` is the finding's id and revision, so that the endpoint can recognise a repeat after a lost
answer. Money is nano-USD in JSON integers, past 2**53 for sums above nine million dollars.
"""

import json
import math
from collections.abc import Sequence
from urllib.parse import quote

from streams.notify.receiver import Outcome, Request, classify_http
from streams.notify.webhook.config import WebhookConfig


class WebhookReceiver:
    rate_per_second = 20.0
    burst = 20
    digest_above = 1
    digest_max = 1

    def __init__(self, config: WebhookConfig) -> None:
        self.name = config.name or config.type
        self.min_severity = config.min_severity
        self.update_interval_ms = config.update_interval
        self._url = config.url.get_secret_value()
        self._authorization = config.authorization.get_secret_value() if config.authorization else ""

    def build(self, findings: Sequence[dict]) -> Request:
        (finding,) = findings
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": f"{quote(finding['id'])}:{finding['revision']}",
        }
        if self._authorization:
            headers["Authorization"] = self._authorization
        body = json.dumps({name: _json(value) for name, value in finding.items()}, ensure_ascii=False)
        return Request(self._url, body.encode("utf-8", "replace"), headers)

    def classify(self, status: int, body: str, retry_after_seconds: float | None = None) -> Outcome:
        return classify_http(status, body, retry_after_seconds)


def _json(value):
    """JSON has no infinity and no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
