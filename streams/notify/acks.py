"""From delivered findings to the offset that may be committed."""

import asyncio
from collections import deque
from collections.abc import Iterable


class DeliveredOffsets:
    """The watermark of delivery in one partition: everything below ``next_offset`` is delivered.

    ``track`` is called in offset order. Needed only with a notification log that is not durable.
    """

    def __init__(self, next_offset: int) -> None:
        self._next_offset = next_offset
        self._waiting: deque[tuple[int, list[asyncio.Future]]] = deque()

    def track(self, next_offset: int, futures: Iterable[asyncio.Future]) -> None:
        """Records below ``next_offset``, and not tracked before, are delivered once ``futures`` are done."""
        self._waiting.append((next_offset, list(futures)))

    @property
    def next_offset(self) -> int:
        while self._waiting and all(future.done() for future in self._waiting[0][1]):
            self._next_offset = self._waiting.popleft()[0]
        return self._next_offset
