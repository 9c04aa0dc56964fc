"""The producer's lz4 at level 1, as librdkafka compresses: aiokafka's own level of 9 takes five times as long.

It compresses in the event loop, where that was a tenth of a busy worker's time. aiokafka has no setting for it, so its
record builder gets another function under the name it knows. If a version has no such name it is slower, and nothing
else. Called by streams.producer.
"""

from functools import partial
from importlib import import_module

from aiokafka import codec

LEVEL = 1
_BUILDERS = ("aiokafka.record._crecords.default_records", "aiokafka.record.default_records")
"""Compiled, and in Python where that is not there."""


def use_fast_lz4() -> list[str]:
    """Set the level for this process; returns the modules in which it took."""
    taken = []
    for name in _BUILDERS:
        try:
            module = import_module(name)
        except ImportError:
            continue
        if hasattr(module, "lz4_encode"):
            module.lz4_encode = partial(codec.lz4_encode, level=LEVEL)
            taken.append(name)
    return taken
