"""A hundred thousand broken records among good ones: every good one counts, every bad one leaves whole and named.

What is bad is said by the plain-Python twin of the decoder (tests/schemas), not by the decoder.
"""

import importlib.util
import random
import time
from collections import Counter

import pytest

from models.config import DAY_MS, HOUR_MS
from schemas.codec import encode
from schemas.columns import REJECT_REASONS
from streams.files import event_from_json

GOOD, BAD = 20_000, 100_000
COST_NANO_USD = 1_234_567


@pytest.fixture(scope="module")
def decoder_twin(kit):
    path = kit.ROOT / "tests" / "schemas" / "conftest.py"
    spec = importlib.util.spec_from_file_location("decoder_twin", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def event(team: str, number: int, at_ms: int, **more) -> dict:
    names = {"event_id": f"{team}-{number}", "source": "poison", "session_id": f"s-{number % 997}", "team": team}
    return event_from_json({**names, "event_time": at_ms, "cost_nano_usd": COST_NANO_USD, "model": "m", **more})


def broken(rng: random.Random, value: bytes, base: dict) -> bytes | None:
    """One of nine ways to break a record; some come out as events that are still sound."""
    way = rng.randrange(9)
    if way == 0:
        return value[: rng.randrange(len(value))]
    if way == 1:
        damaged = bytearray(value)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        return bytes(damaged)
    if way == 2:
        return rng.randbytes(rng.randrange(1, 300))
    if way == 3:
        return b"\0" + rng.randrange(1, 1 << 32).to_bytes(4, "big") + value
    if way == 4:
        return None
    if way == 5:
        at = rng.randrange(len(value))
        return value[:at] + b"\xff" * rng.randint(9, 12) + value[at:]
    if way == 6:
        return value.replace(b"poison", b"\xff\xfeison", 1)
    if way == 7:
        wrong = rng.choice([{"input_tokens": -1}, {"output_tokens": 10**11}, {"cost_nano_usd": -5}, {"quantity": -1.0},
                            {"event_time": 5}, {"source": ""}])  # fmt: skip
        return encode("usage_event", {**base, **wrong})
    return b""


@pytest.mark.broker
async def test_every_good_record_counts_and_every_bad_one_is_rejected(embedded_broker, kit, decoder_twin, tmp_path):
    rng = random.Random(7)
    base_ms = int(time.time() * 1000) // HOUR_MS * HOUR_MS - 2 * HOUR_MS
    good = [event("good", number, base_ms + number) for number in range(GOOD)]
    rows = [(b"good", encode("usage_event", item)) for item in good]
    for number in range(BAD):
        base = event("bad", number, base_ms + number % GOOD)
        rows.append((b"bad", broken(rng, encode("usage_event", base), base)))
    rng.shuffle(rows)
    async with kit.Deployment(embedded_broker, tmp_path, level="warning") as deployment:
        partitions = deployment.topics.usage.partitions
        for partition in range(partitions):
            part = rows[partition::partitions]
            for at in range(0, len(part), 5_000):
                await deployment.send_values(partition, part[at : at + 5_000])
        await deployment.start(1)
        await deployment.usage_committed()
        await deployment.settled()
        rejected = {(r["partition"], r["offset"]): r for r in await deployment.read(deployment.topics.rejected)}
        windows = await deployment.windows()
        assert await deployment.workers[0].ready()
        produced = deployment.produced

    reasons, counted, doubtful = {}, Counter(), set()
    for partition, values in produced.items():
        seen = set()
        for offset, value in enumerate(values):
            verdict = expected(decoder_twin, value)
            if isinstance(verdict, str):
                reasons[partition, offset] = verdict
                continue
            identity = (verdict["source"], verdict["event_id"])
            if identity in seen:
                continue
            if verdict["event_time"] < base_ms - 30 * DAY_MS:
                # Too old for any pane, or for none yet, by how far the partition was when it came.
                doubtful.add((partition, offset))
                if (partition, offset) in rejected:
                    continue
            seen.add(identity)
            counted[verdict["team"]] += 1

    assert counted["good"] == GOOD
    assert len(reasons) > 0.8 * BAD
    assert rejected.keys() - doubtful == reasons.keys()
    for place, record in rejected.items():
        partition, offset = place
        assert record["topic"] == deployment.topics.usage.name
        assert record["value"] == produced[partition][offset]
        assert record["reason"] in REJECT_REASONS
        if place in reasons and reasons[place] != "framed":
            assert record["reason"] == reasons[place]
    by_reason = Counter(record["reason"] for record in rejected.values())
    assert len(by_reason) >= 9, by_reason

    found = Counter()
    for key, counters in windows.items():
        row = dict(zip(kit.WINDOW, key, strict=True))
        if row["scope_kind"] == "team" and row["window_ms"] == HOUR_MS:
            found[row["team"]] += dict(zip(kit.COUNTERS, counters, strict=True))["events"]
            if row["team"] == "good":
                assert counters[0] == GOOD * COST_NANO_USD
    assert found == counted


def expected(twin, value: bytes | None) -> dict | str:
    """The event, or why it is none; "framed" where a frame names a schema that nobody has."""
    if value is None:
        return "null_value"
    if value[:1] == b"\0" or value[:2] == b"\xc3\x01":
        return "framed"
    return twin.twin(twin.READER, value)
