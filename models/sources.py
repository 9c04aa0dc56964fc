"""The merged watermark: how far event time has come over all source partitions that are not idle.

Guarantee: never goes back. A source is idle if its newest message says so, or if nothing arrived from it for
``idle_partition_ms`` of processing time; an idle source does not hold the others back. If all are idle the
watermark is that of the furthest one (the rule of Flink's status watermark valve): nothing more is on its way.
Of two messages of one source the one with the higher (next_offset, idle) counts, whatever their order.

A source that was never heard from is not known and cannot hold anything back. Whoever knows how many there are says
so with ``expect``: until each of them has spoken, or has had ``idle_partition_ms`` to do so, the watermark waits.
Otherwise the first to catch up after a start would close windows that lack the others' spend.

Called by models.rollup only.
"""

from models.config import MINUTE_MS, WindowConfig
from models.windows import NO_WATERMARK


class Sources:
    """Watermarks of the source partitions heard from, and the merged one."""

    def __init__(self, config: WindowConfig):
        self.config = config
        self.value_ms = NO_WATERMARK
        self._sources: dict[int, tuple[int, bool, int, int]] = {}
        """source -> (next_offset, idle, watermark, when last heard from)"""

    def expect(self, sources: int, now_ms: int) -> None:
        """Wait for partitions 0 to sources - 1 as if they had just been heard from: call after a start."""
        for source in range(sources):
            next_offset, idle, watermark, _ = self._sources.get(source, (-1, False, NO_WATERMARK, now_ms))
            self._sources[source] = (next_offset, idle, watermark, now_ms)

    def hear(self, source: int, next_offset: int, watermark_ms: int, idle: bool, now_ms: int) -> None:
        """Take the head of one Partials message in."""
        known = self._sources.get(source)
        if known is None:
            self._sources[source] = (next_offset, idle, watermark_ms, now_ms)
            return
        version = max(known[:2], (next_offset, idle))
        self._sources[source] = (*version, max(known[2], watermark_ms), max(known[3], now_ms))

    def advance(self, now_ms: int) -> int:
        """The merged watermark (ms), or NO_WATERMARK before the first event."""
        heard_after = now_ms - self.config.idle_partition_ms
        active = [watermark for _, idle, watermark, heard in self._sources.values() if not idle and heard > heard_after]
        every = [watermark for _, _, watermark, _ in self._sources.values()]
        if every:
            self.value_ms = max(self.value_ms, min(active) if active else max(every))
        return self.value_ms

    def finish(self) -> int:
        """The input is over: the watermark passes the minute of the newest event."""
        furthest = max((watermark for _, _, watermark, _ in self._sources.values()), default=NO_WATERMARK)
        if furthest != NO_WATERMARK:
            newest = furthest + self.config.lateness_ms
            self.value_ms = max(self.value_ms, (newest // MINUTE_MS + 1) * MINUTE_MS)
        return self.value_ms

    def snapshot(self) -> dict:
        return {"watermark": self.value_ms, "sources": [[key, *value] for key, value in self._sources.items()]}

    @classmethod
    def restore(cls, config: WindowConfig, snapshot: dict) -> "Sources":
        self = cls(config)
        self.value_ms = snapshot["watermark"]
        self._sources = {
            source: (next_offset, idle, watermark, heard)
            for source, next_offset, idle, watermark, heard in snapshot["sources"]
        }
        return self
