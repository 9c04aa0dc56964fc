"""The arithmetic of prices: one kernel from token counts and rates to nano-USD.

Guarantees: a token cost is summed exactly in pico-USD and rounded half to even once, for every count that the
decoder lets through; no sum overflows. Cost: about 45 ns per event; rates are 144 bytes per row.

A *rate row* is int64[FIELDS] with the fields below and, in ``units`` float64[2], the price and the estimate of one
unit of ``quantity`` in nano-USD. Rows of one price key lie together, newest start first, then time of day, then
the highest context tier first; MORE counts the rows that follow in the block, and its last row takes what no
other did. Row UNKNOWN_ROW has no price at all, row ESTIMATE_ROW holds the conservative prices.

Called by models.pricing.table only.
"""

import numpy as np
from numba import njit

from models.config import DAY_MS
from models.hashtable import EMPTY, find, mix, put
from schemas.columns import KINDS, MAX_COST_NANO_USD, MAX_TOKENS, NO_COST, OK, TOKENS, string_index

FINAL, ESTIMATED, UNPRICED, FREE, PROVIDER_REPORTED = range(5)
"""Cost status of an event.

FINAL              by the price table
ESTIMATED          by the table's standard price, because the service tier has no price of its own there
UNPRICED           no price known: cost 0, a conservative estimate beside it, also where nothing is said to be used
FREE               a price of zero, or nothing used of what has a price
PROVIDER_REPORTED  the provider said so
"""

BUCKETS = len(TOKENS)
START, TOD_START, TOD_END, ABOVE, MORE, LIMIT, REQUEST, FLAGS, PRICE = range(9)
FIELDS = PRICE + BUCKETS
"""Columns of a rate row.

START              event time in ms from which it holds
TOD_START, TOD_END time of day in ms, UTC, half open
ABOVE              holds for more input tokens than this (cached, audio and image included)
MORE               rows of the block that follow
LIMIT              total tokens up to which the pico-USD sum fits one int64
REQUEST            pico-USD per request
FLAGS              TIER_MISSING, PARTIAL
PRICE...           pico-USD per token of each bucket; -1 = unknown
"""

TIER_MISSING = 1
PARTIAL = 2
UNKNOWN_ROW, ESTIMATE_ROW = 0, 1

MAX_PRICE_PICO_USD = 5 * 10**10
"""$50,000 per million tokens, 80 times the dearest model. Ten full buckets then cost at most
10 x MAX_TOKENS x 5e7 nano-USD = 5e18, which an int64 holds; pico-USD need the second limb."""
PICO_PER_NANO = 1000

FIRST_QUANTITY_KIND = KINDS.index("TOOL_CALL")
"""Kinds from here on are measured by quantity, those before by tokens."""

_PROVIDER, _MODEL, _TIER, _REGION, _UNIT = (
    string_index(name) for name in ("provider", "model", "service_tier", "region", "unit")
)
NO_LIMIT = np.iinfo(np.int64).max
"""LIMIT of a row in which nothing has a price above zero."""
_INPUT_BUCKETS = (0, 1, 2, 3, 6, 8)
_CAP = float(MAX_COST_NANO_USD)

