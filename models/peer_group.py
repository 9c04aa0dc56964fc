"""One peer group: its histograms of what sessions cost and call, and what follows from them alone.

The middle of its costs in ln (m) and the variance of that (v), its tail, what an event of it usually is, and how its
sessions grow from call to call. Exact for the histogram: a quantile is right within a bin, 15 %. Pure numbers, some
0.2 ms a group whenever its histograms change. Called by models.baselines.
"""

from dataclasses import dataclass

import numpy as np

from models.counters import CACHE_READ, CACHE_WRITE, COST, COUNTERS, EVENTS, INPUT, OUTPUT
from models.session_kernels import BIN_LN_WIDTH, BINS, LOWEST_COST_NANO_USD, STEPS

LOWEST_EVENTS = 1
STEP_SUMS = len(COUNTERS)
"""Where the sums of the steps begin: for each of STEPS the number of runs that reached it, the sums of their cost bins
at that call and in the end."""
GUARD = STEP_SUMS + 3 * STEPS
"""Sum of what people said of the group's findings: 1 for each that was none, -1 for each that was one."""
SAID = GUARD + 1
"""How often anything was said: of two histograms with as many sessions, the one with more is the later."""
SUMS = SAID + 1
GUARD_STEP, MAX_GUARD = 0.1, 0.7
"""Each "not an anomaly" lifts a group's limits by a tenth, all together to twice at most (ln 2)."""
TOKEN_WEIGHTS = {INPUT: 1.0, CACHE_READ: 0.1, CACHE_WRITE: 1.25, OUTPUT: 5.0}
"""What a token of each kind usually costs against an input token: how much of a dearer token is mix, how much price."""

MIDDLE = np.linspace(0.3, 0.7, 9)
MIDDLE_SESSIONS = 100
"""The middle's mean varies less than the median but leans to the side of the longer tail (0.02 to 0.03 of ln cost on
real sessions), which outweighs that from about a hundred sessions on."""
PRIOR_SD, PRIOR_SESSIONS = 0.85, 20
"""Standard deviation of ln cost inside a model's sessions (median of 25 models), worth so many sessions."""
MEDIAN_VARIANCE = 1.44
TAIL = 0.95
"""Where more than one session in twenty costs ten times the median, doing so is no reason to wake anybody."""


def bin_of(values: np.ndarray, lowest: float) -> np.ndarray:
    """Bin int64[n] of positive values; those beyond the edges fall in the outer bins."""
    index = np.floor(np.log(np.maximum(values, lowest) / lowest) / BIN_LN_WIDTH).astype(np.int64)
    return np.clip(index, 0, BINS - 1)


def quantiles(bins: np.ndarray, q: np.ndarray, lowest: float) -> np.ndarray:
    """Values float64[k] at quantiles q float64[k] of a histogram, geometric inside a bin; 0.0 for an empty one."""
    total = bins.sum()
    if total <= 0:
        return np.zeros(len(q))
    below = np.cumsum(bins)
    target = q * total
    index = np.minimum(np.searchsorted(below, target), BINS - 1)
    held = bins[index]
    inside = np.where(held > 0, (target - (below[index] - held)) / np.where(held > 0, held, 1), 0.5)
    return lowest * np.exp((index + inside) * BIN_LN_WIDTH)


def quantile(bins: np.ndarray, q: float, lowest: float) -> float:
    """One of ``quantiles``."""
    return float(quantiles(bins, np.array([q]), lowest)[0])


@dataclass(frozen=True, slots=True)
class Usual:
    """What an event of the group's sessions usually is: ratios of sums over the runs that were not flagged."""

    event_cost_nano_usd: float
    event_tokens: float
    token_weight: float
    """Mean of TOKEN_WEIGHTS over its tokens; 0 where it has none."""


def bin_edge(nano_usd: float) -> float:
    """Lower edge of a cost's bin: flagged runs count as ``ratio`` times the median and must not hide those above."""
    bins = np.floor(np.log(nano_usd / LOWEST_COST_NANO_USD) / BIN_LN_WIDTH)
    return float(LOWEST_COST_NANO_USD * np.exp(bins * BIN_LN_WIDTH))


def token_weight(counters) -> float:
    """Weighted tokens of counters (models.counters), in input tokens."""
    return sum(weight * float(counters[at]) for at, weight in TOKEN_WEIGHTS.items())


class PeerGroup:
    """A group's histograms and what follows from them alone."""

    __slots__ = (
        "cost_bins",
        "event_bins",
        "events_median",
        "events_p99",
        "guard",
        "m",
        "n",
        "steps",
        "sums",
        "tail_nano_usd",
        "usual",
        "v",
    )

    def __init__(self, record: dict, min_baseline: int):
        self.cost_bins = np.asarray(record["cost_bins"], np.float64)
        self.event_bins = np.asarray(record["event_bins"], np.float64)
        sums = self.sums = np.zeros(SUMS)
        sums[: len(record["sums"])] = record["sums"]
        self.n = float(self.cost_bins.sum())
        self.guard = float(np.clip(GUARD_STEP * sums[GUARD], 0.0, MAX_GUARD))
        if self.n <= 0:
            return
        middle = np.log(quantiles(self.cost_bins, MIDDLE, LOWEST_COST_NANO_USD))
        median = float(middle[len(MIDDLE) // 2])
        self.m = median + (float(middle.mean()) - median) * MIDDLE_SESSIONS / (MIDDLE_SESSIONS + self.n)
        centres = np.log(LOWEST_COST_NANO_USD) + (np.arange(BINS) + 0.5) * BIN_LN_WIDTH
        s = 1.2533 * float((self.cost_bins * np.abs(centres - self.m)).sum() / self.n)
        s2 = (PRIOR_SESSIONS * PRIOR_SD**2 + self.n * s**2) / (PRIOR_SESSIONS + self.n)
        self.v = MEDIAN_VARIANCE * s2 / self.n
        self.tail_nano_usd = bin_edge(quantile(self.cost_bins, TAIL, LOWEST_COST_NANO_USD))
        self.events_median = quantile(self.event_bins, 0.5, LOWEST_EVENTS)
        self.events_p99 = quantile(self.event_bins, 0.99, LOWEST_EVENTS)
        events, tokens = max(float(sums[EVENTS]), 1.0), float(sums[list(TOKEN_WEIGHTS)].sum())
        self.usual = Usual(float(sums[COST]) / events, tokens / events, token_weight(sums) / max(tokens, 1.0))
        self.steps = _steps(sums[STEP_SUMS:GUARD].reshape(STEPS, 3), min_baseline)


def _steps(sums: np.ndarray, min_baseline: int) -> list[tuple[int, float, float]]:
    """(step, ln of the cost there, ln of how much more a session that gets there costs in the end), of the mean peer.

    sums float64[STEPS, 3]: runs that reached the step, sums of their cost bins there and in the end. Steps that fewer
    than ``min_baseline`` runs have reached tell nothing.
    """
    lowest = float(np.log(LOWEST_COST_NANO_USD)) + 0.5 * BIN_LN_WIDTH
    known = [(step, *row) for step, row in enumerate(sums.tolist()) if row[0] >= min_baseline]
    return [(step, lowest + BIN_LN_WIDTH * at / n, BIN_LN_WIDTH * (end - at) / n) for step, n, at, end in known]
