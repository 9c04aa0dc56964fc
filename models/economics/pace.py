"""How much a day will come to, so that a part of it can be judged before it is over.

A day that has just begun has few calls in it, and a batch at one in the morning is all of its spend: a share of so
little says nothing. So a part is compared with its share of what the whole day is expected to come to: what it
exceeds then, nothing that is usual can put right before the day is over.
"""

from collections.abc import Callable
from statistics import median

from models.budgets.calendar import Period
from models.config import DAY_MS

PAST_DAYS = 7
MIN_GONE = 1 / 48
"""Of a day, half an hour: to divide by."""


def expected_volume(so_far: float, past: list[float], gone: float) -> float:
    """What a day comes to: the median of the past days that had any, without those an even pace; at least ``so_far``.

    >>> expected_volume(10, [100, 0, 120, 140], 0.5), expected_volume(10, [], 0.5), expected_volume(10, [1], 1)
    (120, 20.0, 10)
    """
    if gone >= 1:
        return so_far
    known = [volume for volume in past if volume > 0]
    return max(so_far, median(known)) if known else so_far / max(gone, MIN_GONE)


def days_before(period: Period, period_of: Callable[[int], Period], days: int = PAST_DAYS) -> list[Period]:
    """The days before a day, latest first."""
    found = []
    while len(found) < days and period.start_ms >= DAY_MS:
        period = period_of(period.start_ms - 1)
        found.append(period)
    return found
