"""Contributions add up to the excess, to the nano-dollar, whatever the factors."""

import math

from hypothesis import given
from hypothesis import strategies as st

from models.explain import by_factor, by_share

money = st.integers(-10, 10**17)
growths = st.floats(1e-6, 1e6) | st.sampled_from([0.0, math.inf, math.nan, -1.0, 1.0])


@given(money, money, st.lists(growths, max_size=4))
def test_factors_add_up(cost, expected, growth):
    factors = [("size", str(at), value) for at, value in enumerate(growth)] + [("price", "rest", 0.0)]
    parts = by_factor(cost, expected, factors)
    assert sum(part["excess_nano_usd"] for part in parts) == cost - expected
    assert parts[-1]["dimension"] == "price"


@given(st.integers(1, 10**15), st.integers(1, 10**15), st.lists(st.floats(1e-4, 1e4), max_size=3))
def test_what_fell_saves_at_most_what_was_expected(cost, expected, growth):
    parts = by_factor(cost, expected, [("size", "", value) for value in growth] + [("price", "", 0.0)])
    saved = sum(min(part["excess_nano_usd"], 0) for part in parts)
    # Rounding: half a nano-dollar a part, and what a float cannot hold of the whole.
    assert saved >= -expected - len(parts) - 1e-9 * max(cost, expected)


def test_each_factor_is_told_apart():
    def split(**growth):
        price = growth.pop("price", 1.0)
        cost = 1_000_000 * math.prod(growth.values()) * price
        parts = by_factor(round(cost), 1_000_000, [*((n, n, g) for n, g in growth.items()), ("price", "price", 0.0)])
        return {part["name"]: part["excess_nano_usd"] for part in parts}

    assert split(volume=20.0, size=1.0) == {"volume": 19_000_000, "size": 0, "price": 0}
    assert split(volume=1.0, size=1.0, price=1e6) == {"volume": 0, "size": 0, "price": 999_999_000_000}
    even = split(volume=3.0, size=3.0)
    assert even["volume"] == even["size"] == 4_000_000


@given(money, st.dictionaries(st.text(max_size=3), st.integers(0, 10**17), max_size=6))
def test_shares_add_up(excess, costs):
    parts = by_share("kind", excess, costs)
    assert bool(parts) == any(costs.values())
    if parts:
        assert sum(part["excess_nano_usd"] for part in parts) == excess
        total = sum(costs.values())
        for part in parts:
            assert abs(part["excess_nano_usd"] * total - excess * costs[part["name"]]) <= total * 1
