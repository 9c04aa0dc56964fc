"""The worker's small web server: on loopback unless told otherwise, and never in the way of the stream."""

import errno
import socket
from collections.abc import Sequence

from aiohttp import web

from streams.config_sections import WebSettings
from streams.errors import ConfigError
from streams.notify.clock import Clock, SystemClock
from streams.web.health import LoopMonitor, Reasons, create_app
from streams.web.metrics import Metrics


class WebServer:
    """Health and metrics, from ``start`` to ``stop`` or as an async context manager."""

    def __init__(
        self,
        settings: WebSettings,
        metrics: Metrics,
        ready: Reasons,
        *,
        routes: Sequence[web.RouteDef] = (),
        clock: Clock | None = None,
    ) -> None:
        """``ready`` returns why the worker is not ready; ``routes`` are further pages."""
        self._settings = settings
        self._app = create_app(metrics, ready, LoopMonitor(clock or SystemClock()))
        self._app.add_routes(routes)
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port taken, which a setting of 0 leaves open; the setting itself before ``start``."""
        return self._runner.addresses[0][1] if self._runner is not None else self._settings.port

    @property
    def url(self) -> str:
        host = self._settings.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    async def start(self) -> None:
        """Listen. Raises ConfigError if the address cannot be had."""
        host, port = self._settings.host, self._settings.port
        runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            await runner.cleanup()
            problem = _problem(error, host, port)
        else:
            self._runner = runner
            return
        raise ConfigError(problem)

    async def stop(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def __aenter__(self) -> "WebServer":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


def _problem(error: OSError, host: str, port: int) -> str:
    code = error.errno
    if code == errno.EADDRINUSE:
        return (
            f"web.port = {port} is in use on {host}: stop what listens there, give another port, or 0 for any free "
            "one (several workers on one machine need one each)"
        )
    if code in (errno.EACCES, errno.EPERM):
        return f"web.port = {port} is not allowed to this user: give a port from 1024 on"
    if isinstance(error, socket.gaierror) or code == errno.EADDRNOTAVAIL:
        return f'web.host = {host!r} is no address of this machine: give "127.0.0.1", or "0.0.0.0" for all of them'
    return f"web.host = {host!r} and web.port = {port} cannot be listened on: {error}"
