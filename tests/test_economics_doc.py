"""docs/economics.md: its configurations run, and its examples are what they lead to."""

import json
import re
from pathlib import Path

import pytest

from loadtest.scenario import demo_events
from models.rollup import RollupEngine
from streams.config import Settings
from streams.files import merge_files
from streams.replay import Replay, chunks

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "economics.md").read_text()
FINDINGS = (ROOT / "docs" / "findings.md").read_text()
BLOCKS = re.findall(r"```toml\n(.*?)```", TEXT, re.S)
EXAMPLES = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", TEXT, re.S)]


@pytest.fixture(scope="module")
def replayed(tmp_path_factory) -> tuple[Replay, list[dict]]:
    file = tmp_path_factory.mktemp("doc") / "tenfold.toml"
    file.write_text(BLOCKS[0])
    findings = []
    replay = Replay(Settings.load(file).engine(), on_finding=findings.append)
    for chunk in chunks(merge_files([ROOT / "loadtest" / "data" / "servegen.jsonl.gz"])):
        replay.feed(chunk)
    replay.finish()
    return replay, findings


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_each_configuration_asks_for_something(tmp_path, number):
    (tmp_path / "tenfold.toml").write_text(BLOCKS[number])
    assert RollupEngine(Settings.load(tmp_path / "tenfold.toml").engine()).economics.active


def test_the_shares_shown_are_those_of_the_sample(replayed):
    replay, _ = replayed
    shown = EXAMPLES[0]
    row = dict(replay.shares[shown["what"], shown["day"]])
    # How often it was told depends on how the input is cut.
    assert row.pop("revision") > 1 and row == {name: value for name, value in shown.items() if name != "revision"}


def test_the_unit_cost_shown_is_that_of_the_demos_loans():
    shown = EXAMPLES[1]
    replay = Replay(Settings(unit_costs=[{"transaction_type": "loan", "target_usd": "7.20"}]).engine())
    events = (one for _, one in demo_events(1_795_608_000_000, run="demo") if one["transaction_type"])
    for chunk in chunks(sorted(events, key=lambda one: one["event_time"])):
        replay.feed(chunk)
    replay.finish()
    row = dict(replay.unit_costs["loan", shown["day"]])
    how = ("revision", "watermark")  # These two depend on how the input is cut.
    assert {name: row[name] for name in row if name not in how} == {
        name: shown[name] for name in shown if name not in how
    }


@pytest.mark.parametrize("detector", ["model_mix", "cheaper_model", "self_host"])
def test_the_sentences_shown_are_those_of_the_sample(replayed, detector):
    _, findings = replayed
    section = FINDINGS.split(f"## {detector}\n")[1].split("\n## ")[0]
    shown = " ".join(re.findall(r"^> (.*)$", section, re.M))
    assert shown in {finding["reason"] for finding in findings if finding["detector"] == detector}
