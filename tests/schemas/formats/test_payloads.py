"""Payloads as their producers write them against events worked out by hand."""

import copy

import pytest

from schemas.codec import decode, encode
from schemas.columns import TOKENS
from schemas.formats import adapt
from schemas.formats.canonical import event_from_json

LITELLM = {
    "id": "chatcmpl-1",
    "litellm_call_id": "c-1",
    "trace_id": "t-1",
    "session_id": "s-77",
    "call_type": "acompletion",
    "status": "success",
    "response_cost": 0.0031,
    "cost_finalized": True,
    "custom_llm_provider": "openai",
    "model": "gpt-5.4",
    "prompt_tokens": 1200,
    "completion_tokens": 80,
    "total_tokens": 1280,
    "startTime": 1795460400.0,
    "endTime": 1795460402.1,
    "cache_hit": False,
    "request_tags": ["feature:kyc"],
    "end_user": "u-9",
    "messages": [{"role": "user", "content": "SECRET"}],
    "response": {"choices": [{"message": {"content": "SECRET"}}]},
    "metadata": {
        "user_api_key_team_id": "payments",
        "user_api_key_hash": "ab",
        "usage_object": {"prompt_tokens_details": {"cached_tokens": 800}},
    },
}
LITELLM_EVENT = {
    "event_id": "c-1/chatcmpl-1",
    "source": "litellm",
    "event_time": 1795460402100,
    "session_id": "s-77",
    "team": "payments",
    "use_case": "kyc",
    "user": "u-9",
    "provider": "openai",
    "model": "gpt-5.4",
    "input_tokens": 400,
    "cache_read_tokens": 800,
    "output_tokens": 80,
    "cost_nano_usd": 3_100_000,
    "response_id": "chatcmpl-1",
    "tags": {"feature": "kyc"},
}
SPAN = {
    "trace_id": "4bf92f",
    "span_id": "00f067",
    "parent_span_id": "a1",
    "name": "chat gpt-5.4",
    "start_time_unix_nano": "1795460400000000000",
    "end_time_unix_nano": "1795460402100000000",
    "attributes": {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5.4",
        "gen_ai.response.model": "gpt-5.4-2026-03-05",
        "gen_ai.response.id": "resp_1",
        "gen_ai.conversation.id": "s-77",
        "gen_ai.agent.name": "loan-agent",
        "gen_ai.usage.input_tokens": 1200,
        "gen_ai.usage.cache_read.input_tokens": 800,
        "gen_ai.usage.output_tokens": 80,
        "gen_ai.usage.reasoning.output_tokens": 32,
        "openai.response.service_tier": "default",
    },
}
SPAN_EVENT = {
    "event_id": "4bf92f/resp_1/80",
    "source": "otel",
    "event_time": 1795460402100,
    "session_id": "s-77",
    "agent": "loan-agent",
    "provider": "openai",
    "model": "gpt-5.4-2026-03-05",
    "service_tier": "default",
    "input_tokens": 400,
    "cache_read_tokens": 800,
    "output_tokens": 48,
    "reasoning_tokens": 32,
    "response_id": "resp_1",
}
CLOUD = {
    "specversion": "1.0",
    "id": "9f1c",
    "source": "/gateway/eu-1",
    "type": "ai.usage.llm.v1",
    "time": "2026-11-23T19:00:00.001Z",
    "subject": "session/s-77",
    "datacontenttype": "application/json",
    "data": {"model": "gpt-5.4", "provider": "openai", "usage": {"input_tokens": 1200, "output_tokens": 80}},
}
CLOUD_EVENT = {
    "event_id": "9f1c",
    "source": "/gateway/eu-1",
    "event_time": 1795460400001,
    "session_id": "s-77",
    "provider": "openai",
    "model": "gpt-5.4",
    "input_tokens": 1200,
    "output_tokens": 80,
}


def changed(payload: dict, **changes) -> dict:
    """A copy with fields set; ``a__b`` is a field of a nested object, and None takes the field away."""
    payload = copy.deepcopy(payload)
    for path, value in changes.items():
        *parents, name = path.split("__")
        inner = payload
        for parent in parents:
            inner = inner.setdefault(parent, {})
        if value is None:
            inner.pop(name, None)
        else:
            inner[name] = value
    return payload


