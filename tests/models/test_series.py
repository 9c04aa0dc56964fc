"""Scores of plain series: bounded, without look-ahead, at any spacing and scale, for rises and drops."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.series import SeriesScorer


def scores(points):
    scorer = SeriesScorer()
    return [scorer.score(time_ms, value) for time_ms, value in points]


def noisy(n, spacing_ms, level=100.0, sd=0.05, seed=1):
    rng = random.Random(seed)
    return [(i * spacing_ms, level * math.exp(rng.gauss(0, sd))) for i in range(n)]


@pytest.mark.parametrize("spacing_ms", [1_000, 60_000, 300_000, 3_600_000, 86_400_000])
@pytest.mark.parametrize("level", [1e-6, 100.0, 1e9])
@pytest.mark.parametrize("factor", [4.0, 0.0])
def test_a_rise_and_a_stop_stand_out_at_any_spacing_and_scale(spacing_ms, level, factor):
    points = noisy(400, spacing_ms, level)
    points[350] = (points[350][0], level * factor)
    said = scores(points)
    assert max(said[250:350]) < 0.75
    assert said[350] > 0.75
    assert said[350] == max(said)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 10**9), st.floats(allow_nan=True, allow_infinity=True) | st.floats(0, 100)),
        max_size=60,
    ),
    st.integers(0, 60),
)
def test_scores_are_bounded_and_do_not_look_ahead(steps, cut):
    points, now = [], 0
    for step, value in steps:
        now += step
        points.append((now, value))
    said = scores(points)
    assert all(0.0 <= score <= 1.0 for score in said)
    assert scores(points[:cut]) == said[:cut]


def test_what_goes_on_is_told_once():
    points = noisy(400, 300_000)
    points[350:360] = [(time_ms, 500.0) for time_ms, _ in points[350:360]]
    said = scores(points)
    assert said[350] > 0.75
    assert max(said[351:360]) < 0.5
