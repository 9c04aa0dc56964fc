"""Peer groups: what the ended sessions of a team x agent x model, a team x model, a model and all cost.

A group keeps a log histogram of session cost and one of events per session, per UTC day of the session's end, and sums:
counters, and cost at call 1, 2, 4, ... Each usage partition counts its own sessions and publishes them cumulatively;
rollup adds them up over partitions, weights older days down and broadcasts the result, which sessions are judged by.

The threshold of a group follows the detector notes 5.1. m is the log-median, of few sessions the mean of their middle
two fifths, which is 8 % closer to the median to come (MIDDLE). With s the standard deviation of ln cost, pooled with
what groups usually have, and n sessions, the variance of m is v = 1.44 s^2 / n. It is shrunk towards its parent:
B = tau^2 / (tau^2 + v), mu = B m + (1 - B) mu_parent, se = sqrt(B v), or tau where n = 0, with tau^2 the variance of
the parent's child medians less their mean v, at least 0.1 (empirical Bayes). Where a parent has too few children to
tell, tau is taken as 1: children may well differ by a factor of e. What buys precision with few sessions is the margin
of se, not the shrinkage: measured in docs/detectors.md.

The group of all sessions only helps to estimate: it never judges a session by itself, since a loan that costs a
thousand chats is no anomaly. Until a group that shares its team or model is known, only the absolute cap flags.

Cost: 64 + 64 counts per group and day. Own histograms are saved by rolling deltas (models.rolling); the merged ones
are not part of the state, since all of them are kept in a topic of their own. Called by models.engine (own sessions,
thresholds) and models.rollup (bins).
"""

from dataclasses import dataclass

import numpy as np

from models.config import DAY_MS, RunawayConfig, SessionOutlierConfig
from models.counters import COST, EVENTS
from models.hashtable import grown
from models.peer_group import GUARD, LOWEST_EVENTS, SAID, STEP_SUMS, SUMS, PeerGroup, Usual, bin_of
from models.rolling import due
from models.session_kernels import (
    BINS,
    COST_EDGES,
    LIMIT_CALLS,
    LIMIT_PAGE,
    LIMIT_STEP,
    LIMIT_WARN,
    LIMIT_WATCH_CALLS,
    LIMIT_WATCH_COST,
    LIMITS,
    NEVER,
    STEPS,
)
from models.session_verdicts import Change
from models.sessions import EndedRuns

TEAM_AGENT = 4
"""Level of all sessions of a team and agent, whatever their model: the peers of a session that has not named one.

It may name one yet (an agent often calls a tool first), so it must not be compared with sessions that never do.
The other levels: 0 team x agent x model, 1 team x model, 2 model, 3 all.
"""
PROJECTION_RATIO = 3.0
"""A session on course for an outlier costs at least this many times its mean peer at the same call."""
MIN_TAU2 = 0.1
PRIOR_TAU2 = 1.0
MIN_CHILDREN = 5
"""Child medians needed to estimate tau; with fewer it is at least the prior's."""
WARN_MIN_BASELINE = 5
"""Under five sessions nothing is reliable (notes 4.2): no warning from the ratio either."""
TAIL_MIN_BASELINE = 100
"""Of fewer sessions the tail is a few: those flagged before their peers were known would hide the next."""


GroupKey = tuple[int, str, str, str]
"""(level, team, agent, model); names that the level does not use are empty."""


ALL: GroupKey = (3, "", "", "")


def chain(team: str, agent: str, model: str) -> tuple[GroupKey, ...]:
    """The groups a session is judged by, most specific first."""
    if not model:
        return ((TEAM_AGENT, team, agent, ""), ALL)
    return ((0, team, agent, model), (1, team, "", model), (2, "", "", model), ALL)


def groups_fed(team: str, agent: str, model: str) -> set[GroupKey]:
    """The groups that an ended session teaches."""
    return {*chain(team, agent, model), *chain(team, agent, "")}


@dataclass(frozen=True, slots=True)
class GroupStats:
    """What a group is judged by: ln nano-USD and nano-USD."""

    n: float
    mu: float
    se: float
    tail_nano_usd: float
    events_median: float
    events_p99: float
    reliable: float
    """Sessions of the largest group in the chain."""
    usual: Usual

    @property
    def expected_nano_usd(self) -> int:
        return round(float(np.exp(self.mu)))


