"""Which changes of a finding a receiver need not be told of at once.

A finding may change with every batch of events. A receiver that knows of it is told again at most once in its
``update_interval``, with the newest figures; at once only when it opens, becomes more severe or is resolved. In a
group that was told of, what is not more severe than the group follows after ``group_interval``: the first finding of
a group never waits for its followers, unless ``group_wait`` says so.
"""

from streams.notify.notification_log import Entry
from streams.notify.receiver import SEVERITIES


def is_minor(finding: dict, entry: Entry | None) -> bool:
    """True for an update that is no more severe than what the receiver was told last."""
    return (
        finding["status"] == "updated"
        and "acknowledged_by" not in finding
        and entry is not None
        and entry.told_severity != ""
        and SEVERITIES.index(finding["severity"]) <= SEVERITIES.index(entry.told_severity)
    )


def hold_ms(finding: dict, entry: Entry | None, interval_ms: int, now_ms: int) -> int:
    """How long to hold ``finding`` back; 0 for at once."""
    if not is_minor(finding, entry):
        return 0
    return max(0, entry.told_ms + interval_ms - now_ms)
