"""The compiled table against genai_prices.calc_price itself, which works in Decimal."""

import random
import warnings
from datetime import UTC, datetime, timedelta

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data import providers as PROVIDERS
from genai_prices.types import StartDateConstraint, TieredPrices, TimeOfDateConstraint
from genai_prices.units import _get_registry
from hypothesis import given, settings
from hypothesis import strategies as st

from models.money import to_nano_usd
from models.pricing import ESTIMATED, FINAL, FREE, UNPRICED, PriceTable
from schemas.columns import MAX_COST_NANO_USD, MAX_TOKENS, TOKENS

TOKEN_KEYS = [key for key, unit in _get_registry().units.items() if unit.dimensions.get("family") == "tokens"]
CONTEXT = {
    ("anthropic", "fast"): {"speed": "fast"},
    ("azure", "fast"): {"speed": "fast"},
    ("azure", "batch"): {"processing": "batch"},
    ("google", "batch"): {"processing": "batch"},
    ("groq", "batch"): {"processing": "batch"},
    ("mistral", "batch"): {"processing": "batch"},
    ("anthropic", "batch"): {"processing": "batch"},
    ("openai", "batch"): {"processing": "batch"},
    ("x-ai", "batch"): {"processing": "batch"},
}
"""Where the library looks for a tier; other tiers are service_tier. Written by hand, not taken from the code."""


def prices_of(model):
    conditional = model.prices if isinstance(model.prices, list) else []
    return [part.prices for part in (*conditional, *(model.price_variants or ()))] + (
        [] if conditional else [model.prices]
    )


def amounts(price):
    for key, value in vars(price).items():
        if isinstance(value, TieredPrices):
            yield from ((key, amount) for amount in (value.base, *(tier.price for tier in value.tiers)))
        elif value is not None:
            yield key, value


FLOAT_RESIDUE = {
    (provider.id, model.id)
    for provider in PROVIDERS
    for model in provider.models
    for price in prices_of(model)
    for key, usd in amounts(price)
    if key.endswith("_mtok") and usd * 10**6 % 1
}
"""Models with a price that is no whole pico-USD per token (0.0833333333333333 per million): half a pico off at most."""


def usage(event):
    t = {name: event.get(name, 0) for name in TOKENS}
    inputs = [name for name in TOKENS if name.startswith(("input", "cache"))]
    reported = {
        **dict.fromkeys(TOKEN_KEYS, 0),
        "input_tokens": sum(t[name] for name in inputs),
        "output_tokens": sum(t[name] for name in TOKENS if name not in inputs),
        "cache_read_tokens": t["cache_read_tokens"],
        "cache_write_tokens": t["cache_write_5m_tokens"] + t["cache_write_1h_tokens"],
        "cache_write_5m_tokens": t["cache_write_5m_tokens"],
        "cache_write_1h_tokens": t["cache_write_1h_tokens"],
        "output_reasoning_tokens": t["reasoning_tokens"],
        **{name: t[name] for name in TOKENS if "audio" in name or "image" in name},
    }
    return Usage(**reported)


def oracle(event):
    provider, tier = event["provider"], event["service_tier"]
    total = calc_price(
        usage(event),
        event["model"],
        provider_id=provider,
        genai_request_timestamp=datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=event["event_time_ms"]),
        price_context=CONTEXT.get((provider, tier), {"service_tier": tier}) if tier else None,
    ).total_price
    return min(to_nano_usd(total), MAX_COST_NANO_USD)


