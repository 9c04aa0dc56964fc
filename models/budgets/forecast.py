"""What a budget period will have cost when it is over, with bands that say how sure that is.

The rest of the period is expected from the team's own days::

    day   = mean of the past days, each half as heavy as one HALF_LIFE_DAYS later
    hour  = day x shape of the day x weight of the weekday (after two weeks), both drawn towards flat
    rest  = sum over the hours that are left

A band is ``spent + rest x exp(quantile x spread)``. ``spread`` is the root mean square of how much the team's ln of
daily spend changes from day to day, drawn towards PRIOR_VARIANCE as if that had been seen for PRIOR_DAYS, times (days
left / 7) ** 0.25: a steady team gets a narrow band, a bursty or a new one a wide one, and what is far off is less sure.
The quantiles are those of ln(actual / expected rest) / spread on real tenants, conformal in that a fixed half of the
tenants sets them and the other half tests them (``loadtest/accuracy/forecast.py``, docs/rates.md). They come from
periods of two weeks: in a longer one the band says less than it seems.

Guarantee: low95 <= low80 <= total <= high80 <= high95, and nothing is below what is spent already. Cost: some 0.2 ms.
Source: split conformal prediction with normalised scores, Lei et al., Distribution-Free Predictive Inference for
Regression, JASA 2018. Called by models.budgets.monitor.
"""

from dataclasses import dataclass

import numpy as np

HALF_LIFE_DAYS = 5.0
PRIOR_VARIANCE = 0.2
PRIOR_DAYS = 5.0
MIN_DAYS = 3
"""Whole days of history without which nothing is forecast."""
WEEKDAYS_AFTER_DAYS = 14
SHRINK_DAYS = 2.0
"""A shape counts as if it had been flat for so many days beside those seen."""
FLOOR_SHARE = 0.03
"""Of a mean day, added before ln: a day without spend is unusual, not infinitely so."""
HORIZON_DAYS, HORIZON_POWER = 7.0, 0.25
MEASURED_DAYS = (1.0, 10.0)
"""The spread is that of a week ahead, and grows no further than it could be measured."""
QUANTILES = (-6.5, -1.94, 1.59, 3.06)
"""Of ln(actual / expected rest) / spread at 2.5, 10, 90 and 97.5 %: one tenant in 25 just stopped."""
MAX_EXPONENT = 6.0
MAX_NANO_USD = 2**62


@dataclass(frozen=True, slots=True)
class Forecast:
    """Total of a period in nano-USD; the actual one is within low80..high80 in 80 of 100 cases, and so on."""

    total: int
    low80: int
    high80: int
    low95: int
    high95: int


def forecast(hours: np.ndarray, first_hour: int, end_hour: int, spent_nano_usd: int) -> Forecast | None:
    """The forecast at the end of ``hours``; None with less than MIN_DAYS whole days.

    hours: int64[n] nano-USD of consecutive hours, of which the first begins ``first_hour`` hours after 1970; earlier
    periods are welcome, 62 days are enough. end_hour: first hour after the period. spent_nano_usd: in this period.

    >>> week = np.tile([2, 4] * 12, 7) * 10**9
    >>> forecast(week, 0, 14 * 24, int(week.sum())).total / 10**9
    1008.0
    """
    said = expected(hours, first_hour, end_hour)
    if said is None:
        return None
    rest, spread = said
    factors = np.exp(np.clip(np.array(QUANTILES) * spread, -MAX_EXPONENT, MAX_EXPONENT))
    total, low95, low80, high80, high95 = (
        min(spent_nano_usd + round(rest * factor), MAX_NANO_USD) for factor in (1.0, *factors.tolist())
    )
    return Forecast(total, low80, high80, low95, high95)


def expected(hours: np.ndarray, first_hour: int, end_hour: int) -> tuple[float, float] | None:
    """(nano-USD from now to ``end_hour``, spread); None with less than MIN_DAYS whole days."""
    days = len(hours) // 24
    if days < MIN_DAYS:
        return None
    now_hour = first_hour + len(hours)
    spend = np.maximum(hours[len(hours) - 24 * days :].astype(np.float64), 0.0).reshape(days, 24)
    daily = spend.sum(axis=1)
    weight = 0.5 ** (np.arange(days)[::-1] / HALF_LIFE_DAYS)
    day = float(daily @ weight / weight.sum())
    left = np.arange(now_hour, max(end_hour, now_hour))
    rest = day / 24 * float((_of_day(spend, now_hour)[left % 24] * _of_week(daily, now_hour)[_weekday(left)]).sum())

    logs = np.log(np.maximum(daily, 0.0) + FLOOR_SHARE * daily.mean()) if day > 0 else np.zeros(days)
    changes = float((np.diff(logs) ** 2).sum())
    spread = ((changes + PRIOR_VARIANCE * PRIOR_DAYS) / (days - 1 + PRIOR_DAYS)) ** 0.5
    return rest, spread * (float(np.clip(len(left) / 24, *MEASURED_DAYS)) / HORIZON_DAYS) ** HORIZON_POWER


def _weekday(hour: np.ndarray) -> np.ndarray:
    """0 is Monday, UTC; 1970 began on a Thursday."""
    return (hour // 24 + 3) % 7


def _of_day(spend: np.ndarray, now_hour: int) -> np.ndarray:
    """float64[24], mean 1, by hour of day UTC: the shape of ``spend`` float64[days, 24], which ends at ``now_hour``."""
    total = spend.sum(axis=0)
    if total.sum() <= 0:
        return np.ones(24)
    days = len(spend)
    shape = (total / total.mean() * days + SHRINK_DAYS) / (days + SHRINK_DAYS)
    return np.roll(shape, now_hour % 24)


def _of_week(daily: np.ndarray, now_hour: int) -> np.ndarray:
    """float64[7], mean about 1: weekdays against the mean of the week around them; flat in the first two weeks."""
    factors = np.ones(7)
    if len(daily) < WEEKDAYS_AFTER_DAYS:
        return factors
    weeks = len(daily) // 7
    recent = daily[len(daily) - 7 * weeks :].reshape(weeks, 7)
    mean = recent.mean(axis=1, keepdims=True)
    share = np.divide(recent, mean, out=np.ones_like(recent), where=mean > 0).mean(axis=0)
    # Days end at the hour of now, not at midnight: each belongs to the weekday that holds most of it.
    middle = now_hour - 24 * np.arange(7, 0, -1) + 12
    factors[_weekday(middle)] = (share * weeks + SHRINK_DAYS) / (weeks + SHRINK_DAYS)
    return factors
