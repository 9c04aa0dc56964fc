"""Hour windows added up by class of their scope: what a day's economics are judged by.

Guarantee: the sums are those of the merged windows at the time of asking, late events and all. An hour is added up
again only when a window in it has changed. Nothing is saved: it follows from the windows, also after a restart.

Cost: one pass over an hour's windows, some 10 ms for 100,000 scopes. Called by models.economics only.
"""

from collections.abc import Callable, Iterable

import numpy as np

from models.asked_once import AskedOnce
from models.budgets.calendar import Period
from models.config import HOUR_MS
from models.counters import COUNTERS
from models.panes_merge import MergedPanes
from models.scopes import Scope

NO_CLASS = -1


class HourSums:
    """Counters of all hours kept, by class."""

    def __init__(self, classes: int, classify: Callable[[Scope], int]):
        """``classify`` gives a scope's class, below ``classes``, or NO_CLASS; it is asked once per scope."""
        self._classes = classes
        self._classify = classify
        self._class_of = AskedOnce()
        self._sums: dict[int, np.ndarray] = {}
        self._days: dict[int, tuple[int, np.ndarray]] = {}
        """Start of a whole day that was asked for -> its end and its sums."""

    def changed(self, starts: Iterable[int]) -> None:
        """Windows of these hours have changed."""
        for start in starts:
            self._sums.pop(start, None)
            for day in [day for day, (end, _) in self._days.items() if day <= start < end]:
                del self._days[day]

    def day(self, panes: MergedPanes, period: Period, until_ms: int | None = None) -> np.ndarray:
        """Counters int64[classes, 8] of the hours that begin in a period, and before ``until_ms`` if given.

        They are not to be written to.
        """
        if until_ms is None or until_ms >= period.end_ms:
            if period.start_ms not in self._days:
                self._days[period.start_ms] = period.end_ms, self._add_up(panes, period, period.end_ms)
            return self._days[period.start_ms][1]
        return self._add_up(panes, period, until_ms)

    def _add_up(self, panes: MergedPanes, period: Period, until_ms: int) -> np.ndarray:
        total = np.zeros((self._classes, len(COUNTERS)), np.int64)
        for start in hours_of(period):
            if start < until_ms:
                total += self._hour(panes, start)
        return total

    def expire(self, oldest_ms: int) -> None:
        """Forget the hours before ``oldest_ms``."""
        for start in [start for start in self._sums if start < oldest_ms]:
            del self._sums[start]
        self._days = {start: day for start, day in self._days.items() if start >= oldest_ms}

    def _hour(self, panes: MergedPanes, start_ms: int) -> np.ndarray:
        sums = self._sums.get(start_ms)
        if sums is None:
            sums = self._sums[start_ms] = np.zeros((self._classes, len(COUNTERS)), np.int64)
            if panes.any(start_ms, HOUR_MS):
                numbers, totals = panes.window(start_ms, HOUR_MS)
                classes = self._class_of.of(panes.scopes, numbers, self._classify)
                known = classes != NO_CLASS
                np.add.at(sums, classes[known], totals[known])
        return sums


def hours_of(period: Period) -> range:
    """Starts of the whole UTC hours that begin in a period: in zones off the whole hour a day has its hours so."""
    return range(-(-period.start_ms // HOUR_MS) * HOUR_MS, period.end_ms, HOUR_MS)


def scope_totals(
    panes: MergedPanes, period: Period, kind: str, until_ms: int | None = None
) -> list[tuple[Scope, list[int]]]:
    """(scope, counters) of each scope of one kind with use in a period, in the order they were first seen."""
    windows = [
        panes.window(start, HOUR_MS)
        for start in hours_of(period)
        if (until_ms is None or start < until_ms) and panes.any(start, HOUR_MS)
    ]
    if not windows:
        return []
    numbers, at = np.unique(np.concatenate([numbers for numbers, _ in windows]), return_inverse=True)
    sums = np.zeros((len(numbers), len(COUNTERS)), np.int64)
    np.add.at(sums, at, np.concatenate([totals for _, totals in windows]))
    scopes = ((panes.scopes[number], row) for row, number in enumerate(numbers.tolist()))
    return [(scope, sums[row].tolist()) for scope, row in scopes if scope.kind == kind]
