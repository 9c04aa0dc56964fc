"""Whether the C library keeps what batches free."""

import asyncio
import gc
import platform
import subprocess
import sys
import weakref

import pytest

from streams.memory import keep_freezing

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


async def test_what_lives_is_left_out_and_a_thorough_round_finds_what_died_later():
    class Node:
        pass

    gc.collect()
    gc.freeze()
    before = gc.get_freeze_count()
    kept = [Node() for _ in range(10_000)]
    cycle = Node()
    cycle.itself = cycle
    dead = weakref.ref(cycle)
    rounds = asyncio.create_task(keep_freezing(0.01, rounds_between_thorough=20))
    try:
        while gc.get_freeze_count() < before + len(kept):
            await asyncio.sleep(0.01)
        del cycle
        gc.collect()
        assert dead() is not None, "it was left out"
        while dead() is not None:
            await asyncio.sleep(0.01)
    finally:
        rounds.cancel()
        gc.unfreeze()
