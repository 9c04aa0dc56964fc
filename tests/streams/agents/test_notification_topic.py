"""The notification log's topic: what is written, and how it is tried."""

import asyncio

import pytest

from streams.agents.notification_topic import KafkaNotificationLog
from streams.errors import RetryableError
from streams.notify.notification_log import Entry


class SlowProducer:
    """Stores when it is let; ``fail`` says why it does not."""

    def __init__(self):
        self.rows, self.fail, self.let = [], None, asyncio.Event()

    async def send_many(self, topic, partition, rows):
        self.rows += rows

    async def flush(self):
        await self.let.wait()
        if self.fail:
            raise self.fail


async def test_who_asks_while_a_probe_is_on_its_way_shares_the_next():
    """One that has set out before proves nothing to those who come later, and fifty need no more than one."""
    producer = SlowProducer()
    log = KafkaNotificationLog("log", producer)
    first = asyncio.create_task(log.probe())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.create_task(log.probe()) for _ in range(50)]
    await asyncio.sleep(0)
    assert len(producer.rows) == 1 and not first.done()
    producer.let.set()
    await asyncio.gather(first, *others)
    assert len(producer.rows) == 2


async def test_a_probe_that_fails_fails_for_all_who_waited_and_the_next_is_another():
    producer = SlowProducer()
    producer.let.set()
    producer.fail = RuntimeError("no")
    log = KafkaNotificationLog("log", producer)
    answers = await asyncio.gather(*(log.probe() for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [RetryableError] * 3
    producer.fail = None
    await log.probe()


async def test_who_is_cancelled_leaves_the_probe_to_the_others():
    producer = SlowProducer()
    log = KafkaNotificationLog("log", producer)
    first, second = asyncio.create_task(log.probe()), asyncio.create_task(log.probe())
    await asyncio.sleep(0)
    first.cancel()
    producer.let.set()
    await second
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_finding_that_several_entries_hold_is_read_as_it_was():
    producer = SlowProducer()
    held, other = {"id": "f1", "reason": 'é"', "ratio": 1.5}, {"id": "f1", "details": {}}
    entries = [
        Entry("a", "f1", "pending", 0, 5, pending=(held, other)),
        Entry("b", "f1", "pending", 0, 5, pending=(held,)),
        Entry("b", "f2", "sent", 1, 6, detail='"', group="g"),
    ]
    await KafkaNotificationLog("log", producer).write(entries)
    assert [Entry.decode(value) for _, value in producer.rows] == entries
