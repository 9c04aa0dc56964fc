"""Rows of a detector that follows many keys: arrays with a row for each, in the order in which the caller added them.

A subclass names its arrays in ``_ARRAYS``, ``values`` among them, and makes them: models.detectors.spend_rate and
models.detectors.cache_share.
"""

from typing import ClassVar, Self

import numpy as np

from models.hashtable import grown


class KeyRows:
    """The first ``len(self)`` rows are keys, the rest is room."""

    _ARRAYS: ClassVar[tuple[str, ...]]
    __slots__ = ("_n", "config", "window_ms")

    def __init__(self, config, window_ms: int):
        self.config = config
        self.window_ms = window_ms
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def add(self, keys: int) -> None:
        """Rows for new keys, all zero."""
        self._n += keys
        for name in self._ARRAYS:
            setattr(self, name, grown(getattr(self, name), self._n))

    def keep(self, mask: np.ndarray) -> None:
        """Forget the keys outside ``mask`` bool[n]; the others move up, in order."""
        kept = np.flatnonzero(mask)
        for name in self._ARRAYS:
            array = getattr(self, name)
            array[: len(kept)] = array[kept]
            array[len(kept) : self._n] = 0
        self._n = len(kept)

    def snapshot(self) -> dict:
        return {name: getattr(self, name)[: self._n].copy() for name in self._ARRAYS}

    @classmethod
    def restore(cls, config, window_ms: int, snapshot: dict) -> Self:
        self = cls(config, window_ms)
        self.add(len(snapshot["values"]))
        for name in cls._ARRAYS:
            getattr(self, name)[: self._n] = snapshot[name]
        return self
