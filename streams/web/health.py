"""``/healthz``: is the process alive; ``/readyz``: does it do its work; ``/metrics``: how well.

``/healthz`` answers 200 while the event loop turns. A loop that stands still cannot answer at all, which is what
a liveness probe's timeout is for; one that keeps stalling answers 503. ``/readyz`` answers 503 with the reasons
it is given: those pass (start, rebalance, restore), so a supervisor must not restart for them.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from aiohttp import web

from streams.notify.clock import Clock
from streams.web.metrics import Metrics

Reasons = Callable[[], Sequence[str]]
TICK_SECONDS = 1.0
MAX_STALL_SECONDS = 10.0
"""A loop that stalls this long misses heartbeats of the consumer group soon; nothing here needs a tenth of it."""


class LoopMonitor:
    """How late the event loop runs what is due: the last lag and the worst of the last ten ticks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lags: list[float] = []
        self._due = clock.monotonic()

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            self._due = self._clock.monotonic() + TICK_SECONDS
            await self._clock.sleep(TICK_SECONDS)
            self._lags = [*self._lags[-9:], max(0.0, self._clock.monotonic() - self._due)]

    @property
    def lag_seconds(self) -> float:
        """The worst lately, or the present one if a tick is overdue."""
        return max([*self._lags, self._clock.monotonic() - self._due, 0.0])


def create_app(metrics: Metrics, ready: Reasons, monitor: LoopMonitor) -> web.Application:
    """``ready`` returns why the worker is not ready, nothing if it is."""

    async def healthz(request: web.Request) -> web.Response:
        lag = monitor.lag_seconds
        stalled = lag > MAX_STALL_SECONDS
        body = {"status": "stalled" if stalled else "ok", "loop_lag_seconds": round(lag, 3)}
        return web.json_response(body, status=503 if stalled else 200)

    async def readyz(request: web.Request) -> web.Response:
        reasons = list(ready())
        body = {"status": "not ready" if reasons else "ready", "reasons": reasons}
        return web.json_response(body, status=503 if reasons else 200)

    async def exposition(request: web.Request) -> web.Response:
        body, content_type = metrics.render()
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def measured(app: web.Application):
        task = asyncio.create_task(monitor.run(), name="loop monitor")
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", exposition)
    app.cleanup_ctx.append(measured)
    return app
