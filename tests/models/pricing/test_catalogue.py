"""Names as SDKs, gateways and LiteLLM write them."""

import socket
from itertools import pairwise

import pytest

from models.pricing import catalogue

KNOWN = [
    ("", "claude-3-5-sonnet-20241022", "anthropic", "claude-3-5-sonnet"),
    ("", "anthropic/claude-3-7-sonnet-20250219", "anthropic", "claude-3-7-sonnet-latest"),
    ("anthropic", "claude-3-7-sonnet-20250219", "anthropic", "claude-3-7-sonnet-latest"),
    ("anthropic", "anthropic/claude-3-7-sonnet-20250219", "anthropic", "claude-3-7-sonnet-latest"),
    ("litellm", "anthropic/claude-3-7-sonnet-20250219", "anthropic", "claude-3-7-sonnet-latest"),
    ("", "gemini/gemini-2.5-pro-exp-03-25", "google", "gemini-2.5-pro"),
    ("", "gemini/gemini-2.5-pro-preview-05-06", "google", "gemini-2.5-pro"),
    ("gcp.gen_ai", "models/gemini-2.5-pro", "google", "gemini-2.5-pro"),
    ("gcp.vertex_ai", "publishers/google/models/gemini-2.5-pro", "google", "gemini-2.5-pro"),
    ("vertex_ai", "gemini-2.5-pro", "google", "gemini-2.5-pro"),
    ("", "deepseek/deepseek-chat", "deepseek", "deepseek-chat"),
    ("", "openrouter/anthropic/claude-3.7-sonnet", "openrouter", "anthropic/claude-3.7-sonnet"),
    ("openrouter", "anthropic/claude-3.7-sonnet", "openrouter", "anthropic/claude-3.7-sonnet"),
    ("", "fireworks_ai/accounts/fireworks/models/deepseek-v3p2", "fireworks", "deepseek-v3p2"),
    ("", "accounts/fireworks/models/deepseek-v3p2", "fireworks", "deepseek-v3p2"),
    ("fireworks", "accounts/fireworks/models/deepseek-v3p2", "fireworks", "deepseek-v3p2"),
    ("", "xai/grok-3-beta", "x-ai", "grok-3"),
    ("", "mistral/codestral-latest", "mistral", "codestral"),
    ("mistral_ai", "codestral-latest", "mistral", "codestral"),
    ("", "gpt-4o-2024-08-06", "openai", "gpt-4o"),
    ("azure.ai.openai", "gpt-4o", "azure", "gpt-4o"),
    ("OpenAI", " GPT-4o ", "openai", "gpt-4o"),
    (
        "",
        "bedrock/us.anthropic.claude-3-5-haiku-20241022-v1:0",
        "aws",
        "regional.anthropic.claude-3-5-haiku-20241022-v1:0",
    ),
    ("", "o3", "openai", "o3"),
]

UNKNOWN = [
    ("", ""),
    ("openai", ""),
    ("", "REDACTED"),
    ("", "openrouter/REDACTED"),
    ("", "gemini/REDACTED"),
    ("", "ollama/llama3"),
    ("vllm", "deepseek-chat"),
    ("ollama", "gpt-oss"),
    ("", "someone/claude-3-5-sonnet-20241022"),
    ("openai", "claude-3-5-sonnet-20241022"),
    ("", "fireworks_ai/accounts/fireworks/models/deepseek-v3"),
    ("", "/"),
    ("", "openai/"),
    ("/", "/gpt-4o"),
]


@pytest.mark.parametrize(("provider", "model", "entry", "found"), KNOWN)
def test_known_names(provider, model, entry, found):
    match = catalogue.find(provider, model, "")
    assert (match.provider.id, match.model.id) == (entry, found)
    assert entry in match.providers and found.lower() in match.models


@pytest.mark.parametrize(("provider", "model"), UNKNOWN)
def test_unknown_names_have_no_price(provider, model):
    """A runner or gateway of that name may ask another price: only what the catalogue lists is known."""
    assert catalogue.find(provider, model, "").model is None


def test_no_name_is_longer_than_is_looked_at():
    from models.pricing.table import MAX_NAME_BYTES

    assert max(len(m.id) for p in catalogue.PROVIDERS for m in p.models) < MAX_NAME_BYTES


def test_every_model_compiles_and_covers_all_times(monkeypatch):
    """Prices in range, one row for every moment and size, and nothing asked of the network."""
    monkeypatch.setattr(socket, "socket", None)
    for provider in catalogue.PROVIDERS:
        for model in provider.models:
            match = catalogue.Match(frozenset(), frozenset(), provider, model)
            for tier in ("", "batch", catalogue.OTHER_TIER):
                rates = catalogue.rates(match, tier)
                starts = [rate.start_ms for rate in rates]
                assert starts == sorted(starts, reverse=True) and starts[-1] == catalogue.ALWAYS_MS
                for start in set(starts):
                    periods = sorted({(r.tod_start_ms, r.tod_end_ms) for r in rates if r.start_ms == start})
                    assert periods[0][0] == 0 and periods[-1][1] == 86_400_000
                    assert all(a[1] == b[0] for a, b in pairwise(periods))
                assert rates[-1].above_tokens == -1
                if tier == catalogue.OTHER_TIER:
                    assert all(rate.tier_missing for rate in rates)
