from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.money import format_usd, to_nano_usd, to_usd

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(INT64)
def test_nano_usd_survive_the_round_trip(nano):
    assert to_nano_usd(to_usd(nano)) == nano


@given(st.decimals(-(10**9), 10**9, allow_nan=False, places=12))
def test_to_nano_usd_rounds_half_to_even(usd):
    scaled = usd.scaleb(9)
    assert to_nano_usd(usd) == int(scaled.quantize(Decimal(1), ROUND_HALF_EVEN))
    assert abs(Decimal(to_nano_usd(usd)) - scaled) <= Decimal("0.5")


@pytest.mark.parametrize(
    ("usd", "nano"), [("0.0000000005", 0), ("0.0000000015", 2), ("-0.0000000025", -2), (3, 3 * 10**9), ("1e-9", 1)]
)
def test_ties_and_whole_dollars(usd, nano):
    assert to_nano_usd(usd) == nano


def test_what_is_no_number_is_refused():
    with pytest.raises(ArithmeticError):
        to_nano_usd("cheap")


@given(INT64)
def test_formatted_dollars_read_back_to_three_digits(nano):
    text = format_usd(nano)
    value = Decimal(text.replace("$", "").replace(",", ""))
    tolerance = max(abs(to_usd(nano)) / 199, Decimal("0.000000001") / 2)
    assert abs(value - to_usd(nano)) <= tolerance
    assert text.startswith("-") == (nano < 0)


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "$0.00"),
        (1, "$0.00000000100"),
        (12_628_750, "$0.0126"),
        (999_999_999, "$1.00"),
        (-1_005_000_000, "-$1.00"),
        (1_234_567_890_000_000, "$1,234,567.89"),
    ],
)
def test_formatted_examples(nano, text):
    assert format_usd(nano) == text
