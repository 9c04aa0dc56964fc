"""The faults, one function each. They begin when the run tells them to and return when nothing is broken any more.

Some kinds need help from the run that hosts them: a broker of their own, or an environment for the first worker.
A worker that a fault ends is started again by the cluster's supervisor, as in production.
"""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from loadtest.cluster import Cluster, Worker
from loadtest.faults.destination import MODES, Destination
from loadtest.faults.disk import SmallDisk
from streams.broker.kafka import KafkaBroker
from streams.topics import Topics

SESSION_SECONDS = 6.0
"""Of the workers' group: a worker that is silent for longer has lost its partitions."""
CHECKPOINT_STEPS = ("taken", "block", "blocks", "marker", "done")
REFUSED_SECONDS = 5.0
DESTINATION_SECONDS = 5.0
CHECKPOINT_SECONDS = 15.0
CEILING_SECONDS = 60.0


@dataclass(slots=True)
class Stage:
    """What a fault may lay hands on."""

    rng: random.Random
    cluster: Cluster
    broker: KafkaBroker
    destination: Destination
    topics: Topics
    away_seconds: float
    """How long a broker that cannot be reached stays so."""
    disk: SmallDisk | None = None
    """Where the broker's data lies, if it can be filled up."""
    problems: list[str] = field(default_factory=list)
    """What went wrong besides results: a stop that took too long, a worker that did not come back."""

    def victim(self) -> Worker:
        """A worker; more often the one that merges windows or the one that sends alerts than chance would have it."""
        topic = self.rng.choice((self.topics.usage, self.topics.partials, self.topics.anomalies)).name
        running = [worker for worker in self.cluster.workers if worker.running]
        return self.rng.choice([worker for worker in running if topic in worker.owns()] or running)

    def cut_broker(self) -> None:
        """From now on a worker may not be able to note what it has just done."""
        self.cluster.broker_cuts.append(time.time())

    async def wait_ready(self) -> None:
        deadline = time.monotonic() + CEILING_SECONDS
        while not await self.cluster.ready():
            if time.monotonic() > deadline:
                self.problems.append(f"workers were not ready within {CEILING_SECONDS:.0f} s")
                return
            await asyncio.sleep(0.1)

    async def stop(self, worker: Worker) -> None:
        code, seconds = await self.cluster.stop(worker)
        if code != 0 or seconds > 10.0:
            self.problems.append(f"{worker.name} ended with code {code} {seconds:.1f} s after SIGTERM")


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of fault."""

    inject: Callable[[Stage], Awaitable[None]]
    first_worker: Callable[[random.Random], dict[str, str]] = lambda rng: {}
    """Environment of the first worker's first start."""
    small_disk: bool = False
    """Needs a broker whose data lies on a file system that can fill up."""


async def nothing(stage: Stage) -> None:
    """Only what the stream does: a clock that is an hour ahead, late, repeated and broken records."""


async def kill_worker(stage: Stage) -> None:
    """SIGKILL, now and then twice in short order."""
    for _ in range(stage.rng.choice((1, 1, 2))):
        stage.victim().signal(signal.SIGKILL)
        await asyncio.sleep(stage.rng.uniform(0.0, 3.0))


async def zombie(stage: Stage) -> None:
    """SIGSTOP for longer than the session timeout: its partitions have other owners when it wakes up."""
    worker = stage.victim()
    worker.signal(signal.SIGSTOP)
    await asyncio.sleep(SESSION_SECONDS + stage.rng.uniform(1.5, 5.0))
    worker.signal(signal.SIGCONT)
    # Long enough to do whatever harm it has in mind.
    await asyncio.sleep(2.0)


async def hiccup(stage: Stage) -> None:
    """SIGSTOP for less than the session timeout: it still owns what it has when it wakes up."""
    worker = stage.victim()
    worker.signal(signal.SIGSTOP)
    await asyncio.sleep(stage.rng.uniform(1.0, SESSION_SECONDS - 2.5))
    worker.signal(signal.SIGCONT)


async def rolling_restart(stage: Stage) -> None:
    for worker in list(stage.cluster.workers):
        await stage.stop(worker)
        stage.cluster.start(worker)
        await stage.wait_ready()


