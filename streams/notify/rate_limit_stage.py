"""Token buckets: a steady rate with room for a short burst; several at once where a destination counts twice."""

from collections.abc import Iterable

from streams.notify.clock import Clock
from streams.notify.receiver import Rate


class TokenBucket:
    def __init__(self, rate: Rate, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._tokens = float(rate.burst)
        self._at = clock.monotonic()

    def wait_seconds(self) -> float:
        """Until one more request is within the rate; 0 for now."""
        now = self._clock.monotonic()
        self._tokens = min(self._rate.burst, self._tokens + (now - self._at) * self._rate.per_second)
        self._at = now
        wait = (1.0 - self._tokens) / self._rate.per_second
        return wait if wait > 1e-6 else 0.0

    def take(self) -> None:
        """One request more; past the rate the next has to wait longer."""
        self.wait_seconds()
        self._tokens -= 1.0


class Limiter:
    """All of several rates."""

    def __init__(self, rates: Iterable[Rate], clock: Clock) -> None:
        self._buckets = [TokenBucket(rate, clock) for rate in rates]

    def wait_seconds(self) -> float:
        return max((bucket.wait_seconds() for bucket in self._buckets), default=0.0)

    def take(self) -> None:
        for bucket in self._buckets:
            bucket.take()
