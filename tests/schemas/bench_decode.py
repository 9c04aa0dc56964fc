"""ns per event of the decoder: ``python tests/schemas/bench_decode.py`` prints one JSON line.

Events are shaped like those of a gateway: 31 fields, 200 bytes, three of ten token buckets in use. The first
decode is timed apart: it compiles the kernel or loads it from the cache.
"""

import json
import platform
import random
import struct
import time

import numpy as np

from schemas.codec import encode, schema_text
from schemas.decode import Decoder


def events(n: int, seed: int = 7) -> list[bytes]:
    rng = random.Random(seed)
    teams = [f"team-{i:02}" for i in range(30)]
    models = ["gpt-5.2", "claude-opus-4-8", "claude-haiku-4-5", "gemini-3-flash", "llama-4-maverick-instruct"]
    out = []
    for i in range(n):
        event = {
            "event_id": f"{rng.getrandbits(64):016x}",
            "source": "litellm",
            "event_time": 1_790_000_000_000 + i,
            "session_id": f"run-{rng.randrange(20_000):08d}",
            "team": rng.choice(teams),
            "agent": f"agent-{rng.randrange(200)}",
            "use_case": "loan-origination",
            "environment": "prod",
            "user": f"user{rng.randrange(5000)}",
            "transaction_id": f"loan-{rng.randrange(10**6)}",
            "transaction_type": "loan",
            "kind": "LLM",
            "provider": "anthropic",
            "model": rng.choice(models),
            "region": "eu-west-1",
            "input_tokens": rng.randrange(100, 8000),
            "cache_read_tokens": rng.randrange(0, 50_000),
            "output_tokens": rng.randrange(10, 2000),
            "cost_nano_usd": rng.randrange(10**6, 10**8),
            "response_id": f"resp_{rng.getrandbits(96):024x}",
        }
        out.append(encode("usage_event", event))
    return out


def spans(values: list[bytes]):
    sizes = np.array([len(value) for value in values], np.int64)
    ends = np.cumsum(sizes)
    return np.frombuffer(b"".join(values), np.uint8), ends - sizes, ends, np.arange(len(values), dtype=np.int64)


def best_ns(decoder: Decoder, values: list[bytes], rounds: int = 40) -> float:
    batch = spans(values)
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        columns = decoder.decode(*batch)
        best = min(best, time.perf_counter() - began)
    assert not columns.status.any()
    return best / len(values) * 1e9


def main() -> None:
    values = events(20_000)
    decoder = Decoder(1, schemas={7: schema_text("usage_event")})
    began = time.perf_counter()
    decoder.decode(*spans(values[:1]))
    first = time.perf_counter() - began
    framed = [b"\0" + struct.pack(">I", 7) + value for value in values]
    print(
        json.dumps(
            {
                "bytes_per_event": round(sum(map(len, values)) / len(values)),
                "first_decode_seconds": round(first, 2),
                "plain_ns_per_event": round(best_ns(decoder, values)),
                "framed_ns_per_event": round(best_ns(decoder, framed)),
                "python": platform.python_version(),
                "machine": platform.machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
