"""The price catalogue of genai-prices, compiled to integer rates.

``find`` turns the provider and model of an event into a catalogue entry, ``rates`` turns an entry and a service tier
into flat rates: one per period, time of day and context tier. Which price holds when is asked of the library itself
at every edge, so that the meaning of its dates, times and variants is not written down twice.

Only the snapshot bundled with the installed package is read, never the network. An unknown name is None, never a
price. Cost: 0.05 to 1 ms per name (OpenRouter has 900 models to match), 0.1 ms per (match, tier). Called by
models.pricing.table once per price key.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from itertools import pairwise

import genai_prices
from genai_prices.data import providers as PROVIDERS
from genai_prices.data_snapshot import find_provider_by_id
from genai_prices.types import (
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from models.config import DAY_MS
from models.pricing.kernel import MAX_PRICE_PICO_USD

VERSION = f"genai-prices {genai_prices.__version__}"
ALWAYS_MS = -(2**62)
"""Start of a price that has always held."""

PROVIDER_ALIASES = {
    "aws.bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "azure_ai": "azure",
    "azure_openai": "azure",
    "cohere_chat": "cohere",
    "fireworks_ai": "fireworks",
    "gcp.gen_ai": "google",
    "meta_llama": "meta",
    "models": "google",
    "publishers": "google",
    "x_ai": "x-ai",
    "z_ai": "zai",
    "z-ai": "zai",
}
"""Names of LiteLLM, OpenTelemetry and Google's SDKs that the catalogue's own matching does not know or gets wrong."""
UNPREFIXED = ("accounts/fireworks/", "@cf/")
"""Beginnings of model names with a slash that is no provider prefix."""
PATH_PROVIDERS = ("aws", "azure", "google")
"""Providers whose model names come as resource paths: only the last segment names the model."""

STANDARD_TIERS = frozenset({"", "default", "on-demand", "on_demand", "ondemand", "regular", "standard"})
CONTEXT_KEYS = ("processing", "service_tier", "speed")
"""Keys of genai-prices' price_context that a service tier may stand under; it ignores what it does not know."""
OTHER_TIER = "other"
_KNOWN_TIERS = {
    variant.when[key]
    for provider in PROVIDERS
    for model in provider.models
    for variant in model.price_variants or ()
    for key in CONTEXT_KEYS
    if key in variant.when
}

BUCKET_PRICES = (
    ("input_mtok",),
    ("cache_read_mtok", "input_mtok"),
    ("cache_write_5m_mtok", "cache_write_mtok", "input_mtok"),
    ("cache_write_1h_mtok", "cache_write_mtok", "input_mtok"),
    ("output_mtok",),
    ("output_reasoning_mtok", "output_mtok"),
    ("input_audio_mtok", "input_mtok"),
    ("output_audio_mtok", "output_mtok"),
    ("input_image_mtok", "input_mtok"),
    ("output_image_mtok", "output_mtok"),
)
"""Prices of each bucket of schemas.columns.TOKENS, most specific first: the first that the model has applies."""

QUANTITY_PRICES = {
    "character": ("input_mchars", 10**6),
    "hour": ("audio_hours", 1),
    "minute": ("audio_hours", 60),
    "page": ("input_document_kpages", 1000),
    "second": ("audio_hours", 3600),
    "storage_search": ("storage_searches_kcount", 1000),
    "web_search": ("web_searches_kcount", 1000),
}
"""Units of ``quantity`` that the catalogue has prices for: its price key and how many units that price buys."""


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """A name of an event and what the catalogue knows about it.

    ``providers`` and ``models`` are the lower-case names it goes by, for overrides to match: as in the event,
    without its prefix, and in the catalogue.
    """

    providers: frozenset[str]
    models: frozenset[str]
    provider: Provider | None = None
    model: ModelInfo | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """What one token of each bucket costs in one period, time of day and context tier.

    pico_usd is None where the catalogue has no token price at all. quantity_usd maps units to dollars per unit.
    """

    start_ms: int
    tod_start_ms: int
    tod_end_ms: int
    above_tokens: int
    pico_usd: tuple[int, ...] | None
    request_pico_usd: int
    quantity_usd: dict[str, Decimal]
    tier_missing: bool


def find(provider: str, model: str, region: str) -> Match:
    """The catalogue's entry for the names of an event; ``model`` is None in the result if it has none."""
    provider, model = provider.strip().lower(), model.strip().lower()
    providers, models = {provider}, {model}
    references = [model]
    entry = None
    prefix, _, rest = model.partition("/")
    if provider and provider != "litellm":
        entry = _provider(provider)
        if entry is not None and rest and _provider(prefix) is entry:
            references.append(rest)
    elif rest and not model.startswith(UNPREFIXED):
        entry = _provider(prefix)
        providers.add(prefix)
        references = [rest]
    elif model:
        entry = next((p for p in PROVIDERS if p.model_match is not None and p.model_match.is_match(model)), None)
    models.update(references)
    if entry is None or not model:
        return Match(frozenset(providers), frozenset(models))
    providers.add(entry.id)
    last = model.rpartition("/")[2]
    if entry.id in PATH_PROVIDERS and last not in references:
        references.append(last)
    if entry.id == "aws" and is_global(region):
        references.insert(0, f"global.{last}")
    for reference in references:
        found = entry.find_model(reference, all_providers=PROVIDERS)
        if found is not None:
            return Match(frozenset(providers), frozenset(models | {found.id.lower()}), entry, found)
    return Match(frozenset(providers), frozenset(models))


