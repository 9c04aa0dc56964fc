"""Usage objects of providers and SDKs into disjoint token buckets.

Sources disagree on whether the input includes what was read from or written to a cache, and whether the output
includes reasoning. Counting one the other way bills tokens twice or loses them, so a *convention* is never taken on
trust: the first one of the source's list that leaves no bucket negative and adds up to the stated total applies, and
if none does, the record is refused. Shapes are told apart by the names of their fields.

A source that states no total and no details cannot be checked; its usual convention applies.
"""

from collections.abc import Sequence

from schemas.columns import TOKENS
from schemas.formats.fields import FormatError, child, count, shown, text

Convention = tuple[bool, bool]
"""Whether the input includes cached tokens, and whether the output includes reasoning tokens."""

OPENAI: tuple[Convention, ...] = ((True, True), (True, False))
ANTHROPIC: tuple[Convention, ...] = ((False, True),)
GEMINI: tuple[Convention, ...] = ((True, False), (True, True))
OPENTELEMETRY: tuple[Convention, ...] = ((True, True), (False, True), (True, False), (False, False))
"""By the specification the first; emitters break it in every way."""

TIERS = {
    "ON_DEMAND": "",
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_OFFPEAK": "offpeak",
    "ON_DEMAND_PRIORITY": "priority",
    "PROVISIONED_THROUGHPUT": "provisioned",
}
"""Gemini's traffic types as service tiers."""


def disjoint(
    conventions: Sequence[Convention],
    *,
    input: int | None = None,
    output: int | None = None,
    total: int | None = None,
    cache_read: int | None = None,
    cache_write: int | None = None,
    cache_write_5m: int | None = None,
    cache_write_1h: int | None = None,
    reasoning: int | None = None,
    tool_use_input: int | None = None,
    input_audio: int | None = None,
    input_image: int | None = None,
    output_audio: int | None = None,
    output_image: int | None = None,
) -> dict[str, int]:
    """The buckets of schemas.columns.TOKENS; they add up to ``total`` where it is given.

    ``cache_write`` is the sum of the two lifetimes; what is in neither counts as the 5 minutes that are the default
    of every provider with a choice. Audio and image are part of input or output; ``tool_use_input`` is beside it.
    Raises FormatError("inconsistent_tokens").

    >>> buckets = disjoint(OPENAI, input=1200, output=80, total=1280, cache_read=800, reasoning=32)
    >>> buckets["input_tokens"], buckets["cache_read_tokens"], buckets["output_tokens"], buckets["reasoning_tokens"]
    (400, 800, 48, 32)
    """
    read, long_write = cache_read or 0, cache_write_1h or 0
    if cache_write and (cache_write_5m or 0) + long_write > cache_write:
        raise FormatError(
            "inconsistent_tokens",
            f"{cache_write_5m} and {cache_write_1h} tokens written to the cache are more than {cache_write} in all",
        )
    short_write = max(cache_write_5m or 0, (cache_write or 0) - long_write)
    cached, thoughts = read + short_write + long_write, reasoning or 0
    for input_includes_cache, output_includes_reasoning in conventions:
        buckets = {
            "input_tokens": (input or 0)
            + (tool_use_input or 0)
            - (cached if input_includes_cache else 0)
            - (input_audio or 0)
            - (input_image or 0),
            "cache_read_tokens": read,
            "cache_write_5m_tokens": short_write,
            "cache_write_1h_tokens": long_write,
            "output_tokens": (output or 0)
            - (thoughts if output_includes_reasoning else 0)
            - (output_audio or 0)
            - (output_image or 0),
            "reasoning_tokens": thoughts,
            "input_audio_tokens": input_audio or 0,
            "output_audio_tokens": output_audio or 0,
            "input_image_tokens": input_image or 0,
            "output_image_tokens": output_image or 0,
        }
        if min(buckets.values()) >= 0 and (total is None or sum(buckets.values()) == total):
            return buckets
    raise FormatError(
        "inconsistent_tokens",
        f"input {input}, output {output}, total {total}, cache read {read}, cache write {short_write + long_write}, "
        f"reasoning {thoughts}, audio {input_audio}/{output_audio}, image {input_image}/{output_image} do not add up",
    )


def openai_buckets(usage: dict, totals: dict, conventions: Sequence[Convention] = OPENAI) -> dict[str, int]:
    """OpenAI's chat and responses usage, and LiteLLM's, which adds Anthropic's cache fields to it.

    ``totals`` is where the three sums stand: LiteLLM keeps them beside the details.
    """
    into = child(usage, "prompt_tokens_details", "input_tokens_details")
    out_of = child(usage, "completion_tokens_details", "output_tokens_details")
    lifetimes = child(into, "cache_creation_token_details") or child(usage, "cache_creation")
    cached_audio = count(child(into, "cached_tokens_details"), "audio_tokens") or 0
    audio = count(into, "audio_tokens")
    return disjoint(
        conventions,
        input=count(totals, "prompt_tokens", "input_tokens"),
        output=count(totals, "completion_tokens", "output_tokens"),
        total=count(totals, "total_tokens"),
        cache_read=_either(into, ("cached_tokens",), usage, ("cache_read_input_tokens", "prompt_cache_hit_tokens")),
        cache_write=_either(
            into, ("cache_write_tokens", "cache_creation_tokens"), usage, ("cache_creation_input_tokens",)
        ),
        cache_write_5m=count(lifetimes, "ephemeral_5m_input_tokens"),
        cache_write_1h=count(lifetimes, "ephemeral_1h_input_tokens"),
        reasoning=count(out_of, "reasoning_tokens"),
        input_audio=audio and audio - cached_audio,
        input_image=count(into, "image_tokens"),
        output_audio=count(out_of, "audio_tokens"),
        output_image=count(out_of, "image_tokens"),
    )


