"""Health, readiness and metrics over real HTTP, and the errors of a port that cannot be had."""

import socket

import aiohttp
import pytest
from aiohttp import web

from streams.config_sections import WebSettings
from streams.errors import ConfigError
from streams.web.health import MAX_STALL_SECONDS, TICK_SECONDS
from streams.web.metrics import Metrics
from streams.web.server import WebServer


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def now_ms(self) -> int:
        return int(self.now * 1000)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        import asyncio

        await asyncio.Event().wait()


async def get(server: WebServer, path: str):
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{server.port}{path}") as response:
        kind = response.headers["Content-Type"]
        return response.status, await response.json() if "json" in kind else await response.text()


@pytest.fixture
async def served():
    reasons, clock, metrics = ["no partitions assigned yet"], Clock(), Metrics()
    async with WebServer(WebSettings(port=0), metrics, lambda: reasons, clock=clock) as server:
        yield server, reasons, clock, metrics


async def test_healthy_until_the_loop_stalls(served):
    server, _, clock, _ = served
    assert await get(server, "/healthz") == (200, {"status": "ok", "loop_lag_seconds": 0.0})
    clock.now += TICK_SECONDS + MAX_STALL_SECONDS + 1
    status, body = await get(server, "/healthz")
    assert (status, body["status"]) == (503, "stalled")


async def test_ready_says_why_not(served):
    server, reasons, _, _ = served
    assert await get(server, "/readyz") == (503, {"status": "not ready", "reasons": ["no partitions assigned yet"]})
    reasons.clear()
    assert await get(server, "/readyz") == (200, {"status": "ready", "reasons": []})


async def test_metrics_over_http(served):
    server, _, _, metrics = served
    metrics.batch_applied("usage", 5, 0.001)
    status, text = await get(server, "/metrics")
    assert status == 200 and 'tenfold_records_total{agent="usage"} 5.0' in text
    assert (await get(server, "/nothing"))[0] == 404


def server(**settings) -> WebServer:
    return WebServer(WebSettings(**{"port": 0, **settings}), Metrics(), lambda: [])


async def test_port_in_use():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = server(port=port)
        with pytest.raises(ConfigError, match=rf"web\.port = {port} is in use on 127\.0\.0\.1: stop what listens"):
            await refused.start()
        await refused.stop()


async def test_host_that_is_not_here():
    with pytest.raises(ConfigError, match=r"web\.host = '203\.0\.113\.7' is no address of this machine"):
        await server(host="203.0.113.7").start()


async def test_only_loopback_by_default():
    async with server() as running:
        assert {address[0] for address in running._runner.addresses} == {"127.0.0.1"}
        assert running.url == f"http://127.0.0.1:{running.port}" and running.port > 0


async def test_further_pages():
    async def page(request):
        return web.Response(text="hello")

    async with WebServer(WebSettings(port=0), Metrics(), lambda: [], routes=[web.get("/", page)]) as running:
        assert await get(running, "/") == (200, "hello")
        assert (await get(running, "/healthz"))[0] == 200
