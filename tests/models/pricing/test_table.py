import numpy as np
import pytest

from models.config import PriceOverride
from models.pricing import ESTIMATED, FINAL, FREE, PROVIDER_REPORTED, UNPRICED, PriceTable, table
from schemas.columns import KINDS, MAX_COST_NANO_USD, MAX_TOKENS

TABLE = PriceTable()
MAY_2025_MS = 1_746_631_772_000
"""2025-05-07T15:29:32Z."""


@pytest.fixture
def price(make_columns):
    def of(event, prices=TABLE):
        """(cost, estimate, status, table) of one event."""
        priced = prices.price(make_columns([{"event_time_ms": MAY_2025_MS, **event}]))
        return (
            int(priced.cost_nano_usd[0]),
            int(priced.estimate_nano_usd[0]),
            int(priced.status[0]),
            int(priced.table_nano_usd[0]),
        )

    return of


def test_the_incident_of_9990_dollars_is_a_cent_by_table(price):
    call = {"model": "gemini/gemini-2.5-pro-preview-03-25", "input_tokens": 10_023, "output_tokens": 10}
    assert price(call) == (12_628_750, 0, FINAL, 12_628_750)
    reported = 9_990_012_528_750
    assert price({**call, "cost_nano_usd": reported}) == (reported, 0, PROVIDER_REPORTED, 12_628_750)


def test_a_reported_zero_is_kept_and_the_table_still_known(price):
    call = {"model": "gpt-4o", "input_tokens": 1000, "cost_nano_usd": 0}
    assert price(call) == (0, 0, PROVIDER_REPORTED, 2_500_000)


def test_a_report_wins_over_an_unknown_price(price):
    assert price({"model": "no-such", "input_tokens": 5, "cost_nano_usd": 7}) == (7, 0, PROVIDER_REPORTED, -1)


@pytest.mark.parametrize("model", ["no-such-model", "", "gpt-4o/REDACTED", "openai/REDACTED", "ollama/llama3"])
def test_unknown_is_never_zero(price, model):
    cost, estimate, status, by_table = price({"model": model, "input_tokens": 1, "output_tokens": 1})
    assert (cost, status, by_table) == (0, UNPRICED, -1)
    assert estimate == 30_000 + 150_000


def test_free_models_are_free_and_not_unpriced(price):
    assert price({"model": "openrouter/deepseek/deepseek-chat-v3-0324:free", "input_tokens": 9}) == (0, 0, FREE, 0)


def test_models_priced_in_other_units_only_have_no_token_price(price):
    assert price({"provider": "openai", "model": "whisper-1", "output_tokens": 9})[2] == UNPRICED


def test_nothing_used_costs_nothing_and_the_table_has_no_say(price):
    """A call reported with a cost but without usage must not look like a price error."""
    assert price({"model": "gpt-4o"}) == (0, 0, FREE, -1)
    assert price({"model": "gpt-4o", "cost_nano_usd": 5}) == (5, 0, PROVIDER_REPORTED, -1)


@pytest.mark.parametrize("event", [{"model": "openrouter/REDACTED"}, {"kind": "TOOL_CALL"}, {"kind": "GPU"}])
def test_nothing_used_of_an_unknown_thing_is_no_known_zero(price, event):
    assert price(event) == (0, 1, UNPRICED, -1)
    assert price({**event, "cost_nano_usd": 0}) == (0, 0, PROVIDER_REPORTED, -1)


def test_per_request_price_counts_without_tokens(price):
    assert price({"provider": "perplexity", "model": "sonar"}) == (12_000_000, 0, FINAL, 12_000_000)
    assert price({"provider": "perplexity", "model": "sonar", "input_tokens": 10})[0] == 12_010_000


def test_rejected_rows_are_left_out(make_columns):
    call = {"model": "gpt-4o", "input_tokens": 1000}
    columns = make_columns([call, {**call, "status": 3, "cost_nano_usd": 5}, call])
    priced = PriceTable().price(columns)
    assert priced.cost_nano_usd.tolist() == [2_500_000, 0, 2_500_000]
    assert priced.estimate_nano_usd.tolist() == [0, 0, 0]
    assert priced.table_nano_usd.tolist() == [2_500_000, -1, 2_500_000]


