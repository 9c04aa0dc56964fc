"""`tenfold bench scaling`: its cases are what they say; how long they take is not asserted."""

from dataclasses import replace

import pytest
from click.testing import CliRunner

from loadtest.bench.events import session_keys
from loadtest.bench.scaling import (
    AXES,
    COLLIDING_BITS,
    REFERENCE,
    case,
    cases,
    colliding_numbers,
    delivery_events,
    measure,
    scaling,
)
from schemas.hashing import hash_text


def test_one_thing_changes_in_each_case():
    first, *others = cases(full=True)
    assert first.axis == "measure" and first.load == replace(REFERENCE, first=first.warm_up.events)
    assert (
        {each.axis for each in others} == {*AXES} == {"events", "sessions", "teams", "partitions", "bytes", "hostile"}
    )
    assert len({(each.axis, each.value) for each in others}) == len(others)
    # A repeated event would be dropped early, and cost less.
    assert all(each.load.first >= each.warm_up.first + each.warm_up.events for each in others)


def test_deliveries_are_as_large_as_fetches_and_buffers_allow():
    sizes = [delivery_events(replace(REFERENCE, partitions=partitions)) for partitions in (1, 4, 16, 64)]
    assert sizes[0] == sizes[1] > sizes[2] > 2_000 and sizes[2] // 4 == sizes[3]
    assert delivery_events(replace(REFERENCE, padding=4_000)) * 4_000 < 8 << 20


def test_chosen_ids_collide_under_the_key_they_were_chosen_for_only():
    numbers = colliding_numbers(50, hash_key=7)
    ids = [row.tobytes().decode() for row in session_keys(numbers)]
    assert len(set(ids)) == 50
    assert {hash_text(id_, 7) % (1 << COLLIDING_BITS) for id_ in ids} == {0}
    assert len({hash_text(id_, 8) % (1 << COLLIDING_BITS) for id_ in ids}) > 25


@pytest.mark.parametrize("colliding", [False, True])
def test_a_case_is_measured(colliding):
    small = case("sessions", 40, 70_000, events=70_000, sessions=40, teams=3, partitions=2)
    assert measure(replace(small, colliding=colliding)) > 0


def test_an_axis_that_does_not_exist_is_refused_before_anything_is_measured():
    shown = CliRunner().invoke(scaling, ["--only", "team"])
    assert shown.exit_code == 2 and "teams" in shown.output
