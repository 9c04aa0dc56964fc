"""The worker's small web server: on loopback unless told otherwise, and never in the way of the stream."""

import errno
import socket

import structlog
from aiohttp import web

from streams.errors import ConfigError

logger = structlog.get_logger(__name__)


class WebServer:
    def __init__(self, app: web.Application, host: str = "127.0.0.1", port: int = 8010) -> None:
        """Port 0 takes any free one; ``port`` says which, after ``start``."""
        self._app = app
        self.host = host
        self.port = port
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Raises ConfigError if the address cannot be had."""
        runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port).start()
        except (OSError, OverflowError) as error:
            await runner.cleanup()
            problem = _problem(error, self.host, self.port)
        else:
            self._runner = runner
            self.port = runner.addresses[0][1]
            logger.info("web_started", url=f"http://{self.host}:{self.port}")
            return
        raise ConfigError(problem)

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


def _problem(error: Exception, host: str, port: int) -> str:
    code = getattr(error, "errno", None)
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
