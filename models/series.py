"""The rate detector over any series of (time, value): how surprising each point is, in [0, 1], as it comes.

The series is judged by models.detectors.spend_rate twice, as it is and turned upside down (1 / value), so a drop is as
surprising as a rise. A point's surprise is how far it is above the key's own records, in its own standard deviations::

    surprise = max(u, j) / sd          u, j: above the record of level and of jumps; 0 within 3 sd of plain values
    score    = 1 - 2 ** (-surprise / 3)

While an incident is open, and for six points more, scores are a fifth of that: it has been told. Nothing is looked
ahead and nothing is set by the series but its scale and spacing, both of which its first points tell. Values below 0
count as 0. Cost: some 0.5 ms a point, most of it Python around the kernels. Called by ``tenfold score-series``.
"""

import math

import numpy as np

from models.config import DAY_MS, HOUR_MS, SpendRateConfig
from models.detectors.spend_rate import OPEN, REFRACTORY, SpendRate

SCALE = 1e9
"""What the first value above 0 is scaled to: the detector's floors are made for nano-dollars."""
LEAST = 0.01
"""Of the scale: smaller values are turned upside down as if they were this, so that zero is a hundredfold drop."""
ALARM = 3.0
"""Surprise with a score of one half."""
TOLD = 0.2
MIN_SPACING_MS = 1_000


class SeriesScorer:
    """One series; feed points in order of time.

    >>> scorer = SeriesScorer()
    >>> scores = [scorer.score(minute * 60_000, 100 + minute % 7) for minute in range(300)]
    >>> max(scores[20:]) < 0.5 < scorer.score(300 * 60_000, 400)
    True
    """

    def __init__(self):
        self._rates: SpendRate | None = None
        self._spacing_ms = 0
        self._scale = 0.0
        self._waiting: list[tuple[int, float]] = []

    def score(self, time_ms: int, value: float) -> float:
        """The score of one point, before it is learnt; a value that is no number scores 0 and is not learnt."""
        if not math.isfinite(value):
            return 0.0
        value = max(value, 0.0)
        if self._rates is None:
            self._waiting.append((time_ms, value))
            spacing_ms = time_ms - self._waiting[0][0]
            if spacing_ms <= 0:
                return 0.0
            self._spacing_ms = max(spacing_ms // (len(self._waiting) - 1), MIN_SPACING_MS)
            config = SpendRateConfig(ratio=1.0, min_excess_nano_usd=0)
            self._rates = SpendRate(config, min(self._spacing_ms, HOUR_MS))
            self._rates.add(2)
            waiting, self._waiting = self._waiting, []
            return [self._judge(*point) for point in waiting][-1]
        return self._judge(time_ms, value)

    def _judge(self, time_ms: int, value: float) -> float:
        if self._scale == 0.0 and value > 0.0:
            self._scale = value
        share = value / self._scale if self._scale else 0.0
        both = np.array([share, 1.0 / max(share, LEAST)]) * SCALE
        start_ms = self._start_ms(time_ms)
        flags = self._rates.flags[:2]
        told = bool((flags[:, (OPEN, REFRACTORY)] > 0).any())
        surprise = float(self._rates.surprise(both, start_ms).max())
        self._rates.judge(both, start_ms, np.ones(2, np.bool_))
        return (TOLD if told else 1.0) * (1.0 - 2.0 ** (-surprise / ALARM))

    def _start_ms(self, time_ms: int) -> int:
        """Points a day or more apart have no hours: their seven weekdays take the slots of hours."""
        if self._spacing_ms >= DAY_MS:
            return time_ms // DAY_MS % 7 * HOUR_MS
        return time_ms
