"""What a destination has to offer: requests for a notification, and a verdict on each answer.

A receiver does no I/O and keeps no state, so that queues, rates and retries are the same for all of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, get_args

from streams.notify.config import ReceiverConfig
from streams.notify.links import Links

BODY_START = 300
"""Characters of an answer that are kept to explain a failure."""
_RETRIED_4XX = (408, 425, 429)
SEVERITIES = ("info", "warning", "critical")

Kind = Literal["opened", "escalated", "amended", "repeated", "acknowledged", "resolved"]


@dataclass(frozen=True, slots=True)
class Change:
    """What a notification is to tell of one finding."""

    finding: dict
    kind: Kind


@dataclass(frozen=True, slots=True)
class Notification:
    """Changes to tell, and the alert they belong to."""

    group: str
    """Stable key of the alert: the finding's id, or that of a group of findings."""
    changes: tuple[Change, ...]
    members: tuple[dict, ...] = ()
    """All findings of the alert that are open once this is told, the most severe and dearest first."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What the findings of a group have in common; empty for a finding by itself."""
    ref: str = ""
    """What the destination called the alert's message; empty before the first."""
    quiet: bool = False
    """No further message is within the rates now; changes in place only."""
    at_ms: int = 0
    """When it is told."""

    @property
    def findings(self) -> list[dict]:
        return [change.finding for change in self.changes]

    @property
    def severity(self) -> str:
        """The worst that is open; of what was open, if all is resolved."""
        return max((finding["severity"] for finding in self.members or self.findings), key=SEVERITIES.index)


@dataclass(frozen=True, slots=True)
class Request:
    """One POST. Address and headers may be secret and are not in the repr."""

    url: str = field(repr=False)
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Delivered:
    """The destination has it, and calls it ``ref``."""

    ref: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now. ``suspect``: the finding itself may be the cause, so let others go first."""

    reason: str
    after_seconds: float | None = None
    suspect: bool = False


@dataclass(frozen=True, slots=True)
class Gone:
    """The message that was to be changed is not there any more: post it anew."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The destination will never take it; sending it again cannot help."""

    reason: str


Outcome = Delivered | Retry | Gone | Failed


class Rate(NamedTuple):
    """A token bucket: how much at once, and how fast it fills."""

    per_second: float
    burst: int


class Receiver(ABC):
    """One configured destination.

    ``in_place``: an alert is one thing at the destination, which changes with it; else each notification is a message
    of its own. ``digest_above``: with more alerts than this waiting they are told together; None for never.
    ``rates`` all apply to a new message, ``update_rates`` to a change in place.
    """

    Config: ClassVar[type[ReceiverConfig]]
    in_place: bool = False
    digest_above: int | None = None
    rates: Sequence[Rate] = (Rate(50.0, 50),)
    update_rates: Sequence[Rate] = (Rate(50.0, 50),)

    def __init__(self, config: ReceiverConfig, links: Links | None = None) -> None:
        self.name = config.name or config.type
        self.type = config.type
        self.min_severity = config.min_severity
        self.update_interval_ms = config.update_interval
        self.group_by = config.group_by
        self.group_wait_ms = config.group_wait
        self.group_interval_ms = config.group_interval
        self.repeat_interval_ms = config.repeat_interval
        self.links = links or Links()

    @classmethod
    def type_name(cls) -> str:
        return get_args(cls.Config.model_fields["type"].annotation)[0]

    @abstractmethod
    def build(self, notification: Notification) -> Sequence[Request]:
        """The requests that tell it, in order; the answer to the first names the message."""

    def classify(self, status: int, body: str, retry_after_seconds: float | None = None) -> Outcome:
        """The verdict on an answer; ``body`` is its start and may be empty."""
        return classify_http(status, body, retry_after_seconds)


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
