"""``tenfold demo`` ends whole, whatever ends it: no broker and no worker stays behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SECONDS = 150


def descendants(root: int) -> set[int]:
    """Living processes below ``root``; those waiting to be reaped do not count."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if state != "Z":
                parents[int(entry.name)] = int(parent)
    found, edge = set(), {root}
    while edge:
        edge = {pid for pid, parent in parents.items() if parent in edge} - found
        found |= edge
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.broker
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind(kit, tmp_path, number):
    command = [sys.executable, "-m", "streams", "demo", "--lines", "--keep-logs", str(tmp_path)]
    demo = subprocess.Popen(
        command, cwd=kit.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        said = []
        for line in demo.stdout:
            said.append(line)
            if "workers ready" in line:
                break
        else:
            pytest.fail("the demo ended before its workers were ready:\n" + "".join(said))
        family = descendants(demo.pid)
        assert len(family) >= 3, "a broker and two workers"
        demo.send_signal(number)
        said = demo.stdout.read()
        assert demo.wait(SECONDS) == (-number if number == signal.SIGKILL else 130), said
        deadline = time.monotonic() + 30
        while left := {pid for pid in family if alive(pid)}:
            assert time.monotonic() < deadline, f"still running: {left}"
            time.sleep(0.1)
    finally:
        for pid in {demo.pid, *descendants(demo.pid)}:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        demo.wait()