def span(operation: str | None = "chat", **attributes) -> dict:
    """The span without its response id; attributes under ``gen_ai.`` (``__`` is a dot) are set or taken away."""
    payload = changed(SPAN)
    own = payload["attributes"] | {"gen_ai.operation.name": operation, "gen_ai.response.id": None}
    own |= {f"gen_ai.{name.replace('__', '.')}": value for name, value in attributes.items()}
    payload["attributes"] = {name: value for name, value in own.items() if value is not None}
    return payload


def events_of(payload: object) -> list[dict]:
    adapted = adapt(payload)
    assert not adapted.problems, [str(problem) for problem in adapted.problems]
    return adapted.events


def only(payload: object) -> dict:
    (event,) = events_of(payload)
    assert decode("usage_event", encode("usage_event", event)) == event
    return event


def reason(payload: object) -> str:
    adapted = adapt(payload)
    assert not adapted.events
    (problem,) = adapted.problems
    assert len(str(problem)) < 600
    return problem.reason


def used(event: dict) -> dict:
    return {name: event[name] for name in TOKENS if event[name]}


@pytest.mark.parametrize(
    ("payload", "event"),
    [(LITELLM, LITELLM_EVENT), (SPAN, SPAN_EVENT), (CLOUD, CLOUD_EVENT), (LITELLM_EVENT, LITELLM_EVENT)],
    ids=["litellm", "otel", "cloudevents", "canonical"],
)
def test_samples(payload, event):
    before = copy.deepcopy(payload)
    assert only(payload) == event_from_json(event)
    assert payload == before, "the payload was modified"


# LiteLLM


@pytest.mark.parametrize(
    ("changes", "cost"),
    [
        ({"response_cost": 1e-9}, 1),
        ({"response_cost": 1.5e-9}, 2),
        ({"response_cost": 2.5e-9}, 2),
        ({"response_cost": "0.25"}, 250_000_000),
        ({"response_cost": None}, None),
        ({"response_cost": 0.0}, 0),
        ({"response_cost": 0.0, "zero_cost_diagnostic": {"reason": "missing_pricing_key"}}, None),
        ({"response_cost": 0, "response_cost_failure_debug_info": {"error_str": "no price"}}, None),
        ({"response_cost": 0.0, "status": "failure"}, None),
        ({"response_cost": 0.002, "status": "failure"}, 2_000_000),
        ({"response_cost": 0.002, "cost_finalized": False}, None),
        ({"response_cost": 0.002, "zero_cost_diagnostic": {"reason": "pricing_not_applied"}}, 2_000_000),
    ],
)
def test_litellm_cost(changes, cost):
    event = only(changed(LITELLM, **changes))
    assert event["cost_nano_usd"] == cost
    assert used(event) == {"input_tokens": 400, "cache_read_tokens": 800, "output_tokens": 80}


def test_litellm_cache_hit_costs_and_uses_nothing():
    event = only(changed(LITELLM, cache_hit=True))
    assert event["cost_nano_usd"] == 0 and not used(event) and event["tags"]["cache_hit"] == "true"


def test_litellm_failure_without_usage_is_no_event_and_success_without_usage_is_one():
    nothing = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "metadata__usage_object": None}
    assert events_of(changed(LITELLM, status="failure", response_cost=0, **nothing)) == []
    event = only(changed(LITELLM, response_cost=None, **nothing))
    assert not used(event) and event["cost_nano_usd"] is None


def test_litellm_attempts_of_one_call_are_different_events():
    first, second = only(LITELLM), only(changed(LITELLM, id="chatcmpl-2"))
    assert first["event_id"] != second["event_id"]
    assert only(changed(LITELLM, id=None))["event_id"] == "c-1"


def test_litellm_attribution():
    event = only(
        changed(
            LITELLM,
            session_id=None,
            end_user=None,
            request_tags=["feature:kyc", "env: prod", "nightly", 5],
            metadata__user_api_key_team_alias="Payments",
            metadata__user_api_key_user_id="alice",
            metadata__user_api_key_user_email="alice@example.com",
            metadata__requester_metadata={"agent": "loan-agent", "feature": "overruled by the tag", "list": []},
        )
    )
    assert (event["session_id"], event["team"], event["user"]) == ("t-1", "Payments", "alice")
    assert (event["agent"], event["use_case"], event["environment"]) == ("loan-agent", "kyc", "prod")
    assert event["tags"] == {"feature": "kyc", "env": "prod", "nightly": "true", "team_id": "payments"}
    assert "SECRET" not in str(event) and "example.com" not in str(event)


