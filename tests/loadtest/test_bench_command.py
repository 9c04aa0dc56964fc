"""The `tenfold bench` group: every bench it names can be imported and says what it does."""

import pytest
from click.testing import CliRunner

from loadtest.accuracy.command import PARTS
from loadtest.bench.command import BENCHES, bench
from loadtest.bench.race import cores, pinned


@pytest.mark.parametrize("name", BENCHES)
def test_help_of_every_bench(name):
    shown = CliRunner().invoke(bench, [name, "--help"])
    assert shown.exit_code == 0, shown.output
    assert f"bench {name}" in shown.output and "--out" in shown.output


@pytest.mark.parametrize("part", PARTS)
def test_help_of_every_part_of_accuracy(part):
    shown = CliRunner().invoke(bench, ["accuracy", part, "--help"])
    assert shown.exit_code == 0, shown.output
    assert f"bench accuracy {part}" in shown.output and "--out" in shown.output


def test_the_cores_are_the_machines_whatever_the_caller_is_pinned_to():
    mine, others = cores()
    with pinned(others):
        assert cores() == (mine, others)
        with pinned(mine):
            assert cores() == (mine, others)
