import re
from functools import cache
from pathlib import Path

import pytest

from loadtest.totals import totals
from schemas.codec import decode
from schemas.columns import MAX_COST_NANO_USD, MAX_TOKENS, TOKENS
from streams.files import encode_event, read_events

DATA = Path(__file__).parents[2] / "loadtest" / "data"
FILES = ("aider.jsonl.gz", "mooncake.jsonl.gz", "azure.jsonl.gz", "servegen.jsonl.gz")


def tables() -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """The numbers of the README's two tables by file."""
    found = ({}, {})
    for line in (DATA / "README.md").read_text().splitlines():
        if match := re.match(r"\| (\S+\.jsonl\.gz) \| (.*) \|$", line):
            numbers = [int(cell.replace(",", "")) for cell in match[2].split("|")]
            found[0 if len(numbers) == 5 else 1][match[1]] = numbers
    return found


@cache
def events(name: str) -> list[dict]:
    return list(read_events(DATA / name))


@pytest.mark.parametrize("name", FILES)
def test_every_event_is_valid_and_in_order(name):
    ids = set()
    newest = 0
    for event in events(name):
        assert decode("usage_event", encode_event(event)) == event
        assert all(0 <= event[column] <= MAX_TOKENS for column in TOKENS)
        assert 0 <= (event["cost_nano_usd"] or 0) <= MAX_COST_NANO_USD
        assert event["event_time"] >= newest
        newest = event["event_time"]
        ids.add((event["source"], event["event_id"]))
    assert len(ids) == len(events(name))


@pytest.mark.parametrize("name", FILES)
def test_the_readme_tells_the_truth(name):
    counts, priced = tables()
    rows = events(name)
    reported = [row["cost_nano_usd"] for row in rows if row["cost_nano_usd"] is not None]
    tokens = sum(row[column] for row in rows for column in TOKENS)
    sessions = {row["session_id"] for row in rows} - {""}
    assert counts[name] == [len(rows), len(sessions), tokens, len(reported), sum(reported)]

    oracle = totals([DATA / name])
    assert [oracle["events"], oracle["sessions"], oracle["tokens"], oracle["reported"]] == counts[name][:4]
    if oracle["prices"] == "genai-prices 0.2.3":
        assert priced[name] == [oracle["cost_nano_usd"], oracle["unpriced"]]


def test_the_incident_is_there():
    (incident,) = (event for event in events("aider.jsonl.gz") if (event["cost_nano_usd"] or 0) > 10**11)
    assert incident["event_time"] == 1_746_631_772_000
    assert incident["input_tokens"] + incident["output_tokens"] == 10_033
    assert incident["cost_nano_usd"] == 9_990_012_528_750


def test_small_and_licensed():
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 3_000_000
    assert "Apache License" in (DATA / "LICENSES/Apache-2.0.txt").read_text()
    assert "Splitwise" in (DATA / "LICENSES/CC-BY-4.0.txt").read_text()
