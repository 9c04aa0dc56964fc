"""The team learner: squashing, scoring apart from learning, bounds, seeds, state."""

import json
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.config import HOUR_MS, MINUTE_MS, LearnerConfig
from models.learners import team_vector
from models.learners.team_vector import FEATURES, TeamVectors, vector

SMALL = LearnerConfig(n_trees=4, height=4, window_size=20)
counters = st.lists(st.integers(-(2**62), 2**62), min_size=8, max_size=8)


def usual(rng):
    return [10**9 + rng.randrange(10**8), 0, 10 + rng.randrange(3), 0, 600, 200, 0, 200 + rng.randrange(20)]


def feed(teams, windows, team="a", seed=1, first=0):
    rng = random.Random(seed)
    return [teams.observe(team, usual(rng), (first + i) * MINUTE_MS, MINUTE_MS) for i in range(windows)]


@given(counters, st.sampled_from([MINUTE_MS, HOUR_MS]))
def test_every_feature_is_a_share(totals, window_ms):
    values = vector(totals, window_ms)
    assert tuple(values) == FEATURES
    assert all(0.0 <= value <= 1.0 and math.isfinite(value) for value in values.values())


def test_spend_is_a_rate_so_window_sizes_compare():
    minute, hour = [10**9, 0, 1, 0, 0, 0, 0, 0], [60 * 10**9, 0, 60, 0, 0, 0, 0, 0]
    assert vector(minute, MINUTE_MS) == vector(hour, HOUR_MS)


def masses_of(teams: TeamVectors, team: str = "a") -> list[tuple[int, int]]:
    """Reference and latest mass of every node."""
    return [(node.r_mass, node.l_mass) for nodes in teams._forests[team]._tree_nodes for node in nodes]


def test_no_score_before_a_window_has_been_learnt():
    scores = feed(TeamVectors(SMALL), 25)
    assert scores[:20] == [None] * 20
    assert all(0.0 <= score <= 1.0 for score in scores[20:])


def test_scoring_learns_nothing():
    teams = TeamVectors(SMALL)
    feed(teams, 30)
    before, masses = teams.snapshot(), masses_of(teams)
    for _ in range(50):
        teams.peek("a", [10**12, 0, 1, 1, 5, 5, 5, 5], MINUTE_MS)
        teams.score("a")
    after = teams.snapshot()
    assert masses_of(teams) == masses
    assert np.array_equal(before["vectors"], after["vectors"])
    assert before["teams"] == after["teams"]


def test_an_odd_window_scores_above_the_usual_ones():
    teams = TeamVectors(LearnerConfig())
    scores = [score for score in feed(teams, 200) if score is not None]
    odd = teams.peek("a", [60 * 10**9, 0, 400, 300, 90_000, 0, 0, 50], MINUTE_MS)
    assert odd > max(scores)


def test_the_seed_decides_alone():
    masses = []
    for seed in (42, 42, 7):
        teams = TeamVectors(LearnerConfig(n_trees=4, height=4, window_size=20, seed=seed))
        feed(teams, 30)
        masses.append(masses_of(teams))
    assert masses[0] == masses[1]
    assert masses[0] != masses[2]


def test_teams_are_bounded_and_the_silent_one_makes_room(monkeypatch):
    monkeypatch.setattr(team_vector, "MAX_TEAMS", 3)
    monkeypatch.setattr(team_vector, "NEW_PER_WINDOW", 2)
    teams, totals = TeamVectors(SMALL), usual(random.Random(0))
    for minute in range(25):
        for name in "abc":
            teams.observe(name, totals, minute * MINUTE_MS, MINUTE_MS)
    assert [len(teams._forests), teams.score("c") is not None] == [3, True]
    assert teams.observe("late", totals, 30 * MINUTE_MS, MINUTE_MS) is None
    assert "late" not in teams._forests, "nobody has been silent for an hour"
    teams.observe("b", totals, 80 * MINUTE_MS, MINUTE_MS)
    teams.observe("c", totals, 80 * MINUTE_MS, MINUTE_MS)
    teams.observe("late", totals, 90 * MINUTE_MS, MINUTE_MS)
    assert sorted(teams._forests) == ["b", "c", "late"]
    assert teams.score("a") is None


def test_no_more_forests_are_built_for_one_window_than_a_second_can_bear(monkeypatch):
    monkeypatch.setattr(team_vector, "NEW_PER_WINDOW", 2)
    teams, totals = TeamVectors(SMALL), usual(random.Random(0))
    for minute in range(2):
        for name in "abcdef":
            teams.observe(name, totals, minute * MINUTE_MS, MINUTE_MS)
    assert sorted(teams._forests) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("windows", [0, 7, 20, 33, 40, 41, 75])
def test_a_restored_learner_scores_the_same(windows):
    teams = TeamVectors(SMALL)
    feed(teams, windows)
    state = teams.snapshot()
    assert len(state["vectors"]) < 2 * SMALL.window_size
    plain = json.loads(json.dumps({key: value for key, value in state.items() if key != "vectors"}))
    again = TeamVectors.restore(SMALL, {**plain, "vectors": state["vectors"].copy()})
    assert windows == 0 or masses_of(again) == masses_of(teams)
    assert again.score("a") == teams.score("a")
    assert feed(again, 50, seed=2, first=windows) == feed(teams, 50, seed=2, first=windows)


def test_changed_settings_begin_anew():
    teams = TeamVectors(SMALL)
    feed(teams, 30)
    again = TeamVectors.restore(LearnerConfig(n_trees=5, height=4, window_size=20), teams.snapshot())
    assert again.score("a") is None


def test_no_trees_are_no_scores():
    teams = TeamVectors(LearnerConfig(n_trees=0))
    assert [teams.observe("a", [10**9] * 8, minute * 60_000, 60_000) for minute in range(100)] == [None] * 100
    assert teams.snapshot()["teams"] == []


ODD = [50 * 10**9, 0, 10, 0, 600, 0, 0, 9_000]


@pytest.mark.parametrize(("verdict", "learns"), [("false", True), ("true", False), ("planned", False), ("", False)])
def test_what_happens_in_a_finding_is_learnt_only_if_people_call_it_false(verdict, learns):
    teams = TeamVectors(SMALL)
    feed(teams, 45)
    before = teams.peek("a", ODD, MINUTE_MS)
    for minute in range(45, 60):
        assert teams.observe("a", ODD, minute * MINUTE_MS, MINUTE_MS, "spend_rate-1") == before
    if verdict:
        teams.feedback({"finding_id": "spend_rate-1", "verdict": verdict})
    after = teams.peek("a", ODD, MINUTE_MS)
    assert (after < before) is learns
    teams.feedback({"finding_id": "spend_rate-1", "verdict": "false"})
    assert (teams.peek("a", ODD, MINUTE_MS) == after) is bool(verdict), "once decided, there is nothing left to learn"


def test_what_is_held_back_is_bounded():
    teams = TeamVectors(SMALL)
    for finding in range(team_vector.MAX_HELD + 5):
        for minute in range(SMALL.window_size + 3):
            teams.observe("a", ODD, minute * MINUTE_MS, MINUTE_MS, f"f{finding}")
    assert len(teams._held) == team_vector.MAX_HELD
    assert {len(held) for _, held in teams._held.values()} == {SMALL.window_size}
