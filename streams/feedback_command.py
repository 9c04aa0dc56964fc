"""What a person says about a finding from the command line, and what was said, from a file.

The record is that of Slack's buttons: one of ``tenfold.feedback``, which every worker reads. Raises TenfoldError if the
broker does not take it.
"""

import json
import time
from pathlib import Path

from schemas.codec import EventError, encode
from streams.config import Settings
from streams.producer import Producer
from streams.web.interactions import HOUR_MS, feedback_key

DEFAULTS = {"finding_id": "", "scope_kind": "", "scope_name": "", "detector": "", "until_ms": 0, "user": "", "note": ""}


def verdict(finding_id: str, said: str, *, hours: float, user: str, note: str) -> dict:
    """A Feedback dict, said now."""
    now_ms = time.time_ns() // 1_000_000
    until_ms = now_ms + round(hours * HOUR_MS) if hours else 0
    given = {"finding_id": finding_id, "verdict": said, "until_ms": until_ms, "user": user, "note": note}
    return {**DEFAULTS, **given, "source": "cli", "at_ms": now_ms}


async def send(settings: Settings, feedback: dict) -> None:
    """Returns once it is stored."""
    async with Producer(settings.connection()) as producer:
        await producer.send(settings.topic_names().feedback.name, feedback_key(feedback), encode("feedback", feedback))
        await producer.flush()


def read_feedback(path: Path) -> list[dict]:
    """Feedback dicts of a JSONL file, in order of ``at_ms``; it needs verdict, at_ms, and finding_id or a scope."""
    records = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = {**DEFAULTS, "source": "file", **json.loads(line)}
            encode("feedback", record)
        except Exception as error:  # fastavro raises what its C code met.
            raise EventError(f"{path}:{number}: not a verdict (schemas/feedback.avsc): {error!r}") from error
        records.append(record)
    return sorted(records, key=lambda record: record["at_ms"])
