"""What a live session costs in memory: ``python -m loadtest.bench.memory SESSIONS``, a process for each number.

The difference of the resident set before and after so many sessions began in one engine, divided by their number.
Before, the engine has seen so many events that its memory of identities is full, and the events' own ids are made, so
what is added is the sessions and nothing that would have been there without them.
"""

import gc
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from loadtest.bench.checkpoints import START_MS, Usage
from models.config import EngineConfig
from models.engine import UsageEngine
from models.pricing import PriceTable
from streams.broker.embedded import spawn
from streams.errors import FatalError
from streams.memory import keep_freed_memory

WARM_SESSIONS = 1_000


def bytes_per_session(sessions: int) -> dict:
    """Of a process of its own; raises FatalError if it fails."""
    child = spawn([sys.executable, "-m", "loadtest.bench.memory", str(sessions)], stdout=subprocess.PIPE)
    said, _ = child.communicate()
    if child.returncode:
        raise FatalError(f"the memory bench ended with {child.returncode}")
    return json.loads(said)


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main(sessions: int) -> None:
    keep_freed_memory()
    config = EngineConfig()
    usage = Usage(WARM_SESSIONS + sessions)
    engine = UsageEngine(config, 0, PriceTable())
    warm = np.arange(2 * config.dedupe_events + 1) % WARM_SESSIONS
    usage.feed(engine, warm, START_MS)
    before = resident_bytes()
    usage.feed(engine, WARM_SESSIONS + np.arange(sessions), START_MS)
    after = resident_bytes()
    assert len(engine.sessions) == WARM_SESSIONS + sessions
    print(
        json.dumps(
            {
                "sessions": sessions,
                "bytes_per_session": round((after - before) / sessions, 1),
                "resident_mb_before": before >> 20,
                "resident_mb_after": after >> 20,
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
