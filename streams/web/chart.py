"""The small picture in an alert: spend per minute against what was expected, as PNG.

The address holds all there is to draw, signed, so every worker can serve it, after a restart too, and nothing is
kept: ``/charts/DATA.png?s=SIGNATURE``. Without a good signature the answer is 404. Drawn by Pillow, loaded when the
first picture is asked for; some tens of ms each, in a thread.
"""

import asyncio
import base64
import hashlib
import hmac
import io
import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from aiohttp import web

from models.money import format_usd
from streams.notify.text import clip

MAX_POINTS = 120
MAX_DATA = 4_000
WIDTH, HEIGHT = 640, 260
SCALE = 2
"""Drawn twice as large, for sharp screens."""
_INK, _PALE, _SPEND, _OVER, _EXPECTED = "#1d1c1d", "#8d8d8d", "#7aa7d9", "#d64545", "#1d1c1d"


@dataclass(frozen=True, slots=True)
class Chart:
    """``cost_micro_usd``: one value per window from ``start_ms`` on.

    Without a window length there are two bars: what it cost, and what was expected.
    """

    title: str
    start_ms: int
    window_ms: int
    cost_micro_usd: Sequence[int]
    expected_micro_usd: int

    def encode(self) -> str:
        content = {**asdict(self), "title": clip(self.title, 80), "cost_micro_usd": list(self.cost_micro_usd)}
        return base64.urlsafe_b64encode(zlib.compress(json.dumps(list(content.values())).encode(), 9)).decode()

    @classmethod
    def decode(cls, data: str) -> "Chart":
        """Inverse of ``encode``; of what was signed, so it is trusted."""
        return cls(*json.loads(zlib.decompress(base64.urlsafe_b64decode(data))))


def chart_url(public_url: str, key: str, chart: Chart) -> str:
    data = chart.encode()
    return f"{public_url.rstrip('/')}/charts/{data}.png?s={_signature(key, data)}"


def chart_route(key: str) -> web.RouteDef:
    async def serve(request: web.Request) -> web.Response:
        data = request.match_info["data"]
        signed = hmac.compare_digest(_signature(key, data).encode(), request.query.get("s", "").encode())
        if not signed or len(data) > MAX_DATA:
            raise web.HTTPNotFound()
        png = await asyncio.to_thread(render, Chart.decode(data))
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return web.Response(body=png, content_type="image/png", headers=headers)

    return web.get("/charts/{data}.png", serve)


def _signature(key: str, data: str) -> str:
    return hmac.new(key.encode(), data.encode(), hashlib.sha256).hexdigest()[:32]


def render(chart: Chart) -> bytes:
    """PNG, ``WIDTH`` x ``HEIGHT`` times ``SCALE``."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), "white")
    pen = _Pen(ImageDraw.Draw(image), ImageFont.load_default(13 * SCALE))
    pen.text(12, 10, chart.title.replace("\N{MULTIPLICATION SIGN}", "x"), _INK)  # The font has no such sign.
    (_minutes if chart.window_ms else _bars)(pen, chart)
    out = io.BytesIO()
    image.quantize(64).save(out, "PNG", optimize=True)
    return out.getvalue()


class _Pen:
    """Draws in points, whatever the scale."""

    def __init__(self, draw, font) -> None:
        self._draw = draw
        self._font = font

    def text(self, x: float, y: float, words: str, color: str, *, anchor: str = "la") -> None:
        self._draw.text((x * SCALE, y * SCALE), words, color, self._font, anchor=anchor)

    def box(self, left: float, top: float, right: float, bottom: float, color: str) -> None:
        self._draw.rectangle([round(at * SCALE) for at in (left, top, max(right, left + 0.5), bottom)], color)

    def dashes(self, left: float, right: float, y: float, color: str) -> None:
        at = left
        while at < right:
            self.box(at, y - 0.75, min(at + 6, right), y + 0.75, color)
            at += 10


def _minutes(pen: _Pen, chart: Chart) -> None:
    left, right, top, bottom = 12.0, WIDTH - 84.0, 40.0, HEIGHT - 34.0
    costs = list(chart.cost_micro_usd)[-MAX_POINTS:]
    highest = max([*costs, chart.expected_micro_usd, 1]) * 1.05
    step = (right - left) / max(len(costs), 1)

    def y(micro_usd: float) -> float:
        return bottom - max(micro_usd, 0) / highest * (bottom - top)

    for number, cost in enumerate(costs):
        at = left + number * step
        pen.box(at, y(min(cost, chart.expected_micro_usd or cost)), at + step * 0.8, bottom, _SPEND)
        if chart.expected_micro_usd and cost > chart.expected_micro_usd:
            pen.box(at, y(cost), at + step * 0.8, y(chart.expected_micro_usd), _OVER)
    pen.box(left, bottom, right, bottom + 1, _PALE)
    if chart.expected_micro_usd:
        pen.dashes(left, right, y(chart.expected_micro_usd), _EXPECTED)
        pen.text(right + 6, y(chart.expected_micro_usd), "expected", _EXPECTED, anchor="lm")
    if costs:
        top_at = y(max(costs))
        if abs(top_at - y(chart.expected_micro_usd)) > 14 or not chart.expected_micro_usd:
            pen.text(right + 6, top_at, format_usd(max(costs) * 1_000), _INK, anchor="lm")
    end_ms = chart.start_ms + len(costs) * chart.window_ms
    pen.text(left, bottom + 8, f"{_clock(chart.start_ms)} UTC", _PALE)
    pen.text(right, bottom + 8, _clock(end_ms), _PALE, anchor="ra")
    pen.text((left + right) / 2, bottom + 8, _per(chart.window_ms), _PALE, anchor="ma")


def _bars(pen: _Pen, chart: Chart) -> None:
    cost = chart.cost_micro_usd[0] if chart.cost_micro_usd else 0
    highest = max(cost, chart.expected_micro_usd, 1)
    left, right = 96.0, WIDTH - 110.0
    rows = (("Cost", cost, _OVER, 70), ("Expected", chart.expected_micro_usd, _SPEND, 150))
    for words, value, color, top in rows:
        end = left + max(value, 0) / highest * (right - left)
        pen.text(12, top + 24, words, _INK, anchor="lm")
        pen.box(left, top, end, top + 48, color)
        pen.text(end + 8, top + 24, format_usd(value * 1_000), _INK, anchor="lm")


def _clock(ms: int) -> str:
    try:
        return f"{datetime.fromtimestamp(ms / 1000, UTC):%H:%M}"
    except (ValueError, OverflowError, OSError):
        return ""


def _per(window_ms: int) -> str:
    return "dollars per minute" if window_ms == 60_000 else f"dollars per {window_ms // 60_000} minutes"