def is_global(region: str) -> bool:
    """Bedrock's global endpoint; AWS bills regional ones 10 % above it, and a bare model id means regional."""
    return region.strip().lower() == "global"


def _provider(name: str) -> Provider | None:
    return find_provider_by_id(PROVIDERS, PROVIDER_ALIASES.get(name, name)) if name else None


@lru_cache(maxsize=4096)
def rates(match: Match, tier: str) -> list[Rate]:
    """Rates of a found model at a tier (see ``tier_of``), in the order in which the kernel takes the first that fits.

    The list is shared and not to be modified.
    """
    model = match.model
    context = dict.fromkeys(CONTEXT_KEYS, tier) if tier else {}
    # The library drops the context, too, when the model was found by way of a fallback provider.
    own = any(model is m for m in match.provider.models)
    variants = [v for v in model.price_variants or () if own and _selected(v, context)]
    conditional = model.prices if isinstance(model.prices, list) else []
    constraints = [c.constraint for c in (*conditional, *variants)]
    dates = sorted({c.start_date for c in constraints if isinstance(c, StartDateConstraint)}, reverse=True)
    cuts = {0, DAY_MS}
    for c in constraints:
        if isinstance(c, TimeOfDateConstraint):
            cuts |= {_time_of_day_ms(c.start_time), _time_of_day_ms(c.end_time)}
    edges = sorted(cuts)
    result = []
    for day in [*dates, (dates[-1] if dates else date(2020, 1, 2)) - timedelta(days=1)]:
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        start_ms = int(midnight.timestamp()) * 1000 if day in dates else ALWAYS_MS
        periods: list[tuple[int, int, ModelPrice, bool]] = []
        for begin, end in pairwise(edges):
            now = midnight + timedelta(milliseconds=begin)
            price = model.get_prices(now, context if own else None)
            missing = bool(context) and not any(v.constraint is None or v.constraint.active(now) for v in variants)
            if periods and periods[-1][2:] == (price, missing):
                periods[-1] = (periods[-1][0], end, price, missing)
            else:
                periods.append((begin, end, price, missing))
        for begin, end, price, missing in periods:
            result += [_rate(start_ms, begin, end, above, price, missing) for above in _thresholds(price)]
    return result


def tier_of(service_tier: str) -> str:
    """ "" for the standard tier, the name of one that the catalogue has prices for, or OTHER_TIER."""
    tier = service_tier.strip().lower()
    if tier in STANDARD_TIERS:
        return ""
    return tier if tier in _KNOWN_TIERS else OTHER_TIER


def _selected(variant: PriceVariant, context: dict[str, str]) -> bool:
    return all(context.get(key) == value for key, value in variant.when.items())


def _time_of_day_ms(at: time) -> int:
    if at.tzinfo is not None:
        at = datetime.combine(date(1970, 1, 1), at).astimezone(UTC).time()
    return ((at.hour * 60 + at.minute) * 60 + at.second) * 1000 + at.microsecond // 1000


def _thresholds(price: ModelPrice) -> list[int]:
    tiered = (value for value in vars(price).values() if isinstance(value, TieredPrices))
    return sorted({-1, *(tier.start for value in tiered for tier in value.tiers)}, reverse=True)


def _rate(start_ms: int, begin: int, end: int, above: int, price: ModelPrice, missing: bool) -> Rate:
    usd = {key: _at(value, above) for key, value in vars(price).items() if value is not None}
    pico = None
    # An entry without any price is how the catalogue writes "free"; one that only has other units is not.
    if not usd or any(key.endswith("_mtok") for key in usd):
        pico = tuple(_pico(next((usd[key] for key in keys if key in usd), Decimal(0)), 10**6) for keys in BUCKET_PRICES)
    quantity = {unit: usd[key] / size for unit, (key, size) in QUANTITY_PRICES.items() if key in usd}
    request = _pico(usd.get("requests_kcount", Decimal(0)), 1000)
    return Rate(start_ms, begin, end, above, pico, request, quantity, missing)


def _at(value: Decimal | TieredPrices, above: int) -> Decimal:
    """The price of all tokens of a request with more than ``above`` input tokens (cliff, not marginal)."""
    if isinstance(value, TieredPrices):
        return next((tier.price for tier in reversed(value.tiers) if tier.start <= above), value.base)
    return value


def _pico(usd: Decimal, per: int) -> int:
    """Pico-USD of one, from dollars for ``per``; to the nearest, which is exact but for float residue in the source."""
    pico = int((usd * 10**12 / per).to_integral_value(ROUND_HALF_EVEN))
    if not 0 <= pico <= MAX_PRICE_PICO_USD:
        raise ValueError(f"catalogue price out of range: ${usd} for {per}")
    return pico
