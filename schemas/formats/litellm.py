"""LiteLLM's StandardLoggingPayload, as its proxy logs one for each call.

- Tokens: ``prompt_tokens`` includes what the cache served and stored; the details stand in ``usage_object``.
- Cost: ``response_cost`` counts as reported, unless LiteLLM says that it did not know: null, a diagnostic, a failure
  or a call that is not finalised leave the cost to the price table. A real 0 is a reported 0.
- An answer out of LiteLLM's own cache used no tokens of a provider: no tokens, cost 0.
- A failed call without tokens used nothing and gives no event.
- Identity: the call and the response. A retried or failed-over call keeps its call id and has several responses.
- Prompts, responses, addresses and e-mails are not looked at, so they leave nothing behind.
"""

from schemas.columns import TOKENS
from schemas.formats.canonical import event_from_json
from schemas.formats.fields import FormatError, child, nano_usd, tag_values, text, wrong
from schemas.formats.usage import OPENAI, openai_buckets

KINDS_BY_CALL = {
    "embedding": "EMBEDDING",
    "rerank": "RERANK",
    "image_generation": "IMAGE",
    "image_edit": "IMAGE",
    "image_variation": "IMAGE",
    "speech": "AUDIO",
    "transcription": "AUDIO",
    "call_mcp_tool": "TOOL_CALL",
    "vector_store_search": "VECTOR_QUERY",
}
"""Kind of ``call_type``, which also comes with an ``a`` before it; any other is a model call."""

ATTRIBUTION = {
    "agent": "agent",
    "agent_name": "agent",
    "env": "environment",
    "environment": "environment",
    "feature": "use_case",
    "transaction_id": "transaction_id",
    "transaction_type": "transaction_type",
    "use_case": "use_case",
}
"""Fields of the event that a ``name:value`` request tag, or the caller's own metadata, can fill."""


def recognises(record: dict) -> bool:
    return "litellm_call_id" in record or ("call_type" in record and "response_cost" in record)


def events(record: dict) -> list[dict]:
    """No event for a failure that used nothing, else one. Raises EventError or FormatError."""
    metadata = child(record, "metadata")
    usage = child(metadata, "usage_object") or child(child(record, "hidden_params"), "usage_object")
    buckets = openai_buckets(usage, record, OPENAI)
    cache_hit = record.get("cache_hit") in (True, "True", "true")
    failed = text(record, "status") == "failure"
    if failed and not any(buckets.values()):
        return []
    if cache_hit:
        buckets = dict.fromkeys(TOKENS, 0)
    tags = _tags(record)
    own = tag_values(child(metadata, "requester_metadata")) | tag_values(child(metadata, "spend_logs_metadata"))
    attribution = {field: own[name] for name, field in ATTRIBUTION.items() if name in own}
    attribution |= {field: tags[name] for name, field in ATTRIBUTION.items() if name in tags}
    breakdown = child(record, "cost_breakdown")
    call_type = text(record, "call_type")
    team_id, team_alias = text(metadata, "user_api_key_team_id"), text(metadata, "user_api_key_team_alias")
    if team_alias and team_id:
        tags["team_id"] = team_id
    if cache_hit:
        tags["cache_hit"] = "true"
    if failed:
        tags["status"] = "failure"
    event = {
        "event_id": _identity(record),
        "source": "litellm",
        "event_time": _time(record),
        "session_id": text(record, "session_id", "trace_id"),
        "team": team_alias or team_id,
        "user": text(record, "end_user") or text(metadata, "user_api_key_end_user_id", "user_api_key_user_id"),
        **attribution,
        "kind": KINDS_BY_CALL.get(call_type) or KINDS_BY_CALL.get(call_type.removeprefix("a"), "LLM"),
        "provider": text(record, "custom_llm_provider"),
        "model": text(record, "model"),
        "service_tier": text(breakdown, "service_tier") or text(usage, "service_tier"),
        "region": text(breakdown, "vertex_location") or text(usage, "inference_geo"),
        **buckets,
        "cost_nano_usd": 0 if cache_hit else _cost(record, failed),
        "response_id": text(record, "id"),
        "tags": tags,
    }
    return [event_from_json(event)]


def _cost(record: dict, failed: bool) -> int | None:
    """A reported cost, or None where LiteLLM only means that it knows none."""
    cost = nano_usd(record, "response_cost")
    unknown = record.get("zero_cost_diagnostic") or record.get("response_cost_failure_debug_info") or failed
    return None if record.get("cost_finalized") is False or (cost == 0 and unknown) else cost


def _identity(record: dict) -> str:
    call, response = text(record, "litellm_call_id"), text(record, "id")
    if not call and not response:
        raise FormatError("missing_identity", 'neither "litellm_call_id" nor "id" is there')
    return f"{call}/{response}" if call and response and call != response else call or response


def _time(record: dict) -> int | str:
    """When the call ended: epoch seconds, or ISO-8601 with a zone."""
    for name in ("endTime", "startTime"):
        value = record.get(name)
        if type(value) in (int, float) and 0 <= value < 2**40:
            return round(value * 1000)
        if type(value) is str and value:
            return value
    raise FormatError("bad_event_time", 'neither "endTime" nor "startTime" is seconds since 1970')


def _tags(record: dict) -> dict[str, str]:
    """``name:value`` becomes a tag of its own, anything else is a tag that is "true"."""
    listed = record.get("request_tags") or []
    if type(listed) is not list:
        raise wrong("request_tags", listed, "a list of strings")
    tags = {}
    for tag in listed:
        if type(tag) is str:
            name, colon, value = tag.partition(":")
            tags[name.strip()] = value.strip() if colon else "true"
    return tags
