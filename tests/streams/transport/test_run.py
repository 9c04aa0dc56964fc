"""How an app that failed is brought to its end."""

import asyncio
from types import SimpleNamespace

import pytest

from streams.errors import FatalError
from streams.transport.run import _stop


def app(stop):
    return SimpleNamespace(crashed=True, crash_reason=None, stop=stop, transport_settings=None)


async def ended():
    return None


async def test_a_cancelled_part_does_not_hide_the_reason():
    async def stop():
        raise asyncio.CancelledError

    starting = asyncio.create_task(ended())
    reason = FatalError("the reason")
    assert await _stop(app(stop), starting, reason) is reason


async def test_a_stop_that_is_cancelled_from_outside_ends():
    entered = asyncio.Event()

    async def stop():
        entered.set()
        await asyncio.sleep(60)

    task = asyncio.create_task(_stop(app(stop), asyncio.create_task(ended()), FatalError("x")))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
