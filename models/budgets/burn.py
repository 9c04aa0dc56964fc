"""How fast a budget burns: pairs of windows from the SRE workbook (chapter 5), scaled to the true period.

burn = (use in a window / window) / (limit / period): 1 uses exactly the limit by the period's end. A pair fires
if both its windows exceed its factor, the long one for significance and the short one so that it stops soon, and if
the long window has seen three events and a dollar or 100,000 tokens. A budget is meant to be spent, so burn 1 is
normal: the slow rule asks for 1.2 and for a projection beyond the limit. A pair stops once its short window has been
under 0.8 of the factor at two evaluations in a row. Called by models.budgets.burn_watch.
"""

from dataclasses import dataclass

from models.config import MINUTE_MS, USD

FLOOR = {"nano_usd": 1 * USD, "tokens": 100_000}
"""Less than this in the long window never fires, by unit: one dear call of a tiny budget is no burn."""
MIN_EVENTS = 3
"""Nor do fewer events: that is a call, which other detectors judge, and no pace."""
RESOLVE_SHARE = 0.8
RESOLVE_EVALUATIONS = 2
_RULES = (
    # name, part of the period, factor, gated by projection; each long window uses 2, 5 and 12 % of the budget
    ("fast", 720, 14.4, False),
    ("medium", 120, 6.0, False),
    ("slow", 10, 1.2, True),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two windows and the burn both must exceed."""

    name: str
    long_ms: int
    short_ms: int
    factor: float
    gated: bool
    """Only where the period's projection exceeds the limit; a warning, while the others page."""


def pairs(period_length_ms: int) -> tuple[Pair, ...]:
    """The pairs of a period, in whole minutes, at least one.

    >>> [(pair.long_ms // 60_000, pair.short_ms // 60_000) for pair in pairs(30 * 86_400_000)]
    [(60, 5), (360, 30), (4320, 360)]
    """
    return tuple(
        Pair(name, _minutes(period_length_ms / part), _minutes(period_length_ms / part / 12), factor, gated)
        for name, part, factor, gated in _RULES
    )


def _minutes(ms: float) -> int:
    return max(round(ms / MINUTE_MS), 1) * MINUTE_MS


@dataclass(slots=True)
class PairState:
    """One pair of one budget, from evaluation to evaluation."""

    firing: bool = False
    calm: int = 0
    """Evaluations in a row with the short window under the resolving threshold, while firing."""

    def evaluate(self, pair: Pair, long_burn: float, short_burn: float, enough: bool, overrun: bool) -> bool:
        """Move on by one evaluation; True if firing now. ``enough``: the long window is over both floors."""
        if not self.firing:
            self.firing = (
                long_burn > pair.factor and short_burn > pair.factor and enough and (overrun or not pair.gated)
            )
            self.calm = 0
            return self.firing
        self.calm = self.calm + 1 if short_burn < RESOLVE_SHARE * pair.factor else 0
        if self.calm >= RESOLVE_EVALUATIONS:
            self.firing = False
        return self.firing
