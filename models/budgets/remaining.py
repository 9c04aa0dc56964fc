"""Whether what is left of a budget lasts: the pace of late against an even use of the rest of the limit.

The pairs compare with an even use of the whole limit, so they are content with a budget that was used up early and
now goes on as usual. This rule is not: 1 uses exactly the rest by the period's end. It fires if the slow pair's windows
and the last hour (the fast pair's long window, what a status calls ``remaining_burn``) all exceed FACTOR, if the limit
would be passed by at least OVERRUN_SHARE of it (near the end of a period small amounts make large factors), and if the
windows have seen enough to speak of a pace. FACTOR is above the slow pair's, which so speaks first of what is simply
too fast; while a pair fires this rule is silent. It is over once the slow pair's long window has been under 0.8 of
FACTOR at two evaluations in a row, so not with each quiet night, or with the period; not because the limit is reached
meanwhile, for then it was right. Rolling windows have no rest of a period. Called by models.budgets.burn_watch.
"""

from dataclasses import dataclass

import numpy as np

from models.budgets.burn import RESOLVE_EVALUATIONS, RESOLVE_SHARE

FACTOR = 1.5
OVERRUN_SHARE = 0.02
MAX_BURN = 1_000.0
"""The rest of a budget over the rest of its period says little near their ends."""


@dataclass(frozen=True, slots=True)
class Rest:
    """What is left at some minutes; arrays of length k."""

    left: np.ndarray
    """int64: of the limit, in its unit; negative once it is passed"""
    rest_ms: np.ndarray
    """float64: of the period, in the season's time"""
    burn: np.ndarray
    """float64: of the slow pair's long window; MAX_BURN at most"""
    pace: np.ndarray
    """float64: the least of the rates, use per ms of the season's time"""
    exceeds: np.ndarray
    """bool: all that a finding needs"""

    @classmethod
    def of(
        cls,
        limits: np.ndarray,
        spent: np.ndarray,
        rest_ms: np.ndarray,
        long_rate: np.ndarray,
        later_rates: tuple[np.ndarray, ...],
        enough: np.ndarray,
    ) -> "Rest":
        """Rates float64[k] of the slow pair's long window and of the windows within it; ``enough`` bool[k]."""
        left = limits - spent
        pace = np.minimum.reduce([long_rate, *later_rates])
        overrun = pace * rest_ms - left >= OVERRUN_SHARE * limits
        exceeds = (left > 0) & (_burn(pace, rest_ms, left) > FACTOR) & overrun & enough
        return cls(left, rest_ms, _burn(long_rate, rest_ms, left), pace, exceeds)

    def least_burn(self, i: int) -> float:
        """Of the slowest of the windows."""
        return float(_burn(self.pace, self.rest_ms, self.left)[i])


def _burn(rate: np.ndarray, rest_ms: np.ndarray, left: np.ndarray) -> np.ndarray:
    use = rate * rest_ms
    return np.where(left > 0, np.minimum(use / np.maximum(left, 1), MAX_BURN), np.where(use > 0, MAX_BURN, 0.0))


def calm_after(calm: int, burn: float) -> int:
    """Evaluations in a row, with this one, at which a finding that is open would be over."""
    return calm + 1 if burn < RESOLVE_SHARE * FACTOR else 0


def is_over(calm: int) -> bool:
    return calm >= RESOLVE_EVALUATIONS
