"""The fence of a zombie, by a clock of the test's own."""

import os
import signal
import subprocess
import sys
import time
import types

import pytest

from streams.errors import FencedError
from streams.transport import consumer as transport_consumer
from streams.transport import lease as module
from streams.transport.lease import Lease


@pytest.fixture
def clock(monkeypatch):
    clock = types.SimpleNamespace(now=1_000.0)
    monkeypatch.setattr(module, "now", lambda: clock.now)
    monkeypatch.setattr(transport_consumer, "now", lambda: clock.now)
    return clock


def lost(error):
    raise error


def test_it_is_held_as_long_as_heartbeats_are_answered_in_time(clock):
    lease = Lease(10_000, lost)
    lease.check()
    lease.begin()
    for _ in range(5):
        asked_at, clock.now = clock.now, clock.now + 4
        lease.renew(asked_at)
        lease.check()
    # An answer counts from when it was asked for, and a tenth is kept in hand.
    clock.now += 4.9
    lease.check()
    clock.now += 0.2
    with pytest.raises(FencedError, match="session_timeout"):
        lease.check()
    lease.renew(clock.now)
    assert not lease.held
    lease.release()
    assert not lease.held
    lease.begin()
    lease.check()


def test_nothing_can_be_lost_before_partitions_came_and_after_they_went(clock):
    lease = Lease(10_000, lost)
    lease.lose()
    lease.renew(clock.now)
    clock.now += 100
    lease.check()
    lease.begin()
    lease.release()
    clock.now += 100
    lease.check()


async def test_it_hears_what_the_coordinator_says(clock):
    answers = []

    class Coordinator:
        async def _do_heartbeat(self):
            clock.now += 3
            return answers.pop()

        async def _on_join_complete(self, generation):
            assert generation == 7

        def reset_generation(self):
            pass

    coordinator = Coordinator()
    lease = Lease(10_000, lost)
    transport_consumer._hold_lease(types.SimpleNamespace(_coordinator=coordinator), lease)
    await coordinator._on_join_complete(7)
    answers[:] = [False, True, True]
    for expected in (True, True, False):
        assert await coordinator._do_heartbeat() is expected
    # The last good one was asked for 3 s after the join.
    clock.now = 1_000 + 3 + 8.9
    lease.check()
    clock.now += 0.2
    assert not lease.held
    await coordinator._on_join_complete(7)
    coordinator.reset_generation()
    with pytest.raises(FencedError):
        lease.check()


CODE = """
import time
from streams.transport.lease import Lease
lease = Lease(400)
lease.begin()
print("begun", flush=True)
try:
    while True:
        lease.check()
        time.sleep(0.001)
finally:
    print("cleaned up", flush=True)
"""


def test_a_frozen_process_ends_at_once_and_cleans_nothing_up():
    with subprocess.Popen(
        [sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "begun\n"
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(child.pid, signal.SIGCONT)
        said, complaint = child.communicate(timeout=10)
    assert child.returncode == FencedError.exit_code
    assert "cleaned up" not in said and "session_timeout" in complaint
