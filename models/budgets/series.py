"""Spend of one team over time, for sums over trailing windows that end at the watermark.

Minutes as far back as the longest window that needs them, hours for longer ones. ``Trailing`` adds them up once and
then answers for any number of windows. Called by models.budgets.monitor.
"""

import numpy as np

from models.config import DAY_MS, HOUR_MS, MINUTE_MS

MINUTES_EXACT_MS = 7 * HOUR_MS
"""Windows up to this are summed from minutes: the 120th part of a month is at most 6.2 hours."""
MINUTES_KEPT_MS = MINUTES_EXACT_MS + HOUR_MS
HOURS_KEPT_MS = 4 * DAY_MS
"""The 10th part of a month is at most 3.1 days."""


class SpendSeries:
    """Minute and hour sums, int nano-USD; memory is bounded by ``expire``."""

    __slots__ = ("hours", "minutes")

    def __init__(self):
        self.minutes: dict[int, int] = {}
        self.hours: dict[int, int] = {}

    def add(self, start_ms: int, size_ms: int, nano_usd: int) -> None:
        sums = self.minutes if size_ms == MINUTE_MS else self.hours
        sums[start_ms] = sums.get(start_ms, 0) + nano_usd

    def expire(self, watermark_ms: int) -> None:
        for sums, kept_ms in ((self.minutes, MINUTES_KEPT_MS), (self.hours, HOURS_KEPT_MS)):
            for start in [start for start in sums if start < watermark_ms - kept_ms]:
                del sums[start]

    def snapshot(self) -> dict:
        """int64[2, n] of starts and sums for each."""
        return {"minutes": _columns(self.minutes), "hours": _columns(self.hours)}

    @classmethod
    def restore(cls, snapshot: dict) -> "SpendSeries":
        self = cls()
        for name in cls.__slots__:
            starts, sums = snapshot[name].tolist()
            setattr(self, name, dict(zip(starts, sums, strict=True)))
        return self


def _columns(sums: dict[int, int]) -> np.ndarray:
    columns = np.empty((2, len(sums)), np.int64)
    columns[0], columns[1] = np.fromiter(sums, np.int64, len(sums)), np.fromiter(sums.values(), np.int64, len(sums))
    return columns


class Trailing:
    """Sums of one series over windows that end at whole minutes within [first_end_ms, last_end_ms]."""

    __slots__ = ("_hour_sums", "_hours_from", "_minute_sums", "_minutes_from")

    def __init__(self, series: SpendSeries, first_end_ms: int, last_end_ms: int):
        self._minutes_from = first_end_ms - MINUTES_EXACT_MS
        self._hours_from = (first_end_ms - HOURS_KEPT_MS) // HOUR_MS * HOUR_MS
        self._minute_sums = _running(series.minutes, self._minutes_from, last_end_ms, MINUTE_MS)
        self._hour_sums = _running(series.hours, self._hours_from, last_end_ms, HOUR_MS)

    def spent(self, end_ms: np.ndarray, length_ms: int) -> tuple[np.ndarray, np.ndarray]:
        """(nano-USD int64[k], true length in ms int64[k]) of the windows that end at ``end_ms`` int64[k].

        Windows too long for minutes begin at the whole hour before.
        """
        start = end_ms - length_ms
        if length_ms <= MINUTES_EXACT_MS:
            return self._minutes(start, end_ms), end_ms - start
        start -= start % HOUR_MS
        hour = end_ms - end_ms % HOUR_MS
        whole = self._hour_sums[(hour - self._hours_from) // HOUR_MS]
        before = self._hour_sums[(start - self._hours_from) // HOUR_MS]
        return whole - before + self._minutes(hour, end_ms), end_ms - start

    def _minutes(self, start_ms: np.ndarray, end_ms: np.ndarray) -> np.ndarray:
        first, last = ((ms - self._minutes_from) // MINUTE_MS for ms in (start_ms, end_ms))
        return self._minute_sums[last] - self._minute_sums[first]


def _running(sums: dict[int, int], from_ms: int, to_ms: int, step_ms: int) -> np.ndarray:
    """int64: entry i is the spend of the first i steps from ``from_ms``."""
    steps = range(from_ms, to_ms, step_ms)
    running = np.zeros(len(steps) + 1, np.int64)
    np.cumsum(np.fromiter((sums.get(start, 0) for start in steps), np.int64, len(steps)), out=running[1:])
    return running
