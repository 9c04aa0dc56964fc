"""Money is int64 nano-USD: exact to add, safe to 9.2 billion dollars. Floats only inside detectors."""

from decimal import ROUND_HALF_EVEN, Decimal

NANO_PER_USD = 10**9


def to_nano_usd(usd: Decimal | str | int) -> int:
    """Nearest nano-dollar, ties to even.

    >>> to_nano_usd("0.0000000015")
    2
    """
    return int((Decimal(usd) * NANO_PER_USD).to_integral_value(ROUND_HALF_EVEN))


def to_usd(nano_usd: int) -> Decimal:
    """Exact dollars."""
    return Decimal(nano_usd) / NANO_PER_USD


def format_usd(nano_usd: int) -> str:
    """Dollars for people: cents from one dollar on, three significant digits below.

    >>> format_usd(9_990_012_528_750), format_usd(1_234_567), format_usd(-2_500_000_000)
    ('$9,990.01', '$0.00123', '-$2.50')
    """
    sign = "-" if nano_usd < 0 else ""
    usd = abs(nano_usd) / NANO_PER_USD
    if usd >= 0.995 or nano_usd == 0:
        return f"{sign}${usd:,.2f}"
    digits = 2
    while usd < 10 ** -(digits - 2) and digits < 11:
        digits += 1
    return f"{sign}${usd:.{digits}f}"
