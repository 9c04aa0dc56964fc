"""Death at a step of a checkpoint, in a process of its own."""

import os
import signal
import subprocess
import sys

import pytest

from streams.state import faults

CODE = """
from streams.state.faults import STEPS, point
for number in range(3):
    for step in STEPS:
        print(number, step, flush=True)
        point(step)
"""


def run(setting: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "TENFOLD_FAULT": setting}
    return subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, check=False)


def test_it_dies_at_the_nth_time_of_its_step_and_never_without_the_variable():
    done = run("checkpoint:blocks:2")
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.splitlines()[-1] == "1 blocks"
    done = run("")
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "2 done"


@pytest.mark.parametrize(
    "setting", ["checkpoint:half", "blocks", "checkpoint:block:x", "checkpoint:block:1:2", "x:block"]
)
def test_a_setting_that_means_nothing_is_refused(setting):
    with pytest.raises(ValueError):
        faults.arm(setting)
