"""Which receivers a finding goes to."""

from collections.abc import Callable, Sequence

from streams.notify.notification_log import Entry
from streams.notify.receiver import Receiver

SEVERITIES = ("info", "warning", "critical")


def route(finding: dict, receivers: Sequence[Receiver], latest: Callable[[str, str], Entry | None]) -> list[Receiver]:
    """Receivers whose ``min_severity`` it reaches, and those that ``latest`` knows to have been told of it before.

    A finding that is toned down or resolved at a lower severity must still reach whoever it has woken.
    """
    rank = SEVERITIES.index(finding["severity"])
    return [
        receiver
        for receiver in receivers
        if rank >= SEVERITIES.index(receiver.min_severity) or latest(receiver.name, finding["id"]) is not None
    ]