def check(make_columns, table, events):
    """All events priced as by the oracle; returns their statuses."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = [oracle(event) for event in events]
    priced = table.price(make_columns(events))
    for event, nano, want in zip(events, priced.table_nano_usd.tolist(), expected, strict=True):
        tolerance = 0
        if (event["provider"], event["model"]) in FLOAT_RESIDUE:
            tolerance = 1 + sum(event.get(name, 0) for name in TOKENS) // 2000
        assert abs(nano - want) <= tolerance, (event, nano, want)
    return priced.status.tolist()


def random_event(rng, provider, model, tier=""):
    scale = rng.choice([10, 10_000, 300_000, 10_000_000])
    return {
        "provider": provider,
        "model": model,
        "service_tier": tier,
        "event_time_ms": rng.randrange(1_672_531_200_000, 1_830_297_600_000),
        **{name: rng.choice([0, rng.randrange(scale)]) for name in TOKENS},
        "input_tokens": rng.randrange(1, scale),
    }


def token_priced(model):
    return all(not vars(p) or any(key.endswith("_mtok") for key, _ in amounts(p)) for p in prices_of(model))


def test_every_model_of_the_catalogue(make_columns):
    rng = random.Random(1)
    names = [(p.id, m.id) for p in PROVIDERS for m in p.models if p.find_model(m.id, all_providers=PROVIDERS) is m]
    assert len(names) > 2000
    priced = [(p.id, m.id) for p in PROVIDERS for m in p.models if token_priced(m)]
    names = sorted(set(names) & set(priced))
    for begin in range(0, len(names), 900):
        events = [random_event(rng, *name) for name in names[begin : begin + 900]]
        statuses = check(make_columns, PriceTable(), events)
        assert set(statuses) <= {FINAL, FREE}


def edges(model):
    """Moments and input sizes at which a price of the model may change."""
    parts = [*(model.prices if isinstance(model.prices, list) else []), *(model.price_variants or ())]
    days = {datetime(2025, 5, 7), datetime(2026, 11, 20)}
    times = {timedelta(hours=12)}
    for part in parts:
        if isinstance(part.constraint, StartDateConstraint):
            days.add(datetime(*part.constraint.start_date.timetuple()[:3]))
            times.add(timedelta(0))
        elif isinstance(part.constraint, TimeOfDateConstraint):
            for at in (part.constraint.start_time, part.constraint.end_time):
                times.add(timedelta(hours=at.hour, minutes=at.minute))
    moments = [
        int((day + at).replace(tzinfo=UTC).timestamp() * 1000) + step
        for day in days
        for at in times
        for step in (-1, 0, 1)
    ]
    starts = {
        tier.start
        for p in prices_of(model)
        for v in vars(p).values()
        if isinstance(v, TieredPrices)
        for tier in v.tiers
    }
    return moments, [1000, *(start + step for start in starts for step in (0, 1))]


def test_every_date_time_tier_and_variant_edge(make_columns):
    """Dated, time-of-day and context-tier models of all providers, at each edge, a millisecond or token either side."""
    rng = random.Random(2)
    events = []
    for provider in PROVIDERS:
        seen = 0
        for model in provider.models:
            if provider.find_model(model.id, all_providers=PROVIDERS) is not model or not token_priced(model):
                continue
            moments, sizes = edges(model)
            tiers = {""} | {next(iter(v.when.values())) for v in model.price_variants or () if "route" not in v.when}
            tiers &= {"", "batch", "flex", "priority", "fast"}
            if (len(moments), len(sizes), len(tiers)) == (6, 1, 1):
                continue
            seen += 1
            if seen > 40:
                break
            points = [(m, s, t) for m in moments for s in sizes for t in tiers]
            for moment, size, tier in rng.sample(points, min(len(points), 12)):
                cached = rng.randrange(size)
                event = {
                    "provider": provider.id,
                    "model": model.id,
                    "service_tier": "" if provider.id == "perplexity" else tier,
                    "event_time_ms": moment,
                    "input_tokens": size - cached,
                    rng.choice(["cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"]): cached,
                    "output_tokens": rng.randrange(1000),
                }
                events.append(event)
    assert len(events) > 1000
    statuses = check(make_columns, PriceTable(), events)
    assert UNPRICED not in statuses and ESTIMATED in statuses and FINAL in statuses


KEYS = [
    ("openai", "gpt-4o", ""),
    ("openai", "gpt-4o", "batch"),
    ("openai", "gpt-4o", "priority"),
    ("openai", "gpt-4o", "fast"),
    ("openai", "gpt-4o-mini", "batch"),
    ("openai", "gpt-4.1", "priority"),
    ("openai", "gpt-4.1-nano", ""),
    ("openai", "gpt-5", ""),
    ("openai", "gpt-5", "flex"),
    ("openai", "gpt-5", "batch"),
    ("openai", "gpt-5", "priority"),
    ("openai", "gpt-5-mini", "flex"),
    ("openai", "gpt-5.4", ""),
    ("openai", "gpt-5.4", "batch"),
    ("openai", "gpt-5.4", "flex"),
    ("openai", "gpt-5.4", "priority"),
    ("openai", "gpt-5.6-luna", ""),
    ("openai", "gpt-5.6-sol", "batch"),
    ("openai", "o1-pro", ""),
    ("openai", "o3", ""),
    ("openai", "o3", "flex"),
    ("openai", "gpt-4o-audio-preview", ""),
    ("openai", "gpt-4o-realtime-preview", ""),
    ("openai", "gpt-realtime", ""),
    ("openai", "gpt-image-1", ""),
    ("openai", "text-embedding-3-small", ""),
    ("anthropic", "claude-3-7-sonnet-20250219", ""),
    ("anthropic", "claude-sonnet-4-20250514", ""),
    ("anthropic", "claude-sonnet-4-5", "batch"),
    ("anthropic", "claude-opus-4-8", "fast"),
    ("anthropic", "claude-opus-5", "batch"),
    ("google", "gemini-2.5-pro", ""),
    ("google", "gemini-2.5-pro", "batch"),
    ("google", "gemini-2.5-flash", ""),
    ("google", "gemini-2.5-flash", "batch"),
    ("google", "gemini-2.0-flash", ""),
    ("google", "gemini-1.5-flash", ""),
    ("google", "gemini-1.5-pro", ""),
    ("google", "claude-sonnet-4-5", ""),
    ("deepseek", "deepseek-chat", ""),
    ("deepseek", "deepseek-reasoner", ""),
    ("deepseek", "deepseek-v4-flash", ""),
    ("deepseek", "deepseek-v4-pro", ""),
    ("x-ai", "grok-4", ""),
    ("x-ai", "grok-4.3", "batch"),
    ("mistral", "mistral-large-latest", "batch"),
    ("groq", "llama-3.3-70b-versatile", "batch"),
    ("perplexity", "sonar", ""),
    ("perplexity", "sonar-pro", ""),
    ("aws", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", ""),
    ("aws", "global.anthropic.claude-sonnet-4-5-20250929-v1:0", ""),
    ("azure", "gpt-4o", ""),
    ("azure", "gpt-5", "batch"),
    ("azure", "claude-opus-4-8", "fast"),
    ("openrouter", "anthropic/claude-3.7-sonnet", ""),
]
TOKEN_COUNTS = st.one_of(st.just(0), st.integers(1, 1000), st.integers(1000, 600_000), st.integers(0, MAX_TOKENS))
TABLE = PriceTable()


@settings(max_examples=400, deadline=None)
@given(
    key=st.sampled_from(KEYS),
    event_time_ms=st.integers(1_672_531_200_000, 1_830_297_600_000),
    counts=st.lists(TOKEN_COUNTS, min_size=10, max_size=10).filter(any),
)
def test_random_usage(make_columns, key, event_time_ms, counts):
    provider, model, tier = key
    event = {"provider": provider, "model": model, "service_tier": tier, "event_time_ms": event_time_ms}
    check(make_columns, TABLE, [{**event, **dict(zip(TOKENS, counts, strict=True))}])


@pytest.mark.parametrize("key", KEYS, ids="/".join)
def test_each_key_through_the_years(key, make_columns):
    """Also: a model that is found by way of a fallback provider (azure/gpt-5) keeps its standard price at any tier."""
    provider, model, tier = key
    event = {"provider": provider, "model": model, "service_tier": tier}
    counts = {name: 1000 + i for i, name in enumerate(TOKENS)}
    times = range(1_690_000_000_000, 1_830_000_000_000, 10_000_000_000)
    statuses = check(make_columns, TABLE, [{**event, **counts, "event_time_ms": time} for time in times])
    assert set(statuses) <= {FINAL, ESTIMATED}
