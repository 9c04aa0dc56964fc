"""Records that are nobody's on every topic, and records as large as a broker takes: workers go on, and restart."""

import random

import pytest

from schemas.codec import decode, encode
from streams.files import event_from_json
from streams.follow import read_all

GARBAGE = [b"", b"\0", b"\xff" * 60, b"{}", b"\x02a\x02b" * 30, *(random.Random(3).randbytes(n) for n in (7, 80, 900))]
LARGEST = 1_000_000
"""With its overhead just below the megabyte that brokers and producers take by default."""


@pytest.mark.broker
async def test_what_is_not_ours_stops_nobody(embedded_broker, kit, tmp_path):
    events, end_ms = kit.sample(500, 1_500)
    half = len(events) // 2
    async with kit.Deployment(embedded_broker, tmp_path) as deployment:
        topics = deployment.topics

        async def litter(count: int) -> None:
            for topic in topics:
                if topic is topics.usage:
                    continue
                for number in range(count):
                    value = GARBAGE[number % len(GARBAGE)]
                    key = [None, b"", b"0/1/marker", b"\xff\xfe", b"not/a/number/at/all"][number % 5]
                    await deployment._producer.send(topic.name, key, value, partition=number % topic.partitions)
            await deployment._producer.flush()

        await litter(16)
        await deployment.start(1)
        await deployment.send(events[:half])
        await litter(16)
        large = [
            (b"large", b"\xff" * LARGEST),
            (b"k" * LARGEST, b"\xff"),
            *(
                (b"large", encode("usage_event", event_from_json({**base, name: "x" * LARGEST})))
                for name in ("team", "session_id", "model", "agent", "event_id", "user")
                for base in [{"event_id": "large", "source": "e2e", "event_time": end_ms, "cost_nano_usd": 10**12}]
            ),
        ]
        for key, value in large:
            await deployment._producer.send(topics.usage.name, key, value, partition=2)
            deployment.produced[2].append(value)
        await deployment.send(events[half:])
        await deployment.usage_committed()
        (worker,) = deployment.workers
        assert await worker.ready()
        await worker.stop()
        await litter(8)
        worker.start()
        await deployment.all_ready()
        assert max(entry["next_offset"] for entry in worker.events("state_restored")) > 0
        sentinels = await deployment.send_sentinels(end_ms + kit.SESSIONS_END_MS)
        await deployment.usage_committed()

        windows, runs, _ = deployment.expected([*events, *sentinels])

        async def published() -> bool:
            return await newest_windows(deployment, kit) == windows

        await deployment.until(published, "windows are not those of the replay", 60)
        rejected = await readable(deployment, topics.rejected)
        of_usage = [r for r in rejected if r["topic"] == topics.usage.name]
        assert len(of_usage) == len(large)
        assert all(len(r["value"]) <= 512 << 10 and r["partition"] == 2 for r in of_usage)
        assert [r["reason"] for r in of_usage[2:]] == ["out_of_range"] * 6
        from_elsewhere = {r["topic"] for r in rejected} - {topics.usage.name}
        assert from_elsewhere == {topics.foreign.name, topics.partials.name, topics.anomalies.name}
        assert await worker.ready()
        assert await sessions(deployment, kit) == runs


async def readable(deployment, topic) -> list[dict]:
    """What is left of a topic without our litter."""
    rows = []
    for record in await read_all(deployment.client, topic.name):
        if record.value is not None and record.value not in GARBAGE:
            rows.append(decode(topic.schema, record.value))
    return rows


async def newest_windows(deployment, kit) -> dict[tuple, tuple]:
    rows = await readable(deployment, deployment.topics.spend)
    return {tuple(row[n] for n in kit.WINDOW): tuple(row[n] for n in kit.COUNTERS) for row in rows}


async def sessions(deployment, kit) -> dict[tuple, tuple]:
    rows = await readable(deployment, deployment.topics.sessions)
    return {tuple(row[n] for n in kit.RUN[:2]): tuple(row[n] for n in kit.RUN) for row in rows}
