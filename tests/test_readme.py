"""What the README and the docs show works as shown: code runs, commands parse, settings load, links lead somewhere."""

import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest

from models.explain import FACTORS
from schemas.codec import encode
from schemas.columns import OK
from schemas.decode import Decoder
from schemas.formats.canonical import event_from_json
from streams.broker.embedded import EmbeddedBroker
from streams.cli import cli
from streams.config import Settings
from streams.errors import ConfigError
from streams.follow import read_all
from streams.producer import Producer
from streams.topics import ensure_topics, topics
from streams.transport.settings import Connection

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text()
STEP_SECONDS = 60


@pytest.fixture(scope="module")
def own_broker() -> Iterator[str]:
    """A broker of its own: what is shown uses the topics' default names."""
    try:
        broker = EmbeddedBroker().start()
    except ConfigError as error:
        pytest.skip(str(error))
    with broker:
        yield broker.bootstrap


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Every ``tenfold ...`` of the code blocks and of inline code, one by one."""
    found = []
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        lines = [line for block in blocks("sh", text) for line in block.splitlines()]
        lines += re.findall(r"`(tenfold [^`]*)`", text) + re.findall(r"^    (tenfold .*)$", text, flags=re.MULTILINE)
        for line in lines:
            found += [part.strip() for part in re.split(r"\||#.*$", line) if part.strip().startswith("tenfold ")]
    return sorted(set(found))


@pytest.mark.parametrize("command", commands())
def test_a_command_parses(command: str) -> None:
    name, *arguments = shlex.split(command)[1:]
    if name == "...":
        return
    found = cli.get_command(click.Context(cli), name)
    assert found is not None, f"there is no command {name}"
    while isinstance(found, click.Group) and arguments and not arguments[0].startswith("-"):
        name = arguments.pop(0)
        found = found.get_command(click.Context(found), name)
        assert found is not None, f"there is no command {name}"
    options = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
    used = {argument.split("=")[0] for argument in arguments if argument.startswith("-") and argument != "-"}
    assert used <= options | {"--help"}


def test_commands_are_found() -> None:
    names = {command.split()[1] for command in commands()}
    assert {"worker", "topics", "produce", "replay", "demo"} <= names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)\)", page.read_text())
    local = [link for link in links if not link.startswith(("http://", "https://"))]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_make_targets_exist() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    wanted = set(re.findall(r"^make ([a-z]+)", README, flags=re.MULTILINE))
    assert wanted == {"demo", "test", "bench"}
    assert wanted <= set(targets)


@pytest.mark.parametrize("block", blocks("toml"))
def test_settings_load(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/T/B/X")
    monkeypatch.setenv("PAGERDUTY_ROUTING_KEY", "0123456789abcdef0123456789abcdef")
    file = tmp_path / "tenfold.toml"
    file.write_text(block)
    settings = Settings.load(file)
    assert [budget.team for budget in settings.budgets] == ["payments"]
    assert [receiver.type for receiver in settings.receivers] == ["slack", "pagerduty"]
    assert settings.engine().prices[0].unit_nano_usd == 750_000_000


def test_events_of_the_docs_are_events() -> None:
    found = [json.loads(block) for block in blocks("json", (ROOT / "docs" / "events.md").read_text())]
    assert [event["kind"] for event in found] == ["LLM", "TOOL_CALL", "HUMAN_REVIEW"]
    for event in found:
        assert encode("usage_event", event_from_json(event))


def test_the_finding_of_the_docs_is_one() -> None:
    (block,) = blocks("json", (ROOT / "docs" / "findings.md").read_text())
    finding = json.loads(block)
    assert encode("finding", finding)
    totals: Counter = Counter()
    for part in finding["cause"]:
        totals["factors" if part["dimension"] in FACTORS else part["dimension"]] += part["excess_nano_usd"]
    assert set(totals) >= {"factors", "kind"}
    assert set(totals.values()) == {finding["excess_nano_usd"]}
    assert finding["observed_nano_usd"] - finding["expected_nano_usd"] == finding["excess_nano_usd"]


def python_block(number: int, bootstrap: str) -> str:
    code = blocks("python")[number]
    assert code.count("localhost:9092") == 1
    return code.replace("localhost:9092", bootstrap)


@pytest.mark.broker
async def test_the_event_from_python_counts(own_broker: str) -> None:
    connection = Connection(servers=(own_broker,))
    await ensure_topics(connection, topics())
    subprocess.run([sys.executable, "-c", python_block(0, own_broker)], cwd=ROOT, check=True, timeout=STEP_SECONDS)
    records = await read_all(connection.client_options(), "tenfold.usage")
    (record,) = [record for record in records if record.key == b"run-2"]
    payload = np.frombuffer(bytearray(record.value), np.uint8)
    start, end, offset = (np.array([at], np.int64) for at in (0, len(payload), record.offset))
    columns = Decoder(1).decode(payload, start, end, offset)
    assert columns.status.tolist() == [OK]
    assert [columns.text(0, name) for name in ("source", "team", "session_id", "model")] == [
        "my-service",
        "payments",
        "run-2",
        "gpt-4o",
    ]
    assert columns.tokens[0].sum() == 1500


@pytest.mark.broker
def test_the_event_from_the_shell_counts(own_broker: str) -> None:
    (block,) = [block for block in blocks("sh") if block.startswith("echo")]
    command = block.split("curl")[0].replace("localhost:9092", own_broker)
    command = command.replace("tenfold produce", f"{shlex.quote(sys.executable)} -m streams produce")
    done = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, check=True, timeout=STEP_SECONDS, capture_output=True, text=True
    )
    assert done.stdout.strip() == "1 events sent, 0 lines skipped"


@pytest.mark.broker
async def test_findings_are_read_from_python(own_broker: str) -> None:
    connection = Connection(servers=(own_broker,))
    await ensure_topics(connection, topics())
    (block,) = blocks("json", (ROOT / "docs" / "findings.md").read_text())
    finding = json.loads(block)
    async with Producer(connection) as producer:
        await producer.send("tenfold.anomalies", finding["id"].encode(), encode("finding", finding))
        await producer.flush()
    reader = subprocess.Popen(
        [sys.executable, "-c", python_block(1, own_broker)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert reader.stdout.readline() == f"critical updated {finding['reason']}\n"
    finally:
        reader.kill()
        reader.wait()
