"""A worker to run as a process of its own: reads batch topics and writes down what it was given.

Usage: worker.py OUT.json '{"servers": ..., "group": ..., "topics": [...], ...}'. Stops on SIGTERM. A plain
at-least-once consumer that records (topic, partition, offset) of every record once its batch is acknowledged.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from streams.errors import TenfoldError
from streams.transport import Connection, Hooks, Limits, TransportSettings, build_app, deliveries, run_app


def log(line: str) -> None:
    print(line, flush=True)


async def main(out: Path, options: dict) -> int:
    rows: list[tuple[str, int, int]] = []
    calls: list[tuple] = []
    applied = 0

    async def on_assigned(tps):
        calls.append(("assigned", sorted(tuple(tp) for tp in tps)))
        log(f"assigned {len(tps)}")

    async def on_revoked(tps):
        calls.append(
            ("revoked", sorted(tuple(tp) for tp in tps), app.flow_control.is_active(), len(app.consumer.unacked))
        )
        log(f"revoked {len(tps)}")

    settings = TransportSettings(
        Connection.to(options["servers"]),
        group=options["group"],
        delivery=options.get("delivery", "raw_spans"),
        session_timeout_ms=options.get("session_timeout_ms", 10_000),
        heartbeat_interval_ms=300,
        rebalance_timeout_ms=10_000,
        commit_interval_ms=300,
        limits=Limits(records=options.get("records", 50_000)),
        **options.get("settings", {}),
    )
    app = build_app(
        settings, batch_topics=options["topics"], hooks=Hooks(on_assigned=on_assigned, on_revoked=on_revoked)
    )

    def add_agent(topic: str) -> None:
        async def agent(stream):
            nonlocal applied
            async for delivery in deliveries(stream):
                applied += 1
                if applied == options.get("raise_at"):
                    raise RuntimeError(f"poisoned at {delivery.batch.first_offset}")
                await asyncio.sleep(options.get("work_seconds", 0.002))
                batch = delivery.batch
                assert not batch.rejected
                rows.extend((batch.tp.topic, batch.tp.partition, offset) for offset in batch.offset.tolist())
                log(f"acked {batch.tp.topic} {batch.tp.partition} {batch.next_offset}")
                delivery.ack()

        app.agent(app.batch_topic(topic), name=f"agent-{topic}")(agent)

    for topic in options["topics"]:
        add_agent(topic)
    error = ""
    log("started")
    try:
        await run_app(app)
    except TenfoldError as failure:
        error = f"{type(failure).__name__}: {failure}"
    out.write_text(json.dumps({"rows": rows, "calls": calls, "error": error}))
    return 1 if error else 0


if __name__ == "__main__":
    code = asyncio.run(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
    sys.stdout.flush()
    os._exit(code)
