"""Budgets that come while the worker runs, from the compacted topic ``tenfold.budget-definitions``.

A record's key is the budget's name, its value a ``[[budgets]]`` table as JSON; without a value the budget is taken
back. A definition replaces the budget of that name in ``tenfold.toml``, and when it is taken back that one counts
again. What is no definition is named in the log and changes nothing. Called by streams.agents.rollup.
"""

import json
import os
from collections.abc import Iterable

import structlog
from pydantic import ValidationError

from models.config import BudgetConfig
from models.extra_scopes import Asked, missing_for
from streams.budget_settings import BudgetSettings
from streams.config_problems import problems

log = structlog.get_logger()


class Definitions:
    """The settings' budgets with those of the topic over them."""

    def __init__(self, budgets: Iterable[BudgetConfig], kept: Iterable[Asked] = ()):
        """``kept``: scopes beside those of every event for which windows are kept (models.extra_scopes)."""
        self._kept = tuple(kept)
        self._settings = {budget.name: budget for budget in budgets}
        self._defined: dict[str, BudgetConfig] = {}

    @property
    def budgets(self) -> tuple[BudgetConfig, ...]:
        """What counts now, in the order of the names that the topic brought after those of the settings."""
        return tuple((self._settings | self._defined).values())

    def take(self, records: Iterable) -> bool:
        """Take Kafka records in, in order; True if ``budgets`` has changed."""
        before = self.budgets
        for record in records:
            name = (record.key or b"").decode(errors="replace")
            if record.value is None:
                self._defined.pop(name, None)
                continue
            try:
                budget = parse_definition(name, record.value)
                if kind := missing_for(self._kept, budget):
                    setting = json.dumps([kind], ensure_ascii=False)
                    keep = "" if kind == "session" else f"set windows.extra_scopes = {setting} for all workers, or "
                    raise ValueError(f"no windows are kept for its scope; {keep}give the budget in tenfold.toml")
                self._defined[name] = budget
            except ValueError as error:
                log.error("budget_definition_refused", budget=name, offset=record.offset, problem=str(error))
        return self.budgets != before


def parse_definition(name: str, value: bytes) -> BudgetConfig:
    """The budget that a record defines. Raises ValueError with every problem, in words."""
    try:
        table = json.loads(value)
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    if not isinstance(table, dict):
        raise ValueError("it is not a JSON object; give the keys of a [[budgets]] table")
    if not name:
        raise ValueError("its key is empty; give the budget's name")
    try:
        return BudgetSettings(**{**table, "name": name}).engine()
    except ValidationError as error:
        raise ValueError("; ".join(problems(error, BudgetSettings, os.environ, ""))) from None
