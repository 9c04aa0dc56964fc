"""The kernel against a twin in plain Python integers and fractions, over random rate rows."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import DAY_MS
from models.pricing import kernel
from models.pricing.kernel import FIELDS, PRICE
from models.pricing.table import PriceTable
from schemas.columns import KINDS, MAX_COST_NANO_USD, MAX_QUANTITY, MAX_TOKENS, NO_COST, STRINGS

INPUT = [0, 1, 2, 3, 6, 8]


def half_even(value: Fraction) -> int:
    return round(value)


def twin(event, block, estimate_row):
    """(cost, estimate, status, table) of one event; block: (start, time of day, above, *row) in the kernel's order."""
    tokens, quantity, reported, kind, time = event
    context = sum(tokens[b] for b in INPUT)
    row_request, missing, prices, unit, unit_estimate = next(
        row
        for start, (tod_start, tod_end), above, *row in block
        if time >= start and tod_start <= time % DAY_MS < tod_end and context > above
    )
    measured_by_tokens = kind < KINDS.index("TOOL_CALL")
    request = row_request if measured_by_tokens else 0
    has_tokens, has_quantity = any(tokens), quantity > 0
    tokens_known = all(p >= 0 for p, t in zip(prices, tokens, strict=True) if t)
    quantity_known = unit >= 0
    first = (has_tokens, tokens_known) if measured_by_tokens else (has_quantity, quantity_known)
    second = (has_quantity, quantity_known) if measured_by_tokens else (has_tokens, tokens_known)
    used, known = first if first[0] else second
    if not (has_tokens or has_quantity or request):
        used, known = True, quantity_known or max(prices) >= 0
    cost, estimate, status, table = 0, 0, kernel.FREE, -1
    of_quantity = half_even(Fraction(min(quantity * (unit if quantity_known else unit_estimate), 1e15)))
    if used and not known:
        at = prices if tokens_known else estimate_row
        nano = half_even(Fraction(sum(max(p, 0) * t for p, t in zip(at, tokens, strict=True)), 1000)) + of_quantity
        estimate, status = min(max(nano, 1), MAX_COST_NANO_USD), kernel.UNPRICED
    elif has_tokens or has_quantity or request:
        nano = 0
        if tokens_known:
            nano += half_even(Fraction(sum(max(p, 0) * t for p, t in zip(prices, tokens, strict=True)) + request, 1000))
        if has_quantity and quantity_known:
            nano += of_quantity
        cost = table = min(nano, MAX_COST_NANO_USD)
        nothing_costs = max(prices) <= 0 and row_request == 0
        if cost == 0 and nothing_costs and not (has_quantity and unit > 0):
            status = kernel.FREE
        else:
            status = kernel.ESTIMATED if missing else kernel.FINAL
    if reported is not None:
        cost, estimate, status = reported, 0, kernel.PROVIDER_REPORTED
    return cost, estimate, status, table


