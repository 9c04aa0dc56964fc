"""What one receiver is told next: one alert, or many together when a channel floods.

An alert that is ready goes by itself. Where more than ``digest_above`` wait, a receiver that posts is told of all in
one message; one that changes alerts in place gets the new ones as one alert, the flood's, which takes more of them for
``FLOOD_SECONDS`` after its last message. Pure: the caller waits, sends and takes from the rates.
"""

import math
from collections import defaultdict
from dataclasses import dataclass, field

from streams.notify.clock import Clock
from streams.notify.group_stage import FLOOD_SECONDS, Group, Groups, flood_key, rank
from streams.notify.outbox import Item, Outbox
from streams.notify.rate_limit_stage import Limiter
from streams.notify.receiver import Receiver

MAX_BATCH = 2_000
"""Findings told at once: their records in the log are some 0.2 s of work."""


@dataclass(slots=True)
class Batch:
    """Items to tell at once, all of alert ``group`` unless it is empty; nothing yet until ``wait_until``."""

    items: list[Item] = field(default_factory=list)
    group: str = ""
    update: bool = False
    """It changes a message that is there."""
    wait_until: float = math.inf


class Batcher:
    def __init__(self, receiver: Receiver, outbox: Outbox, groups: Groups, clock: Clock) -> None:
        self._receiver = receiver
        self._outbox = outbox
        self._groups = groups
        self._clock = clock
        self._posts = Limiter(receiver.rates, clock)
        self._updates = Limiter(receiver.update_rates, clock)
        self._flood = ""

    def choose(self, single: bool) -> Batch:
        """The next batch; ``single``: of one finding, to see whether the destination is well."""
        now = self._clock.monotonic()
        batch = Batch()
        ready: dict[str, list[Item]] = defaultdict(list)
        for item in self._outbox:
            if item.not_before > now:
                batch.wait_until = min(batch.wait_until, item.not_before)
                continue
            ready[item.group].append(item)
            if self._plain:
                break
        for key, items in list(ready.items()):
            gate = self._gate(self._groups.get(key), items)
            if gate > now:
                batch.wait_until = min(batch.wait_until, gate)
                del ready[key]
        if not single:
            self._digest(ready)
        for key, items in ready.items():
            group = self._groups.get(key)
            update = self._receiver.in_place and group is not None
            wait = (self._updates if update else self._posts).wait_seconds()
            if wait > 0:
                batch.wait_until = min(batch.wait_until, now + wait)
                continue
            alone = single or items[0].alone
            batch.items = items[:1] if alone else [item for item in items if not item.alone][:MAX_BATCH]
            batch.group, batch.update = key, update
            break
        return batch

    def may_post(self) -> bool:
        """Whether a message more is within the rates."""
        return self._posts.wait_seconds() <= 0

    def take(self, update: bool) -> None:
        (self._updates if update else self._posts).take()

    def due(self) -> int:
        """Findings that wait for nothing but their turn."""
        now = self._clock.monotonic()
        return sum(item.not_before <= now for item in self._outbox)

    @property
    def _plain(self) -> bool:
        """One finding after the other, none with another."""
        receiver = self._receiver
        return not receiver.in_place and receiver.digest_above is None and not receiver.group_by

    def _gate(self, group: Group | None, items: list[Item]) -> float:
        """When an alert may be told of, by the monotonic clock."""
        if group is None:
            return min(item.created for item in items) + self._receiver.group_wait_ms / 1000
        if len(group.open_ids | {item.finding_id for item in items}) == 1:
            return 0.0
        if any(rank(item.head["severity"]) > rank(group.told_severity) for item in items):
            return 0.0
        if group.asked is not None:
            # From when the last one set out: what comes while it is on its way has waited already.
            return group.asked + self._receiver.group_interval_ms / 1000
        due_ms = group.told_ms + self._receiver.group_interval_ms
        return self._clock.monotonic() + (due_ms - self._clock.now_ms()) / 1000

    def _digest(self, ready: dict[str, list[Item]]) -> None:
        """Put what floods under one key, first in ``ready``."""
        limit = self._receiver.digest_above
        if limit is None:
            return
        keys = [key for key in ready if not (self._receiver.in_place and self._groups.get(key))]
        if len(keys) <= limit:
            return
        items = [item for key in keys for item in ready[key] if not item.alone]
        rest = {key: [item for item in ready[key] if item.alone] if key in keys else ready[key] for key in ready}
        ready.clear()
        if items:
            ready[self._flood_key(items) if self._receiver.in_place else ""] = items
        ready.update((key, left) for key, left in rest.items() if left)

    def _flood_key(self, items: list[Item]) -> str:
        group = self._groups.get(self._flood)
        now_ms = self._clock.now_ms()
        if group is None or now_ms - group.told_ms > FLOOD_SECONDS * 1000:
            self._flood = flood_key(items[0].head, now_ms)
        for item in items:
            item.group = self._flood
        return self._flood
