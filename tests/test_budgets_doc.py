"""docs/budgets.md: every configuration in it runs, and every budget in it counts."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from models.budgets.burn import pairs
from models.config import DAY_MS, MINUTE_MS
from schemas.formats.canonical import event_from_json
from streams.config import Settings
from streams.replay import Replay

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "budgets.md").read_text()
BLOCKS = re.findall(r"```toml\n(.*?)```", TEXT, re.S)
NOON = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp() * 1000)


def event(number: int, **fields) -> dict:
    return event_from_json({"event_id": str(number), "source": "test", "event_time": NOON, **fields})


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_each_configuration_runs_and_each_budget_counts(tmp_path, number):
    (tmp_path / "tenfold.toml").write_text(BLOCKS[number])
    settings = Settings.load(tmp_path / "tenfold.toml")
    assert settings.budgets
    replay = Replay(settings.engine())
    names = {"team": "payments", "agent": "planner", "use_case": "loan-approval", "model": "gpt-5",
             "transaction_type": "loan", "session_id": "nightly-import",
             "tags": {"cost_centre": "blue", "environment": "test"}}  # fmt: skip
    replay.feed(
        [
            event(number, cost_nano_usd=10**9, input_tokens=1_000, **names | {"team": team})
            for number, team in enumerate(("payments", "new"))
        ]
    )
    replay.finish()
    counted = {name for (name, _), status in replay.budgets.items() if status["spent_ratio"] > 0}
    for budget in settings.engine().budgets:
        assert any(name == budget.name or name.startswith(budget.name + "/") for name in counted), budget.name


def test_the_table_of_windows_is_that_of_the_code():
    rows = re.findall(r"^\| (day|week|month of 30 days|quarter of 91 days|year) \| (.*) \|$", TEXT, re.M)
    days = {"day": 1, "week": 7, "month of 30 days": 30, "quarter of 91 days": 91, "year": 365}
    assert len(rows) == 5
    unit_ms = {"min": MINUTE_MS, "h": 60 * MINUTE_MS, "d": DAY_MS}
    for period, cells in rows:
        for pair, cell in zip(pairs(days[period] * DAY_MS), cells.split(" | "), strict=True):
            for said, meant in zip(re.findall(r"([\d.]+) (min|h|d)", cell), (pair.long_ms, pair.short_ms), strict=True):
                assert float(said[0]) * unit_ms[said[1]] == pytest.approx(meant, rel=0.03)
