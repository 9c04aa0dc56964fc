"""Use of one scope over time, for sums over trailing windows that end at the watermark.

Minutes as far back as the longest window that needs them, hours for longer ones. ``Trailing`` adds them up once and
then answers for any number of windows. Called by models.budgets.monitor.
"""

import numpy as np

from models.config import DAY_MS, HOUR_MS, MINUTE_MS

MINUTES_EXACT_MS = 7 * HOUR_MS
"""Windows up to this are summed from minutes: the 120th part of a month is at most 6.2 hours."""
MINUTES_KEPT_MS = MINUTES_EXACT_MS + HOUR_MS
HOURS_KEPT_MS = 22 * DAY_MS
"""At least: three weeks, what models.budgets.forecast goes by; models.budgets.season learns from the last of them."""


class SpendSeries:
    """Amount and events of each minute and hour; memory is bounded by ``expire``."""

    __slots__ = ("hour_events", "hours", "longest_ms", "minute_events", "minutes")

    def __init__(self, longest_ms: int = 5 * DAY_MS):
        """``longest_ms``: of the windows that are asked for."""
        self.longest_ms = longest_ms
        self.minutes: dict[int, int] = {}
        self.hours: dict[int, int] = {}
        self.minute_events: dict[int, int] = {}
        self.hour_events: dict[int, int] = {}

    def add(self, start_ms: int, size_ms: int, amount: int, events: int = 1) -> None:
        sums, counts = (self.minutes, self.minute_events) if size_ms == MINUTE_MS else (self.hours, self.hour_events)
        sums[start_ms] = sums.get(start_ms, 0) + amount
        counts[start_ms] = counts.get(start_ms, 0) + events

    def expire(self, watermark_ms: int) -> None:
        for sums, counts, kept_ms in (
            (self.minutes, self.minute_events, MINUTES_KEPT_MS),
            (self.hours, self.hour_events, max(self.longest_ms, HOURS_KEPT_MS)),
        ):
            for start in [start for start in sums if start < watermark_ms - kept_ms]:
                del sums[start], counts[start]

    def rolling(self, watermark_ms: int, rolling_ms: int) -> int:
        """Use in the whole hours of a rolling window: the hour of the watermark and those before it."""
        last = watermark_ms - watermark_ms % HOUR_MS
        return sum(
            self.hours.get(start, 0) for start in range(last - rolling_ms + HOUR_MS, last + 2 * HOUR_MS, HOUR_MS)
        )

    def history(self, end_hour: int) -> tuple[np.ndarray, int]:
        """(amount int64[n] of the consecutive hours kept up to ``end_hour``, first of them), in hours since 1970."""
        last = end_hour * HOUR_MS
        first = max(min(self.hours, default=last), last - HOURS_KEPT_MS) // HOUR_MS
        starts = range(first * HOUR_MS, last, HOUR_MS)
        return np.fromiter((self.hours.get(start, 0) for start in starts), np.int64, len(starts)), first

    def snapshot(self) -> dict:
        """int64[3, n] of starts, sums and events for each."""
        return {
            "minutes": _columns(self.minutes, self.minute_events),
            "hours": _columns(self.hours, self.hour_events),
        }

    def load(self, snapshot: dict) -> None:
        for start, amount, events in snapshot["minutes"].T.tolist():
            self.minutes[start], self.minute_events[start] = amount, events
        for start, amount, events in snapshot["hours"].T.tolist():
            self.hours[start], self.hour_events[start] = amount, events


def _columns(sums: dict[int, int], counts: dict[int, int]) -> np.ndarray:
    # Both have the same keys in the same order.
    return np.array([list(sums), list(sums.values()), list(counts.values())], np.int64).reshape(3, len(sums))


class Trailing:
    """Sums of one series over windows that end at whole minutes within [first_end_ms, last_end_ms]."""

    __slots__ = ("_amounts", "_events", "_hours_from", "_last_end", "_minutes", "_minutes_from")

    def __init__(self, series: SpendSeries, first_end_ms: int, last_end_ms: int):
        self._minutes_from = first_end_ms - MINUTES_EXACT_MS
        self._hours_from = (first_end_ms - series.longest_ms) // HOUR_MS * HOUR_MS
        self._last_end = last_end_ms
        self._minutes = series.minutes
        spans = (self._minutes_from, last_end_ms, MINUTE_MS), (self._hours_from, last_end_ms, HOUR_MS)
        self._amounts = _running(series.minutes, *spans[0]), _running(series.hours, *spans[1])
        self._events = _running(series.minute_events, *spans[0]), _running(series.hour_events, *spans[1])

    def spent(self, end_ms: np.ndarray, length_ms: int) -> tuple[np.ndarray, np.ndarray]:
        """(amount int64[k], true length in ms int64[k]) of the windows that end at ``end_ms`` int64[k].

        Windows too long for minutes begin at the whole hour before.
        """
        start = self._start(end_ms, length_ms)
        return self._sum(self._amounts, start, end_ms, length_ms), end_ms - start

    def events(self, end_ms: np.ndarray, length_ms: int) -> np.ndarray:
        """Events int64[k] of the same windows."""
        return self._sum(self._events, self._start(end_ms, length_ms), end_ms, length_ms)

    def ahead(self, end_ms: np.ndarray, until_ms: int) -> np.ndarray:
        """Amount int64[k] that is known already of the minutes from each ``end_ms`` on, before ``until_ms``."""
        sums = self._amounts[0]
        within = sums[(min(until_ms, self._last_end) - self._minutes_from) // MINUTE_MS]
        beyond = sum(amount for start, amount in self._minutes.items() if self._last_end <= start < until_ms)
        return within - sums[(end_ms - self._minutes_from) // MINUTE_MS] + beyond

    def _start(self, end_ms: np.ndarray, length_ms: int) -> np.ndarray:
        start = end_ms - length_ms
        return start if length_ms <= MINUTES_EXACT_MS else start - start % HOUR_MS

    def _sum(self, running: tuple, start: np.ndarray, end_ms: np.ndarray, length_ms: int) -> np.ndarray:
        if length_ms <= MINUTES_EXACT_MS:
            return self._of_minutes(running[0], start, end_ms)
        hour = end_ms - end_ms % HOUR_MS
        whole = running[1][(hour - self._hours_from) // HOUR_MS]
        before = running[1][(start - self._hours_from) // HOUR_MS]
        return whole - before + self._of_minutes(running[0], hour, end_ms)

    def _of_minutes(self, sums: np.ndarray, start_ms: np.ndarray, end_ms: np.ndarray) -> np.ndarray:
        first, last = ((ms - self._minutes_from) // MINUTE_MS for ms in (start_ms, end_ms))
        return sums[last] - sums[first]


def _running(sums: dict[int, int], from_ms: int, to_ms: int, step_ms: int) -> np.ndarray:
    """int64: entry i is the sum of the first i steps from ``from_ms``."""
    steps = range(from_ms, to_ms, step_ms)
    running = np.zeros(len(steps) + 1, np.int64)
    np.cumsum(np.fromiter((sums.get(start, 0) for start in steps), np.int64, len(steps)), out=running[1:])
    return running
