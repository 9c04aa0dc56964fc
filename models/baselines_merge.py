"""Peer baselines merged over source partitions and days: what closed sessions cost lately.

Guarantee: for each (group, day, source partition) the greatest (next_offset, sessions, bins) wins, so repeats and
reordering change nothing. The histogram of a group is the sum over its days, each weighted by 0.5 ** (age in days /
half_life_days), where age counts back from the newest day. Sessions end by the clock of their partition, so two
messages with one next_offset may differ: the one with more sessions is the later one.

Newest day: the latest one that is not beyond the day after the watermark; a producer whose clock is years ahead
would otherwise age everybody's baseline to nothing (apache/metron PR#1197, for baselines).

Cost: 1.1 kB for each group, day and source partition. Called by models.rollup only.
"""

import numpy as np

from models.baselines import BINS, GroupKey
from models.config import DAY_MS, SessionOutlierConfig

KEPT_HALF_LIVES = 7
"""Days older than this weigh under 1 % and are forgotten."""


class MergedBaselines:
    """All peer groups of one rollup partition."""

    def __init__(self, config: SessionOutlierConfig):
        self.config = config
        self._parts: dict[GroupKey, dict[int, dict[int, tuple]]] = {}
        """group -> day -> source -> (next_offset, sessions, cost_bins, event_bins)"""
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
            bins = (tuple(part["cost_bins"]), tuple(part["event_bins"]))
            version = (next_offset, sum(bins[0]), *bins)
            sources = self._parts.setdefault(key, {}).setdefault(part["day"], {})
            known = sources.get(source)
            if known is None or version > known:
                sources[source] = version
                self._days.add(part["day"])
                self._dirty.add(key)

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
            cost_bins, event_bins = self._bins(key, newest)
            revision = self._revision[key] = self._revision.get(key, 0) + 1
            changed.append(
                {
                    "level": level,
                    "team": team,
                    "agent": agent,
                    "model": model,
                    "cost_bins": cost_bins.tolist(),
                    "event_bins": event_bins.tolist(),
                    "revision": revision,
                }
            )
        self._dirty.clear()
        return changed

    def _bins(self, key: GroupKey, newest: int) -> np.ndarray:
        """float64[2, BINS]: the group's cost and event histogram."""
        total = np.zeros((2, BINS))
        for day, sources in sorted(self._parts.get(key, {}).items()):
            weight = 0.5 ** (max(newest - day, 0) / self.config.half_life_days)
            total += weight * np.array([part[2:] for part in sources.values()], np.int64).sum(axis=0)
        return total

    def _forget(self, oldest: int) -> None:
        self._days = {day for day in self._days if day >= oldest}
        for key, by_day in list(self._parts.items()):
            for day in [day for day in by_day if day < oldest]:
                del by_day[day]
                self._dirty.add(key)
            if not by_day:
                # Published once more, empty: whoever judges by it must let go of it too.
                del self._parts[key]

    def snapshot(self) -> dict:
        """Everything, as arrays and plain values."""
        rows = [
            (key, day, source, part)
            for key, by_day in self._parts.items()
            for day, sources in by_day.items()
            for source, part in sources.items()
        ]
        return {
            "groups": [[*key, day, source, part[0]] for key, day, source, part in rows],
            "bins": np.array([part[2:] for *_, part in rows], np.int64).reshape(len(rows), 2, BINS),
            "revisions": [[*key, revision] for key, revision in self._revision.items()],
            "dirty": [list(key) for key in sorted(self._dirty)],
            "newest_day": self._newest_day,
        }

    @classmethod
    def restore(cls, config: SessionOutlierConfig, snapshot: dict) -> "MergedBaselines":
        self = cls(config)
        for group, (cost_bins, event_bins) in zip(snapshot["groups"], snapshot["bins"].tolist(), strict=True):
            *key, day, source, next_offset = group
            part = (next_offset, sum(cost_bins), tuple(cost_bins), tuple(event_bins))
            self._parts.setdefault(tuple(key), {}).setdefault(day, {})[source] = part
            self._days.add(day)
        self._revision = {tuple(key): revision for *key, revision in snapshot["revisions"]}
        self._dirty = {tuple(key) for key in snapshot["dirty"]}
        self._newest_day = snapshot["newest_day"]
        return self
