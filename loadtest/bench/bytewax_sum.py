"""bytewax: decode and one keyed sum in a stateful operator, without recovery.

Run by loadtest.bench.race as ``python -m loadtest.bench.bytewax_sum BOOTSTRAP TOPIC PARTITIONS EVENTS``.
"""

import os
import sys

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main

from loadtest.bench.child import Progress
from schemas.codec import decode


class Nowhere(DynamicSink):
    """A dataflow needs an output."""

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSinkPartition:
        return _Nowhere()


class _Nowhere(StatelessSinkPartition):
    def write_batch(self, items: list) -> None:
        pass


def keyed_tokens(messages: list[KafkaSourceMessage]) -> list[tuple[str, int]]:
    events = [decode("usage_event", message.value) for message in messages]
    return [(event["session_id"], event["input_tokens"] + event["output_tokens"]) for event in events]


def main(bootstrap: str, topic: str, _partitions: int, events: int) -> None:
    progress = Progress(events)

    class Sum(StatefulBatchLogic):
        def __init__(self, resumed: int | None) -> None:
            self.sum = resumed or 0

        def on_batch(self, values: list[int]) -> tuple[list, bool]:
            self.sum += sum(values)
            if progress.add(len(values)):
                os._exit(0)
            return [], StatefulBatchLogic.RETAIN

        def snapshot(self) -> int:
            return self.sum

    # Batches throughout, the fastest operators there are; a larger batch_size is the documented knob for throughput
    # (bytewax.connectors.kafka.KafkaSource). One worker for the one core that every contender gets.
    flow = Dataflow("bench")
    usage = op.input("usage", flow, KafkaSource([bootstrap], [topic], batch_size=10_000))
    tokens = op.flat_map_batch("decode", usage, keyed_tokens)
    sums = op.stateful_batch("sum", tokens, Sum)
    op.output("out", sums, Nowhere())
    cli_main(flow, workers_per_process=1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
