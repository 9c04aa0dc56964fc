"""The ceiling: confluent-kafka (librdkafka) consuming the bytes and doing nothing with them.

Run by loadtest.bench.race as ``python -m loadtest.bench.ceiling BOOTSTRAP TOPIC PARTITIONS EVENTS``.
"""

import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from loadtest.bench.child import Progress


def main(bootstrap: str, topic: str, partitions: int, events: int) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench-ceiling",
            "enable.auto.commit": False,
            # librdkafka's advice for throughput (INTRODUCTION.md, "Consumer"): large fetches, a deep local queue.
            "fetch.min.bytes": 1 << 20,
            "fetch.wait.max.ms": 50,
            "max.partition.fetch.bytes": 8 << 20,
            "queued.max.messages.kbytes": 256 << 10,
            "queued.min.messages": 1_000_000,
            "check.crcs": True,
        }
    )
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(partitions)])
    progress = Progress(events)
    while not progress.done:
        progress.add(len(consumer.consume(10_000, timeout=1.0)))
    consumer.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
