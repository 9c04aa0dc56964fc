import ast
import gzip
import json
from pathlib import Path

import loadtest.totals
from loadtest.totals import HOUR_MS, totals

NOON = 1_793_620_800_000


def event(number, **fields):
    return {"event_id": str(number), "source": "t", "event_time": NOON, "team": "a", "provider": "openai"} | fields


def test_rules(tmp_path):
    events = [
        event(1, model="gpt-4o", input_tokens=1000, output_tokens=10, session_id="s"),  # 2.5 and 10 $ per million
        event(1, model="gpt-4o", input_tokens=999_999),  # a repeat: the first one counts
        event(1, source="other", model="gpt-4o", input_tokens=1000, session_id="s"),  # not a repeat
        event(2, model="gpt-4o", input_tokens=1000, cost_nano_usd=7, team="b"),  # the reported cost wins
        event(3, model="gpt-4o", input_tokens=1000, cost_nano_usd=0),  # also when it is 0
        event(4, model="no-such-model", input_tokens=1000),
        event(5, kind="TOOL_CALL", model="gpt-4o", quantity=1),  # not what a token price is for
        event(6, model="gpt-4o", input_tokens=200, cache_read_tokens=800, event_time=NOON + HOUR_MS),  # 1.25 $ cached
    ]
    half = len(events) // 2
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events[:half]))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(e) + "\n" for e in events[half:]).encode()))
    result = totals([tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"])
    assert result["events"] == 7
    assert result["unpriced"] == 2
    assert result["reported"] == 2
    assert result["by_session"] == {"s": 2_600_000 + 2_500_000}
    assert result["by_team"] == {"a": 5_100_000 + 1_500_000, "b": 7}
    assert result["by_model"] == {"gpt-4o": 5_100_000 + 1_500_000 + 7, "no-such-model": 0}
    assert result["by_team_hour"] == {"a": {str(NOON): 5_100_000, str(NOON + HOUR_MS): 1_500_000}, "b": {str(NOON): 7}}
    assert result["cost_nano_usd"] == 6_600_007
    json.dumps(result)


def test_shares_no_code_with_the_engine():
    tree = ast.parse(Path(loadtest.totals.__file__).read_text())
    roots = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not roots & {"models", "streams", "schemas"}
