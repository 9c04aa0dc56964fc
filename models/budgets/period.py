"""One budget in one period: what was used, which milestones were passed, what was last said about it.

A milestone fires once per (budget, period, level), on the way up, and is armed again only by a new period or a
higher limit; in a rolling window, which has no end, once use has fallen well below it. Keyed by period id, so nothing
is ever reset (BerriAI/litellm#3113, #27398, #9098). Called by models.budgets.account only.
"""

from dataclasses import dataclass, field

from models.budgets.calendar import Period

REARM_SHARE = 0.9
"""A rolling window's milestone is over below this share of it, so that use around a level does not flap."""


@dataclass(slots=True)
class Milestone:
    """One level of one period."""

    passed: bool = False
    revision: int = 0
    """Of its finding; 0 if another level spoke for it."""


@dataclass(slots=True)
class PeriodState:
    """Amounts in the budget's unit."""

    period: Period
    limit: int
    """With the raises that held when it was last looked at."""
    spent: int = 0
    cost: int = 0
    """nano-USD; the same as ``spent`` where that is the unit."""
    estimated: int = 0
    """Conservative estimate for usage without a known price, nano-USD; in none of the others."""
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

    def add(self, spent: int, cost: int, estimated: int) -> None:
        self.spent += spent
        self.cost += cost
        self.estimated += estimated

    def cross(self, milestones_percent: tuple[int, ...]) -> list[int]:
        """Levels passed since the last look, ascending; they count as passed from now on."""
        crossed = []
        for level in sorted(milestones_percent):
            milestone = self.levels.setdefault(level, Milestone())
            if not milestone.passed and self.reached(level):
                milestone.passed = True
                crossed.append(level)
        return crossed

    def rearm(self, limit: int) -> list[int]:
        """Take a changed limit over; returns the levels that are no longer reached and had been reported."""
        if self.limit == limit:
            return []
        self.limit = limit
        return self._undo(lambda level: not self.reached(level))

    def fall_back(self) -> list[int]:
        """For rolling windows: levels that use is well below again and had been reported."""
        return self._undo(lambda level: self.spent * 100 < REARM_SHARE * level * self.limit)

    def drop(self, milestones_percent: tuple[int, ...]) -> list[int]:
        """Levels that are no milestone any more and had been reported."""
        return self._undo(lambda level: level not in milestones_percent)

    def _undo(self, is_over) -> list[int]:
        if not self.reached(100):
            self.exhausted_ms = None
        undone = []
        for level, milestone in sorted(self.levels.items()):
            if milestone.passed and is_over(level):
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
    def restore(cls, snapshot: dict) -> "PeriodState":
        levels = {level: Milestone(passed, revision) for level, passed, revision in snapshot["levels"]}
        return cls(**{**snapshot, "period": Period(**snapshot["period"]), "levels": levels})