def test_an_empty_batch(make_columns):
    assert len(TABLE.price(make_columns([])).cost_nano_usd) == 0


@pytest.mark.parametrize(
    ("tier", "cost", "status"),
    [
        ("", 2_500_000, FINAL),
        ("default", 2_500_000, FINAL),
        ("Standard", 2_500_000, FINAL),
        ("batch", 1_250_000, FINAL),
        ("BATCH ", 1_250_000, FINAL),
        ("priority", 4_250_000, FINAL),
        ("flex", 2_500_000, ESTIMATED),  # gpt-4o is not sold at flex
        ("scale", 2_500_000, ESTIMATED),  # no such tier in the catalogue
        ("auto", 2_500_000, ESTIMATED),  # a wish, not what was served
    ],
)
def test_service_tiers(price, tier, cost, status):
    call = {"provider": "openai", "model": "gpt-4o", "service_tier": tier, "input_tokens": 1000}
    assert price({**call, "event_time_ms": 1_795_000_000_000})[::2] == (cost, status)


def test_a_tier_before_it_existed_is_estimated(price):
    call = {"provider": "openai", "model": "gpt-4o", "service_tier": "fast", "input_tokens": 1000}
    start = 1_791_763_200_000  # 2026-10-12
    assert price({**call, "event_time_ms": start - 1})[::2] == (2_500_000, ESTIMATED)
    assert price({**call, "event_time_ms": start})[::2] == (4_250_000, FINAL)


def test_the_context_tier_is_judged_per_event_on_all_input(make_columns):
    call = {"model": "gemini-2.5-pro", "input_tokens": 150_000, "cache_read_tokens": 50_000}
    priced = PriceTable().price(make_columns([call, {**call, "input_tokens": 150_001}]))
    base = 150_000 * 1250 + 50_000 * 125
    long = 150_001 * 2500 + 50_000 * 250
    assert priced.cost_nano_usd.tolist() == [base, long]


def test_bedrock_regions(price):
    call = {"provider": "aws.bedrock", "model": "anthropic.claude-sonnet-4-6", "input_tokens": 1000}
    assert price(call)[0] == price({**call, "region": "us-east-1"})[0] == 3_300_000
    assert price({**call, "region": "global"})[0] == 3_000_000


def test_an_event_is_capped_at_a_million_dollars(price):
    assert price({"model": "o1-pro", "output_tokens": MAX_TOKENS})[0] == MAX_COST_NANO_USD
    assert price({"model": "no-such", "output_tokens": MAX_TOKENS, "quantity": 1e12})[1] == MAX_COST_NANO_USD


def test_catalogue_prices_of_quantities(price):
    audio = {"kind": "AUDIO", "provider": "openai", "model": "whisper-1", "quantity": 90.0, "unit": "seconds"}
    assert price(audio) == (9_000_000, 0, FINAL, 9_000_000)
    search = {"kind": "TOOL_CALL", "provider": "openai", "model": "gpt-4o", "quantity": 2.0, "unit": "web_search"}
    assert price(search)[0] == 20_000_000
    assert price({**audio, "kind": "GPU"})[2] == UNPRICED


def test_every_kind_has_an_estimate_per_unit(price):
    for kind in KINDS:
        for unit in ("", "call", "second", "hour"):
            cost, estimate, status, by_table = price({"kind": kind, "quantity": 2.0, "unit": unit})
            assert (cost, status, by_table) == (0, UNPRICED, -1)
            assert estimate > 0
    hour, second = (price({"kind": "GPU", "quantity": 1.0, "unit": u})[1] for u in ("hours", "s"))
    assert hour == 3600 * second == 18_000_000_000
    assert price({"kind": "GPU", "quantity": 1e-12})[1] == 1


