"""Which days have something new to publish, and under which revision.

A day is due when a window in it has changed, and once more as final when the watermark has passed its end. Called by
models.economics only.
"""

from collections.abc import Iterable
from typing import NamedTuple

from models.budgets.calendar import Period, period_of
from models.config import HOUR_MS


class Due(NamedTuple):
    """One day to publish."""

    period: Period
    revision: int
    final: bool


def day_shares(
    what: str, due: Due, parts: Iterable[tuple[str, int, float | None]], estimated_nano_usd: int, watermark_ms: int
) -> dict:
    """A DayShares dict: parts (name, nano-USD, target share) that add up to the day's spend."""
    parts = list(parts)
    total = sum(cost for _, cost, _ in parts)
    return {
        "what": what,
        "day": due.period.id,
        "day_start": due.period.start_ms,
        "day_end": due.period.end_ms,
        "cost_nano_usd": total,
        "estimated_nano_usd": estimated_nano_usd,
        "parts": [
            {"name": name, "cost_nano_usd": cost, "share": cost / total if total else 0.0, "target_share": target}
            for name, cost, target in parts
        ],
        "revision": due.revision,
        "final": due.final,
        "watermark": watermark_ms,
    }


class DayRecords:
    """The days of one time zone that have been published."""

    def __init__(self, timezone: str):
        self.timezone = timezone
        self._touched: set[int] = set()
        self._said: dict[int, list] = {}
        """Start of a day -> [revision, final]."""

    def period(self, time_ms: int) -> Period:
        return period_of(time_ms, self.timezone, "day")

    def changed(self, starts: Iterable[int]) -> None:
        """Windows of these hours have changed."""
        self._touched.update(self.period(start).start_ms for start in starts)

    def told(self, start_ms: int) -> bool:
        """Whether the day that begins then has been published."""
        return start_ms in self._said

    def take_due(self, watermark_ms: int) -> list[Due]:
        """Days to publish now, earliest first."""
        over = {start for start, (_, final) in self._said.items() if not final}
        due = []
        for start in sorted(self._touched | over):
            period = self.period(start)
            final = -(-period.end_ms // HOUR_MS) * HOUR_MS <= watermark_ms  # Its last hour may end later.
            if start in self._touched or final:
                said = self._said.setdefault(start, [0, False])
                said[:] = [said[0] + 1, final]
                due.append(Due(period, said[0], final))
        self._touched.clear()
        return due

    def expire(self, oldest_ms: int) -> None:
        """Forget the days before ``oldest_ms``, whose windows are gone."""
        for start in [start for start in self._said if start < oldest_ms]:
            del self._said[start]
        self._touched = {start for start in self._touched if start >= oldest_ms}

    def snapshot(self) -> dict:
        return {
            "touched": sorted(self._touched),
            "said": [[start, *said] for start, said in self._said.items()],
        }

    def load(self, snapshot: dict) -> None:
        """As it was, in the same time zone."""
        self._touched = set(snapshot["touched"])
        self._said = {start: said for start, *said in snapshot["said"]}
