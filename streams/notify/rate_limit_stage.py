"""A token bucket: a steady rate with room for a short burst."""

from streams.notify.clock import Clock


class TokenBucket:
    def __init__(self, rate_per_second: float, burst: int, clock: Clock) -> None:
        self._rate = rate_per_second
        self._burst = float(burst)
        self._clock = clock
        self._tokens = float(burst)
        self._at = clock.monotonic()

    async def take(self) -> None:
        """Wait until one more request is within the rate."""
        self._refill()
        while self._tokens < 1.0 - 1e-9:
            await self._clock.sleep((1.0 - self._tokens) / self._rate)
            self._refill()
        self._tokens -= 1.0

    def _refill(self) -> None:
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
