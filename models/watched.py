"""What models.rate_watch and models.cache_watch share: which windows have closed, and which scope is which row.

Every window is judged once, in order of event time, when the watermark has passed its end: never by a clock, so a
replay judges the same windows. After a gap (no input at all) windows are caught up on at most MAX_CATCH_UP deep; what
is older has no panes left.
"""

import numpy as np

from models.asked_once import AskedOnce
from models.detectors.key_rows import KeyRows
from models.panes_merge import MergedPanes
from models.scopes import Scope

MAX_CATCH_UP = 2_000


class Watched:
    """The keys of one window size: scopes of some kinds, each a row of a detector."""

    def __init__(self, detector: KeyRows, kinds: tuple[str, ...], pane_ms: int):
        """``pane_ms``: of the panes that a window is a sum of."""
        self.size_ms = detector.window_ms
        self.pane_ms = pane_ms
        self.next_ms: int | None = None
        """Start of the next window to judge."""
        self.keys: list[Scope] = []
        self.rows: dict[Scope, int] = {}
        self._detector = detector
        self._kinds = kinds
        self._row_of = AskedOnce()

    def rows_of(self, panes: MergedPanes, numbers: np.ndarray) -> np.ndarray:
        """int64[k] rows of the scopes with these numbers, new ones included; -1 for those that are not watched.

        The caller adds the rows that the detector lacks.
        """
        return self._row_of.of(panes.scopes, numbers, self._row)

    def _row(self, scope: Scope) -> int:
        if scope.kind not in self._kinds:
            return -1
        return self.rows[scope] if scope in self.rows else self.add(scope)

    def add(self, scope: Scope) -> int:
        row = self.rows[scope] = len(self.keys)
        self.keys.append(scope)
        return row

    def forget(self, silent: np.ndarray) -> None:
        """Forget the keys in ``silent`` bool[n], and their rows."""
        if silent.any():
            self._detector.keep(~silent)
            self.relabel([key for key, gone in zip(self.keys, silent.tolist(), strict=True) if not gone])

    def relabel(self, keys: list[Scope]) -> None:
        """Other keys in the detector's rows, in order."""
        self.keys, self.rows = [], {}
        self._row_of.forget()
        for key in keys:
            self.add(key)

    def closed(self, panes: MergedPanes, watermark_ms: int) -> range:
        """Starts of the windows that are closed and not yet judged."""
        size = self.size_ms
        if self.next_ms is None:
            starts = panes.starts(self.pane_ms)
            if not starts:
                return range(0)
            self.next_ms = starts[0] // size * size
        deepest = (watermark_ms // size - MAX_CATCH_UP) * size
        self.next_ms = max(self.next_ms, deepest)
        return range(self.next_ms, watermark_ms // size * size, size)

    def snapshot(self) -> dict:
        return {"next_ms": self.next_ms, "keys": [list(key) for key in self.keys]}

    def load(self, snapshot: dict) -> None:
        """Become what ``snapshot`` copied; the detector has its rows already."""
        self.next_ms = snapshot["next_ms"]
        self.relabel([Scope(*key) for key in snapshot["keys"]])
