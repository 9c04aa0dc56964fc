"""Half-space trees on each team's pane vector: how unusual a window is in all its dimensions together.

A vector is five shares of [0, 1], squashed by fixed formulas so that it never depends on what was seen before::

    spend        log10(1 + micro-USD per minute) / 9         1 at $1,000 a minute
    event_cost   log10(1 + nano-USD per event) / 11          1 at $100 an event
    cache        cache reads / input tokens, cached or not
    output       output tokens / all tokens
    unpriced     unpriced events / events

The score of a window is taken before it is learnt. It is None until a team has shown ``window_size`` windows: until
then the trees hold no reference. High means isolated; it is a companion of findings, never a finding by itself.

What a team does while a finding about it is open is scored but held back. A verdict "false" has it learnt after all;
"true" and "planned" drop it, as does time: of the last MAX_HELD findings a whole window of vectors is kept.

Bounds: MAX_TEAMS teams, of which the one unseen for longest makes room, but only after an hour of silence; a team
without room has no score. River builds a forest in some 20 ms and keeps it in 1.2 MB, so at most
NEW_PER_WINDOW are built for one window. Scoring and learning take some 20 us each. The trees follow from the seed
alone, and their masses from the vectors of the latest whole window and of the one under way. So state is these (at most
4.8 kB a team); restoring builds the trees and learns them again, some 25 ms a team.

Source: river.anomaly.HalfSpaceTrees; Tan, Ting, Liu: Fast Anomaly Detection for Streaming Data, IJCAI 2011.
Called by models.rate_watch.
"""

import math
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from models.config import HOUR_MS, MINUTE_MS, LearnerConfig
from models.counters import CACHE_READ, CACHE_WRITE, COST, EVENTS, INPUT, OUTPUT, UNPRICED

if TYPE_CHECKING:
    from river.anomaly import HalfSpaceTrees

FEATURES = ("spend", "event_cost", "cache", "output", "unpriced")
MAX_TEAMS = 100
MAX_HELD = 50
NEW_PER_WINDOW = 1
"""Nothing else happens meanwhile: 8 of them kept findings waiting for up to half a second once a minute."""


@cache
def forests() -> type["HalfSpaceTrees"]:
    """River's class. It brings all of scipy.stats in, a second that a worker spends beside its start, not before."""
    from river.anomaly import HalfSpaceTrees

    return HalfSpaceTrees


def vector(totals: list[int], window_ms: int) -> dict[str, float]:
    """The features of one window's counters (models.counters.COUNTERS).

    >>> vector([10**9, 0, 10, 0, 600, 200, 0, 200], 60_000)
    {'spend': 0.6667, 'event_cost': 0.7273, 'cache': 0.25, 'output': 0.2, 'unpriced': 0.0}
    """
    cost, events = max(totals[COST], 0), totals[EVENTS]
    prompt = totals[INPUT] + totals[CACHE_READ] + totals[CACHE_WRITE]
    values = (
        math.log10(1 + cost / 1_000 * MINUTE_MS / window_ms) / 9,
        math.log10(1 + cost / max(events, 1)) / 11,
        totals[CACHE_READ] / max(prompt, 1),
        totals[OUTPUT] / max(prompt + totals[OUTPUT], 1),
        totals[UNPRICED] / max(events, 1),
    )
    return {name: round(min(max(value, 0.0), 1.0), 4) for name, value in zip(FEATURES, values, strict=True)}


