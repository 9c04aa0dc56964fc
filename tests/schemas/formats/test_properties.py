"""What holds for any input: nothing but events that encode or problems with a known reason, and sums that are kept."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import decode, encode
from schemas.columns import TOKENS
from schemas.formats import REASONS, adapt, adapt_value
from schemas.formats.fields import FormatError
from schemas.formats.usage import ANTHROPIC, GEMINI, OPENAI, OPENTELEMETRY, disjoint

SAMPLES = (
    {
        "id": "r",
        "litellm_call_id": "c",
        "call_type": "acompletion",
        "status": "success",
        "response_cost": 0.1,
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
        "endTime": 1.5,
        "request_tags": ["a:b"],
        "metadata": {"usage_object": {"prompt_tokens_details": {"cached_tokens": 1}}, "requester_metadata": {"a": 1}},
        "cost_breakdown": {"service_tier": "x"},
    },
    {
        "trace_id": "t",
        "span_id": "s",
        "end_time_unix_nano": "1795460402100000000",
        "status": {"code": 1},
        "resource": {"attributes": {"service.name": "x"}},
        "attributes": {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 1, "gen_ai.response.id": "r"},
    },
    {
        "resourceSpans": [
            {
                "resource": {"attributes": [{"key": "team", "value": {"stringValue": "t"}}]},
                "scopeSpans": [{"spans": [{"traceId": "t", "spanId": "s", "endTimeUnixNano": 5, "attributes": []}]}],
            }
        ]
    },
    *(
        {
            "specversion": "1.0",
            "id": "i",
            "source": "s",
            "time": "2026-11-23T19:00:00Z",
            "subject": "session/x",
            "data": {"model": "m", "usage": usage, "tags": {"a": "b"}},
        }
        for usage in (
            {"prompt_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 1}, "completion_tokens": 1},
            {
                "input_tokens": 1,
                "cache_read_input_tokens": 2,
                "cache_creation": {},
                "iterations": [{"type": "compaction"}],
            },
            {"inputTokens": 1, "cacheDetails": [{"ttl": "1h", "inputTokens": 1}], "cacheWriteInputTokens": 1},
            {"promptTokenCount": 1, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 1}]},
            {"input_tokens": 1, "reasoning_tokens": 2},
        )
    ),
    {"event_id": "e", "source": "s", "event_time": 5, "tags": {"a": "b"}},
)

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-3, 5)
    | st.floats()
    | st.text(st.characters(), max_size=5)
    | st.sampled_from(
        ["1", "-1", "1e999", "\ud800", "2026-11-23T19:00:00Z", "0001-01-01T00:00:00+14:00", "invoke_agent"]
    )
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(value: object, path: tuple = ()) -> list[tuple]:
    """The path of every member of a nested value."""
    items = value.items() if type(value) is dict else enumerate(value) if type(value) is list else ()
    return [found for key, inner in items for found in ((*path, key), *places(inner, (*path, key)))]


@st.composite
def spoilt(draw) -> object:
    """A sample with up to four of its members, at any depth, replaced or taken away."""
    payload = copy.deepcopy(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(1, 4))):
        if not (paths := places(payload)):
            break
        *parents, last = draw(st.sampled_from(paths))
        inner = payload
        for parent in parents:
            inner = inner[parent]
        if draw(st.booleans()):
            inner[last] = draw(JSON)
        else:
            del inner[last]
    return payload


def check(adapted, payload: object = None) -> None:
    # The ranges of canonical events are the decoder's judgement.
    canonical = type(payload) is dict and ("event_id" in payload or "event_time" in payload)
    for problem in adapted.problems:
        assert type(problem) is FormatError and problem.reason in REASONS and len(str(problem)) < 800
    for event in adapted.events:
        read = decode("usage_event", encode("usage_event", event))
        # By repr, since nan is not equal to itself.
        assert repr(sorted(read.items())) == repr(sorted(event.items()))
        assert canonical or min(event[name] for name in TOKENS) >= 0


@pytest.mark.parametrize("sample", SAMPLES)
def test_samples_are_fine_before_they_are_spoilt(sample):
    assert not adapt(sample).problems


@settings(max_examples=600, deadline=None)
@given(spoilt())
def test_spoilt_records_give_events_that_encode_or_a_known_reason(payload):
    check(adapt(payload), payload)
    assert repr(adapt(copy.deepcopy(payload))) == repr(adapt(payload)), "the same record gives the same events"


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_any_json(payload):
    check(adapt(payload))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40) | st.sampled_from([json.dumps(sample).encode() for sample in SAMPLES]), st.data())
def test_any_bytes(value, data):
    cut = data.draw(st.integers(0, len(value)))
    check(adapt_value(value))
    check(adapt_value(value[:cut]))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null_value"),
        (b"", "bad_json"),
        (b"\xff", "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (b"1" * 5_000, "bad_json"),
        (b'{"event_id": "1", "' + b"x" * 10**6 + b'": 1}', "bad_field"),
        (b'{"specversion": ' + b"[" * 900 + b"]" * 900 + b"}", "missing_identity"),
        (b'{"event_id": ' + b"[" * 900 + b"]" * 900 + b"}", "bad_field"),
    ],
)
def test_hostile_values(value, reason):
    (problem,) = adapt_value(value).problems
    assert problem.reason == reason and len(str(problem)) < 400


COUNTS = st.integers(0, 10**6)


@given(
    st.sampled_from([(OPENAI, 1), (ANTHROPIC, 0), (GEMINI, 1), (OPENTELEMETRY, 1)]),
    st.tuples(*[COUNTS] * 10),
    st.booleans(),
)
def test_buckets_come_back_as_they_were_reported_by_convention(source, counts, with_total):
    """Report known buckets by the usual convention of a source: the same buckets come back, and they add up."""
    conventions, _ = source
    buckets = dict(zip(TOKENS, counts, strict=True))
    with_cache, with_reasoning = conventions[0]
    cached = buckets["cache_read_tokens"] + buckets["cache_write_5m_tokens"] + buckets["cache_write_1h_tokens"]
    told = dict(
        input=buckets["input_tokens"]
        + buckets["input_audio_tokens"]
        + buckets["input_image_tokens"]
        + cached * with_cache,
        output=buckets["output_tokens"]
        + buckets["output_audio_tokens"]
        + buckets["output_image_tokens"]
        + buckets["reasoning_tokens"] * with_reasoning,
        cache_read=buckets["cache_read_tokens"],
        cache_write=buckets["cache_write_5m_tokens"] + buckets["cache_write_1h_tokens"],
        cache_write_1h=buckets["cache_write_1h_tokens"],
        reasoning=buckets["reasoning_tokens"],
        input_audio=buckets["input_audio_tokens"],
        input_image=buckets["input_image_tokens"],
        output_audio=buckets["output_audio_tokens"],
        output_image=buckets["output_image_tokens"],
        total=sum(counts) if with_total else None,
    )
    assert disjoint(conventions, **told) == buckets


@given(st.tuples(*[st.none() | st.integers(0, 50)] * 9))
def test_whatever_comes_out_adds_up_to_the_stated_total(counts):
    names = ("input", "output", "total", "cache_read", "cache_write", "cache_write_1h", "reasoning", "input_audio")
    told = dict(zip((*names, "output_image"), counts, strict=True))
    for conventions in (OPENAI, ANTHROPIC, GEMINI, OPENTELEMETRY):
        try:
            buckets = disjoint(conventions, **told)
        except FormatError as error:
            assert error.reason == "inconsistent_tokens"
        else:
            assert min(buckets.values()) >= 0
            assert told["total"] in (None, sum(buckets.values()))
            assert buckets["cache_read_tokens"] == (told["cache_read"] or 0)
            assert buckets["reasoning_tokens"] == (told["reasoning"] or 0)
