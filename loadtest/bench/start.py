"""How long a worker takes from the start of its process to its first counted event.

Real workers on a topic to which events come all the time, on real cores with nothing pinned: one alone, and several at
once, with the kernels in the cache. The steps are those of the worker's log.
"""

import asyncio
import contextlib
import tempfile
import time
import uuid
from datetime import datetime
from pathlib import Path

import numpy as np

from loadtest.bench.events import Encoder, Load
from loadtest.bench.latency import CONFIG, PARTITIONS, until
from loadtest.bench.paced import Sender, tick
from loadtest.cluster import Worker
from streams.topics import ensure_topics, topics
from streams.transport import Connection

STEPS = ("kernels_ready", "worker_started", "partitions_assigned", "batches_applied")
TRICKLE_SECONDS, TRICKLE_EVENTS = 0.05, 16
FIRST_EVENT_SECONDS = 240.0
"""Longest wait, on a machine that does much else and must compile first."""


async def start(bootstrap: str, workers: int) -> dict:
    """Seconds to each step, of the worker that was last to reach it; raises FatalError if one does not start."""
    prefix = f"start-{uuid.uuid4().hex[:8]}."
    names = topics(prefix, PARTITIONS)
    await ensure_topics(Connection.to(bootstrap), names)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "tenfold.toml"
        config.write_text(CONFIG.format(servers=bootstrap, prefix=prefix, partitions=PARTITIONS))
        group = [Worker(f"worker-{n}", config, Path(folder) / f"worker-{n}.log") for n in range(workers)]
        async with Sender(bootstrap, names.usage.name) as sender:
            playing = asyncio.create_task(_trickle(sender))
            began = time.time()
            try:
                for worker in group:
                    worker.start()
                for worker in group:
                    await until(lambda worker=worker: STEPS[-1] in _steps(worker), FIRST_EVENT_SECONDS, worker)
            finally:
                for worker in group:
                    if worker.running:
                        worker.process.kill()
                        worker.process.wait()
                playing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await playing
            seconds = [_steps(worker) for worker in group]
    return {step: round(max(found[step] for found in seconds) - began, 2) for step in STEPS}


async def _trickle(sender: Sender) -> None:
    """Some events for every partition, for ever."""
    encoder, number = Encoder(Load(events=0)), 0
    while True:
        numbers = number + np.arange(TRICKLE_EVENTS)
        time_ms = np.full(TRICKLE_EVENTS, int(time.time() * 1000))
        await sender.send(tick(encoder, numbers, numbers, time_ms, PARTITIONS))
        number += TRICKLE_EVENTS
        await asyncio.sleep(TRICKLE_SECONDS)


def _steps(worker: Worker) -> dict[str, float]:
    """When the log first says each step, in seconds since 1970."""
    found: dict[str, float] = {}
    for entry in worker.entries():
        if entry.get("event") in STEPS:
            found.setdefault(entry["event"], datetime.fromisoformat(entry["timestamp"]).timestamp())
    return found
