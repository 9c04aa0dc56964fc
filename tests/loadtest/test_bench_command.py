"""The `tenfold bench` group: every bench it names can be imported and says what it does."""

import pytest
from click.testing import CliRunner

from loadtest.bench.command import BENCHES, bench


@pytest.mark.parametrize("name", BENCHES)
def test_help_of_every_bench(name):
    shown = CliRunner().invoke(bench, [name, "--help"])
    assert shown.exit_code == 0, shown.output
    assert f"bench {name}" in shown.output and "--out" in shown.output
