"""Detectors of the rates bench: ours, as production runs it, and what is commonly used instead.

Each takes spend float64[n, windows] of n keys and gives bool[n, windows]: where an incident opens. Those of others get
the same manners as ours: two windows in a row open, six calm ones close, and for six more none opens.
"""

from collections.abc import Callable

import numpy as np

from loadtest.accuracy.tenants import WEEK, WINDOW_MS
from models.config import HOUR_MS, SpendRateConfig
from models.detectors.spend_rate import SpendRate

Watcher = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(week 1 of n keys, week 2 of m keys, of which key i goes on from key i * n // m) -> opens bool[m, windows]"""
HOUR = HOUR_MS // WINDOW_MS
DAY = 24 * HOUR


class Production:
    """models.detectors.spend_rate with windows of ten minutes, and of hours for sparse keys, as models.rate_watch does.

    ``opens`` are those of spend, ``stops`` where a key turns silent: bool[m, windows] of week 2.
    """

    def __init__(self, config: SpendRateConfig):
        self.config = config
        self.stops = np.zeros((0, 0), np.bool_)

    def __call__(self, settle: np.ndarray, test: np.ndarray) -> np.ndarray:
        short, hour = SpendRate(self.config, WINDOW_MS), SpendRate(self.config, HOUR_MS)
        short.add(len(settle))
        hour.add(len(settle))
        self._run(short, hour, settle, 0)
        copies = len(test) // len(settle)
        short, hour = _copied(short, copies), _copied(hour, copies)
        opens, self.stops = self._run(short, hour, test, settle.shape[1])
        return opens

    def _run(self, short: SpendRate, hour: SpendRate, spend: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
        opens, stops = np.zeros(spend.shape, np.bool_), np.zeros(spend.shape, np.bool_)
        for i in range(spend.shape[1]):
            judged = short.judge(spend[:, i].copy(), (first + i) * WINDOW_MS, ~short.sparse())
            opens[:, i] = judged.opening
            stops[:, i] = judged.stopped
            if i % HOUR == HOUR - 1:
                whole = spend[:, i - HOUR + 1 : i + 1].sum(axis=1)
                opens[:, i] |= hour.judge(whole, (first + i + 1 - HOUR) * WINDOW_MS, short.sparse()).opening
        return opens, stops


def _copied(rates: SpendRate, copies: int) -> SpendRate:
    snapshot = {name: np.repeat(array, copies, axis=0) for name, array in rates.snapshot().items()}
    return SpendRate.restore(rates.config, rates.window_ms, snapshot)


def incidents(hot: np.ndarray, windows: int = 2, calm: int = 6) -> np.ndarray:
    """Where incidents open, of hot bool[n, w]."""
    n = len(hot)
    opens = np.zeros(hot.shape, np.bool_)
    streak, cool, refractory = np.zeros(n, int), np.zeros(n, int), np.zeros(n, int)
    is_open = np.zeros(n, np.bool_)
    for i in range(hot.shape[1]):
        streak = np.where(hot[:, i], streak + 1, 0)
        opens[:, i] = ~is_open & (refractory == 0) & (streak >= windows)
        cool = np.where(is_open & ~hot[:, i], cool + 1, 0)
        closing = cool >= calm
        is_open = (is_open | opens[:, i]) & ~closing
        refractory = np.where(closing, calm, np.maximum(refractory - 1, 0))
        cool[closing] = 0
    return opens


def ewma_z(z: float = 3.0, gain: float = 0.02) -> Watcher:
    """Mean and variance of spend by EWMA, updated with every window; hot above ``z`` standard deviations."""

    def watch(settle: np.ndarray, test: np.ndarray) -> np.ndarray:
        copies = len(test) // len(settle)
        mean, var = settle[:, :15].mean(axis=1), settle[:, :15].var(axis=1)
        for i in range(15, settle.shape[1]):
            off = settle[:, i] - mean
            mean, var = mean + gain * off, var + gain * (off * off - var)
        mean, var = np.repeat(mean, copies), np.repeat(var, copies)
        hot = np.zeros(test.shape, np.bool_)
        for i in range(test.shape[1]):
            off = test[:, i] - mean
            hot[:, i] = off > z * np.sqrt(var)
            mean, var = mean + gain * off, var + gain * (off * off - var)
        return incidents(hot)

    return watch


def static(factor: float = 3.0) -> Watcher:
    """A fixed limit per key: ``factor`` times the mean of week 1."""

    def watch(settle: np.ndarray, test: np.ndarray) -> np.ndarray:
        limit = factor * np.repeat(settle.mean(axis=1), len(test) // len(settle))
        return incidents(test > limit[:, None])

    return watch


def trailing_days(factor: float = 3.0) -> Watcher:
    """What gateways ship (LiteLLM's user spend anomaly): today so far above ``factor`` x the mean of seven days."""

    def watch(settle: np.ndarray, test: np.ndarray) -> np.ndarray:
        copies = len(test) // len(settle)
        days = np.repeat(settle.reshape(len(settle), -1, DAY).sum(axis=2), copies, axis=0)
        opens = np.zeros(test.shape, np.bool_)
        for day in range(test.shape[1] // DAY):
            of_day = slice(day * DAY, (day + 1) * DAY)
            over = np.cumsum(test[:, of_day], axis=1) > factor * days[:, -7:].mean(axis=1, keepdims=True)
            first = over.argmax(axis=1)
            rows = np.flatnonzero(over.any(axis=1))
            opens[rows, day * DAY + first[rows]] = True  # Once a day and key.
            days = np.concatenate([days, test[:, of_day].sum(axis=1, keepdims=True)], axis=1)
        return opens

    return watch


def at_random(per_week: float, seed: int = 1) -> Watcher:
    """Opens at random, so often a key and week."""

    def watch(settle: np.ndarray, test: np.ndarray) -> np.ndarray:
        return np.random.default_rng(seed).random(test.shape) < per_week / WEEK

    return watch
