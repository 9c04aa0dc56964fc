"""Why something costs more than expected: contributions that add up to the excess, to the nano-dollar."""


def volume_and_price(
    cost_nano_usd: int, units: int, expected_nano_usd: int, expected_units: float, volume_name: str, price_name: str
) -> list[dict]:
    """Split an excess into more units and dearer units.

    With u0 the expected price of a unit: volume = (units - expected_units) u0, price = the rest, which is
    units (u - u0) up to the rounding of volume to a nano-dollar.

    >>> [part["excess_nano_usd"] for part in volume_and_price(1000, 50, 100, 10, "calls", "cost per call")]
    [400, 500]
    """
    excess = cost_nano_usd - expected_nano_usd
    unit_nano_usd = expected_nano_usd / expected_units if expected_units > 0 else 0.0
    volume = round((units - expected_units) * unit_nano_usd)
    return [
        {"dimension": "volume", "name": volume_name, "excess_nano_usd": volume},
        {"dimension": "price", "name": price_name, "excess_nano_usd": excess - volume},
    ]
