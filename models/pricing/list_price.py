"""What a model's tokens cost by the list, for questions about models that were not called.

Of the standard tier, below any context threshold: sums over many requests say nothing about the size of each, so no
tier is ever selected by them (linuxarena/control-tower PR#1218). Called by models.economics.
"""

from models.config import PriceOverride
from models.pricing import catalogue
from models.pricing.overrides import Overrides, with_parents
from schemas.columns import TOKENS

BUCKETS = tuple(
    TOKENS.index(name) for name in ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "output_tokens")
)
"""Of the token counters of models.counters, in their order."""


class ListPrices:
    """Prices of one deployment, overrides included."""

    def __init__(self, overrides: tuple[PriceOverride, ...] = ()):
        self._overrides = Overrides(overrides)

    def pico_usd(self, model: str, at_ms: int) -> tuple[int, ...] | None:
        """Pico-USD of an input, cache-read, cache-write and output token at an instant; None if one is unknown.

        >>> ListPrices().pico_usd("anthropic/claude-sonnet-4-5", 1_795_500_000_000)
        (3000000, 300000, 3750000, 15000000)
        """
        match = catalogue.find("", model, "")
        own = self._overrides.token_prices("LLM", match)
        prices = None
        if match.model is not None:
            held = [rate for rate in catalogue.rates(match, "") if rate.start_ms <= at_ms and rate.above_tokens < 0]
            prices = next((rate.pico_usd for rate in held if rate.pico_usd is not None), None)
        if prices is None:
            known = with_parents(own)
        else:
            known = tuple(own.get(bucket, price) for bucket, price in enumerate(prices))
        wanted = tuple(known[bucket] for bucket in BUCKETS)
        return None if min(wanted) < 0 else wanted
