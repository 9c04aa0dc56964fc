"""Events from a file to the usage topic: ``tenfold produce``, and the demo's player.

Each event is plain Avro, keyed by its session (by source and event_id where it has none, so that they spread). The
record's timestamp is now, not the event time: brokers delete by it, so recorded usage of last year would be gone
before it is read, and Kafka 4 refuses timestamps more than an hour ahead.
"""

import asyncio
import time
from collections.abc import Callable
from itertools import chain, islice

from schemas.codec import encode
from streams.config import Settings
from streams.files import read_events
from streams.producer import Producer

PACE_SECONDS = 0.05


def event_key(event: dict) -> bytes:
    """Kafka key of a canonical event: its session's events meet in one partition."""
    return (event["session_id"] or f"{event['source']}/{event['event_id']}").encode()


async def send_event(producer: Producer, topic: str, event: dict) -> None:
    """Hand one event to the producer."""
    await producer.send(topic, event_key(event), encode("usage_event", event))


async def produce_file(
    settings: Settings,
    path: str,
    *,
    rate: float | None,
    shift_to_now: bool,
    on_error: Callable[[Exception], None],
    on_sent: Callable[[int], None],
) -> int:
    """Send every event of ``path``; returns how many. Waits until the broker has them all."""
    topic = settings.topic_names().usage.name
    shift_ms = 0
    if shift_to_now:
        newest = max((event["event_time"] for event in read_events(path, on_error=lambda _: None)), default=0)
        shift_ms = int(time.time() * 1000) - newest
    sent = 0
    started = time.monotonic()
    events = read_events(path, on_error=on_error)
    # A file that cannot be read is told before a broker is asked for.
    first = list(islice(events, 1))
    async with Producer(settings.connection()) as producer:
        for event in chain(first, events):
            event["event_time"] += shift_ms
            await send_event(producer, topic, event)
            sent += 1
            if sent % 1000 == 0:
                on_sent(1000)
            if rate and sent / rate - (time.monotonic() - started) > PACE_SECONDS:
                await asyncio.sleep(PACE_SECONDS)
        await producer.flush()
    on_sent(sent % 1000)
    return sent
