"""Why something costs more than expected: contributions that add up to the excess, to the nano-dollar.

A cost is a product of factors: events x tokens per event x weighted tokens per token x cost per weighted token, which
is volume x size x mix x price. Factors that fell are taken first, at the expected scale: together they can only save
what was expected. Then those that grew. Among each of the two the logarithmic mean splits the change without a rest
and without an order to choose: from a to b, a factor grown by g contributes (b - a) / ln(b / a) x ln(g).

Source: B. W. Ang, "The LMDI approach to decomposition analysis", Energy Policy 33 (2005). A split of what is known by
part (model, agent, kind, use case) is proportional: of an expectation only the total is known.
"""

import math

FACTORS = ("volume", "size", "mix", "price")
"""Dimensions whose contributions add up to the excess together; those of any other dimension do so by themselves."""


def part(dimension: str, name: str, excess_nano_usd: int) -> dict:
    """A Contribution of the Finding schema."""
    return {"dimension": dimension, "name": name, "excess_nano_usd": excess_nano_usd}


def by_factor(cost_nano_usd: int, expected_nano_usd: int, factors: list[tuple[str, str, float]]) -> list[dict]:
    """Split an excess between factors (dimension, name, growth); what the others do not explain is the last one's.

    Growth is the observed factor over the usual one, the last one's is ignored; factors of no or unknown growth (0,
    infinite, NaN) are left out. Without a cost or an expectation above 0 there is one part, which holds it all.

    >>> doubled, fewer, dearer = ("size", "tokens", 2.0), ("volume", "events", 0.5), ("price", "cost per token", 0.0)
    >>> [part["excess_nano_usd"] for part in by_factor(8_000, 1_000, [doubled, fewer, dearer])]
    [1875, -500, 5625]
    """
    *known, (dimension, name, _) = factors
    excess = cost_nano_usd - expected_nano_usd
    if cost_nano_usd <= 0 or expected_nano_usd <= 0:
        return [part(dimension, name, excess)]
    known = [factor for factor in known if 0 < factor[2] < math.inf]
    total = math.log(cost_nano_usd / expected_nano_usd)
    logs = [math.log(growth) for _, _, growth in known]
    logs.append(total - math.fsum(logs))
    lowest = expected_nano_usd * math.exp(math.fsum(change for change in logs if change < 0))
    saved, added = _mean(expected_nano_usd, lowest), _mean(lowest, cost_nano_usd)
    shares = [round((saved if change < 0 else added) * change) for change in logs]
    largest = max(range(len(shares)), key=lambda at: abs(shares[at]))
    shares[largest] += excess - sum(shares)
    return [part(*factor[:2], share) for factor, share in zip((*known, factors[-1]), shares, strict=True)]


def _mean(a: float, b: float) -> float:
    """The logarithmic mean, which lies between a and b (both above 0)."""
    return a if math.isclose(a, b, rel_tol=1e-12) else (b - a) / math.log(b / a)


def by_share(dimension: str, excess_nano_usd: int, costs: dict[str, int]) -> list[dict]:
    """Split an excess like the costs (nano-USD, not negative) of its parts, largest first; empty if there are none.

    >>> [part["excess_nano_usd"] for part in by_share("kind", 100, {"LLM": 20, "TOOL_CALL": 10})]
    [67, 33]
    """
    total = sum(costs.values())
    parts, before, given = [], 0, 0
    for name, cost in sorted(costs.items(), key=lambda item: (-item[1], item[0])):
        if cost > 0:
            before += cost
            # Of the running sum, so that rounding leaves no rest.
            upto = (2 * excess_nano_usd * before + total) // (2 * total)
            parts.append(part(dimension, name, upto - given))
            given = upto
    return parts
