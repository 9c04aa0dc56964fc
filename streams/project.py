"""What recorded usage would cost if it went on like this: ``tenfold project``, for a gate in CI.

Prices and counts the sample with the code of the worker (streams.replay), then forecasts the days after it from its
last 62 days (models.budgets.forecast). The band is that of the forecaster: measured over periods of two weeks, so over
90 days it says less than it seems. Raises ConfigError for a sample that is too short.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np

from models.budgets.forecast import MIN_DAYS, Forecast, forecast
from models.config import DAY_MS, HOUR_MS, EngineConfig
from streams.errors import ConfigError
from streams.replay import Replay, chunks

BANDS = ("total", "high80", "high95")
_HISTORY_HOURS = 62 * 24


@dataclass(frozen=True, slots=True)
class Projection:
    """Money in nano-USD."""

    days: int
    forecast: Forecast
    sample_days: float
    sample_nano_usd: int
    events: int
    unpriced_events: int
    estimated_nano_usd: int
    """Conservative estimate for those; in none of the other amounts."""

    def as_dict(self) -> dict:
        """For JSON: one level, amounts named by their unit."""
        values = asdict(self)
        return values | {f"{name}_nano_usd": amount for name, amount in values.pop("forecast").items()}


def project(
    events: Iterable[dict], config: EngineConfig, days: int, on_progress: Callable[[int], None] = lambda events: None
) -> Projection:
    """The cost of the ``days`` after the last event of a sample."""
    replay = Replay(config)
    for chunk in chunks(events):
        replay.feed(chunk)
        on_progress(len(chunk))
    replay.finish()
    rows = [
        (start // HOUR_MS, row)
        for (scope, start, size), row in replay.spend.items()
        if scope.kind == "team" and size == HOUR_MS
    ]
    first, last = (edge((hour for hour, _ in rows), default=0) for edge in (min, max))
    if (last + 1 - first) // 24 < MIN_DAYS:
        raise ConfigError(
            f"the sample holds {(last + 1 - first) / 24 if rows else 0:.1f} days; give one of at least {MIN_DAYS} "
            "whole days, so that days can be told from nights"
        )
    start = max(first, last + 1 - _HISTORY_HOURS)
    hours = np.zeros(last + 1 - start, np.int64)
    for hour, row in rows:
        if hour >= start:
            hours[hour - start] += row["cost_nano_usd"]
    made = forecast(hours, start, last + 1 + days * DAY_MS // HOUR_MS, 0)
    return Projection(
        days=days,
        forecast=made,
        sample_days=(last + 1 - first) / 24,
        sample_nano_usd=sum(row["cost_nano_usd"] for _, row in rows),
        events=replay.counts["events"],
        unpriced_events=replay.counts["unpriced"],
        estimated_nano_usd=sum(row["estimated_nano_usd"] for _, row in rows),
    )
