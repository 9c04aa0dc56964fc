"""Calendar periods in a budget's own time zone, with their true lengths.

A period begins at local midnight of its first day: a month has 743, 744 or 745 hours where clocks change in it, a day
23, 24 or 25, never "30 days" (BerriAI/litellm#9098). Weeks are those of ISO 8601, from Monday. Quarters and years
begin with ``first_month``; a fiscal year that begins in another month than January is named by the year it ends in.
Which period an instant belongs to depends on nothing but the instant and the zone, so there is no reset that could
fail to run. Called by models.budgets only.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

PERIODS = ("day", "week", "month", "quarter", "year")
_LAST_MS = int(datetime(9990, 1, 1, tzinfo=UTC).timestamp() * 1000)
"""Event times beyond this are hostile and share one period: datetime ends in 9999."""
_MONTHS = {"month": 1, "quarter": 3, "year": 12}
_DAYS = {"day": 1, "week": 7}


@dataclass(frozen=True, slots=True)
class Period:
    """One period: its id, and its bounds as milliseconds since 1970, the end excluded."""

    id: str
    start_ms: int
    end_ms: int

    @property
    def length_ms(self) -> int:
        return self.end_ms - self.start_ms

    def gone(self, time_ms: int) -> float:
        """Share of the period that is over at ``time_ms``, in [0, 1]."""
        return min(max((time_ms - self.start_ms) / self.length_ms, 0.0), 1.0)


def period_of(time_ms: int, timezone: str, kind: str = "month", first_month: int = 1) -> Period:
    """The period of an instant; ``timezone`` is an IANA name. Raises ZoneInfoNotFoundError for an unknown one.

    >>> period_of(1_793_500_000_000, "Europe/Berlin")
    Period(id='2026-11', start_ms=1793487600000, end_ms=1796079600000)
    >>> [period_of(1_793_500_000_000, "UTC", kind, 4).id for kind in PERIODS]
    ['2026-11-01', '2026-W44', '2026-11', 'FY2027-Q3', 'FY2027']
    """
    time_ms = min(max(time_ms, 0), _LAST_MS)
    local = datetime.fromtimestamp(time_ms / 1000, ZoneInfo(timezone)).date()
    number = _number(local, kind, first_month)
    period = _period(number, timezone, kind, first_month)
    # Where clocks fall back over midnight local dates repeat, and a date may be left out; the bounds decide.
    while time_ms < period.start_ms:
        number -= 1
        period = _period(number, timezone, kind, first_month)
    while time_ms >= period.end_ms:
        number += 1
        period = _period(number, timezone, kind, first_month)
    return period


def _number(local: date, kind: str, first_month: int) -> int:
    """Periods are numbered without gaps."""
    if kind in _DAYS:
        return (local.toordinal() - 1) // _DAYS[kind]  # Ordinal 1 is a Monday.
    shift = 0 if kind == "month" else first_month - 1
    return (local.year * 12 + local.month - 1 - shift) // _MONTHS[kind]


def _first_day(number: int, kind: str, first_month: int) -> date:
    if kind in _DAYS:
        return date.fromordinal(number * _DAYS[kind] + 1)
    month = number * _MONTHS[kind] + (0 if kind == "month" else first_month - 1)
    return date(month // 12, month % 12 + 1, 1)


@lru_cache(maxsize=4096)
def _period(number: int, timezone: str, kind: str, first_month: int) -> Period:
    first, after = (_first_day(number + step, kind, first_month) for step in (0, 1))
    return Period(_id(number, first, kind, first_month), _start_ms(first, timezone), _start_ms(after, timezone))


def _id(number: int, first: date, kind: str, first_month: int) -> str:
    if kind == "day":
        return f"{first:%Y-%m-%d}"
    if kind == "week":
        year, week, _ = first.isocalendar()
        return f"{year:04d}-W{week:02d}"
    if kind == "month":
        return f"{first.year:04d}-{first.month:02d}"
    quarter, year = (number % 4 + 1, number // 4) if kind == "quarter" else (0, number)
    name = f"{year:04d}" if first_month == 1 else f"FY{year + 1:04d}"
    return f"{name}-Q{quarter}" if quarter else name


def _start_ms(first: date, timezone: str) -> int:
    return int(datetime(first.year, first.month, first.day, tzinfo=ZoneInfo(timezone)).timestamp()) * 1000