def read_usage(usage: dict) -> dict:
    """Canonical fields of a provider's usage object: buckets, and tier, region and searches where it tells them.

    Accepts OpenAI (chat, responses), Anthropic, Bedrock Converse, Gemini, and canonical bucket names. Raises
    FormatError, also if it is none of these.
    """
    if "promptTokenCount" in usage or "candidatesTokenCount" in usage:
        return _gemini(usage)
    if "inputTokens" in usage or "outputTokens" in usage:
        return _bedrock(usage)
    if "prompt_tokens" in usage or "completion_tokens" in usage:
        return openai_buckets(usage, usage)
    if "cache_creation_input_tokens" in usage or "cache_read_input_tokens" in usage or "server_tool_use" in usage:
        return _anthropic(usage)
    if "input_tokens_details" in usage or "output_tokens_details" in usage:
        return openai_buckets(usage, usage)
    if any(name in usage for name in TOKENS):
        return _plain(usage)
    raise FormatError(
        "unknown_format", f"usage with the fields {shown(sorted(usage, key=str))} is of no known provider"
    )


def _gemini(usage: dict) -> dict:
    into, cached, out_of = (
        _modalities(usage, name) for name in ("promptTokensDetails", "cacheTokensDetails", "candidatesTokensDetails")
    )
    fields: dict = disjoint(
        GEMINI,
        input=count(usage, "promptTokenCount"),
        output=count(usage, "candidatesTokenCount", "responseTokenCount"),
        total=count(usage, "totalTokenCount"),
        cache_read=count(usage, "cachedContentTokenCount"),
        reasoning=count(usage, "thoughtsTokenCount"),
        tool_use_input=count(usage, "toolUsePromptTokenCount"),
        # By modality the prompt counts cached tokens again.
        input_audio=into.get("AUDIO", 0) - cached.get("AUDIO", 0),
        input_image=into.get("IMAGE", 0) - cached.get("IMAGE", 0),
        output_audio=out_of.get("AUDIO", 0),
        output_image=out_of.get("IMAGE", 0),
    )
    traffic = text(usage, "trafficType")
    fields["service_tier"] = text(usage, "serviceTier") or TIERS.get(traffic, traffic.lower())
    return fields


def _modalities(usage: dict, name: str) -> dict[str, int]:
    details = usage.get(name) or []
    if type(details) is not list or not all(type(detail) is dict for detail in details):
        raise FormatError("bad_field", f'field "{name}" is {shown(details)}; accepted: a list of objects')
    counts: dict[str, int] = {}
    for detail in details:
        modality = text(detail, "modality")
        counts[modality] = counts.get(modality, 0) + (count(detail, "tokenCount") or 0)
    return counts


def _bedrock(usage: dict) -> dict:
    long_write = 0
    for detail in usage.get("cacheDetails") or []:
        if type(detail) is not dict:
            raise FormatError("bad_field", 'field "cacheDetails" is not a list of objects')
        if text(detail, "ttl") == "1h":
            long_write += count(detail, "inputTokens") or 0
    return disjoint(
        ANTHROPIC,
        input=count(usage, "inputTokens"),
        output=count(usage, "outputTokens"),
        total=count(usage, "totalTokens"),
        cache_read=count(usage, "cacheReadInputTokens"),
        cache_write=count(usage, "cacheWriteInputTokens"),
        cache_write_1h=long_write,
    )


def _anthropic(usage: dict) -> dict:
    lifetimes = child(usage, "cache_creation")
    fields: dict = disjoint(
        ANTHROPIC,
        input=count(usage, "input_tokens"),
        output=count(usage, "output_tokens"),
        cache_read=count(usage, "cache_read_input_tokens"),
        cache_write=count(usage, "cache_creation_input_tokens"),
        cache_write_5m=count(lifetimes, "ephemeral_5m_input_tokens"),
        cache_write_1h=count(lifetimes, "ephemeral_1h_input_tokens"),
    )
    tier, speed = text(usage, "service_tier"), text(usage, "speed")
    fields["service_tier"] = speed if speed not in ("", "standard") and tier in ("", "standard") else tier
    fields["region"] = text(usage, "inference_geo")
    searches = count(child(usage, "server_tool_use"), "web_search_requests")
    if searches:
        fields |= {"quantity": searches, "unit": "web_search"}
    iterations = usage.get("iterations") or []
    if type(iterations) is not list:
        raise FormatError("bad_field", f'field "iterations" is {shown(iterations)}; accepted: a list')
    for iteration in iterations:
        # Compaction is billed, and is not part of the numbers above; messages are.
        if type(iteration) is dict and text(iteration, "type") == "compaction":
            for name, tokens in _anthropic({**iteration, "iterations": None}).items():
                if name.endswith("_tokens"):
                    fields[name] += tokens
    return fields


def _plain(usage: dict) -> dict:
    """Buckets under canonical names, which are disjoint by definition."""
    fields: dict = {name: count(usage, name) or 0 for name in TOKENS}
    total = count(usage, "total_tokens")
    if total is not None and sum(fields.values()) != total:
        raise FormatError("inconsistent_tokens", f"the buckets add up to {sum(fields.values())}, not to {total}")
    return fields


def _either(first: dict, names: tuple[str, ...], second: dict, others: tuple[str, ...]) -> int | None:
    found = count(first, *names)
    # LiteLLM fills one of the two places, and writes 0 into the other.
    return found or count(second, *others) or found
