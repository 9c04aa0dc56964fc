"""The findings that wait for one receiver, in the order they came, at most two revisions of each.

It mirrors the ``pending`` part of the receiver's entries in the notification log; what may take the place of what
is decided where those are made. Plain data, no waiting.

Bounded by the caller, which asks ``holds`` and ``len`` before it adds: some 3 KB a finding.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Item:
    """One finding on its way."""

    finding_id: str
    created: float
    """When it came, by the monotonic clock."""
    group: str = ""
    """Key of the alert it is part of."""
    findings: tuple[dict, ...] = ()
    """Revisions to deliver, in order."""
    waiters: list[tuple[int, Callable[[], None]]] = field(default_factory=list)
    """Called once their revision, or a later one, is settled."""
    attempts: int = 0
    """Answers so far that may be the finding's own fault."""
    not_before: float = 0.0
    """For its own sake: trouble with it, or a change that may wait."""
    alone: bool = False
    """Never in a digest: one with it was refused."""

    @property
    def head(self) -> dict:
        """What to send next."""
        return self.findings[0]

    def without(self, finding: dict) -> tuple[dict, ...]:
        """What is left once ``finding`` is settled; a revision that came meanwhile stays."""
        return tuple(other for other in self.findings if other is not finding)


class Outbox:
    def __init__(self) -> None:
        self._items: dict[str, Item] = {}

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        """In the order in which they are to be told."""
        return iter(self._items.values())

    def get(self, finding_id: str) -> Item | None:
        return self._items.get(finding_id)

    def holds(self, finding_id: str) -> bool:
        return finding_id in self._items

    def put(self, finding_id: str, findings: tuple[dict, ...], group: str, now: float) -> Item:
        """Let ``findings`` wait, in place of what waits under the id."""
        item = self._items.get(finding_id)
        if item is None:
            item = self._items[finding_id] = Item(finding_id, now)
        item.findings, item.group = findings, group
        return item

    def postpone(self, item: Item, until: float) -> None:
        """Let others go first."""
        item.not_before = until
        if self._items.pop(item.finding_id, None) is not None:
            self._items[item.finding_id] = item

    def settle(self, item: Item, finding: dict) -> list[Callable[[], None]]:
        """``finding`` is done with; returns the waiters to call."""
        left = item.findings = item.without(finding)
        item.attempts, item.not_before, item.alone = 0, 0.0, False
        done = [waiter for revision, waiter in item.waiters if not left or revision <= finding["revision"]]
        item.waiters = [pair for pair in item.waiters if left and pair[0] > finding["revision"]]
        if not left:
            self._items.pop(item.finding_id, None)
        return done
