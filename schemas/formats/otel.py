"""OpenTelemetry GenAI spans: one span as a JSON object, as exporters write it, or unpacked from OTLP.

- Only spans that are themselves a use of something count: model calls, embeddings, tool calls, retrievals. Spans
  around them (agents, workflows, plans) repeat the tokens of their children and give no event, so an agent whose
  model calls are not traced is not seen. Spans of anything else (HTTP, databases) give no event either.
- Tokens on a span of an unknown operation are refused: counting them might count them twice. On a span that names
  no operation they count as a model call.
- Instrumentations of two layers report one response as two spans, and the inner span ends first. Spans of one trace
  with the same response id and output are one event, whose identity they share; the first to arrive counts.
- By the specification input includes cached tokens; emitters break that, so the arithmetic decides (schemas.formats
  .usage).

Names are data: a row of ALIASES or OPERATIONS is all that another emitter needs.
"""

from schemas.formats.canonical import event_from_json
from schemas.formats.fields import FormatError, child, count, nano_usd, text
from schemas.formats.usage import OPENTELEMETRY, disjoint

ALIASES = {
    "session_id": ("gen_ai.conversation.id", "session.id", "mcp.session.id"),
    "team": ("tenfold.team", "team", "team.id", "service.namespace"),
    "agent": ("gen_ai.agent.name", "gen_ai.agent.id", "agent.name"),
    "use_case": ("tenfold.use_case", "use_case", "gen_ai.workflow.name"),
    "environment": ("deployment.environment.name", "deployment.environment"),
    "user": ("user.id", "enduser.id"),
    "transaction_id": ("tenfold.transaction_id", "transaction.id"),
    "transaction_type": ("tenfold.transaction_type", "transaction.type"),
    "provider": ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system"),
    "model": (
        "gen_ai.response.model",
        "gen_ai.request.model",
        "llm.model_name",
        "embedding.model_name",
        "reranker.model_name",
    ),
    "service_tier": ("gen_ai.response.service_tier", "openai.response.service_tier"),
    "response_id": ("gen_ai.response.id",),
}
"""Fields of the event and the attributes they come from, the preferred first; span before resource."""

TOKEN_ALIASES = {
    "input": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt"),
    "output": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion"),
    "total": ("gen_ai.usage.total_tokens", "llm.usage.total_tokens", "llm.token_count.total"),
    "cache_read": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.input_tokens.cached",
        "llm.token_count.prompt_details.cache_read",
    ),
    "cache_write": (
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "gen_ai.usage.input_tokens.cache_write",
        "llm.token_count.prompt_details.cache_write",
    ),
    "reasoning": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.output_tokens.reasoning",
        "llm.token_count.completion_details.reasoning",
    ),
    "input_audio": ("gen_ai.usage.audio.input_tokens", "llm.token_count.prompt_details.audio"),
    "input_image": ("gen_ai.usage.image.input_tokens",),
    "output_audio": ("gen_ai.usage.audio.output_tokens", "llm.token_count.completion_details.audio"),
    "output_image": ("gen_ai.usage.image.output_tokens",),
}
"""Arguments of schemas.formats.usage.disjoint and the attributes they come from."""

OPERATION = ("gen_ai.operation.name", "openinference.span.kind", "llm.request.type")
OPERATIONS = {
    "chat": "LLM",
    "completion": "LLM",
    "text_completion": "LLM",
    "generate_content": "LLM",
    "llm": "LLM",
    "embeddings": "EMBEDDING",
    "embedding": "EMBEDDING",
    "rerank": "RERANK",
    "reranker": "RERANK",
    "execute_tool": "TOOL_CALL",
    "tool": "TOOL_CALL",
    "retrieval": "VECTOR_QUERY",
    "retriever": "VECTOR_QUERY",
}
"""Operations that use something, in lower case, and what they use."""
AROUND = frozenset(
    {"agent", "chain", "create_agent", "evaluator", "guardrail", "invoke_agent", "invoke_workflow", "plan", "prompt"}
)
"""Operations around others."""

