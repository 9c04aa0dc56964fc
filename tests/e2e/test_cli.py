"""The commands as a person runs them: what they say, and the exit code that a script goes by."""

import gzip
import json
import os
import subprocess
import sys
import uuid

import pytest

from schemas.codec import decode
from streams.config import Settings
from streams.follow import read_all
from streams.topics import partition_for

NOWHERE = "127.0.0.1:1"


@pytest.fixture
def tenfold(kit, tmp_path):
    """Run a command in an empty folder; its standard input is ``stdin``."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TENFOLD_")}
    environment |= {"PYTHONPATH": str(kit.ROOT), "COLUMNS": "200"}

    def run(*arguments: object, stdin: str = "", seconds: float = 60) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [sys.executable, "-m", "streams", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            cwd=tmp_path,
            env=environment,
            check=False,
        )
        assert "Traceback" not in done.stderr + done.stdout, done.stderr
        return done

    return run


@pytest.fixture
def config(embedded_broker, tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text(f'[broker]\nservers = ["{embedded_broker}"]\n[topics]\nprefix = "cli{uuid.uuid4().hex[:8]}."\n')
    return path


def event(number: int, **more) -> str:
    return json.dumps({"event_id": f"e{number}", "source": "cli", "event_time": 1_793_610_000_000 + number, **more})


@pytest.mark.parametrize("command", ["", "worker", "replay", "topics", "produce", "demo"])
def test_help(tenfold, command):
    done = tenfold(*command.split(), "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: tenfold {command}".strip())
    if not command:
        assert all(f"  {name} " in done.stdout for name in ("worker", "replay", "topics", "produce", "demo"))


def test_version(tenfold):
    done = tenfold("--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "tenfold,")


@pytest.mark.broker
def test_topics_are_missing_then_created_then_there(tenfold, config):
    topics = len(list(Settings.load(config).topic_names()))
    missing = tenfold("topics", "-c", config)
    assert missing.returncode == 1
    assert missing.stdout.count("missing") == topics and "--create" in missing.stderr
    created = tenfold("topics", "--create", "-c", config)
    assert created.returncode == 0 and created.stdout.count("created") == topics
    there = tenfold("topics", "-c", config)
    assert there.returncode == 0 and there.stdout.count("there") == topics
    config.write_text(config.read_text() + "partitions = 5\n")
    other = tenfold("topics", "-c", config)
    assert other.returncode == 2
    assert "usage has 8 partitions, 5 are needed" in other.stderr


@pytest.mark.broker
async def test_feedback_is_stored_with_who_said_it_and_why(tenfold, config):
    tenfold("topics", "--create", "-c", config)
    done = tenfold("feedback", "spend_rate-1", "planned", "--note", "migration", "--user", "ana", "-c", config)
    assert (done.returncode, done.stdout) == (0, "spend_rate-1: planned\n")
    settings = Settings.load(config)
    (record,) = await read_all(settings.connection().client_options(), settings.topic_names().feedback.name)
    feedback = decode("feedback", record.value)
    assert record.key == b"spend_rate-1/planned"
    assert (feedback["user"], feedback["source"], feedback["note"]) == ("ana", "cli", "migration")
    assert feedback["until_ms"] - feedback["at_ms"] == 24 * 3_600_000
    assert tenfold("feedback", "spend_rate-1", "perhaps", "-c", config).returncode == 2


async def test_produce_sends_good_lines_and_names_bad_ones(tenfold, config, tmp_path):
    assert tenfold("topics", "--create", "-c", config).returncode == 0
    good = [event(number, session_id=f"s{number % 7}", cost_nano_usd=number) for number in range(50)]
    lines = [*good[:20], "not json", event(90, input_token=3), "", event(91, input_tokens="many"), *good[20:]]
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(lines))
    done = tenfold("produce", file, "-c", config)
    assert done.returncode == 1
    assert "50 events sent, 3 lines skipped" in done.stdout
    assert [f"{file}:{number}" in done.stderr for number in (21, 22, 23, 24)] == [True, True, False, True]
    assert 'did you mean "input_tokens"?' in done.stderr
    piped = tenfold("produce", "-", "-c", config, "--rate", 1000, stdin=event(60, session_id="s1") + "\n")
    assert piped.returncode == 0 and "1 events sent, 0 lines skipped" in piped.stdout
    settings = Settings.load(config)
    records = await read_all(settings.connection().client_options(), settings.topic_names().usage.name)
    events = [decode("usage_event", record.value) for record in records]
    assert {e["event_id"] for e in events} == {json.loads(line)["event_id"] for line in good} | {"e60"}
    assert len(events) == 51
    for record, sent in zip(records, events, strict=True):
        assert record.key.decode() == sent["session_id"]
        assert record.partition == partition_for(record.key, 8)


@pytest.mark.parametrize(
    "arguments", [("topics",), ("topics", "--create"), ("produce", "events.jsonl"), ("worker", "--web-port", "0")]
)
def test_without_a_broker_try_again_later(tenfold, tmp_path, arguments):
    (tmp_path / "events.jsonl").write_text(event(1))
    done = tenfold(*arguments, "-s", NOWHERE)
    assert done.returncode == 75
    assert done.stderr.splitlines()[-1].startswith("tenfold: ") and NOWHERE in done.stderr.splitlines()[-1]


def test_bad_settings_are_all_named(tenfold, tmp_path):
    (tmp_path / "tenfold.toml").write_text(
        '[web]\nport = 99999\n[topics]\npartitons = 3\n[windows]\nlateness = "soon"\n'
    )
    done = tenfold("worker")
    assert done.returncode == 2
    assert all(key in done.stderr for key in ("web.port", "topics.partitons", "windows.lateness", "tenfold.toml"))
    assert "3 problems" in done.stderr


def test_a_port_in_use_is_named(tenfold, config, tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = tenfold("worker", "-c", config, "--web-port", taken.getsockname()[1], seconds=150)
    assert done.returncode == 2
    assert "web.port" in done.stderr and "in use" in done.stderr


@pytest.mark.parametrize("command", [("replay", "-o", "out"), ("produce", "-s", NOWHERE)])
@pytest.mark.parametrize(("name", "content", "says"), [
    ("missing.jsonl", None, "missing.jsonl"),
    ("folder.jsonl", "a folder", "folder.jsonl"),
    ("table.csv", b"a,b", "must end in .jsonl"),
])  # fmt: skip
def test_files_that_cannot_be_opened(tenfold, tmp_path, command, name, content, says):
    if content == "a folder":
        (tmp_path / name).mkdir()
    elif content is not None:
        (tmp_path / name).write_bytes(content)
    done = tenfold(*command, name)
    assert done.returncode == 2, "and the file is looked at before the broker"
    assert says in done.stderr and len(done.stderr.splitlines()) == 1


def test_replay(tenfold, tmp_path):
    lines = [event(number, team="a", cost_nano_usd=10**9) for number in range(5)]
    (tmp_path / "events.jsonl").write_text("\n".join([*lines, "broken"]))
    done = tenfold("replay", "events.jsonl", "--out", "result")
    assert done.returncode == 0
    assert "5 events, 0 duplicates, 1 rejected" in done.stdout and "$5.00" in done.stdout
    assert tenfold("replay", "events.jsonl", "--out", "result", "--strict").returncode == 1
    piped = tenfold("replay", "-", "--out", "piped", stdin="\n".join(lines))
    assert piped.returncode == 0 and "5 events" in piped.stdout
    assert json.loads((tmp_path / "piped" / "summary.json").read_text())["cost_nano_usd"] == 5 * 10**9


def test_replay_of_a_torn_file_says_where(tenfold, tmp_path):
    whole = gzip.compress("\n".join(event(number, team="a") for number in range(500)).encode())
    (tmp_path / "torn.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    done = tenfold("replay", "torn.jsonl.gz", "--out", "result")
    assert done.returncode == 65
    assert "torn.jsonl.gz: unreadable after line" in done.stderr and len(done.stderr.splitlines()) == 1


def test_replay_to_a_place_that_is_no_folder(tenfold, tmp_path):
    (tmp_path / "events.jsonl").write_text(event(1))
    (tmp_path / "file").write_text("")
    done = tenfold("replay", "events.jsonl", "--out", "file/out")
    assert done.returncode == 2
    assert "file" in done.stderr and len(done.stderr.splitlines()) == 1
