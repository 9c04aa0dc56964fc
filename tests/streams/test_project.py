"""``tenfold project``: the forecast of recorded usage, and its exit codes."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from models.budgets.forecast import forecast
from streams.cli import cli

HOUR_MS = 3_600_000
START_MS = 1_790_000_000_000 // 86_400_000 * 86_400_000


@pytest.fixture
def sample(tmp_path, monkeypatch):
    """Ten days: a dollar in each hour of the day, a quarter at night; one event has no price."""
    monkeypatch.chdir(tmp_path)

    def write(days):
        lines = [
            {"source": "t", "event_id": str(hour), "event_time": START_MS + hour * HOUR_MS, "session_id": f"s{hour}",
             "team": "ab"[hour % 2], "cost_nano_usd": 10**9 if 8 <= hour % 24 < 20 else 250_000_000}
            for hour in range(days * 24)
        ]  # fmt: skip
        lines.append({"source": "t", "event_id": "x", "event_time": START_MS + HOUR_MS, "session_id": "x",
                      "provider": "nobody", "model": "none", "input_tokens": 1_000_000})  # fmt: skip
        lines.sort(key=lambda line: line["event_time"])
        (tmp_path / "sample.jsonl").write_text("\n".join(map(json.dumps, lines)))

    return write


def run(*args):
    return CliRunner().invoke(cli, ["project", "sample.jsonl", *args])


def test_what_ninety_days_cost(sample):

    sample(10)
    result = run("--json")
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    hours = np.array([10**9 if 8 <= hour % 24 < 20 else 250_000_000 for hour in range(240)])
    want = forecast(hours, START_MS // HOUR_MS, START_MS // HOUR_MS + 240 + 90 * 24, 0)
    assert [values[f"{name}_nano_usd"] for name in want.__slots__] == [getattr(want, name) for name in want.__slots__]
    assert values["total_nano_usd"] == pytest.approx(90 * 15 * 10**9, rel=0.02)
    assert (values["events"], values["unpriced_events"], values["sample_nano_usd"]) == (241, 1, 150 * 10**9)
    text = run().stdout
    assert text.startswith("$150.00 in 10.0 days of 241 events\n$1,3")
    assert "not counting about $" in text


@pytest.mark.parametrize(("limit", "at", "code"), [("1000", "total", 1), ("1400", "total", 0), ("1400", "high95", 1)])
def test_the_gate(sample, limit, at, code):
    sample(10)
    result = run("--limit-usd", limit, "--at", at)
    assert result.exit_code == code
    assert (f"over the limit of ${float(limit):,.2f}: {at} is $" in result.stderr) == bool(code)


def test_a_sample_that_is_too_short_is_an_error_that_says_so(sample):
    sample(2)
    result = run()
    assert result.exit_code != 0
    assert "the sample holds 2.0 days; give one of at least 3 whole days" in str(result.exception) + result.output
