"""Peer baselines merged over source partitions and days: what closed sessions cost lately.

Guarantee: for each (group, day, source partition) the greatest (next_offset, sessions, verdicts, bins) wins, so
repeats and reordering change nothing. The histogram of a group is the sum over its days, each weighted by 0.5 ** (age
in days / half_life_days), where age counts back from the newest day. Sessions end by the clock of their partition, so
two messages with one next_offset may differ: the one with more sessions, or more said by people, is the later one.

Newest day: the latest one that is not beyond the day after the watermark; a producer whose clock is years ahead
would otherwise age everybody's baseline to nothing (apache/metron PR#1197, for baselines).

Cost: 1.4 kB for each group, day and source partition, saved by rolling deltas (models.rolling). Called by
models.rollup only.
"""

import numpy as np

from models.baselines import GroupKey
from models.config import DAY_MS, SessionOutlierConfig
from models.hashtable import grown
from models.peer_group import SAID, SUMS
from models.rolling import due
from models.session_kernels import BINS

KEPT_HALF_LIVES = 7
"""Days older than this weigh under 1 % and are forgotten."""


class MergedBaselines:
    """All peer groups of one rollup partition."""

    def __init__(self, config: SessionOutlierConfig):
        self.config = config
        self._parts: dict[GroupKey, dict[int, dict[int, int]]] = {}
        """group -> day -> source -> row"""
        self._names: list[tuple[GroupKey, int, int] | None] = []
        """The other way round; None where a row is free."""
        self._free: list[int] = []
        self._next_offset = np.zeros(16, np.int64)
        self._bins = np.zeros((16, 2, BINS), np.int64)
        """Cost and event histogram of each row."""
        self._sums = np.zeros((16, SUMS), np.int64)
        self._changed = np.zeros(16, np.bool_)
        self._revision: dict[GroupKey, int] = {}
        self._days: set[int] = set()
        self._dirty: set[GroupKey] = set()
        self._newest_day: int | None = None

    def merge(self, source: int, next_offset: int, parts: list[dict]) -> None:
        """Take BaselinePart dicts of one source in."""
        for part in parts:
            if self._newest_day is not None and part["day"] < self._oldest_day:
                continue
            key = (part["level"], part["team"], part["agent"], part["model"])
            bins = np.array((part["cost_bins"], part["event_bins"]), np.int64)
            sums = np.zeros(SUMS, np.int64)
            sums[: len(part["sums"])] = part["sums"]
            sources = self._parts.setdefault(key, {}).setdefault(part["day"], {})
            row = sources.get(source)
            if row is None:
                row = sources[source] = self._take_row((key, part["day"], source))
            elif not self._is_newer(row, next_offset, bins, sums):
                continue
            self._next_offset[row] = next_offset
            self._bins[row] = bins
            self._sums[row] = sums
            self._changed[row] = True
            self._days.add(part["day"])
            self._dirty.add(key)

    def _is_newer(self, row: int, next_offset: int, bins: np.ndarray, sums: np.ndarray) -> bool:
        known = int(self._next_offset[row])
        if next_offset != known:
            return next_offset > known
        stored, said = self._bins[row], self._sums[row, SAID]
        return (bins[0].sum(), sums[SAID], *bins.ravel().tolist()) > (stored[0].sum(), said, *stored.ravel().tolist())

    def _take_row(self, name: tuple[GroupKey, int, int]) -> int:
        if self._free:
            row = self._free.pop()
            self._names[row] = name
        else:
            row = len(self._names)
            self._names.append(name)
            self._grow(row + 1)
        return row

    def _grow(self, rows: int) -> None:
        self._next_offset, self._bins = grown(self._next_offset, rows), grown(self._bins, rows)
        self._sums, self._changed = grown(self._sums, rows), grown(self._changed, rows)

    @property
    def _oldest_day(self) -> int:
        return self._newest_day - round(KEPT_HALF_LIVES * self.config.half_life_days)

    def take_changed(self, watermark_ms: int) -> list[dict]:
        """Baseline dicts of the groups that changed, ordered by group; all of them when a new day begins."""
        if not self._days:
            return []
        believed = [day for day in self._days if day <= watermark_ms // DAY_MS + 1]
        newest = max(believed or self._days)
        if newest != self._newest_day:
            self._newest_day = newest
            self._forget(self._oldest_day)
            self._dirty.update(self._parts)
        changed = []
        for key in sorted(self._dirty):
            level, team, agent, model = key
            (cost_bins, event_bins), sums = self._added_up(key, newest)
            revision = self._revision[key] = self._revision.get(key, 0) + 1
            changed.append(
                {
                    "level": level,
                    "team": team,
                    "agent": agent,
                    "model": model,
                    "cost_bins": cost_bins.tolist(),
                    "event_bins": event_bins.tolist(),
                    "sums": sums.tolist(),
                    "revision": revision,
                }
            )
        self._dirty.clear()
        return changed

    def _added_up(self, key: GroupKey, newest: int) -> tuple[np.ndarray, np.ndarray]:
        """float64[2, BINS] and [SUMS]: the group's cost and event histogram, and its sums."""
        bins, sums = np.zeros((2, BINS)), np.zeros(SUMS)
        for day, sources in sorted(self._parts.get(key, {}).items()):
            weight = 0.5 ** (max(newest - day, 0) / self.config.half_life_days)
            rows = list(sources.values())
            bins += weight * self._bins[rows].sum(axis=0)
            sums += weight * self._sums[rows].sum(axis=0)
        return bins, sums

    def _forget(self, oldest: int) -> None:
        self._days = {day for day in self._days if day >= oldest}
        for key, by_day in list(self._parts.items()):
            for day in [day for day in by_day if day < oldest]:
                rows = list(by_day.pop(day).values())
                for row in rows:
                    self._names[row] = None
                self._free += rows
                self._changed[rows] = True
                self._dirty.add(key)
            if not by_day:
                # Published once more, empty: whoever judges by it must let go of it too.
                del self._parts[key]

    def take_delta(self, slice_number: int) -> dict:
        """Copies of the histograms that are due (models.rolling), and plain values."""
        rows = due(self._changed, len(self._names), slice_number)
        names = [self._names[row] for row in rows.tolist()]
        return {
            "used": len(self._names),
            "rows": rows,
            "names": [None if name is None else [*name[0], name[1], name[2]] for name in names],
            "next_offset": self._next_offset[rows],
            "bins": self._bins[rows],
            "sums": self._sums[rows],
            "revisions": [[*key, revision] for key, revision in self._revision.items()],
            "dirty": [list(key) for key in sorted(self._dirty)],
            "newest_day": self._newest_day,
        }

    def load_delta(self, delta: dict) -> None:
        """Take one delta over the state so far; ``rebuild`` after the last."""
        rows = delta["rows"]
        self._names += [None] * (delta["used"] - len(self._names))
        self._grow(delta["used"])
        self._next_offset[rows], self._bins[rows] = delta["next_offset"], delta["bins"]
        self._sums[rows] = delta["sums"]
        for row, name in zip(rows.tolist(), delta["names"], strict=True):
            self._names[row] = None if name is None else (tuple(name[:4]), *name[4:])
        self._revision = {tuple(key): revision for *key, revision in delta["revisions"]}
        self._dirty = {tuple(key) for key in delta["dirty"]}
        self._newest_day = delta["newest_day"]

    def rebuild(self) -> None:
        """Index what the deltas brought."""
        for row, name in enumerate(self._names):
            if name is None:
                self._free.append(row)
                continue
            key, day, source = name
            self._parts.setdefault(key, {}).setdefault(day, {})[source] = row
            self._days.add(day)