def test_the_estimate_is_dearer_than_the_catalogue():
    from genai_prices.data import providers

    prices = {"input_mtok": 0, "output_mtok": 4}
    for key, bucket in prices.items():
        listed = []
        for model in (m for p in providers for m in p.models):
            for entry in model.prices if isinstance(model.prices, list) else [model]:
                value = getattr(entry.prices, key)
                if value is not None:
                    listed.append(float(getattr(value, "base", value)))
        assert np.quantile(listed, 0.995) <= table.ESTIMATE_PICO_USD[bucket]


def test_keys_are_resolved_once_and_shared(make_columns):
    prices = PriceTable()
    events = [{"model": "gpt-4o", "input_tokens": 1000, "region": f"r{i % 10}"} for i in range(100)]
    assert set(prices.price(make_columns(events)).cost_nano_usd.tolist()) == {2_500_000}
    rows = len(prices._rates)
    prices.price(make_columns(events))
    assert len(prices) == 10
    assert len(prices._rates) == rows == 3


def test_new_names_are_bounded_by_credit_and_frequent_ones_go_first(make_columns, monkeypatch):
    monkeypatch.setattr(table, "MAX_CREDIT", 5.0)
    prices = PriceTable()
    flood = [{"model": f"made-up-{i}", "input_tokens": 1} for i in range(50)]
    real = [{"model": "gpt-4o", "input_tokens": 1000}] * 3
    priced = prices.price(make_columns(flood + real))
    assert len(prices) == 5
    assert prices.refused_keys == 46
    assert priced.cost_nano_usd[-3:].tolist() == [2_500_000] * 3
    assert (priced.status[:50] == UNPRICED).all() and (priced.estimate_nano_usd[:50] > 0).all()
    prices.price(make_columns(flood))
    assert len(prices) == 5
    prices.price(make_columns([{"model": "gpt-4o"}] * 2000 + flood))
    assert len(prices) == 7


def test_the_index_starts_anew_when_full(make_columns, monkeypatch):
    monkeypatch.setattr(table, "MAX_KEYS", 40)
    monkeypatch.setattr(table, "CAPACITY", 128)
    prices = PriceTable()
    for batch in range(5):
        events = [{"model": "gpt-4o", "region": f"{batch}-{i}", "input_tokens": 1000} for i in range(30)]
        assert prices.price(make_columns(events)).cost_nano_usd.tolist() == [2_500_000] * 30
        assert len(prices) <= 40


def test_a_batch_of_more_new_keys_than_the_index_holds(make_columns, monkeypatch):
    monkeypatch.setattr(table, "MAX_KEYS", 40)
    monkeypatch.setattr(table, "CAPACITY", 128)
    prices = PriceTable()
    events = [{"model": "gpt-4o", "region": str(i), "input_tokens": 1000} for i in range(300)]
    priced = prices.price(make_columns(events))
    assert len(prices) == 40
    assert np.count_nonzero(priced.cost_nano_usd == 2_500_000) == 40


def test_a_huge_name_is_unknown_without_a_look(price, monkeypatch):
    monkeypatch.setattr(table.catalogue, "find", None)
    assert price({"model": "claude" * 10_000, "input_tokens": 1}, PriceTable())[2] == UNPRICED


def test_kinds_and_units_do_not_share_a_key(make_columns):
    prices = PriceTable((PriceOverride("TOOL_CALL", 5.0, unit="call"), PriceOverride("GPU", 7.0, unit="second")))
    events = [
        {"kind": kind, "unit": unit, "quantity": 1.0}
        for kind, unit in (("TOOL_CALL", "call"), ("GPU", "second"), ("TOOL_CALL", "second"), ("GPU", "call"))
    ]
    assert prices.price(make_columns(events)).cost_nano_usd.tolist() == [5, 7, 0, 0]


