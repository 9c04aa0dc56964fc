"""Without its broker a worker goes on later or ends with the reason; it never hangs in silence and loses nothing."""

import asyncio
import time

import pytest

from streams.broker.embedded import EmbeddedBroker
from streams.broker.kafka import KafkaBroker

RESTART = (70, 75)
"""Exit codes after which a supervisor starts a worker again."""
SESSION_TIMEOUT, OUTAGE_SECONDS = "6s", 8
"""An outage longer than the session timeout, so that workers have to give their partitions up."""


class Supervisor:
    """Starts workers again that ended, as systemd or Kubernetes would."""

    def __init__(self, deployment):
        self.deployment = deployment
        self.codes: list[int] = []
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            for worker in self.deployment.workers:
                if not worker.running:
                    code = worker.process.returncode
                    self.codes.append(code)
                    said = worker.tail(1).splitlines()[-1]
                    assert code in RESTART and said.startswith("tenfold: "), f"ended with {code}\n{worker.tail()}"
                    await asyncio.sleep(3)
                    worker.start()
            await asyncio.sleep(0.1)

    async def all_ready(self) -> None:
        """Like the deployment's, but workers may end meanwhile."""
        deadline = time.monotonic() + 90
        while not all([await worker.ready() for worker in self.deployment.workers]):
            if self._task.done():
                self._task.result()
            assert time.monotonic() < deadline, "\n\n".join(worker.tail() for worker in self.deployment.workers)
            await asyncio.sleep(0.2)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()


@pytest.mark.kafka
async def test_a_broker_that_is_away_costs_nothing(kafka_node: KafkaBroker, kit, tmp_path):
    events, end_ms = kit.sample(1_000, 6_000)
    third = len(events) // 3
    async with kit.Deployment(kafka_node.bootstrap, tmp_path, session_timeout=SESSION_TIMEOUT) as deployment:
        await deployment.start(2)
        supervisor = Supervisor(deployment)
        # Each time while partials, checkpoints and commits are on their way.
        await deployment.send(events[:third])
        kafka_node.kill()
        await asyncio.sleep(OUTAGE_SECONDS)
        await asyncio.to_thread(kafka_node.launch)
        await supervisor.all_ready()
        await deployment.send(events[third : 2 * third])
        kafka_node.pause()
        try:
            await asyncio.sleep(OUTAGE_SECONDS)
        finally:
            kafka_node.resume()
        await deployment.send(events[2 * third :])
        sentinels = await deployment.send_sentinels(end_ms + kit.SESSIONS_END_MS)
        await supervisor.all_ready()
        await supervisor.stop()
        await deployment.settled()
        windows, runs, _ = deployment.expected([*events, *sentinels])
        assert await deployment.windows() == windows
        assert await deployment.runs() == runs


@pytest.mark.broker
async def test_a_broker_that_is_gone_ends_the_worker_with_the_reason(kit, tmp_path):
    with EmbeddedBroker() as broker:
        async with kit.Deployment(broker.bootstrap, tmp_path, session_timeout=SESSION_TIMEOUT) as deployment:
            await deployment.start(1)
            await deployment.send(kit.sample(100, 500)[0])
            await deployment.usage_committed()
            (worker,) = deployment.workers
            broker.stop()
            assert await worker.exit_code(30) in RESTART
            assert worker.tail(1).splitlines()[-1].startswith("tenfold: "), worker.tail()
