"""Keep freed memory in the process: called once by ``tenfold worker``, before it has threads.

A batch is a few megabytes of arrays that live for milliseconds. glibc gives such blocks back to the kernel at once,
and the kernel clears every page when it hands it out again: a sixth of a busy worker's CPU time. So blocks stay, all
threads share one arena (what the consumer's thread allocates, the event loop frees), and the process keeps the memory
of its busiest moment. Does nothing where the C library is not glibc.
"""

import asyncio
import ctypes
import gc
from itertools import count

# Of <malloc.h>; see mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
_LARGEST_MMAP_THRESHOLD = 32 << 20
"""On 64-bit machines; glibc refuses more."""


def keep_freed_memory() -> bool:
    """Whether the C library took the settings."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = {
        _M_ARENA_MAX: 1,
        _M_MMAP_THRESHOLD: _LARGEST_MMAP_THRESHOLD,
        _M_TRIM_THRESHOLD: 1 << 30,
        _M_TOP_PAD: 16 << 20,
    }
    return all([mallopt(name, value) for name, value in settings.items()])


def freeze_objects() -> None:
    """Leave what exists now (modules, kernels, catalogues) out of every later garbage collection.

    Not collected before: there is next to no garbage yet, and looking for it takes a quarter of a second of the start.
    """
    gc.freeze()


async def keep_freezing(seconds: float = 60.0, rounds_between_thorough: int = 24 * 60) -> None:
    """For ever: collect what has become garbage since the last round, and leave the rest out from then on.

    A hundred teams' forests (models.learners) are a million objects, and looking through all of them would stop the
    worker for a third of a second whenever Python's collector thinks it is time. What is left out and becomes garbage
    in a cycle later is found by a thorough round, once a day by default.
    """
    for number in count(1):
        await asyncio.sleep(seconds)
        if number % rounds_between_thorough == 0:
            gc.unfreeze()
        gc.collect()
        gc.freeze()
