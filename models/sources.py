"""The merged watermark: how far event time has come over all source partitions that are not idle.

Guarantee: never goes back. A source is idle if its newest message says so: its owner knows that there is no input.
An idle source does not hold the others back. If all are idle the watermark is that of the furthest one (the rule of
Flink's status watermark valve): nothing more is on its way.
Of two messages of one source the one with the higher (next_offset, idle) counts, whatever their order.

A source that is silent is not idle: its owner died and another one takes over, or cannot reach the brokers, and its
spend is still to come. It holds the others back, so that no window is judged without it, until the others have been
heard for ``silent_partition_ms`` of processing time. Time in which nobody is heard, as in an outage, does not count.

A source that was never heard from is not known and cannot hold anything back. Whoever knows how many there are says
so with ``expect``: until each of them has spoken, or has been silent for that long, the watermark waits. Otherwise
the first to catch up after a start would close windows that lack the others' spend.

Called by models.rollup only.
"""

from models.config import MINUTE_MS, WindowConfig
from models.windows import NO_WATERMARK

MAX_STEP_MS = 5_000
"""A longer time between two messages is an outage: sources speak every second."""


class Sources:
    """Watermarks of the source partitions heard from, and the merged one."""

    def __init__(self, config: WindowConfig):
        self.config = config
        self.value_ms = NO_WATERMARK
        self._sources: dict[int, tuple[int, bool, int, int]] = {}
        """source -> (next_offset, idle, watermark, ``_listened_ms`` when last heard from)"""
        self._listened_ms = 0
        """Processing time in which anybody was heard."""
        self._heard_ms: int | None = None
        """Processing time of the last message."""

    def expect(self, sources: int, now_ms: int) -> None:
        """Wait for partitions 0 to sources - 1 as if they had just been heard from: call after a start."""
        self._listen(now_ms)
        for source in range(sources):
            next_offset, idle, watermark, _ = self._sources.get(source, (-1, False, NO_WATERMARK, 0))
            self._sources[source] = (next_offset, idle, watermark, self._listened_ms)

    def hear(self, source: int, next_offset: int, watermark_ms: int, idle: bool, now_ms: int) -> None:
        """Take the head of one Partials message in."""
        self._listen(now_ms)
        known = self._sources.get(source, (-1, False, NO_WATERMARK, 0))
        version = max(known[:2], (next_offset, idle))
        self._sources[source] = (*version, max(known[2], watermark_ms), self._listened_ms)

    def _listen(self, now_ms: int) -> None:
        if self._heard_ms is not None:
            self._listened_ms += min(max(now_ms - self._heard_ms, 0), MAX_STEP_MS)
        self._heard_ms = now_ms if self._heard_ms is None else max(self._heard_ms, now_ms)

    def advance(self) -> int:
        """The merged watermark (ms), or NO_WATERMARK before the first event."""
        since = self._listened_ms - self.config.silent_partition_ms
        every = list(self._sources.values())
        active = [watermark for _, idle, watermark, heard in every if not idle and heard >= since]
        if every:
            self.value_ms = max(self.value_ms, min(active) if active else max(watermark for *_, watermark, _ in every))
        return self.value_ms

    def finish(self) -> int:
        """The input is over: the watermark passes the minute of the newest event."""
        furthest = max((watermark for _, _, watermark, _ in self._sources.values()), default=NO_WATERMARK)
        if furthest != NO_WATERMARK:
            newest = furthest + self.config.lateness_ms
            self.value_ms = max(self.value_ms, (newest // MINUTE_MS + 1) * MINUTE_MS)
        return self.value_ms

    def snapshot(self) -> dict:
        return {
            "watermark": self.value_ms,
            "sources": [[key, *value] for key, value in self._sources.items()],
            "listened_ms": self._listened_ms,
        }

    @classmethod
    def restore(cls, config: WindowConfig, snapshot: dict) -> "Sources":
        self = cls(config)
        self.value_ms = snapshot["watermark"]
        self._sources = {
            source: (next_offset, idle, watermark, heard)
            for source, next_offset, idle, watermark, heard in snapshot["sources"]
        }
        self._listened_ms = snapshot["listened_ms"]
        return self
