"""Two weeks of real tenants by ten minutes, and who of them is steady, bursty, for setting up and for testing.

All that decides is week 1 and the tenant's number, so nothing of the test part leaks into a choice. The data is
``loadtest/data/servegen_rates.npz``; its README says where it comes from.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent.parent / "data" / "servegen_rates.npz"
WINDOW_MS = 600_000
WEEK = 1008
"""Windows a week."""
USD = 1e9
USUAL = 10 * USD
"""Nano-USD per window that every tenant's week 1 is scaled to: the source tells no prices, and with one scale for all
the dollar floor of $1 is a tenth of the usual window."""
DENSE = 0.95
"""Share of active windows in week 1 of a tenant that can be steady."""
MIN_ACTIVE = 0.5
"""Of a tenant in the rates bench."""


@dataclass(frozen=True, slots=True)
class Tenants:
    """Rows of tenants; ``spend`` float64[n, 2016] in nano-USD."""

    names: np.ndarray
    spend: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def only(self, mask: np.ndarray) -> "Tenants":
        return Tenants(self.names[mask], self.spend[mask])

    @property
    def testing(self) -> np.ndarray:
        """bool[n]: the half that nothing was set on. The source's numbers are even: every other of them."""
        return np.array([int(name.split("/")[1]) % 4 == 2 for name in self.names])

    @property
    def active(self) -> np.ndarray:
        """float64[n]: share of week 1's windows with spend."""
        return (self.spend[:, :WEEK] > 0).mean(axis=1)

    @property
    def variation(self) -> np.ndarray:
        """float64[n]: standard deviation of week 1's windows over their mean; a day's rhythm is part of it."""
        return self.spend[:, :WEEK].std(axis=1) / self.spend[:, :WEEK].mean(axis=1)

    @property
    def steady(self) -> np.ndarray:
        """bool[n]: active in 95 % of week 1, standard deviation below half the mean (as in loadtest.make_data)."""
        return (self.active >= DENSE) & (self.variation < 0.5)

    @property
    def rhythmic(self) -> np.ndarray:
        """bool[n]: as dense, but with a standard deviation from half the mean up to the mean: mostly day and night."""
        return (self.active >= DENSE) & (self.variation < 1.0) & ~self.steady


def load(min_active: float = MIN_ACTIVE) -> Tenants:
    """Tenants active in at least this share of week 1, scaled to USUAL."""
    with np.load(DATA) as data:
        names, tokens = data["tenants"], data["tokens"].astype(np.float64)
    tenants = Tenants(names, tokens / tokens[:, :WEEK].mean(axis=1, keepdims=True) * USUAL)
    return tenants.only(tenants.active >= min_active)