QUANTITY_NAMES = {
    "TOOL_CALL": ("gen_ai.tool.name", "tool.name"),
    "VECTOR_QUERY": ("gen_ai.data_source.id",),
}
"""Kinds that are counted by the call, and where the name of what was called stands."""


def recognises(record: dict) -> bool:
    ids = ("span_id", "spanId", "context", "trace_id", "traceId")
    return type(record.get("attributes")) is dict and any(name in record for name in ids)


def events(record: dict) -> list[dict]:
    """No event or one. Raises EventError or FormatError."""
    attributes = child(record, "attributes")
    tokens = {name: count(attributes, *aliases) for name, aliases in TOKEN_ALIASES.items()}
    used = any(tokens.values())
    operation = text(attributes, *OPERATION).lower()
    kind = OPERATIONS.get(operation)
    if operation in AROUND or (kind is None and not used):
        return []
    if kind is None and operation:
        accepted = ", ".join((*OPERATIONS, *sorted(AROUND)))
        raise FormatError("unknown_operation", f'tokens on a span of operation "{operation[:60]}"; known: {accepted}')
    if not used and _failed(record, attributes):
        return []
    context = child(record, "context")
    trace = _id(record, context, "trace_id", "traceId")
    span = _id(record, context, "span_id", "spanId")
    around = {**child(child(record, "resource"), "attributes"), **attributes}
    fields = {field: text(around, *names) for field, names in ALIASES.items()}
    event = {
        **fields,
        "event_id": _identity(trace, span, fields["response_id"], tokens["output"]),
        "source": "otel",
        "event_time": _time(record),
        "session_id": fields["session_id"] or trace,
        "kind": kind or "LLM",
        **disjoint(OPENTELEMETRY, **tokens),
        "cost_nano_usd": _cost(attributes),
    }
    if kind in QUANTITY_NAMES:
        event |= {"model": text(attributes, *QUANTITY_NAMES[kind]), "quantity": 1, "unit": "call"}
    service = text(around, "service.name")
    if service:
        event["tags"] = {"service": service}
    return [event_from_json(event)]


def _identity(trace: str, span: str, response: str, output: int | None) -> str:
    if trace and response:
        return f"{trace}/{response}/{output or 0}"
    if not span:
        raise FormatError("missing_identity", "a span needs span_id, or trace_id and gen_ai.response.id")
    return f"{trace}/{span}"


def _id(record: dict, context: dict, *names: str) -> str:
    """Some exporters write hexadecimal ids with 0x before them."""
    return (text(record, *names) or text(context, *names)).removeprefix("0x")


def _time(record: dict) -> int | str:
    """When the span ended: nanoseconds since 1970, or ISO-8601 with a zone."""
    nanoseconds = count(record, "end_time_unix_nano", "endTimeUnixNano", "start_time_unix_nano", "startTimeUnixNano")
    if nanoseconds:
        return nanoseconds // 1_000_000
    stamp = text(record, "end_time", "start_time")
    if not stamp:
        raise FormatError("bad_event_time", "a span needs end_time_unix_nano, or end_time as ISO-8601")
    return stamp


def _failed(record: dict, attributes: dict) -> bool:
    status = record.get("status")
    code = status.get("code", status.get("status_code")) if type(status) is dict else status
    return code in (2, "2", "ERROR", "STATUS_CODE_ERROR", "error") or "error.type" in attributes


def _cost(attributes: dict) -> int | None:
    """Only what the provider said; what an SDK worked out from a table of its own is no report."""
    if attributes.get("gen_ai.usage.cost.source") != "provider":
        return None
    if text(attributes, "gen_ai.usage.cost.currency").upper() not in ("", "USD"):
        return None
    return nano_usd(attributes, "gen_ai.usage.cost.amount")
