"""One budget in one month: what was spent, which milestones were passed, what was last said about it.

A milestone fires once per (budget, period, level), on the way up, and is armed again only by a new period or a
higher limit. Keyed by period id, so nothing is ever reset (BerriAI/litellm#3113, #27398, #9098).
Called by models.budgets.monitor only.
"""

from dataclasses import dataclass, field

from models.budgets.calendar import Period
from models.config import BudgetConfig


@dataclass(slots=True)
class Milestone:
    """One level of one month."""

    passed: bool = False
    revision: int = 0
    """Of its finding; 0 if another level spoke for it."""


@dataclass(slots=True)
class Month:
    """Money in nano-USD."""

    period: Period
    limit: int
    spent: int = 0
    estimated: int = 0
    """Conservative estimate for usage without a known price; not part of ``spent``."""
    levels: dict[int, Milestone] = field(default_factory=dict)
    exhausted_ms: int | None = None
    """The watermark when the limit was first seen to be reached."""
    ended: bool = False
    revision: int = 0
    """Of its status."""
    reported: list = field(default_factory=list)
    """What the last status said."""

    def reached(self, level: int) -> bool:
        """Exact: integers only."""
        return self.spent * 100 >= level * self.limit

    @property
    def percent(self) -> int:
        """Rounded down: 99.9 % is not 100 %."""
        return self.spent * 100 // self.limit

    @property
    def ratio(self) -> float:
        return self.spent / self.limit

    def level(self) -> int:
        """Highest level passed, 0 for none."""
        return max((level for level, milestone in self.levels.items() if milestone.passed), default=0)

    def cross(self, budget: BudgetConfig) -> list[int]:
        """Levels passed since the last look, ascending; they count as passed from now on."""
        crossed = []
        for level in sorted(budget.milestones_percent):
            milestone = self.levels.setdefault(level, Milestone())
            if not milestone.passed and self.reached(level):
                milestone.passed = True
                crossed.append(level)
        return crossed

    def rearm(self, budget: BudgetConfig) -> list[int]:
        """Take a changed limit over; returns the levels that are no longer reached and had been reported."""
        if self.limit == budget.limit_nano_usd:
            return []
        self.limit = budget.limit_nano_usd
        if not self.reached(100):
            self.exhausted_ms = None
        undone = []
        for level, milestone in sorted(self.levels.items()):
            if milestone.passed and not self.reached(level):
                milestone.passed = False
                if milestone.revision:
                    undone.append(level)
        return undone

    def snapshot(self) -> dict:
        """Plain values; ``reported`` is the list itself, which is replaced and never changed."""
        return {
            **{name: getattr(self, name) for name in self.__slots__},
            "period": {name: getattr(self.period, name) for name in Period.__slots__},
            "levels": [[level, m.passed, m.revision] for level, m in self.levels.items()],
        }

    @classmethod
    def restore(cls, snapshot: dict) -> "Month":
        levels = {level: Milestone(passed, revision) for level, passed, revision in snapshot["levels"]}
        return cls(**{**snapshot, "period": Period(**snapshot["period"]), "levels": levels})
