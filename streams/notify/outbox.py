"""The findings that wait for one receiver, in the order they came, at most two revisions of each.

It mirrors the ``pending`` part of the receiver's entries in the notification log; what may take the place of what
is decided where those are made. Plain data, no waiting.

Bounded by the caller, which asks ``holds`` and ``len`` before it adds: some 3 KB a finding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Item:
    """One finding on its way."""

    finding_id: str
    findings: tuple[dict, ...] = ()
    """Revisions to deliver, in order."""
    waiters: list[tuple[int, Callable[[], None]]] = field(default_factory=list)
    """Called once their revision, or a later one, is settled."""
    attempts: int = 0
    """Answers so far that may be the finding's own fault."""
    not_before: float = 0.0
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

    def holds(self, finding_id: str) -> bool:
        return finding_id in self._items

    def put(self, finding_id: str, findings: tuple[dict, ...]) -> Item:
        """Let ``findings`` wait, in place of what waits under the id."""
        item = self._items.get(finding_id)
        if item is None:
            item = self._items[finding_id] = Item(finding_id)
        item.findings = findings
        return item

    def ready(self, now: float, limit: int) -> Sequence[Item]:
        """Up to ``limit`` items that may go together now, oldest first."""
        taken: list[Item] = []
        for item in self._items.values():
            if item.not_before > now:
                continue
            if item.alone:
                if not taken:
                    return (item,)
                continue
            taken.append(item)
            if len(taken) >= limit:
                break
        return taken

    def ready_at(self) -> float | None:
        """When the next item may go; None if there is none."""
        return min((item.not_before for item in self._items.values()), default=None)

    def ready_count(self, now: float) -> int:
        return sum(item.not_before <= now for item in self._items.values())

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
