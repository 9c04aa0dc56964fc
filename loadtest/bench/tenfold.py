"""Tenfold, the whole job: the worker of ``tenfold worker`` with all its agents, timers and checkpoints.

Run by loadtest.bench.race as ``python -m loadtest.bench.tenfold BOOTSTRAP TOPIC PARTITIONS EVENTS``. Settings are the
defaults. Only two things differ from a worker: every topic but the input is new, so that each run begins without
state, and counted events are reported. Events that were rejected or taken for repeats are not counted, so a run in
which any is never ends.
"""

import asyncio
import dataclasses
import os
import signal
import sys
import uuid

from loadtest.bench.child import Progress
from streams import log, worker
from streams.agents.usage import UsageAgent
from streams.config import Settings, TopicSettings, WebSettings
from streams.topics import Topics


def main(bootstrap: str, topic: str, partitions: int, events: int) -> None:
    progress = Progress(events)
    run = f"bench-{uuid.uuid4().hex[:8]}"

    class BenchSettings(Settings):
        def topic_names(self) -> Topics:
            topics = super().topic_names()
            return dataclasses.replace(topics, usage=dataclasses.replace(topics.usage, name=topic))

    class CountedAgent(UsageAgent):
        def _observe(self, batch, out, rejected, seconds: float) -> None:
            super()._observe(batch, out, rejected, seconds)
            if progress.add(out.counted):
                os.kill(os.getpid(), signal.SIGTERM)

    worker.UsageAgent = CountedAgent
    settings = BenchSettings(topics=TopicSettings(prefix=f"{run}.", partitions=partitions), web=WebSettings(port=0))
    transport = settings.transport.model_copy(update={"group": run})
    log.configure(settings.log.level, "json")
    asyncio.run(worker.run_worker(settings.model_copy(update={"transport": transport}).with_servers(bootstrap)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