def test_litellm_of_anthropic_keeps_cache_lifetimes_apart():
    usage = {
        "prompt_tokens_details": {
            "cached_tokens": 700,
            "cache_creation_tokens": 300,
            "cache_creation_token_details": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
        },
        "cache_read_input_tokens": 700,
        "cache_creation_input_tokens": 300,
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    assert used(only(changed(LITELLM, metadata__usage_object=usage))) == {
        "input_tokens": 200,
        "cache_read_tokens": 700,
        "cache_write_5m_tokens": 100,
        "cache_write_1h_tokens": 200,
        "output_tokens": 50,
        "reasoning_tokens": 30,
    }


@pytest.mark.parametrize(
    ("call_type", "kind"),
    [("aembedding", "EMBEDDING"), ("arerank", "RERANK"), ("atranscription", "AUDIO"), ("anthropic_messages", "LLM")],
)
def test_litellm_kinds(call_type, kind):
    assert only(changed(LITELLM, call_type=call_type))["kind"] == kind


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"total_tokens": 1281}, "inconsistent_tokens"),
        ({"metadata__usage_object": {"prompt_tokens_details": {"cached_tokens": 1201}}}, "inconsistent_tokens"),
        ({"prompt_tokens": -1}, "bad_field"),
        ({"prompt_tokens": "many"}, "bad_field"),
        ({"response_cost": 1e300}, "bad_field"),
        ({"response_cost": 10**400}, "bad_field"),
        ({"response_cost": "1e999"}, "bad_field"),
        ({"response_cost": float("nan")}, "bad_field"),
        ({"metadata": "text"}, "bad_field"),
        ({"model": "\ud800"}, "bad_field"),
        ({"id": None, "litellm_call_id": ""}, "missing_identity"),
        ({"endTime": None, "startTime": None}, "bad_event_time"),
        ({"endTime": float("nan"), "startTime": float("inf")}, "bad_event_time"),
        ({"endTime": "2026-11-23 19:00:00"}, "bad_field"),
    ],
)
def test_litellm_refused(changes, expected):
    assert reason(changed(LITELLM, **changes)) == expected


# OpenTelemetry


@pytest.mark.parametrize("operation", ["invoke_agent", "invoke_workflow", "create_agent", "plan", "AGENT", "CHAIN"])
def test_spans_around_others_are_not_counted(operation):
    assert events_of(span(operation)) == []


@pytest.mark.parametrize(
    ("payload", "count"),
    [
        (span("flow_step"), None),
        (span(None), 1),
        ({"trace_id": "t", "span_id": "s", "attributes": {"http.request.method": "GET"}}, 0),
        (span("flow_step", **dict.fromkeys(name[7:].replace(".", "__") for name in SPAN["attributes"])), 0),
    ],
    ids=["tokens of an unknown operation", "tokens without an operation", "http", "unknown operation without tokens"],
)
def test_spans_of_unknown_operations(payload, count):
    if count is None:
        assert reason(payload) == "unknown_operation"
    else:
        assert len(events_of(payload)) == count


def test_mirrors_of_one_response_share_their_identity():
    inner = only(SPAN)
    outer = only(changed(SPAN, span_id="ffff", end_time_unix_nano="1795460402200000000"))
    other = only(changed(SPAN, trace_id="4bf930"))
    assert inner["event_id"] == outer["event_id"] != other["event_id"]
    assert only(span())["event_id"] == "4bf92f/00f067"


NO_CACHE = {"usage__cache_read__input_tokens": None, "usage__reasoning__output_tokens": None}


@pytest.mark.parametrize(
    ("attributes", "tokens"),
    [
        (
            {"usage__input_tokens": 4, "usage__reasoning__output_tokens": None},
            {"input_tokens": 4, "cache_read_tokens": 800, "output_tokens": 80},
        ),
        (
            {"usage__total_tokens": 2112},
            {"input_tokens": 1200, "cache_read_tokens": 800, "output_tokens": 80, "reasoning_tokens": 32},
        ),
        (
            {"usage__reasoning__output_tokens": 200},
            {"input_tokens": 400, "cache_read_tokens": 800, "output_tokens": 80, "reasoning_tokens": 200},
        ),
        (
            {
                "usage__input_tokens": None,
                "usage__output_tokens": None,
                "usage__prompt_tokens": "12",
                "usage__completion_tokens": 3.0,
                **NO_CACHE,
                "usage__cache_creation_input_tokens": 2,
            },
            {"input_tokens": 10, "cache_write_5m_tokens": 2, "output_tokens": 3},
        ),
        (
            {**NO_CACHE, "usage__input_tokens__cached": 200, "usage__input_tokens__cache_write": 100},
            {"input_tokens": 900, "cache_read_tokens": 200, "cache_write_5m_tokens": 100, "output_tokens": 80},
        ),
    ],
    ids=["input without cache", "all apart, by the total", "output without reasoning", "deprecated", "sentry"],
)
def test_token_conventions_of_emitters(attributes, tokens):
    assert used(only(span(**attributes))) == tokens


