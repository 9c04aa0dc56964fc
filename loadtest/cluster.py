"""Workers as real processes, kept running as a supervisor would: for the fault harness and for tests.

A worker that ends by itself is started again after ``RESTART_SECONDS``, as systemd or Kubernetes do; what it ended
with is kept. Nothing here waits for anything but the processes themselves. All of them die with their parent.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import aiohttp

from streams.broker.embedded import free_port, spawn

RESTART_SECONDS = 0.5
STOP_SECONDS = 12.0
"""A worker has 10 s to stop by itself."""


@dataclass(slots=True)
class Worker:
    """One ``tenfold worker`` process, started any number of times with the same settings file and log."""

    name: str
    config: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen | None = None
    port: int = 0
    starts: int = 0
    stopped: bool = False
    """Frozen by SIGSTOP."""
    cuts: list[float] = field(default_factory=list)
    """When it was killed or frozen, seconds since 1970."""

    def start(self, **environment: str) -> None:
        """``environment`` is added for this start only."""
        self.port = free_port()
        command = [sys.executable, "-m", "streams", "worker", "--config", str(self.config)]
        with self.log.open("a") as out:
            self.process = spawn(
                [*command, "--web-port", str(self.port)],
                stdout=out,
                stderr=out,
                env={**os.environ, **self.environment, **environment},
            )
        self.starts += 1

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal; does nothing if the process has ended."""
        if self.running:
            self.process.send_signal(number)
            if number in (signal.SIGKILL, signal.SIGSTOP):
                self.cuts.append(time.time())
        self.stopped = number == signal.SIGSTOP

    def entries(self) -> Iterator[dict]:
        """Lines of the log that are JSON objects; the log survives restarts."""
        if not self.log.exists():
            return
        for line in self.log.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                try:
                    yield json.loads(line)
                except ValueError:
                    continue  # cut off by a kill

    def owns(self) -> dict[str, list[int]]:
        """Partitions by topic, as last assigned."""
        assigned = [entry["partitions"] for entry in self.entries() if entry.get("event") == "partitions_assigned"]
        return assigned[-1] if assigned else {}

    def tail(self, lines: int = 25) -> str:
        return f"--- {self.log}\n" + "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Cluster:
    """Some workers and their supervisor; ``async with``."""

    def __init__(self, config: Path, folder: Path, *, static: bool = False) -> None:
        self.config, self.folder = config, folder
        self.static = static
        """Static membership: each worker has an instance id that it keeps through restarts."""
        self.workers: list[Worker] = []
        self.exits: list[tuple[str, int, float]] = []
        """(worker, return code, seconds since 1970) of every end nobody asked for through ``stop``."""
        self.broker_cuts: list[float] = []
        """For whoever disturbs the broker to fill."""
        self._exits_read = 0
        self._ends: list[float] = []
        self._wanted: set[str] = set()
        self._seen: dict[str, int] = {}
        self._task: asyncio.Task | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Cluster":
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(2))
        self._task = asyncio.create_task(self._supervise())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for worker in self.workers:
            if worker.running:
                worker.process.kill()
                worker.process.wait()
        await self._session.close()

    def add(self, **environment: str) -> Worker:
        """Start one more worker; ``environment`` counts for its first start only."""
        name = f"worker-{len(self.workers) + 1}"
        own = {"TENFOLD_TRANSPORT__INSTANCE_ID": name} if self.static else {}
        worker = Worker(name, self.config, self.folder / f"{name}.log", own)
        self.workers.append(worker)
        self._wanted.add(name)
        worker.start(**environment)
        return worker

    async def stop(self, worker: Worker) -> tuple[int, float]:
        """SIGTERM and no restart: (return code, seconds it took); SIGKILL after ``STOP_SECONDS``."""
        self._wanted.discard(worker.name)
        started = time.monotonic()
        worker.signal(signal.SIGTERM)
        while worker.running:
            if time.monotonic() - started > STOP_SECONDS:
                worker.process.kill()
            await asyncio.sleep(0.02)
        return worker.process.returncode, time.monotonic() - started

    def start(self, worker: Worker) -> None:
        """Start a worker again that was stopped."""
        self._wanted.add(worker.name)
        worker.start()

    async def stop_all(self) -> list[tuple[int, float]]:
        return await asyncio.gather(*(self.stop(worker) for worker in self.workers if worker.running))

    def cuts(self) -> list[float]:
        """When a worker, or the broker, was cut off in the middle of whatever it did: seconds since 1970."""
        if len(self.exits) != self._exits_read:
            # A worker whose outputs are refused, or who is fenced, ends a little later.
            self._exits_read = len(self.exits)
            self._ends = [
                datetime.fromisoformat(entry["timestamp"]).timestamp()
                for worker in self.workers
                for entry in worker.entries()
                if entry.get("event") in ("delivery_failed", "fenced")
            ]
        killed = [at for worker in self.workers for at in worker.cuts]
        return killed + self.broker_cuts + self._ends + [at for _, _, at in self.exits]

    async def ready(self) -> bool:
        """Every worker that should run does, and says so on /readyz."""
        wanted = [worker for worker in self.workers if worker.name in self._wanted]
        return all(await asyncio.gather(*(self._ready(worker) for worker in wanted)))

    async def _ready(self, worker: Worker) -> bool:
        if not worker.running or worker.stopped:
            return False
        try:
            async with self._session.get(f"http://127.0.0.1:{worker.port}/readyz") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def _supervise(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            for worker in self.workers:
                if worker.running or worker.name not in self._wanted or self._seen.get(worker.name) == worker.starts:
                    continue
                self._seen[worker.name] = worker.starts
                self.exits.append((worker.name, worker.process.returncode, time.time()))
                asyncio.get_running_loop().call_later(RESTART_SECONDS, self._restart, worker)

    def _restart(self, worker: Worker) -> None:
        if worker.name in self._wanted and not worker.running:
            worker.start()
