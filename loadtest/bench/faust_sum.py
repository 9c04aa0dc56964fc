"""Plain Faust: decode and one keyed sum, in a Faust table or, with ``dict``, in a dict that nothing restores.

Run by loadtest.bench.race as ``python -m loadtest.bench.faust_sum BOOTSTRAP TOPIC PARTITIONS EVENTS [dict]``.
"""

import logging
import os
import sys
import uuid

from loadtest.bench.child import Progress
from schemas.codec import decode


def main(bootstrap: str, topic: str, partitions: int, events: int, sums_in: str = "table") -> None:
    import mode.loop

    mode.loop.use("uvloop")  # Faust's advice for speed (userguide/workers, "--loop"); before faust is imported.
    import faust

    app = faust.App(
        f"bench-{uuid.uuid4().hex[:8]}",
        broker=f"kafka://{bootstrap}",
        store="memory://",
        topic_partitions=partitions,
        topic_disable_leader=True,
        web_enabled=False,
        # userguide/settings: both trade memory or guarantees for speed.
        cython_optimizations=True,
        stream_buffer_maxsize=16_384,
    )
    progress = Progress(events)
    usage = app.topic(topic, key_serializer="raw", value_serializer="raw", key_type=bytes, value_type=bytes)
    sums = app.Table("sums", default=int, partitions=partitions) if sums_in == "table" else {}

    @app.agent(usage)
    async def add(stream) -> None:
        async for value in stream:
            event = decode("usage_event", value)
            session = event["session_id"]
            sums[session] = sums.get(session, 0) + event["input_tokens"] + event["output_tokens"]
            if progress.add(1):
                os._exit(0)

    faust.Worker(app, loglevel=logging.ERROR).execute_from_commandline()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])
