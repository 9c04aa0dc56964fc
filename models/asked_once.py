"""Numbers of the items of a list that only grows, each asked for once.

For what would else be a Python call a row: which row a scope is of a detector, which of its metrics a team counts in.
Cost: an array look-up a row, and the call for a new item. Called by models.watched, models.economics.hours,
models.panes_merge and models.spent.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")
_UNSEEN = -2


class AskedOnce:
    """int64 by place in the list; whoever replaces the list calls ``forget``."""

    def __init__(self) -> None:
        self.forget()

    def of(self, items: Sequence[Item], places: np.ndarray, ask: Callable[[Item], int]) -> np.ndarray:
        """int64[k] of the items at ``places`` int[k]; ``ask`` gives a number of -1 or more, the same whenever asked."""
        unseen = len(items) - len(self._known)
        if unseen > 0:
            self._known = np.concatenate([self._known, np.full(unseen, _UNSEEN)])
        for place in np.unique(places[self._known[places] == _UNSEEN]).tolist():
            self._known[place] = ask(items[place])
        return self._known[places]

    def forget(self) -> None:
        """Ask anew from now on."""
        self._known = np.empty(0, np.int64)
