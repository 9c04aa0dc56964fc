"""The worker's parts that need no broker."""

import asyncio
from types import SimpleNamespace

import pytest

from schemas.codec import encode
from streams.follow import decoded
from streams.worker import Background

BASELINE = {"level": 3, "team": "", "agent": "", "model": "", "cost_bins": [1.0], "event_bins": [2.0]}
BASELINE |= {"sums": [3.0], "revision": 4}


def test_baselines_that_are_none_are_passed_over():
    values = [b"", encode("baseline", BASELINE), None, b"\xff" * 40]
    records = [SimpleNamespace(offset=offset, value=value) for offset, value in enumerate(values)]
    assert decoded("baseline", records) == [BASELINE]


async def test_the_first_background_job_that_fails_is_reported_and_an_orderly_end_is_not():
    async def fail():
        raise ValueError("broken")

    reported: list[BaseException] = []
    background = Background([asyncio.sleep(3600), fail()], reported.append)
    async with background:
        while not reported:
            await asyncio.sleep(0)
    assert [str(error) for error in reported] == ["broken"]
    with pytest.raises(asyncio.CancelledError):
        await background._tasks[0]