price = st.one_of(st.just(-1), st.just(0), st.integers(0, 10**9), st.integers(0, kernel.MAX_PRICE_PICO_USD))
count = st.one_of(st.just(0), st.integers(0, 1000), st.integers(0, MAX_TOKENS), st.just(MAX_TOKENS))
unit = st.one_of(st.just(-1.0), st.just(0.0), st.floats(0, 1e15))
row = st.tuples(
    st.one_of(st.just(0), st.integers(0, 10 * kernel.MAX_PRICE_PICO_USD // 1000)),  # request
    st.booleans(),  # tier missing
    st.one_of(st.lists(price, min_size=10, max_size=10), st.just([-1] * 10), st.just([0] * 10)),
    unit,
    st.floats(0, 1e12),
)
event = st.tuples(
    st.one_of(st.lists(count, min_size=10, max_size=10), st.just([0] * 10), st.just([MAX_TOKENS] * 10)),
    st.one_of(st.just(0.0), st.floats(0, MAX_QUANTITY)),
    st.one_of(st.none(), st.integers(0, MAX_COST_NANO_USD)),
    st.integers(0, len(KINDS) - 1),
    st.integers(946_684_800_000, 7_258_118_400_000),
)


@st.composite
def blocks(draw):
    """Rows that together cover every time and size, in the order in which the kernel wants them."""
    starts = [*sorted(draw(st.sets(st.integers(10**12, 2 * 10**12), max_size=2)), reverse=True), -(2**62)]
    cuts = [0, *sorted(draw(st.sets(st.integers(1, DAY_MS - 1), max_size=2))), DAY_MS]
    levels = [*sorted(draw(st.sets(st.integers(0, 10**6), max_size=2)), reverse=True), -1]
    return [
        (start, (cuts[i], cuts[i + 1]), level, *draw(row))
        for start in starts
        for i in range(len(cuts) - 1)
        for level in levels
    ]


def run(events, block, indexed=True):
    """price_events over arrays laid out as PriceTable does, by the table's own ``_row``."""
    from models.pricing.catalogue import Rate
    from models.pricing.table import _row

    base = PriceTable()
    rows, units = [], []
    for i, (start, tod, above, request, missing, prices, unit_price, unit_estimate) in enumerate(block):
        rate = Rate(start, *tod, above, None, request, {}, missing)
        rows.append(_row(rate, tuple(prices), len(block) - 1 - i))
        units.append((unit_price, unit_estimate))
    rates = np.concatenate([base._rates, np.array(rows, np.int64).reshape(-1, FIELDS)])
    units = np.concatenate([base._units, np.array(units).reshape(-1, 2)])
    n = len(events)
    arguments = (
        np.arange(n),
        np.zeros(n, np.int8),
        np.array([e[3] for e in events], np.int8),
        np.array([e[0] for e in events], np.int64),
        np.array([e[1] for e in events]),
        np.array([NO_COST if e[2] is None else e[2] for e in events], np.int64),
        np.array([e[4] for e in events], np.int64),
        np.ones((n, len(STRINGS)), np.uint64),
    )
    keys, index = np.zeros(64, np.uint64), np.zeros(64, np.int32)
    out = [np.full(n, 77, t) for t in (np.int64, np.int64, np.int8, np.int64)]
    missing, new = np.empty(n, np.int64), np.empty(n, np.uint64)
    tables = (keys, index, rates, units, base._kind_estimate)
    count = kernel.price_events(*arguments, *tables, *out, missing, new)
    assert missing[:count].tolist() == list(range(n))
    if indexed:
        kernel.index_keys(keys, index, np.unique(new), np.full(len(set(new.tolist())), len(base._rates), np.int32))
        count = kernel.price_events(*arguments, *tables, *out, missing, new)
    return list(zip(*(array.tolist() for array in out), strict=True)), count, base


@settings(max_examples=150, deadline=None)
@given(events=st.lists(event, min_size=1, max_size=8), block=blocks())
def test_kernel_equals_its_twin(events, block):
    got, missing, base = run(events, block)
    estimate_row = base._rates[kernel.ESTIMATE_ROW, PRICE:].tolist()
    assert missing == 0
    assert got == [twin(e, block, estimate_row) for e in events]


def test_no_sum_overflows_at_the_bounds():
    """Ten full buckets at the dearest price: 5e18 nano-USD inside the kernel, capped to a million dollars outside."""
    full = [MAX_TOKENS] * 10
    dearest = kernel.MAX_PRICE_PICO_USD
    rates = np.zeros((1, FIELDS), np.int64)
    rates[0, PRICE:] = dearest
    rates[0, kernel.LIMIT] = 2**62 // dearest
    tokens = np.array([full], np.int64)
    cost = kernel.token_cost(tokens, 0, tokens.sum(), np.int64(dearest), rates, 0)
    assert cost == half_even(Fraction(sum(full) * dearest + dearest, 1000)) == 5 * 10**18 + 5 * 10**7


def test_both_limbs_agree_on_each_side_of_the_guard():
    rng = np.random.default_rng(3)
    for _ in range(300):
        rates = np.zeros((1, FIELDS), np.int64)
        rates[0, PRICE:] = rng.integers(0, 10 ** rng.integers(1, 11), 10)
        limit = 2**62 // max(int(rates[0, PRICE:].max()), 1)
        tokens = rng.integers(0, min(limit // 5 + 2, MAX_TOKENS), (1, 10))
        exact = half_even(
            Fraction(sum(int(t) * int(p) for t, p in zip(tokens[0], rates[0, PRICE:], strict=True)), 1000)
        )
        for guard in (limit, -1):
            rates[0, kernel.LIMIT] = guard
            assert kernel.token_cost(tokens, 0, tokens.sum(), np.int64(0), rates, 0) == exact


def test_ties_go_to_even():
    rates = np.zeros((1, FIELDS), np.int64)
    rates[0, PRICE], rates[0, kernel.LIMIT] = 500, 2**50
    costs = [kernel.token_cost(np.array([[n] + [0] * 9]), 0, n, np.int64(0), rates, 0) for n in range(8)]
    assert costs == [0, 0, 1, 2, 2, 2, 3, 4]


def test_a_missing_key_is_unpriced_with_an_estimate():
    got, missing, _ = run([([1000] + [0] * 9, 0.0, None, 0, 10**12)], [], indexed=False)
    assert missing == 1
    assert got == [(0, 30_000_000, kernel.UNPRICED, -1)]
