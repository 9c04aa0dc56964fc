"""How long to wait before trying again: exponential, with jitter, and never less than asked for."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_SECONDS = 3_600.0
"""A destination that asks for more is asked again after an hour: the header may be wrong, the alert is late."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubling from ``min_seconds`` to ``max_seconds``; each wait is between half of that and all of it."""

    min_seconds: float = 1.0
    max_seconds: float = 60.0
    uniform: Callable[[float, float], float] = random.uniform

    def wait_seconds(self, failures: int, after_seconds: float | None = None) -> float:
        """The wait after the ``failures``-th failure in a row (1, 2, ...).

        >>> Backoff(1.0, 60.0, uniform=lambda low, high: high).wait_seconds(3, after_seconds=7.0)
        7.0
        """
        # 2**30 s is past any maximum; more would overflow a float after weeks of failures.
        wait = min(self.max_seconds, self.min_seconds * 2.0 ** min(failures - 1, 30))
        return max(self.uniform(wait / 2, wait), after_seconds or 0.0)


def parse_retry_after(header: str | None, now_ms: int) -> float | None:
    """Seconds of a Retry-After header, a number or an HTTP date; None if there is none that makes sense.

    >>> parse_retry_after("30", 0), parse_retry_after("Thu, 01 Jan 1970 00:00:05 GMT", 2_000), parse_retry_after("x", 0)
    (30.0, 3.0, None)
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - now_ms / 1000
        except (TypeError, ValueError, OverflowError, OSError):
            return None
    if seconds != seconds:
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