class TeamVectors:
    """One forest per team; feed windows in order.

    >>> teams = TeamVectors(LearnerConfig(window_size=5))
    >>> for minute in range(6):
    ...     _ = teams.observe("coding", [10**9, 0, 10, 0, 600, 200, 0, 200], minute * 60_000, 60_000)
    >>> usual, odd = teams.score("coding"), teams.peek("coding", [10**11, 0, 10, 9, 600, 0, 0, 9_000], 60_000)
    >>> usual < odd
    True
    """

    def __init__(self, config: LearnerConfig):
        self.config = config
        self._forests: dict[str, HalfSpaceTrees] = {}
        self._seen_ms: dict[str, int] = {}
        self._scores: dict[str, float | None] = {}
        self._learnt: dict[str, list[list[float]]] = {}
        """The vectors of the latest whole window and of the one under way, in order."""
        self._held: dict[str, tuple[str, list[list[float]]]] = {}
        """Of a finding: its team, and what that did while it was open."""
        self._built_ms, self._built = -1, 0

    def score(self, team: str) -> float | None:
        """Of the team's latest window; None if it has not learnt enough, or is not followed."""
        return self._scores.get(team)

    def peek(self, team: str, totals: list[int], window_ms: int) -> float | None:
        """The score that these counters would get now; changes nothing."""
        forest = self._forests.get(team)
        if forest is None or forest._first_window:
            return None
        return float(forest.score_one(vector(totals, window_ms)))

    def observe(
        self, team: str, totals: list[int], window_start_ms: int, window_ms: int, finding_id: str = ""
    ) -> float | None:
        """Score one closed window of a team that spent something, then learn it or, in a finding, hold it back.

        None also without any trees.
        """
        if not self.config.n_trees:
            return None
        if team not in self._forests and not self._make_room(window_start_ms):
            return None
        score = self.peek(team, totals, window_ms)
        if team not in self._forests:
            self._forests[team], self._learnt[team] = self._forest(), []
        features = vector(totals, window_ms)
        if finding_id:
            self._hold(finding_id, team, features)
        else:
            self._learn(team, features)
        self._seen_ms[team] = window_start_ms
        self._scores[team] = score
        return score

    def feedback(self, feedback: Mapping) -> None:
        """What a person said (``schemas/feedback.avsc``) of a finding whose windows are held back; it counts once."""
        if feedback["verdict"] not in ("true", "false", "planned"):
            return
        team, held = self._held.pop(feedback["finding_id"], ("", []))
        if feedback["verdict"] == "false" and team in self._forests:
            for row in held:
                self._learn(team, dict(zip(FEATURES, row, strict=True)))

    def _hold(self, finding_id: str, team: str, features: dict[str, float]) -> None:
        _, held = self._held.setdefault(finding_id, (team, []))
        held.append([features[name] for name in FEATURES])
        del held[: -self.config.window_size]
        if len(self._held) > MAX_HELD:
            del self._held[next(iter(self._held))]

    def _forest(self) -> "HalfSpaceTrees":
        config = self.config
        return forests()(config.n_trees, config.height, config.window_size, seed=config.seed)

    def _learn(self, team: str, features: dict[str, float]) -> None:
        forest = self._forests[team]
        forest.learn_one(features)
        learnt = self._learnt.setdefault(team, [])
        learnt.append([features[name] for name in FEATURES])
        if forest.counter == 0:
            del learnt[: -self.config.window_size]

    @property
    def _settings(self) -> list[int]:
        config = self.config
        return [config.n_trees, config.height, config.window_size, config.seed]

    def _make_room(self, window_start_ms: int) -> bool:
        if self._built_ms != window_start_ms:
            self._built_ms, self._built = window_start_ms, 0
        if self._built >= NEW_PER_WINDOW:
            return False
        if len(self._forests) >= MAX_TEAMS:
            oldest = min(self._seen_ms, key=lambda team: (self._seen_ms[team], team))
            if self._seen_ms[oldest] > window_start_ms - HOUR_MS:
                return False
            for known in (self._forests, self._seen_ms, self._scores, self._learnt):
                known.pop(oldest, None)
        self._built += 1
        return True

    def snapshot(self) -> dict:
        """Teams in a list, each with the number of its rows in ``vectors`` float64[n, 5]."""
        return {
            "settings": self._settings,
            "teams": [
                [team, self._seen_ms[team], self._scores[team], len(learnt)] for team, learnt in self._learnt.items()
            ],
            "held": [[finding_id, team, list(held)] for finding_id, (team, held) in self._held.items()],
            "vectors": np.array([row for learnt in self._learnt.values() for row in learnt], np.float64),
            "built": [self._built_ms, self._built],
        }

    @classmethod
    def restore(cls, config: LearnerConfig, snapshot: dict) -> "TeamVectors":
        """Teams as they were; none if the settings of the trees have changed."""
        self = cls(config)
        if snapshot["settings"] != self._settings:
            return self
        self._built_ms, self._built = snapshot["built"]
        self._held = {finding_id: (team, held) for finding_id, team, held in snapshot["held"]}
        rows = iter(snapshot["vectors"].tolist())
        for team, seen_ms, score, count in snapshot["teams"]:
            self._forests[team] = self._forest()
            for _ in range(count):
                self._learn(team, dict(zip(FEATURES, next(rows), strict=True)))
            self._seen_ms[team], self._scores[team] = seen_ms, score
        return self