def test_openinference():
    payload = changed(SPAN, attributes=None) | {
        "attributes": {
            "openinference.span.kind": "LLM",
            "llm.model_name": "claude-sonnet-4-5",
            "llm.provider": "anthropic",
            "session.id": "s-1",
            "user.id": "u",
            "llm.token_count.prompt": 1000,
            "llm.token_count.completion": 50,
            "llm.token_count.total": 1050,
            "llm.token_count.prompt_details.cache_read": 600,
            "llm.cost.total": 0.5,
        }
    }
    event = only(payload)
    assert (event["session_id"], event["model"], event["provider"], event["user"]) == (
        "s-1",
        "claude-sonnet-4-5",
        "anthropic",
        "u",
    )
    assert used(event) == {"input_tokens": 400, "cache_read_tokens": 600, "output_tokens": 50}
    assert event["cost_nano_usd"] is None, "a cost that the SDK worked out is no report"


@pytest.mark.parametrize(
    ("source", "currency", "cost"), [("provider", "USD", 2_000_000), ("local", "USD", None), ("provider", "EUR", None)]
)
def test_only_the_providers_dollars_are_a_reported_cost(source, currency, cost):
    payload = span(usage__cost__amount=0.002, usage__cost__currency=currency, usage__cost__source=source)
    assert only(payload)["cost_nano_usd"] == cost


def test_tool_and_retrieval_spans_count_calls():
    nothing = {"usage__input_tokens": None, "usage__output_tokens": None, **NO_CACHE}
    tool = only(span("execute_tool", tool__name="credit-report", **nothing))
    assert (tool["kind"], tool["model"], tool["quantity"], tool["unit"]) == ("TOOL_CALL", "credit-report", 1.0, "call")
    retrieval = only(span("retrieval", data_source__id="policies", **nothing))
    assert (retrieval["kind"], retrieval["model"], retrieval["quantity"]) == ("VECTOR_QUERY", "policies", 1.0)
    assert not used(tool) and not used(retrieval)


def test_failed_spans_count_only_what_they_used():
    nothing = {"usage__input_tokens": None, "usage__output_tokens": None, **NO_CACHE}
    for status in ({"code": 2}, {"code": "STATUS_CODE_ERROR"}, {"status_code": "ERROR"}):
        assert events_of(span(**nothing) | {"status": status}) == []
    assert len(events_of(span() | {"status": {"code": 2}})) == 1
    assert not used(only(span(**nothing))), "a stream without usage is an event of unknown cost"


def test_console_exporter():
    payload = {
        "name": "chat",
        "context": {"trace_id": "0x4bf92f", "span_id": "0x00f067", "trace_state": "[]"},
        "end_time": "2026-11-23T19:00:02.100000Z",
        "attributes": span()["attributes"] | {"gen_ai.conversation.id": ""},
        "resource": {"attributes": {"service.name": "loans", "deployment.environment": "prod", "team": "lending"}},
    }
    event = only(payload)
    assert (event["event_id"], event["session_id"], event["event_time"]) == ("4bf92f/00f067", "4bf92f", 1795460402100)
    assert (event["team"], event["environment"], event["tags"]) == ("lending", "prod", {"service": "loans"})


def wrapped(attributes: dict) -> list[dict]:
    return [
        {"key": key, "value": {"intValue": str(value)} if type(value) is int else {"stringValue": value}}
        for key, value in attributes.items()
    ]


def otlp(*spans: dict) -> dict:
    resource = {"attributes": wrapped({"service.namespace": "lending"})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {}, "spans": list(spans)}]}]}


OTLP_SPAN = {
    "traceId": "4bf92f",
    "spanId": "00f067",
    "endTimeUnixNano": "1795460402100000000",
    "attributes": [
        *wrapped(SPAN["attributes"]),
        {"key": "gen_ai.response.finish_reasons", "value": {"arrayValue": {}}},
    ],
}