def test_overrides_of_quantities(price):
    prices = PriceTable(
        (
            PriceOverride("TOOL_CALL", 1e7),
            PriceOverride("TOOL_CALL", 3e6, provider="tavily"),
            PriceOverride("TOOL_CALL", 2e6, provider="tavily", model="search", unit="call"),
            PriceOverride("HUMAN_REVIEW", 1.5e9, unit="minute"),
            PriceOverride("COMPLIANCE", 0.0),
        )
    )
    call = {"kind": "TOOL_CALL", "quantity": 3.0, "unit": "call"}
    assert price(call, prices) == (30_000_000, 0, FINAL, 30_000_000)
    assert price({**call, "provider": "Tavily"}, prices)[0] == 9_000_000
    assert price({**call, "provider": "Tavily", "model": "search"}, prices)[0] == 6_000_000
    assert price({**call, "provider": "Tavily", "model": "search", "unit": "page"}, prices)[0] == 9_000_000
    assert price({"kind": "HUMAN_REVIEW", "quantity": 2.5, "unit": "minute"}, prices)[0] == 3_750_000_000
    assert price({"kind": "HUMAN_REVIEW", "quantity": 2.5, "unit": "hour"}, prices)[2] == UNPRICED
    assert price({"kind": "COMPLIANCE", "quantity": 4.0}, prices) == (0, 0, FREE, 0)
    assert price({"kind": "TOOL_CALL"}, prices) == (0, 0, FREE, -1)
    # Tokens of a tool call that has a price are a detail of it, not a second thing to pay.
    assert price({**call, "input_tokens": 500}, prices) == (30_000_000, 0, FINAL, 30_000_000)


def test_overrides_of_tokens(price):
    prices = PriceTable(
        (
            PriceOverride("LLM", 2000.0, provider="openai", model="gpt-4o", unit="input_tokens"),
            PriceOverride("LLM", 100.0, provider="vllm", unit="token"),
            PriceOverride("LLM", 400.0, provider="vllm", unit="output_tokens"),
            PriceOverride("LLM", 0.0, provider="ollama"),
            PriceOverride("LLM", 50.0, model="in-house", unit="input_tokens"),
        )
    )
    call = {"model": "gpt-4o", "input_tokens": 1000, "output_tokens": 10}
    assert price(call, prices)[0] == 1000 * 2000 + 10 * 10_000
    assert price({**call, "model": "openai/gpt-4o"}, prices)[0] == 1000 * 2000 + 10 * 10_000
    assert price({**call, "kind": "EMBEDDING"}, prices)[0] == 1000 * 2500 + 10 * 10_000
    own = {"provider": "vllm", "model": "llama", "input_tokens": 7, "reasoning_tokens": 2, "output_tokens": 3}
    assert price(own, prices) == (7 * 100 + 2 * 100 + 3 * 400, 0, FINAL, 2100)
    assert price({"model": "ollama/llama3", "input_tokens": 7}, prices) == (0, 0, FREE, 0)
    half = {"model": "in-house", "input_tokens": 7, "cache_read_tokens": 3}
    assert price(half, prices)[0] == 500
    assert price({**half, "output_tokens": 1}, prices)[2] == UNPRICED


@pytest.mark.parametrize(
    "override",
    [
        PriceOverride("TOOLS", 1.0),
        PriceOverride("TOOL_CALL", -1.0),
        PriceOverride("TOOL_CALL", float("nan")),
        PriceOverride("TOOL_CALL", float("inf")),
        PriceOverride("LLM", 1e12, unit="token"),
    ],
)
def test_senseless_overrides_are_refused(override):
    with pytest.raises(ValueError):
        PriceTable((override,))


def test_two_prices_for_one_thing_are_refused():
    with pytest.raises(ValueError, match="two prices"):
        PriceTable((PriceOverride("GPU", 1.0, model="H100"), PriceOverride("GPU", 2.0, model="h100")))


def test_the_version_names_the_prices():
    gpu, tool = PriceOverride("GPU", 1.0), PriceOverride("TOOL_CALL", 1.0)
    assert PriceTable().version == "genai-prices 0.2.3"
    assert PriceTable((gpu, tool)).version == PriceTable((tool, gpu)).version
    assert PriceTable((gpu,)).version != PriceTable((PriceOverride("GPU", 1.5),)).version
    assert PriceTable((gpu,)).version.startswith("genai-prices 0.2.3 + 1 overrides ")
