"""Windows that changed, as columns: what rollup publishes on ``tenfold.spend``, several hundred at a time.

Iterating gives WindowSpend dicts, for who wants one or two; ``rows`` gives records for Kafka at a tenth of the cost
(1 us a window). Made by models.panes_merge, published by streams.agents.rollup and streams.replay.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models.counters import COUNTERS
from models.scopes import Scope
from schemas.longs import encode_strings, encoded_longs

NAMES = ("scope_kind", "team", "model", "agent", "use_case")


@dataclass(slots=True, eq=False)
class ChangedWindows:
    """n windows, ordered by time; columns are the owner's to change."""

    scopes: list[Scope]
    """By number: those of models.panes_merge, not a copy."""
    scope: np.ndarray
    """int64[n], numbers"""
    start_ms: np.ndarray
    """int64[n]"""
    size_ms: np.ndarray
    """int64[n]"""
    totals: np.ndarray
    """int64[n, 8]"""
    revision: np.ndarray
    """int64[n]"""
    watermark_ms: int

    def __len__(self) -> int:
        return len(self.scope)

    @property
    def final(self) -> np.ndarray:
        """bool[n]: the watermark has passed the window's end."""
        return self.start_ms + self.size_ms <= self.watermark_ms

    def __iter__(self) -> Iterator[dict]:
        columns = (self.scope, self.start_ms, self.size_ms, self.totals, self.revision, self.final)
        for number, start_ms, size_ms, totals, revision, final in zip(*(c.tolist() for c in columns), strict=True):
            yield {
                **dict(zip(NAMES, self.scopes[number][: len(NAMES)], strict=True)),
                "window_start": start_ms,
                "window_ms": size_ms,
                **dict(zip(COUNTERS, totals, strict=True)),
                "revision": revision,
                "final": final,
                "watermark": self.watermark_ms,
            }

    def rows(self, encoded: dict[Scope, tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        """Key and value (Avro) of each; ``encoded`` remembers what does not change of a scope."""
        # A boolean is one byte, 0 or 1, which is what 0 and -1 are as longs.
        ends = -self.final.astype(np.int64)
        watermark = np.full(len(self), self.watermark_ms)
        longs = np.column_stack((self.start_ms, self.size_ms, self.totals, self.revision, ends, watermark))
        times = zip(self.scope.tolist(), self.start_ms.tolist(), self.size_ms.tolist(), strict=True)
        for (number, start_ms, size_ms), numbers in zip(times, encoded_longs(longs), strict=True):
            scope = self.scopes[number]
            known = encoded.get(scope)
            if known is None:
                known = encoded[scope] = (scope.key.encode(), encode_strings(scope[: len(NAMES)]))
            yield b"%b@%d+%d" % (known[0], start_ms, size_ms), known[1] + numbers
