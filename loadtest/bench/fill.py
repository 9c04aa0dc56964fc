"""Fill a topic with a load, as fast as the broker takes it: 1.2 us of CPU an event, encoded and compressed.

In record batches as large as a busy producer makes them: some 2,500 events, 700 kB before lz4, with four partitions.
(librdkafka fed from Python took 41 us an event.)
"""

import asyncio

import numpy as np

from loadtest.bench.events import Encoder, Load, session_numbers
from loadtest.bench.paced import Sender, tick

EVENTS_AT_ONCE = 10_000


def fill_topic(bootstrap: str, topic: str, load: Load) -> None:
    """Returns when all is stored; the topic exists. Raises what the broker said."""
    asyncio.run(_fill(bootstrap, topic, load))


async def _fill(bootstrap: str, topic: str, load: Load) -> None:
    encoder, number = Encoder(load), 0
    async with Sender(bootstrap, topic) as sender:
        for chunk in session_numbers(load):
            for at in range(0, len(chunk), EVENTS_AT_ONCE):
                sessions = chunk[at : at + EVENTS_AT_ONCE]
                numbers = number + np.arange(len(sessions))
                time_ms = load.start_ms + numbers * 1000 // load.events_per_second
                await sender.send(tick(encoder, numbers, sessions, time_ms, load.partitions))
                number += len(sessions)