def test_otlp_counts_the_leaves_and_names_what_is_wrong():
    parent = OTLP_SPAN | {"attributes": wrapped(SPAN["attributes"] | {"gen_ai.operation.name": "invoke_agent"})}
    wrong = OTLP_SPAN | {"attributes": wrapped(SPAN["attributes"] | {"gen_ai.usage.input_tokens": "x"})}
    adapted = adapt(otlp(parent, OTLP_SPAN, wrong))
    assert adapted.events == [event_from_json(SPAN_EVENT | {"team": "lending"})]
    assert [problem.reason for problem in adapted.problems] == ["bad_field"]
    assert events_of({"resourceSpans": []}) == []
    assert reason({"resourceSpans": [{"scopeSpans": [{"spans": "x"}]}]}) == "bad_field"


# CloudEvents


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (
            {
                "model": "gpt-5.4",
                "usage": {
                    "prompt_tokens": 1200,
                    "completion_tokens": 80,
                    "total_tokens": 1280,
                    "prompt_tokens_details": {"cached_tokens": 800, "audio_tokens": 0, "text_tokens": 1200},
                    "completion_tokens_details": {"reasoning_tokens": 32, "rejected_prediction_tokens": 0},
                },
                "service_tier": "flex",
            },
            {
                "service_tier": "flex",
                "input_tokens": 400,
                "cache_read_tokens": 800,
                "output_tokens": 48,
                "reasoning_tokens": 32,
            },
        ),
        (
            {
                "model": "gpt-5.4",
                "id": "resp_9",
                "usage": {
                    "input_tokens": 1200,
                    "input_tokens_details": {"cached_tokens": 800, "cache_write_tokens": 100},
                    "output_tokens": 80,
                    "output_tokens_details": {"reasoning_tokens": 32},
                    "total_tokens": 1280,
                },
            },
            {
                "response_id": "resp_9",
                "input_tokens": 300,
                "cache_read_tokens": 800,
                "cache_write_5m_tokens": 100,
                "output_tokens": 48,
                "reasoning_tokens": 32,
            },
        ),
        (
            {
                "model": "claude-sonnet-4-5",
                "usage": {
                    "input_tokens": 400,
                    "cache_creation_input_tokens": 150,
                    "cache_read_input_tokens": 700,
                    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 50},
                    "output_tokens": 80,
                    "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
                    "service_tier": "standard",
                    "inference_geo": "us",
                    "speed": "fast",
                    "iterations": [
                        {"type": "compaction", "input_tokens": 30, "output_tokens": 7},
                        {"type": "message", "input_tokens": 400, "output_tokens": 80},
                    ],
                },
            },
            {
                "model": "claude-sonnet-4-5",
                "service_tier": "fast",
                "region": "us",
                "quantity": 2.0,
                "unit": "web_search",
                "input_tokens": 430,
                "cache_read_tokens": 700,
                "cache_write_5m_tokens": 100,
                "cache_write_1h_tokens": 50,
                "output_tokens": 87,
            },
        ),
        (
            {
                "modelId": "eu.anthropic.claude",
                "usage": {
                    "inputTokens": 400,
                    "outputTokens": 80,
                    "totalTokens": 1280,
                    "cacheReadInputTokens": 700,
                    "cacheWriteInputTokens": 100,
                    "cacheDetails": [{"ttl": "1h", "inputTokens": 40}, {"ttl": "5m", "inputTokens": 60}],
                },
                "metrics": {"latencyMs": 812},
                "serviceTier": {"type": "priority"},
            },
            {
                "model": "eu.anthropic.claude",
                "service_tier": "priority",
                "input_tokens": 400,
                "cache_read_tokens": 700,
                "cache_write_5m_tokens": 60,
                "cache_write_1h_tokens": 40,
                "output_tokens": 80,
            },
        ),
        (
            {
                "modelVersion": "gemini-3-pro",
                "responseId": "g-1",
                "usageMetadata": {
                    "promptTokenCount": 1200,
                    "cachedContentTokenCount": 800,
                    "candidatesTokenCount": 48,
                    "thoughtsTokenCount": 32,
                    "toolUsePromptTokenCount": 20,
                    "totalTokenCount": 1300,
                    "promptTokensDetails": [
                        {"modality": "TEXT", "tokenCount": 900},
                        {"modality": "AUDIO", "tokenCount": 300},
                    ],
                    "cacheTokensDetails": [
                        {"modality": "TEXT", "tokenCount": 600},
                        {"modality": "AUDIO", "tokenCount": 200},
                    ],
                    "trafficType": "ON_DEMAND_FLEX",
                },
            },
            {
                "model": "gemini-3-pro",
                "response_id": "g-1",
                "service_tier": "flex",
                "input_tokens": 320,
                "cache_read_tokens": 800,
                "input_audio_tokens": 100,
                "output_tokens": 48,
                "reasoning_tokens": 32,
            },
        ),
        (
            {
                "model": "gemini",
                "usage": {
                    "promptTokenCount": 10,
                    "candidatesTokenCount": 80,
                    "thoughtsTokenCount": 32,
                    "totalTokenCount": 90,
                },
            },
            {"model": "gemini", "input_tokens": 10, "output_tokens": 48, "reasoning_tokens": 32},
        ),
        (
            {"kind": "GPU", "model": "h100", "quantity": "3600", "unit": "second", "team": "ml", "session_id": "run-1"},
            {
                "kind": "GPU",
                "model": "h100",
                "quantity": 3600.0,
                "unit": "second",
                "team": "ml",
                "session_id": "run-1",
            },
        ),
    ],
    ids=["openai chat", "openai responses", "anthropic", "bedrock", "gemini", "vertex with thoughts inside", "gpu"],
)
def test_plain_usage_of_each_provider(data, fields):
    event = only(changed(CLOUD, data=None) | {"data": data})
    base = {**CLOUD_EVENT, "provider": "", "input_tokens": 0, "output_tokens": 0}
    assert event == event_from_json(base | fields)


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (LITELLM, LITELLM_EVENT),
        (SPAN, SPAN_EVENT),
        (otlp(OTLP_SPAN), SPAN_EVENT | {"team": "lending"}),
        ({"event_id": "x", "input_tokens": 5}, {"event_time": 1795460400001, "session_id": "s-77", "input_tokens": 5}),
    ],
    ids=["litellm", "otel", "otlp", "canonical"],
)
def test_the_envelope_is_the_identity(data, fields):
    event = only(CLOUD | {"data": data})
    assert event == event_from_json({**fields, "event_id": "9f1c", "source": "/gateway/eu-1"})


