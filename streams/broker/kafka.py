"""A real Apache Kafka broker without Docker: one KRaft node on free loopback ports, for tests and development.

Maven fetches the jars once (44 MB) into a cache folder; Java 17 or newer runs them. Start takes some 4 s and 400 MB.
Data lies in a temporary folder that survives ``kill`` and ``restart`` and goes with ``stop``.
"""

import atexit
import base64
import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from streams.broker.embedded import end, free_port, spawn, wait_for_port
from streams.broker.maven import cache_folder, make_jars
from streams.errors import ConfigError, FatalError

_MIN_JAVA = 17
_START_SECONDS = 60.0


def missing_tools() -> str:
    """What this machine lacks to run the broker, as a sentence; "" if nothing."""
    java = shutil.which("java")
    if java is None:
        return f"Java {_MIN_JAVA} or newer is not installed"
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    if not found or int(found[1]) < _MIN_JAVA:
        return f"Java {_MIN_JAVA} or newer is needed, this one is {found[1] if found else 'unknown'}"
    if not _ready(jar_folder()) and shutil.which("mvn") is None:
        return "Maven (mvn) is not installed, which fetches the jars of Kafka"
    return ""


def jar_folder() -> Path:
    """Where the jars are kept: in TENFOLD_KAFKA_JARS, else per POM under the user's cache."""
    if configured := os.environ.get("TENFOLD_KAFKA_JARS"):
        return Path(configured)
    return cache_folder("kafka", [_pom()])


def fetch_jars() -> Path:
    """Folder with the jars, fetched if it is not there yet; raises ConfigError without Maven or network."""
    folder = jar_folder()
    if not _ready(folder):
        make_jars("Kafka", [_pom()], folder)
    return folder


def _pom() -> Traversable:
    return resources.files("streams.broker").joinpath("pom.xml")


def _ready(folder: Path) -> bool:
    return any(folder.glob("kafka_*.jar"))


class KafkaBroker:
    """One broker process; ``start`` and ``stop``, or ``with``. ``bootstrap`` stays the same through restarts."""

    def __init__(self, heap: str = "512m", parent: Path | None = None) -> None:
        """``parent``: where to make the temporary folder, by default where the system makes them."""
        self._heap = heap
        self._parent = parent
        self._folder: Path | None = None
        self._jars: Path | None = None
        self.process: subprocess.Popen | None = None
        self.port = 0

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> "KafkaBroker":
        """Return once the broker answers; raises ConfigError without Java or jars, FatalError if it does not start."""
        if lacking := missing_tools():
            raise ConfigError(f"{lacking}; install it, or use the embedded broker")
        self._jars = fetch_jars()
        self.port, controller_port = free_port(), free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="tenfold-kafka-", dir=self._parent))
        atexit.register(self.stop)
        template = resources.files("streams.broker").joinpath("server.properties").read_text()
        for name, value in (("port", self.port), ("controller_port", controller_port), ("data", self._folder / "data")):
            template = template.replace(f"{{{name}}}", str(value))
        (self._folder / "server.properties").write_text(template)
        (self._folder / "log4j2.properties").write_text(
            "rootLogger.level=warn\nrootLogger.appenderRef.out.ref=out\nappender.out.type=Console\nappender.out.name=out\n"
            "appender.out.layout.type=PatternLayout\nappender.out.layout.pattern=%d %p %c %m%n\n"
        )
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        try:
            # One argument with its value: an id may begin with a dash.
            done = subprocess.run(
                [
                    *self._java("128m"),
                    "kafka.tools.StorageTool",
                    "format",
                    f"--cluster-id={cluster}",
                    "-c",
                    self._properties,
                ],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise FatalError(f"Kafka's storage could not be formatted: {(done.stderr or done.stdout)[-1500:]}")
            self.launch()
        except BaseException:
            self.stop()
            raise
        return self

    def launch(self) -> None:
        """Start the process on the data that is there, after ``kill`` or ``shut_down``."""
        assert self._folder is not None
        with open(self._folder / "broker.log", "ab") as log:
            self.process = spawn(
                [*self._java(self._heap), "kafka.Kafka", self._properties], stdout=log, stderr=subprocess.STDOUT
            )
        try:
            wait_for_port(self.port, self.process, _START_SECONDS)
        except FatalError as error:
            said = (self._folder / "broker.log").read_text(errors="replace")[-2000:]
            raise FatalError(f"Kafka did not start: {error}. It said: {said or 'nothing'}") from error

    def kill(self) -> None:
        """SIGKILL: what a power cut does to the process; data stays."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def shut_down(self) -> None:
        """An orderly end of the process; data stays."""
        assert self.process is not None
        end(self.process, 30.0)

    def restart(self) -> None:
        """``shut_down`` and ``launch``."""
        self.shut_down()
        self.launch()

    def pause(self) -> None:
        """Freeze the process: connections stay open and nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after ``pause``."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the process and delete its data; may be called again."""
        atexit.unregister(self.stop)
        if self.process is not None:
            if self.process.poll() is None:
                self.resume()
                # Nothing of it is kept, so an orderly end would only cost time.
                self.process.kill()
            self.process.wait()
            self.process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> "KafkaBroker":
        return self if self.process else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _properties(self) -> str:
        assert self._folder is not None
        return str(self._folder / "server.properties")

    def _java(self, heap: str) -> list[str]:
        return [
            "java",
            f"-Xms{heap}",
            f"-Xmx{heap}",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            f"-Dlog4j2.configurationFile={self._folder}/log4j2.properties",
            "-cp",
            f"{self._jars}/*",
        ]


@contextlib.contextmanager
def kafka_broker() -> Iterator[str]:
    """Bootstrap address of a broker that lives as long as the ``with`` block."""
    with KafkaBroker() as broker:
        yield broker.bootstrap
