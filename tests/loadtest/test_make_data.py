import gzip
import json

import polars as pl
import pytest

from loadtest.make_data import BURSTY_TENANTS, STEADY_TENANTS, main

AIDER = """\
time,launch_seq,main_model,edit_format,prompt_tokens,completion_tokens,cost,total_cost,session_by_total_cost
1746631772,1,gemini/gemini-2.5-pro-preview-03-25,diff-fenced,10023,10,9990.01252875,9990.01252875,7
1746631773,2,gemini/REDACTED,,5,5,0.0,9990.01252875,7
1746631774,3,gemini/gemini-2.5-pro-exp-03-25,ask,5,5,0.0,9990.01252875,7
1746631775,4,gpt-4o-mini,ask,5,5,0.0,9990.01252875,7
1746631776,5,o3,ask,5,5,1.55e-06,9990.01253030,7
"""


@pytest.fixture
def originals(tmp_path):
    folder = tmp_path / "originals"
    texts = {
        "aider-usage-events/message_send.csv.gz": AIDER,
        "mooncake/conversation_sessions.csv.gz": (
            "timestamp,input_length,output_length,n_blocks,session_derived,turn_derived\n0,10,0,1,0,1\n3000,20,2,1,0,2\n"
        ),
        "azure-llm-2023/AzureLLMInferenceTrace_code.csv.gz": (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n"
        ),
        "azure-llm-2023/AzureLLMInferenceTrace_conv.csv.gz": (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n"
        ),
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(gzip.compress(text.encode()))
    tenants = STEADY_TENANTS + BURSTY_TENANTS
    trace = [
        {"category": "language", "model": model, "chunk": chunk, "timestamp": second, "rate": rate}
        for model, chunk in tenants
        for second, rate in ((0, 0.5), (600, 0.0), (21_600, 0.015))
    ]
    tokens = [
        {
            "category": "language",
            "model": model,
            "chunk": chunk,
            "timestamp": 0,
            "input_tokens_mean": 2.5,
            "output_tokens_mean": 1.0,
        }
        for model, chunk in tenants
    ]
    (folder / "servegen-tenants").mkdir()
    pl.DataFrame(trace).with_columns(pl.col("rate").cast(pl.Float32)).write_parquet(
        folder / "servegen-tenants/trace.parquet"
    )
    pl.DataFrame(tokens).write_parquet(folder / "servegen-tenants/tokens_6h.parquet")
    return folder


def read(path):
    return [json.loads(line) for line in gzip.open(path)]


def test_the_same_originals_give_the_same_bytes(originals, tmp_path):
    for run in ("one", "two"):
        main([str(originals), "--out", str(tmp_path / run)])
    for name in ("aider", "mooncake", "azure", "servegen"):
        one, two = (tmp_path / run / f"{name}.jsonl.gz" for run in ("one", "two"))
        assert one.read_bytes() == two.read_bytes() and read(one)


def test_costs_are_exact_and_an_unknown_price_is_not_zero(originals, tmp_path):
    main([str(originals), "--out", str(tmp_path), "--only", "aider"])
    events = read(tmp_path / "aider.jsonl.gz")
    assert [event.get("cost_nano_usd") for event in events] == [9_990_012_528_750, None, 0, None, 1550]
    assert events[0] == {
        "event_id": "aider-00001",
        "source": "aider",
        "event_time": 1_746_631_772_000,
        "session_id": "aider-00007",
        "team": "coding",
        "agent": "diff-fenced",
        "use_case": "code-editing",
        "provider": "google",
        "model": "gemini/gemini-2.5-pro-preview-03-25",
        "input_tokens": 10_023,
        "output_tokens": 10,
        "cost_nano_usd": 9_990_012_528_750,
    }


def test_times_and_windows(originals, tmp_path):
    main([str(originals), "--out", str(tmp_path)])
    azure = read(tmp_path / "azure.jsonl.gz")
    assert [(event["event_time"], event["team"]) for event in azure] == [
        (1_700_158_546_680, "support"),
        (1_700_158_623_979, "copilot"),
    ]
    assert not any("session_id" in event for event in azure)
    first, second = read(tmp_path / "mooncake.jsonl.gz")
    assert second["event_time"] - first["event_time"] == 3000
    assert first["session_id"] == second["session_id"] and "output_tokens" not in first
    windows = [event for event in read(tmp_path / "servegen.jsonl.gz") if event["team"] == "tenant-1"]
    assert [(w["event_time"] % 86_400_000, w["tags"]["requests"], w["input_tokens"]) for w in windows] == [
        (0, "300", 750),
        (21_600_000, "9", 22),  # 22.5, ties to even
    ]
