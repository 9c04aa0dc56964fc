"""The picture in an alert: what was signed is drawn, and nothing else."""

import io

import pytest
from aiohttp import ClientSession, web
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.findings import make_finding
from schemas.codec import encode
from streams.agents.spend_series import MINUTES, SpendSeries
from streams.web.chart import HEIGHT, MAX_DATA, MAX_POINTS, SCALE, WIDTH, Chart, chart_route, chart_url, render

KEY = "k" * 16
MINUTE_MS = 60_000
COSTS = st.lists(st.integers(-(2**50), 2**50), max_size=MAX_POINTS + 5)
CHARTS = st.builds(Chart, st.text(), st.integers(0, 2**50), st.sampled_from([0, MINUTE_MS, 300_000]), COSTS,
                   st.integers(-(2**50), 2**50))  # fmt: skip


def colours(png: bytes) -> set[tuple]:
    image = Image.open(io.BytesIO(png))
    assert image.size == (WIDTH * SCALE, HEIGHT * SCALE)
    return {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}


RED = (214, 69, 69)


def test_what_is_above_the_expectation_is_red():
    calm = render(Chart("t", 0, MINUTE_MS, [10, 9, 10], 10))
    hot = render(Chart("t", 0, MINUTE_MS, [10, 9, 50], 10))

    def red(png):
        return [c for c in colours(png) if abs(c[0] - RED[0]) + abs(c[1] - RED[1]) + abs(c[2] - RED[2]) < 12]

    assert red(hot) and not red(calm)


@settings(max_examples=20, deadline=None)
@given(CHARTS)
def test_anything_can_be_drawn(chart):
    again = Chart.decode(chart.encode())
    assert list(again.cost_micro_usd) == list(chart.cost_micro_usd)
    assert colours(render(again))


@pytest.fixture
async def site():
    app = web.Application()
    app.add_routes([chart_route(KEY)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_only_signed_charts_are_served(site):
    chart = Chart("Warning", 0, MINUTE_MS, [1, 2, 3], 2)
    good = chart_url(site + "/", KEY, chart)
    async with ClientSession() as session:
        async with session.get(good) as response:
            assert response.status == 200 and response.content_type == "image/png"
            assert "immutable" in response.headers["Cache-Control"]
            assert colours(await response.read())
        for bad in (good[:-1], good.split("?")[0], chart_url(site, "x" * 16, chart), f"{site}/charts/x.png?s="):
            async with session.get(bad) as response:
                assert response.status == 404


def spend(start_ms: int, cost: int, **fields) -> bytes:
    window = {
        "scope_kind": "team",
        "team": "a",
        "window_start": start_ms,
        "window_ms": MINUTE_MS,
        "cost_nano_usd": cost,
    }
    rest = ("estimated_nano_usd", "events", "unpriced_events", "input_tokens", "cache_read_tokens",
            "cache_write_tokens", "output_tokens", "revision", "watermark")  # fmt: skip
    return encode("window_spend", {**dict.fromkeys(rest, 0), "final": True, **window, **fields})


class Record:
    def __init__(self, value, key=None):
        self.key, self.value = key, value


def minute(number: int, cost: int, size_ms: int = MINUTE_MS, **fields) -> Record:
    start_ms = number * MINUTE_MS
    return Record(spend(start_ms, cost, window_ms=size_ms, **fields), b"team:a@%d+%d" % (start_ms, size_ms))


def rate(**fields):
    values = dict(
        id="f", detector="spend_rate", severity="warning", scope_kind="team", scope_name="a", team="a",
        window_start=99 * MINUTE_MS, window_ms=MINUTE_MS, observed_nano_usd=9_000_000, expected_nano_usd=3_000_000,
        score=1.0, confidence=1.0, baseline_size=1, first_event_time=0, last_event_time=100 * MINUTE_MS - 1,
        detection_time=1, reason="r",
    )  # fmt: skip
    return make_finding(**{**values, **fields})


def test_a_rate_s_chart_is_the_hour_up_to_it():
    """Lesson 25: the alert and the dashboard show the same state (azure-docs#54463): both read tenfold.spend."""
    series = SpendSeries()
    series.take([Record(b"\xff"), Record(None), Record(b"\xff", b"x@1"), Record(None, b"team:a@60000+60000")])
    series.take(minute(number, number * 1_000) for number in range(40, 101) if number not in (70, 71))
    series.take([minute(98, 5_000, revision=2), minute(0, 7, 3_600_000)])
    series.take([Record(b"\xff", b"team:a@%d+60000" % (71 * MINUTE_MS))])
    chart = series.chart(rate())
    assert (chart.start_ms, chart.window_ms, chart.expected_micro_usd) == (40 * MINUTE_MS, MINUTE_MS, 3_000)
    assert list(chart.cost_micro_usd) == [0 if m in (70, 71) else 5 if m == 98 else m for m in range(40, 100)]
    assert len(chart.cost_micro_usd) <= MINUTES


def test_what_has_no_series_shows_its_two_figures():
    chart = SpendSeries().chart(rate(scope_kind="session"))
    assert (chart.window_ms, list(chart.cost_micro_usd), chart.expected_micro_usd) == (0, [9_000], 3_000)


def test_addresses_fit_slack():
    long = Chart("x" * 10_000, 2**42, MINUTE_MS, [2**50 - n * 7_919 for n in range(MINUTES)], 2**50)
    url = chart_url("https://tenfold.example", KEY, long)
    assert len(url) < 3_000 and len(long.encode()) < MAX_DATA
