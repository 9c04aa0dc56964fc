"""quixstreams: decode and one keyed sum in its state store.

Run by loadtest.bench.race as ``python -m loadtest.bench.quix_sum BOOTSTRAP TOPIC PARTITIONS EVENTS``.
"""

import os
import sys
import tempfile
import uuid

from quixstreams import Application
from quixstreams.state import State

from loadtest.bench.child import Progress
from schemas.codec import decode


def main(bootstrap: str, topic: str, partitions: int, events: int) -> None:
    progress = Progress(events)
    with tempfile.TemporaryDirectory() as state:
        app = Application(
            bootstrap,
            consumer_group=f"bench-{uuid.uuid4().hex[:8]}",
            auto_offset_reset="earliest",
            loglevel="ERROR",
            state_dir=state,
            # Without them state is not made durable, which is faster (docs: "Stateful Processing", "How Changelog
            # Topics Work"). Checkpoints at the default 5 s: "Checkpointing" advises against shorter ones.
            use_changelog_topics=False,
            # Handed to librdkafka, as for the ceiling.
            consumer_extra_config={
                "fetch.min.bytes": 1 << 20,
                "fetch.wait.max.ms": 50,
                "max.partition.fetch.bytes": 8 << 20,
                "queued.min.messages": 1_000_000,
            },
        )

        def add(value: bytes, state: State) -> None:
            event = decode("usage_event", value)
            state.set("sum", state.get("sum", 0) + event["input_tokens"] + event["output_tokens"])
            if progress.add(1):
                os._exit(0)

        usage = app.topic(topic, key_deserializer="bytes", value_deserializer="bytes")
        app.dataframe(usage).update(add, stateful=True)
        app.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
