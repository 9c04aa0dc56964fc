"""Prices of our own: what the catalogue lacks (tools, GPUs, people) and what was negotiated.

An override has a kind and may name a provider, a model and a unit; an empty field fits anything, names compare
without case. Of those that fit, the one with most fields named wins; then one that names the model, then the
provider. Its unit says what it prices:

- a bucket of schemas.columns.TOKENS, or ``token`` for all ten: tokens, instead of the catalogue's price;
- anything else, or empty: ``quantity`` in that unit.

A price of 0 without a unit makes tokens free, too: nothing times any unit. Called by models.pricing.table once per
price key; costs some microseconds per override.
"""

import hashlib
import math
from collections.abc import Iterable

from models.config import PriceOverride
from models.pricing.catalogue import Match
from models.pricing.kernel import MAX_PRICE_PICO_USD, PICO_PER_NANO
from schemas.columns import KINDS, MAX_COST_NANO_USD, TOKENS

ANY_TOKEN = "token"
_PARENT = {
    name: "input_tokens" if "input" in name or "cache" in name else "output_tokens"
    for name in TOKENS
    if name not in ("input_tokens", "output_tokens")
}
"""Where a bucket's price comes from when only plain tokens are priced, as in the catalogue."""


class Overrides:
    """The overrides of one deployment, checked once."""

    def __init__(self, overrides: Iterable[PriceOverride]):
        """Raises ValueError for an unknown kind, a price that is negative, not finite or absurd, and for duplicates."""
        self._by_kind: dict[str, list[PriceOverride]] = {kind: [] for kind in KINDS}
        self.count = 0
        seen = {}
        for override in overrides:
            _check(override)
            identity = (override.kind, *_fields(override))
            if identity in seen:
                raise ValueError(f"two prices for the same thing: {seen[identity]} and {override}")
            seen[identity] = override
            self._by_kind[override.kind].append(override)
            self.count += 1
        for fitting in self._by_kind.values():
            fitting.sort(key=_specificity, reverse=True)
        self.digest = hashlib.blake2b(repr(sorted(seen.items())).encode(), digest_size=4).hexdigest()

    def quantity_price(self, kind: str, match: Match, unit: str) -> float | None:
        """Nano-USD of one unit of quantity, or None."""
        unit = unit.strip().lower()
        for override in self._fitting(kind, match):
            named = override.unit.lower()
            if not named or (named == unit and not _prices_tokens(named)):
                return override.unit_nano_usd
        return None

    def token_prices(self, kind: str, match: Match) -> dict[int, int]:
        """Pico-USD per token of the buckets that have a price of our own, by their index."""
        prices = {}
        for override in reversed(self._fitting(kind, match)):
            named = override.unit.lower()
            pico = round(override.unit_nano_usd * PICO_PER_NANO)
            if named == ANY_TOKEN or (not named and override.unit_nano_usd == 0):
                prices.update(dict.fromkeys(range(len(TOKENS)), pico))
            elif named in TOKENS:
                prices[TOKENS.index(named)] = pico
        return prices

    def _fitting(self, kind: str, match: Match) -> list[PriceOverride]:
        return [
            o
            for o in self._by_kind[kind]
            if (not o.provider or o.provider.lower() in match.providers)
            and (not o.model or o.model.lower() in match.models)
        ]


def with_parents(prices: dict[int, int]) -> tuple[int, ...]:
    """All ten buckets: cached, audio and image tokens at the price of plain ones where they have none; -1 = unknown."""
    by_name = {TOKENS[bucket]: price for bucket, price in prices.items()}
    return tuple(by_name.get(name, by_name.get(_PARENT.get(name, ""), -1)) for name in TOKENS)


def _prices_tokens(unit: str) -> bool:
    return unit == ANY_TOKEN or unit in TOKENS


def _fields(override: PriceOverride) -> tuple[str, str, str]:
    return override.model.lower(), override.provider.lower(), override.unit.lower()


def _specificity(override: PriceOverride) -> tuple:
    named = [bool(field) for field in _fields(override)]
    # A single bucket is more than all tokens.
    return (sum(named), *named, override.unit.lower() in TOKENS)


def _check(override: PriceOverride) -> None:
    if override.kind not in KINDS:
        raise ValueError(f"unknown kind in {override}; kinds are {', '.join(KINDS)}")
    price = override.unit_nano_usd
    if not math.isfinite(price) or not 0 <= price <= MAX_COST_NANO_USD:
        raise ValueError(f"price must be 0 to {MAX_COST_NANO_USD} nano-USD: {override}")
    if _prices_tokens(override.unit.lower()) and price * PICO_PER_NANO > MAX_PRICE_PICO_USD:
        raise ValueError(f"more than $50,000 per million tokens: {override}")
