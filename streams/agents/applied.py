"""What a usage partition has applied, told in one log line for many batches.

A busy worker applies a hundred small batches a second, and a line takes longer than some of them. The first batch after
a silence is told at once, the others with the next ``tell``; nothing is left out. Called by streams.agents.usage.
"""

from collections import Counter
from collections.abc import Callable

import structlog

from models.engine import UsageOutputs
from streams.transport import PartitionBatch

log = structlog.get_logger()

TELL_MS = 250


class Applied:
    """Of one partition."""

    def __init__(self, clock_ms: Callable[[], int]):
        self._clock_ms = clock_ms
        self._told_ms = 0
        self._sums: Counter[str] = Counter()
        self._first_offset = self._next_offset = 0

    def add(self, batch: PartitionBatch, out: UsageOutputs, seconds: float) -> None:
        """One batch, what came of it, and how long it took."""
        if not self._sums:
            self._first_offset = batch.first_offset
        self._next_offset = batch.next_offset
        self._sums.update(
            batches=1,
            counted=out.counted,
            duplicates=out.duplicates,
            late=out.late,
            rejected=out.rejected,
            findings=len(out.findings),
            sessions_ended=len(out.sessions),
            seconds=seconds,
        )
        if abs(self._clock_ms() - self._told_ms) >= TELL_MS:
            self.tell(batch.tp.partition)

    def tell(self, partition: int) -> None:
        """Log what has not been told."""
        if self._sums:
            sums, self._sums = self._sums, Counter()
            self._told_ms = self._clock_ms()
            sums["seconds"] = round(sums["seconds"], 6)
            log.info(
                "batches_applied",
                partition=partition,
                first_offset=self._first_offset,
                next_offset=self._next_offset,
                **sums,
            )
