"""What was written goes, what was used stays."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.formats.texts import REMOVED, TEXTS, without_texts

SECRET = "my salary is"


def test_a_litellm_record_keeps_what_its_repair_needs():
    record = {
        "id": "c-1", "model": "gpt-5", "total_tokens": 17, "response_cost": 0.1, "metadata": {"team": "t"},
        "messages": [{"role": "user", "content": SECRET}],
        "response": {"id": "r", "model": "gpt-5", "usage": {"prompt_tokens": 10, "completion_tokens": 7},
                     "choices": [{"message": {"content": SECRET, "tool_calls": [{"arguments": SECRET}]}, "index": 0}]},
    }  # fmt: skip
    bare = without_texts(json.dumps(record).encode())
    assert SECRET.encode() not in bare
    kept = json.loads(bare)
    assert kept["response"]["usage"] == record["response"]["usage"] and kept["response"]["id"] == "r"
    assert {name: kept[name] for name in ("id", "model", "total_tokens", "response_cost", "metadata")} == {
        name: record[name] for name in ("id", "model", "total_tokens", "response_cost", "metadata")
    }


@pytest.mark.parametrize(
    "name", ["gen_ai.prompt.0.content", "gen_ai.input.messages", "output.value", "gen_ai.tool.call.arguments"]
)
def test_attributes_of_spans_lose_their_texts(name):
    tokens = {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "12"}}
    span = {"attributes": [{"key": name, "value": {"stringValue": SECRET}}, tokens]}
    kept = json.loads(without_texts(json.dumps({"resourceSpans": [{"spans": [span]}]}).encode()))
    assert kept["resourceSpans"][0]["spans"][0]["attributes"] == [
        {"key": name, "value": {"stringValue": REMOVED}}, tokens,
    ]  # fmt: skip
    assert SECRET.encode() not in without_texts(json.dumps({"attributes": {name: [SECRET]}}).encode())


@given(
    st.recursive(
        st.text(max_size=5) | st.integers() | st.none() | st.booleans(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["messages", "content", "usage", "key", "value", "id"]), inner, max_size=3
            )
        ),
        max_leaves=12,
    )
)
def test_its_shape_and_numbers_stay(value):
    def shape(node, hidden=False):
        if isinstance(node, dict):
            return {name: shape(one) for name, one in node.items()}
        return [shape(one) for one in node] if isinstance(node, list) else type(node) if isinstance(node, str) else node

    kept = json.loads(without_texts(json.dumps(value).encode()))
    assert shape(kept) == shape(value)


def test_what_is_no_json_cannot_be_told_apart():
    assert without_texts(b'{"messages": "my sal') is None
    assert without_texts(b"[" * 100_000) is None
    assert without_texts(b"\xff") is None
    assert TEXTS.fullmatch("usage") is None and TEXTS.fullmatch("prompt_tokens") is None
