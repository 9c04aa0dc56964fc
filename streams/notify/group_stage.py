"""Which findings are one alert at a receiver, and what that alert was told last.

A finding joins the group of its labels when it is first to be told, and stays there until it is resolved. A group ends
with its last open finding; the same labels later are a new alert, with the same key. What a group is follows from
the log's entries, so a restart knows it.

Flood: where more new alerts wait than a receiver's ``digest_above``, those become one group of their own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from models.findings import finding_id
from streams.notify.matchers import labels
from streams.notify.notification_log import Entry
from streams.notify.receiver import SEVERITIES, Receiver

FLOOD_SECONDS = 60.0
"""A flood's group takes newcomers for this long after its last message."""


def group_key(finding: Mapping, receiver: Receiver) -> str:
    """The finding's id, or a stable key of the labels that the receiver groups by."""
    if not receiver.group_by:
        return finding["id"]
    return finding_id("group", *(f"{label}={finding[label]}" for label in receiver.group_by))


def flood_key(finding: Mapping, now_ms: int) -> str:
    """A key for the flood that this finding is the first of."""
    return finding_id("flood", finding["id"], now_ms)


def shared_labels(finding: Mapping, receiver: Receiver, key: str) -> dict[str, str]:
    """What the members of a group have in common; empty for a finding by itself and for a flood."""
    if not receiver.group_by or key != group_key(finding, receiver):
        return {}
    known = labels(finding)
    return {label: known[label] for label in receiver.group_by}


@dataclass(slots=True)
class Group:
    """What one receiver was told of one alert."""

    open_ids: set[str] = field(default_factory=set)
    told_ms: int = 0
    told_severity: str = ""
    ref: str = ""
    asked: float | None = None
    """When the last message set out, by the monotonic clock; None if that was another owner's."""


class Groups:
    """The alerts of one receiver that are open, by key."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._groups: dict[str, Group] = {}
        for entry in entries:
            if entry.told_open:
                self.told(entry)

    def get(self, key: str) -> Group | None:
        return self._groups.get(key)

    def told(self, entry: Entry) -> None:
        """Note what an entry says was told."""
        group = self._groups.get(entry.group)
        if not entry.told_open:
            if group is not None:
                group.open_ids.discard(entry.finding_id)
                group.told_ms = max(group.told_ms, entry.told_ms)
                if not group.open_ids:
                    del self._groups[entry.group]
            return
        if group is None:
            group = self._groups[entry.group] = Group()
        group.open_ids.add(entry.finding_id)
        if entry.told_ms >= group.told_ms:
            group.told_ms, group.ref = entry.told_ms, entry.ref or group.ref
        if not group.told_severity or rank(entry.told_severity) > rank(group.told_severity):
            group.told_severity = entry.told_severity

    def forget(self, finding_id: str) -> None:
        """The finding is known to nobody any more; its alert ends without a word if it was the last."""
        for key, group in list(self._groups.items()):
            group.open_ids.discard(finding_id)
            if not group.open_ids:
                del self._groups[key]


def rank(severity: str) -> int:
    return SEVERITIES.index(severity)