async def scale(stage: Stage) -> None:
    """One more worker, then one of the old ones goes."""
    old = stage.victim()
    stage.cluster.add()
    await stage.wait_ready()
    await asyncio.sleep(stage.rng.uniform(0.0, 1.0))
    await stage.stop(old)


async def broker_kill(stage: Stage) -> None:
    stage.cut_broker()
    stage.broker.kill()
    await asyncio.sleep(stage.rng.uniform(0.0, 2.0))
    await asyncio.to_thread(stage.broker.launch)


async def broker_away(stage: Stage) -> None:
    """Connections stay open and nothing answers, as behind a router that drops everything."""
    stage.cut_broker()
    stage.broker.pause()
    await asyncio.sleep(stage.away_seconds)
    stage.broker.resume()


async def changelog_refused(stage: Stage) -> None:
    """The broker takes no record of the state topics: too large, it says of each."""
    state = (stage.topics.usage_state.name, stage.topics.rollup_state.name)
    await _set_max_message_bytes(stage.broker.bootstrap, state, 1)
    await asyncio.sleep(REFUSED_SECONDS)
    await _set_max_message_bytes(stage.broker.bootstrap, state, 1_048_588)


async def _set_max_message_bytes(bootstrap: str, topics: tuple[str, ...], limit: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        for topic in topics:
            # Setting one replaces all of a topic's settings: the policy must be said again.
            configs = {"max.message.bytes": str(limit), "cleanup.policy": "compact"}
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])
    finally:
        await admin.close()


async def disk_full(stage: Stage) -> None:
    """The file system of the broker's data fills up, the broker ends, room is made and it is started again.

    On real Kafka: the embedded broker keeps everything in memory and has no disk to fill.
    """
    stage.cut_broker()
    stage.disk.fill()
    deadline = time.monotonic() + 20.0
    while stage.broker.process.poll() is None and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    # It took notes until now.
    stage.cut_broker()
    if stage.broker.process.poll() is None:
        stage.problems.append("the broker went on without disk space for 20 s")
        stage.broker.kill()
    stage.disk.free()
    await asyncio.to_thread(stage.broker.launch)


def destination(mode: str) -> Scenario:
    """The far side of alerts misbehaves for a while."""

    async def inject(stage: Stage) -> None:
        await stage.destination.set_mode(mode)
        await asyncio.sleep(DESTINATION_SECONDS)
        await stage.destination.set_mode("ok")

    return Scenario(inject)


def checkpoint(step: str) -> Scenario:
    """The first worker dies in one of its first checkpoints, at this step of it."""

    async def inject(stage: Stage) -> None:
        deadline = time.monotonic() + CHECKPOINT_SECONDS
        while not stage.cluster.exits:
            if time.monotonic() > deadline:
                stage.problems.append(f"no checkpoint came to step {step} often enough")
                return
            await asyncio.sleep(0.1)

    return Scenario(inject, lambda rng: {"TENFOLD_FAULT": f"checkpoint:{step}:{rng.randint(1, 5)}"})


SCENARIOS: dict[str, Scenario] = {
    "clock_ahead": Scenario(nothing),
    "kill_worker": Scenario(kill_worker),
    "zombie": Scenario(zombie),
    "hiccup": Scenario(hiccup),
    "rolling_restart": Scenario(rolling_restart),
    "scale": Scenario(scale),
    "broker_kill": Scenario(broker_kill),
    "broker_away": Scenario(broker_away),
    "changelog_refused": Scenario(changelog_refused),
    **{f"destination_{mode}": destination(mode) for mode in MODES},
    **{f"checkpoint_{step}": checkpoint(step) for step in CHECKPOINT_STEPS},
    "disk_full": Scenario(disk_full, small_disk=True),
}
SHORT = (
    "kill_worker",
    "zombie",
    "rolling_restart",
    "scale",
    "broker_kill",
    "broker_away",
    "changelog_refused",
    "destination_silent",
    "checkpoint_block",
    "checkpoint_marker",
)
"""The ten of the short form."""