assert BUCKETS * MAX_TOKENS * (MAX_PRICE_PICO_USD // PICO_PER_NANO + 1) < 2**63
assert BUCKETS * MAX_TOKENS * PICO_PER_NANO < 2**62


@njit(cache=True, nogil=True, inline="always")
def price_key(hashes, i, kind):
    """Key of what row i is priced by.

    The hashes are keyed and well mixed already, so a sum with odd factors tells their order apart and one
    finaliser is enough: five dependent ones would take half of the budget.
    """
    total = (
        hashes[i, _PROVIDER] * np.uint64(0x9E3779B97F4A7C15)
        + hashes[i, _MODEL] * np.uint64(0xC2B2AE3D27D4EB4F)
        + hashes[i, _TIER] * np.uint64(0x165667B19E3779F9)
        + hashes[i, _REGION] * np.uint64(0xD6E8FEB86659FD93)
        + hashes[i, _UNIT] * np.uint64(0xA0761D6478BD642F)
    )
    return mix(total, np.uint64(kind))


@njit(cache=True, nogil=True, inline="always")
def _half_even(pico):
    nano = pico // PICO_PER_NANO
    rest = pico - nano * PICO_PER_NANO
    if rest > 500 or (rest == 500 and nano & 1):
        nano += 1
    return nano


@njit(cache=True, nogil=True)
def token_cost(tokens, i, total, request, rates, row):
    """Nano-USD of the tokens of event i and ``request`` pico-USD; buckets of unknown price count nothing."""
    if total <= rates[row, LIMIT]:
        pico = request
        for b in range(BUCKETS):
            pico += tokens[i, b] * max(rates[row, PRICE + b], 0)
        return _half_even(pico)
    nano = request // PICO_PER_NANO
    pico = request % PICO_PER_NANO
    for b in range(BUCKETS):
        price = max(rates[row, PRICE + b], 0)
        nano += tokens[i, b] * (price // PICO_PER_NANO)
        pico += tokens[i, b] * (price % PICO_PER_NANO)
    return nano + _half_even(pico)


@njit(cache=True, nogil=True, inline="always")
def _quantity_cost(quantity, unit):
    return np.int64(np.rint(min(quantity * unit, _CAP)))


@njit(cache=True, nogil=True)
def price_events(
    select,
    status,
    kind,
    tokens,
    quantity,
    reported,
    event_time_ms,
    hashes,
    keys,
    rows,
    rates,
    units,
    kind_estimate,
    cost,
    estimate,
    cost_status,
    table,
    missing_rows,
    missing_keys,
):
    """Price the events ``select`` int64[m]; returns how many of them have a key that is not in the index.

    status..hashes as in Columns; keys, rows: the index from price key to first rate row; rates int64[rows, FIELDS],
    units float64[rows, 2], kind_estimate float64[kinds]. Fills cost, estimate, table int64[n] and cost_status
    int8[n] of the selected events, and missing_rows int64, missing_keys uint64 (room for m). Missing keys are
    priced as unknown.
    """
    missing = 0
    last_key = EMPTY
    last_row = np.int64(-1)
    for s in range(len(select)):
        i = select[s]
        cost[i] = 0
        estimate[i] = 0
        cost_status[i] = FINAL
        table[i] = -1
        if status[i] != OK:
            continue
        key = price_key(hashes, i, kind[i])
        if key != last_key:
            last_key = key
            last_row = np.int64(find(keys, rows, key))
        row = last_row
        known_key = row >= 0
        if not known_key:
            missing_rows[missing] = i
            missing_keys[missing] = key
            missing += 1
            row = UNKNOWN_ROW

        total = np.int64(0)
        for b in range(BUCKETS):
            total += tokens[i, b]
        if rates[row, MORE] > 0:
            time = event_time_ms[i]
            time_of_day = time % DAY_MS
            context = np.int64(0)
            for b in _INPUT_BUCKETS:
                context += tokens[i, b]
            while rates[row, MORE] > 0 and (
                time < rates[row, START]
                or time_of_day < rates[row, TOD_START]
                or time_of_day >= rates[row, TOD_END]
                or context <= rates[row, ABOVE]
            ):
                row += 1

        flags = rates[row, FLAGS]
        amount = quantity[i]
        by_tokens = total > 0
        by_quantity = amount > 0.0
        request = rates[row, REQUEST] if kind[i] < FIRST_QUANTITY_KIND else np.int64(0)
        tokens_known = True
        if flags & PARTIAL:
            for b in range(BUCKETS):
                if tokens[i, b] > 0 and rates[row, PRICE + b] < 0:
                    tokens_known = False
        quantity_known = units[row, 0] >= 0.0

        # The kind says which measure must have a price; the other one is added where it has one.
        if kind[i] >= FIRST_QUANTITY_KIND:
            unknown = not quantity_known if by_quantity else by_tokens and not tokens_known
        else:
            unknown = not tokens_known if by_tokens else by_quantity and not quantity_known
        if not (by_tokens or by_quantity or request > 0 or quantity_known):
            # Nothing of an unknown thing: it may have a price per call, so it is no known zero.
            unknown = True
            for b in range(BUCKETS):
                if rates[row, PRICE + b] >= 0:
                    unknown = False

        if unknown:
            nano = token_cost(tokens, i, total, np.int64(0), rates, row if tokens_known else ESTIMATE_ROW)
            if by_quantity and quantity_known:
                nano += _quantity_cost(amount, units[row, 0])
            elif by_quantity:
                nano += _quantity_cost(amount, units[row, 1] if known_key else kind_estimate[kind[i]])
            cost_status[i] = UNPRICED
            estimate[i] = min(max(nano, 1), MAX_COST_NANO_USD)
        elif by_tokens or by_quantity or request > 0:
            nano = np.int64(0)
            if tokens_known:
                nano += token_cost(tokens, i, total, request, rates, row)
            if by_quantity and quantity_known:
                nano += _quantity_cost(amount, units[row, 0])
            nano = min(nano, MAX_COST_NANO_USD)
            cost[i] = nano
            table[i] = nano
            if nano == 0 and rates[row, LIMIT] == NO_LIMIT and not (by_quantity and units[row, 0] > 0.0):
                cost_status[i] = FREE
            elif flags & TIER_MISSING:
                cost_status[i] = ESTIMATED
        else:
            cost_status[i] = FREE

        if reported[i] != NO_COST:
            cost[i] = reported[i]
            estimate[i] = 0
            cost_status[i] = PROVIDER_REPORTED
    return missing


@njit(cache=True, nogil=True)
def index_keys(keys, rows, new_keys, new_rows):
    """Add new_keys uint64[m] with their first rate rows int32[m]; the caller has left room."""
    for j in range(len(new_keys)):
        put(keys, rows, new_keys[j], new_rows[j])
