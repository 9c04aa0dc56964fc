"""Whether a receiver still has to be told of a finding's revision."""

from streams.notify.notification_log import Entry


def is_repeat(finding: dict, entry: Entry | None) -> bool:
    """True if this revision, or a later one, is settled: a repeat after a restart, or an old one out of order."""
    return entry is not None and entry.settled_revision >= finding["revision"]


def is_waiting(finding: dict, entry: Entry | None) -> bool:
    """True if this revision, or a later one, waits already."""
    return entry is not None and any(held["revision"] >= finding["revision"] for held in entry.pending)
