"""The rules that others flag an expensive session by, on the costs of the sessions before it.

Each gives the ln of the cost above which it flags, so that rules can be compared at their own threshold and at any
other: adding the same to all its thresholds makes a rule stricter.
"""

import numpy as np

RULES = ("10x median", "10x mean", "3 sigma", "3 MAD")
"""3 sigma: mean and three standard deviations of ln cost; 3 MAD: median and three scaled median deviations of it."""
SCALED_MAD = 1.4826
"""Makes the median absolute deviation of a normal distribution its standard deviation."""


def thresholds(earlier_nano_usd: list[int]) -> tuple[float, ...]:
    """ln nano-USD in the order of RULES; NaN without earlier sessions.

    >>> [round(float(np.exp(t))) for t in thresholds([1_000, 1_000, 1_000, 9_000])]
    [10000, 30000, 30024, 1000]
    """
    if not earlier_nano_usd:
        return (np.nan,) * len(RULES)
    cost = np.array(earlier_nano_usd, np.float64)
    logs = np.log(cost)
    median = float(np.median(logs))
    mad = SCALED_MAD * float(np.median(np.abs(logs - median)))
    return (
        median + np.log(10),
        float(np.log(10 * cost.mean())),
        float(logs.mean() + 3 * logs.std()),
        median + 3 * mad,
    )