class Baselines:
    """Own histograms of one partition, and thresholds from the merged ones."""

    def __init__(self, config: SessionOutlierConfig, runaway: RunawayConfig):
        self.config = config
        self.runaway = runaway
        self._own: dict[tuple[GroupKey, int], int] = {}
        """(group, day) -> row"""
        self._slots: list[tuple[GroupKey, int] | None] = []
        """The other way round; None where a row is free."""
        self._free: list[int] = []
        self._bins = np.zeros((16, 2, BINS), np.int64)
        """Cost and event histogram of each row."""
        self._sums = np.zeros((16, SUMS), np.int64)
        """Counters of the runs that were not flagged, and the steps of all."""
        self._changed = np.zeros(16, np.bool_)
        self._expired_day: int | None = None
        self._dirty: set[tuple[GroupKey, int]] = set()
        self._unpublished: list[int] = []
        self._merged: dict[GroupKey, PeerGroup] = {}
        self._numbers: dict[tuple[str, str, str], int] = {}
        self._names: list[tuple[str, str, str]] = []
        self._fed: list[tuple[GroupKey, ...]] = []
        self.stats: list[GroupStats | None] = []
        self.limits = np.zeros((16, LIMITS), np.int64)
        """What the session kernel compares with, one row per most specific group; the rest is room."""
        self._tau2: dict[GroupKey, float] = {}
        self._shrunk: dict[GroupKey, tuple[float, float]] = {}

    def register(self, team: str, agent: str, model: str) -> int:
        """Number of the most specific group of these names; its thresholds are at hand at once."""
        names = (team, agent, model)
        if names not in self._numbers:
            self._numbers[names] = len(self._names)
            self._names.append(names)
            self._fed.append(tuple(groups_fed(*names)))
            self.stats.append(None)
            self.limits = grown(self.limits, len(self._names))
            self._judge(self._numbers[names])
        return self._numbers[names]

    def peers(self, team: str, agent: str, model: str) -> PeerGroup | None:
        """The merged histograms of the most specific group of these names."""
        group = self._merged.get(chain(team, agent, model)[0])
        return group if group is not None and group.n > 0 else None

    def observe(self, groups: np.ndarray, runs: EndedRuns, normal: np.ndarray | None = None) -> np.ndarray:
        """Learn from ended runs; groups int[k]. Runs without a cost teach nothing.

        A flagged run counts as one at the threshold ratio, so that outliers do not hide the next ones, unless people
        said that it was none (``normal`` bool[k]). Returns the bins int[k] that the costs count in as outliers.
        """
        cost, events = runs.sums[:, COST].astype(np.float64), runs.sums[:, EVENTS]
        true_bin = np.searchsorted(COST_EDGES, cost, side="right")
        for index in np.flatnonzero(runs.level > 0):
            stats = self.stats[groups[index]]
            if stats is not None:
                cost[index] = min(cost[index], self.config.ratio * stats.expected_nano_usd)
        capped_bin = np.searchsorted(COST_EDGES, cost, side="right")
        usual = runs.level == 0
        if normal is not None:
            usual |= normal
        cost_bin = np.where(usual, true_bin, capped_bin)
        event_bin = bin_of(events.astype(np.float64), LOWEST_EVENTS)
        days = runs.times[:, 2] // DAY_MS
        sums = np.zeros((len(runs), SUMS), np.int64)
        sums[:, :STEP_SUMS] = runs.sums * usual[:, None]
        reached = events[:, None] >= 1 << np.arange(STEPS)
        path = [reached, runs.path * reached.astype(np.int64), cost_bin[:, None] * reached]
        sums[:, STEP_SUMS:GUARD] = np.stack(path, axis=2).reshape(len(runs), -1)
        for index in np.flatnonzero(runs.sums[:, COST] > 0).tolist():
            for key in self._fed[groups[index]]:
                slot = (key, int(days[index]))
                row = self._own.get(slot)
                if row is None:
                    row = self._take_row(slot)
                self._bins[row, 0, cost_bin[index]] += 1
                self._bins[row, 1, event_bin[index]] += 1
                self._sums[row] += sums[index]
                self._changed[row] = True
                self._dirty.add(slot)
        return capped_bin

    def correct(self, change: Change) -> None:
        """What people said of a session: its group's guard, and what it has taught if it is over.

        Days that are forgotten stay so.
        """
        told = change.told
        if change.steps and (self._expired_day is None or told.day >= self._expired_day):
            self._sums[self._said((chain(told.team, told.agent, told.model)[0], told.day)), GUARD] += change.steps
        if not change.teaches:
            return
        reached = told.counters[EVENTS] >= 1 << np.arange(STEPS)
        for key in groups_fed(told.team, told.agent, told.taught_model):
            if (key, told.taught_day) not in self._own:
                continue
            row = self._said((key, told.taught_day))
            self._bins[row, 0, told.taught_bin] -= change.teaches
            self._bins[row, 0, told.true_bin] += change.teaches
            self._sums[row, :STEP_SUMS] += change.teaches * np.array(told.counters)
            # The third of each step's sums: the bin in the end.
            self._sums[row, STEP_SUMS + 2 : GUARD : 3] += change.teaches * (told.true_bin - told.taught_bin) * reached

    def _said(self, slot: tuple[GroupKey, int]) -> int:
        """The row of a group's day of which something was said."""
        row = self._own.get(slot)
        if row is None:
            row = self._take_row(slot)
        self._sums[row, SAID] += 1
        self._changed[row] = True
        self._dirty.add(slot)
        return row

    def _take_row(self, slot: tuple[GroupKey, int]) -> int:
        if self._free:
            row = self._free.pop()
            self._slots[row] = slot
        else:
            row = len(self._slots)
            self._slots.append(slot)
            self._grow(row + 1)
        self._own[slot] = row
        return row

    def _grow(self, rows: int) -> None:
        self._bins, self._sums = grown(self._bins, rows), grown(self._sums, rows)
        self._changed = grown(self._changed, rows)

    def expire(self, watermark_ms: int) -> None:
        """Forget the days whose weight has fallen below 1 % (7 half-lives)."""
        oldest = watermark_ms // DAY_MS - round(7 * self.config.half_life_days)
        if oldest == self._expired_day:
            return
        if not self._dirty:
            self._expired_day = oldest
        for slot in [slot for slot in self._own if slot[1] < oldest and slot not in self._dirty]:
            row = self._own.pop(slot)
            self._slots[row] = None
            self._free.append(row)
            self._bins[row] = 0
            self._sums[row] = 0
            self._changed[row] = True

    def take_dirty(self) -> list[dict]:
        """BaselinePart dicts of the histograms that changed."""
        parts = []
        for slot in sorted(self._dirty):
            (level, team, agent, model), day = slot
            cost_bins, event_bins = self._bins[self._own[slot]]
            parts.append(
                {
                    "level": level,
                    "team": team,
                    "agent": agent,
                    "model": model,
                    "day": day,
                    "cost_bins": cost_bins.tolist(),
                    "event_bins": event_bins.tolist(),
                    "sums": self._sums[self._own[slot]].tolist(),
                }
            )
        self._dirty.clear()
        return parts

    def merge(self, records: list[dict]) -> None:
        """Take Baseline dicts in and judge every group anew."""
        for record in records:
            key = (record["level"], record["team"], record["agent"], record["model"])
            self._merged[key] = PeerGroup(record, self.config.min_baseline)
        if records:
            self._shrink()
            for number in range(len(self._names)):
                self._judge(number)

    def _shrink(self) -> None:
        """(mu, se) of every group with sessions, from the top down."""
        known = {key: group for key, group in self._merged.items() if group.n > 0}
        children: dict[GroupKey, list[tuple[float, float]]] = {}
        for key, group in known.items():
            parent = _parent(key)
            if parent is not None:
                children.setdefault(parent, []).append((group.m, group.v))
        self._tau2 = {key: _spread(child) for key, child in children.items()}
        self._shrunk = {}
        for key in sorted(known, key=_depth):
            m, v = known[key].m, known[key].v
            parent = _parent(key)
            if parent not in self._shrunk or (parent == ALL and len(children[ALL]) < MIN_CHILDREN):
                self._shrunk[key] = (m, float(np.sqrt(v)))
                continue
            spread = self._tau2[parent]
            b = spread / (spread + v)
            self._shrunk[key] = (b * m + (1 - b) * self._shrunk[parent][0], float(np.sqrt(b * v)))

    def _judge(self, number: int) -> None:
        """Limits of one most-specific group from the nearest ancestor that has sessions."""
        config, runaway = self.config, self.runaway
        keys = chain(*self._names[number])
        found = [key for key in keys if key in self._shrunk and key != ALL]
        limits = self.limits[number]
        limits[:] = NEVER
        if not found:
            self.stats[number] = None
            limits[LIMIT_WARN] = limits[LIMIT_PAGE] = config.absolute_cap_nano_usd
            limits[LIMIT_WATCH_COST] = _bounded(config.absolute_cap_nano_usd / config.ratio * runaway.watch_ratio)
            limits[LIMIT_WATCH_CALLS] = _bounded(runaway.calls_cap / runaway.ratio)
            limits[LIMIT_CALLS] = runaway.calls_cap
            return
        nearest = found[0]
        mu, se = self._shrunk[nearest]
        if nearest != keys[0]:
            se = float(np.sqrt(se**2 + self._tau2.get(nearest, PRIOR_TAU2)))
        merged = self._merged[nearest]
        stats = self.stats[number] = GroupStats(
            n=merged.n,
            mu=mu,
            se=se,
            tail_nano_usd=merged.tail_nano_usd,
            events_median=merged.events_median,
            events_p99=merged.events_p99,
            reliable=max(self._merged[key].n for key in found),
            usual=merged.usual,
        )
        expected = float(np.exp(mu))
        own = self._merged.get(keys[0])
        ratio = config.ratio * np.exp(0.0 if own is None else own.guard)
        warn = expected * ratio * np.exp(config.warn_margin * se)
        page = max(
            expected * ratio * np.exp(config.page_margin * se),
            expected + config.min_excess_nano_usd,
        )
        if stats.n >= TAIL_MIN_BASELINE:
            page = max(page, stats.tail_nano_usd)
        few = stats.reliable < config.min_baseline
        if few:
            page = max(config.absolute_cap_nano_usd, page)
        if stats.reliable < WARN_MIN_BASELINE:
            warn = page
        limits[LIMIT_WARN] = _bounded(min(warn, page))
        limits[LIMIT_PAGE] = _bounded(page)
        limits[LIMIT_WATCH_COST] = _bounded(expected * runaway.watch_ratio)
        limits[LIMIT_WATCH_CALLS] = max(runaway.watch_min_calls, round(stats.events_median * runaway.watch_ratio))
        calls = max(runaway.min_calls, round(stats.events_median * runaway.ratio), round(stats.events_p99))
        limits[LIMIT_CALLS] = runaway.calls_cap if few else calls
        if expected * (config.ratio - 1) >= config.min_excess_nano_usd:
            for step, at, growth in merged.steps:
                ahead = max(at + np.log(PROJECTION_RATIO), np.log(warn) - growth)
                limits[LIMIT_STEP + step] = _bounded(float(np.exp(ahead)))

    def take_delta(self, slice_number: int) -> dict:
        """Copies of the own histograms that are due (models.rolling), and which are not published yet."""
        rows = due(self._changed, len(self._slots), slice_number)
        slots = [self._slots[row] for row in rows.tolist()]
        return {
            "used": len(self._slots),
            "rows": rows,
            "slots": [None if slot is None else [*slot[0], slot[1]] for slot in slots],
            "bins": self._bins[rows],
            "sums": self._sums[rows],
            "dirty": [self._own[slot] for slot in self._dirty],
        }

    def load_delta(self, delta: dict) -> None:
        """Take one delta over the state so far; ``rebuild`` after the last."""
        used = delta["used"]
        self._slots += [None] * (used - len(self._slots))
        self._grow(used)
        self._bins[delta["rows"]], self._sums[delta["rows"]] = delta["bins"], delta["sums"]
        for row, slot in zip(delta["rows"].tolist(), delta["slots"], strict=True):
            self._slots[row] = None if slot is None else (tuple(slot[:4]), slot[4])
        self._unpublished = delta["dirty"]

    def rebuild(self) -> None:
        """Index what the deltas brought; what was not yet published is published again."""
        self._own = {slot: row for row, slot in enumerate(self._slots) if slot is not None}
        self._free = [row for row, slot in enumerate(self._slots) if slot is None]
        self._dirty = {self._slots[row] for row in self._unpublished}


def _parent(key: GroupKey) -> GroupKey | None:
    _, team, agent, model = key
    keys = chain(team, agent, model)
    at = keys.index(key)
    return keys[at + 1] if at + 1 < len(keys) else None


def _spread(children: list[tuple[float, float]]) -> float:
    """tau^2 of a parent from the (log-median, its variance) of its children."""
    medians, variances = zip(*children, strict=True)
    estimate = float(np.var(medians)) - float(np.mean(variances))
    return max(estimate, MIN_TAU2 if len(children) >= MIN_CHILDREN else PRIOR_TAU2)


def _depth(key: GroupKey) -> int:
    """0 for the group of all sessions, more for groups further down."""
    parent = _parent(key)
    return 0 if parent is None else 1 + _depth(parent)


def _bounded(nano_usd: float) -> int:
    return int(min(nano_usd, float(NEVER) / 4))
