"""Calendar months in a budget's own time zone, with their true lengths.

A month begins at local midnight of its first day: 743, 744 or 745 hours where clocks change in it, never "30 days"
(BerriAI/litellm#9098). Which month an instant belongs to depends on nothing but the instant and the zone, so there
is no reset that could fail to run. Called by models.budgets.monitor only.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

_LAST_MS = int(datetime(9990, 1, 1, tzinfo=UTC).timestamp() * 1000)
"""Event times beyond this are hostile and share one month: datetime ends in 9999."""


@dataclass(frozen=True, slots=True)
class Period:
    """One month: its id, and its bounds as milliseconds since 1970, the end excluded."""

    id: str
    start_ms: int
    end_ms: int

    @property
    def length_ms(self) -> int:
        return self.end_ms - self.start_ms

    def gone(self, time_ms: int) -> float:
        """Share of the month that is over at ``time_ms``, in [0, 1]."""
        return min(max((time_ms - self.start_ms) / self.length_ms, 0.0), 1.0)


def period_of(time_ms: int, timezone: str) -> Period:
    """The month of an instant; ``timezone`` is an IANA name. Raises ZoneInfoNotFoundError for an unknown one.

    >>> period_of(1_793_500_000_000, "Europe/Berlin")
    Period(id='2026-11', start_ms=1793487600000, end_ms=1796079600000)
    """
    time_ms = min(max(time_ms, 0), _LAST_MS)
    local = datetime.fromtimestamp(time_ms / 1000, ZoneInfo(timezone))
    month = local.year * 12 + local.month - 1
    period = _period(month, timezone)
    # Where clocks fall back over midnight of the first, local dates repeat; the instants of the bounds decide.
    if time_ms < period.start_ms:
        return _period(month - 1, timezone)
    if time_ms >= period.end_ms:
        return _period(month + 1, timezone)
    return period


@lru_cache(maxsize=4096)
def _period(month: int, timezone: str) -> Period:
    return Period(f"{month // 12:04d}-{month % 12 + 1:02d}", _start_ms(month, timezone), _start_ms(month + 1, timezone))


def _start_ms(month: int, timezone: str) -> int:
    start = datetime(month // 12, month % 12 + 1, 1, tzinfo=ZoneInfo(timezone))
    return int(start.timestamp()) * 1000
