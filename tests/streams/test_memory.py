"""Whether the C library keeps what batches free."""

import platform
import subprocess
import sys

import pytest

PAGES = """
import resource, numpy
from streams.memory import keep_freed_memory
assert {keep} and keep_freed_memory() or not {keep}
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def batch():
    [numpy.ones(1 << 20, numpy.int8) for _ in range(20)]
batch(); before = faults()
for _ in range(50): batch()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_blocks_of_a_megabyte_are_not_asked_for_again():
    def faults(keep: bool) -> int:
        done = subprocess.run(
            [sys.executable, "-c", PAGES.format(keep=keep)], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    assert faults(True) < 500 < faults(False)
