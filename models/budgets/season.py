"""How a scope's use is spread over the week, so that a quiet night and a busy Monday are each at an even pace.

An even spend is a poor expectation: it pages every Monday morning. Once three whole weeks are known, time is measured
by the share of a week's use that usually falls into it: ``elapsed`` runs fast in busy hours and slowly at night, and
has the same mean as the clock. Before that it is the clock.

Weeks are those of UTC, from Thursday as 1970 began; a week counts once the watermark has passed it, with what was
known of it then, and each later one weighs a quarter at most, so that the profile follows. A week without use is
passed over. 1.3 kB a scope. Called by models.budgets only.
"""

import numpy as np

from models.budgets.series import SpendSeries
from models.config import DAY_MS, HOUR_MS

WEEK_MS = 7 * DAY_MS
HOURS = 168
KNOWN_WEEKS = 3
MIN_GAIN = 0.25
FLOOR = 0.1
"""Least weight of an hour: use in an hour that never had any is unusual, but not infinitely so."""


class Season:
    """Hour-of-week profile of one scope."""

    __slots__ = ("_cumulated", "_next_week", "_profile", "_weights", "weeks")

    def __init__(self):
        self.weeks = 0
        """Whole weeks learnt from."""
        self._profile = np.ones(HOURS)
        self._next_week: int | None = None
        self._set()

    @property
    def known(self) -> bool:
        return self.weeks >= KNOWN_WEEKS

    def close(self, hours: dict[int, int], time_ms: int) -> None:
        """Learn the weeks of ``hours`` (start in ms -> amount) that are over at ``time_ms``."""
        if self._next_week is None:
            if not hours:
                return
            self._next_week = min(hours) // WEEK_MS + 1  # The first week is not whole.
        while (self._next_week + 1) * WEEK_MS <= time_ms:
            start = self._next_week * WEEK_MS
            week = np.array([hours.get(start + hour * HOUR_MS, 0) for hour in range(HOURS)], np.float64)
            if week.sum() > 0:
                self.weeks += 1
                self._profile += (week / week.mean() - self._profile) * max(1 / self.weeks, MIN_GAIN)
                self._set()
            self._next_week = max(self._next_week + 1, (time_ms - 9 * WEEK_MS) // WEEK_MS)

    def _set(self) -> None:
        self._weights = np.maximum(self._profile, FLOOR)
        self._weights /= self._weights.mean()
        self._cumulated = np.concatenate([[0.0], np.cumsum(self._weights) * HOUR_MS])

    def elapsed(self, time_ms) -> np.ndarray:
        """float64: usual use up to each instant (ms since 1970, a number or int64[k]), in ms of an average hour."""
        time = np.asarray(time_ms, np.int64)
        if not self.known:
            return time.astype(np.float64)
        week, rest = np.divmod(time, WEEK_MS)
        hour, part = np.divmod(rest, HOUR_MS)
        return week * float(WEEK_MS) + self._cumulated[hour] + self._weights[hour] * part

    def when(self, elapsed: float) -> float:
        """The instant at which ``elapsed`` is reached: the inverse."""
        if not self.known:
            return elapsed
        week, rest = divmod(elapsed, WEEK_MS)
        hour = min(int(np.searchsorted(self._cumulated, rest, side="right")) - 1, HOURS - 1)
        return week * WEEK_MS + hour * HOUR_MS + (rest - self._cumulated[hour]) / self._weights[hour]

    def snapshot(self) -> dict:
        return {"weeks": self.weeks, "next_week": self._next_week, "profile": self._profile.copy()}

    def load(self, snapshot: dict) -> None:
        self.weeks, self._next_week = snapshot["weeks"], snapshot["next_week"]
        self._profile = np.array(snapshot["profile"])
        self._set()


class Usage:
    """Series and season of one scope in one unit."""

    __slots__ = ("season", "series")

    def __init__(self, longest_ms: int):
        self.series = SpendSeries(longest_ms)
        self.season = Season()

    def snapshot(self) -> dict:
        return {**self.series.snapshot(), "season": self.season.snapshot()}

    def load(self, snapshot: dict) -> None:
        self.series.load(snapshot)
        self.season.load(snapshot["season"])
