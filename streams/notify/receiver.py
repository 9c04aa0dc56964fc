"""What a destination has to offer: a request for findings, and a verdict on its answer.

A receiver does no I/O and keeps no state, so that queues, rates and retries are the same for all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

BODY_START = 300
"""Characters of an answer that are kept to explain a failure."""
_RETRIED_4XX = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class Request:
    """One POST. Address and headers may be secret and are not in the repr."""

    url: str = field(repr=False)
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Delivered:
    """The destination has it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now. ``suspect``: the finding itself may be the cause, so let others go first."""

    reason: str
    after_seconds: float | None = None
    suspect: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The destination will never take it; sending it again cannot help."""

    reason: str


Outcome = Delivered | Retry | Failed


class Receiver(Protocol):
    """One configured destination."""

    name: str
    min_severity: str
    update_interval_ms: int
    rate_per_second: float
    burst: int
    digest_above: int
    """With more findings waiting than this, up to ``digest_max`` go in one request."""
    digest_max: int

    def build(self, findings: Sequence[dict]) -> Request:
        """The request for one finding, or for up to ``digest_max`` different ones."""

    def classify(self, status: int, body: str, retry_after_seconds: float | None = None) -> Outcome:
        """The verdict on an answer; ``body`` is its start and may be empty."""


def classify_http(status: int, body: str, retry_after_seconds: float | None = None) -> Outcome:
    """The common verdict: 2xx is delivered; 408, 425, 429 and 5xx are tried again; the rest never will succeed.

    >>> classify_http(503, "", 7.0)
    Retry(reason='HTTP 503', after_seconds=7.0, suspect=False)
    """
    start = " ".join(body.split())[:BODY_START]
    reason = f"HTTP {status}: {start}" if start else f"HTTP {status}"
    if 200 <= status < 300:
        return Delivered()
    if status in _RETRIED_4XX or status >= 500:
        # 502, 503 and 504 speak of the destination, 500 and others perhaps of what was sent.
        suspect = status >= 500 and status not in (502, 503, 504)
        return Retry(reason, retry_after_seconds, suspect)
    if 300 <= status < 400:
        return Failed(f"{reason}: it moved; set the receiver's url to its final address")
    return Failed(reason)