def test_several_events_in_one_envelope_stay_apart():
    events = events_of(CLOUD | {"data": otlp(OTLP_SPAN, OTLP_SPAN | {"traceId": "other"})})
    assert [event["event_id"] for event in events] == ["9f1c/0", "9f1c/1"]


def test_another_subject_is_a_tag():
    event = only(changed(CLOUD, subject="customer-1"))
    assert event["session_id"] == "" and event["tags"] == {"subject": "customer-1"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"id": None}, "missing_identity"),
        ({"source": None}, "missing_identity"),
        ({"time": None}, "bad_event_time"),
        ({"time": "2026-11-23T19:00:00"}, "bad_field"),
        ({"data": None, "data_base64": "e30="}, "unknown_format"),
        ({"data": [1]}, "unknown_format"),
        ({"data": {"prompt": "hello"}}, "unknown_format"),
        ({"data": {"usage": {"tokens": "123"}}}, "unknown_format"),
        ({"data": CLOUD}, "unknown_format"),
        ({"data__usage__input_tokens": -5}, "bad_field"),
        ({"data__usage__total_tokens": 1279}, "inconsistent_tokens"),
        ({"source": "\udfff"}, "bad_field"),
    ],
)
def test_cloudevents_refused(changes, expected):
    assert reason(changed(CLOUD, **changes)) == expected


# lists and strangers


def test_a_list_gives_the_events_of_its_items():
    adapted = adapt([LITELLM, {"hello": 1}, SPAN])
    assert [event["source"] for event in adapted.events] == ["litellm", "otel"]
    assert [problem.reason for problem in adapted.problems] == ["unknown_format"]


@pytest.mark.parametrize("payload", [None, 5, "x", True, [[LITELLM]], {}, {"hello": 1}, {"usage": {"input_tokens": 1}}])
def test_strangers_are_named(payload):
    assert reason(payload) == "unknown_format"


def test_canonical_json_keeps_its_own_messages():
    adapted = adapt({"event_id": "1", "source": "gw", "event_time": 0, "input_token": 5})
    assert adapted.problems[0].reason == "bad_field"
    assert str(adapted.problems[0]) == 'unknown field "input_token"; did you mean "input_tokens"?'
