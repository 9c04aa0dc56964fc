"""What an event costs: one table per process, filled as new names turn up.

A price key is (kind, provider, model, service_tier, region, unit) as seen in events. The kernel looks its hash up;
keys it does not know come back to Python, which reads their names, compiles their rates and runs the kernel again
for those events only. So Python runs once per key, not per event.

Hostile input can invent keys at will. Keys are bounded (MAX_KEYS, then the index starts anew), rates are shared
between keys and so bounded by catalogue and overrides, and new keys are paid for by a credit that events earn:
without credit an event is priced as unknown this time. Cost: about 45 ns per event, 0.1 ms per new key; 3 MB.

Called by models.engine. Not thread-safe.
"""

from dataclasses import dataclass

import numpy as np

from models.config import DAY_MS, PriceOverride
from models.money import NANO_PER_USD
from models.pricing import catalogue, kernel
from models.pricing.catalogue import ALWAYS_MS, Match, Rate
from models.pricing.kernel import BUCKETS, FIELDS, PRICE
from models.pricing.overrides import Overrides, with_parents
from schemas.columns import KINDS, Columns, string_index

MAX_KEYS = 1 << 17
CAPACITY = 2 * MAX_KEYS
"""Slots of the index: a power of two, at most half full."""
MAX_NAME_BYTES = 256
"""Longer names are unknown without a look: the longest in the catalogue has 92 bytes."""
MAX_MATCHES = 1 << 13
MAX_CREDIT = 1_000.0
"""New names that one batch can bring in: more than a company uses, and at most about a second of work."""
CREDIT_PER_EVENT = 0.001
"""A name costs up to 1 ms (OpenRouter's 900 models, tried twice), so a producer who never repeats one adds at most
1 us per event on average."""
KNOWN_NAME_CREDIT = 0.05
"""A new key of a known name: another region, tier or unit; 30 us."""

ESTIMATE_PICO_USD = (30, 7.5, 37.5, 37.5, 150, 150, 40, 150, 30, 150)
"""Conservative dollars per million tokens of each bucket, for events without a known price.

At least what 99.5 % of the catalogue's entries ask (input 30, cache read 7.5, cache write 37.5, output 150,
audio input 40): a guard against runaway spend must not underestimate, and recorded spend leaves it out.
"""
ESTIMATE_UNIT_USD = {
    "LLM": 0.035,
    "EMBEDDING": 0.035,
    "RERANK": 0.035,
    "IMAGE": 0.25,
    "AUDIO": 0.0014,
    "TOOL_CALL": 0.035,
    "VECTOR_QUERY": 0.035,
    "GPU": 0.005,
    "HUMAN_REVIEW": 0.035,
    "COMPLIANCE": 1.0,
    "OTHER": 0.035,
}
"""Conservative dollars for one unit of quantity of unknown price. Calls: the dearest web search of the catalogue
($35 per 1,000); image: a large one in high quality; audio, GPU and review per second: $4.80, $18 and $126 an hour."""
UNIT_SECONDS = {"hour": 3600, "minute": 60, "second": 1, "ms": 0.001, "millisecond": 0.001}
DEFAULT_SECONDS = {"AUDIO": 60, "GPU": 1, "HUMAN_REVIEW": 60}
"""What one unit means where it is not said: GPU seconds, minutes of audio and review."""

_NAMES = ("provider", "model", "service_tier", "region", "unit")
_NAME_COLUMNS = [string_index(name) for name in _NAMES]
_UNKNOWN = Rate(ALWAYS_MS, 0, DAY_MS, -1, None, 0, {}, False)


@dataclass(slots=True)
class Priced:
    """What each of n events costs; rows that were rejected hold zeros and -1.

    cost_nano_usd      int64[n]  what counts as spent: the provider's report if there is one, else the table
    estimate_nano_usd  int64[n]  conservative, for UNPRICED rows only; never part of cost
    status             int8[n]   FINAL, ESTIMATED, UNPRICED, FREE or PROVIDER_REPORTED
    table_nano_usd     int64[n]  what the table says even when the provider's report wins; -1 where it does not
                                 know the price, or where no usage was given to price
    """

    cost_nano_usd: np.ndarray
    estimate_nano_usd: np.ndarray
    status: np.ndarray
    table_nano_usd: np.ndarray


class PriceTable:
    """Prices of a deployment.

    >>> PriceTable().version.startswith("genai-prices ")
    True
    """

    def __init__(self, overrides: tuple[PriceOverride, ...] = ()):
        """Raises ValueError for overrides that make no sense (see models.pricing.overrides)."""
        self._overrides = Overrides(overrides)
        self._rates = np.zeros((0, FIELDS), np.int64)
        self._units = np.zeros((0, 2), np.float64)
        self._blocks: dict[bytes, int] = {}
        self._matches: dict[tuple[str, str, bool], Match] = {}
        self._clear()
        self._credit = MAX_CREDIT
        self.refused_keys = 0
        """Keys priced as unknown for want of credit, since the start: for a metric."""
        self._kind_estimate = np.array([_estimate_unit_nano_usd(kind, "") for kind in KINDS])
        estimate = tuple(round(usd * 10**6) for usd in ESTIMATE_PICO_USD)
        # The kernel knows these two by their position: UNKNOWN_ROW and ESTIMATE_ROW.
        self._add_block([_UNKNOWN], [(-1,) * BUCKETS], [-1.0], 0.0)
        self._add_block([_UNKNOWN], [estimate], [-1.0], 0.0)

    @property
    def version(self) -> str:
        """Names the prices that an event was priced with: equal versions give equal prices."""
        count = self._overrides.count
        return f"{catalogue.VERSION} + {count} overrides {self._overrides.digest}" if count else catalogue.VERSION

    def __len__(self) -> int:
        """Price keys held."""
        return self._count

    def price(self, columns: Columns) -> Priced:
        """Price a batch; ``columns`` is not modified."""
        n = len(columns)
        priced = Priced(np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int8), np.empty(n, np.int64))
        self._credit = min(self._credit + n * CREDIT_PER_EVENT, MAX_CREDIT)
        missing, keys = self._run(columns, np.arange(n), priced)
        if len(missing) and self._resolve(columns, missing, keys):
            self._run(columns, missing, priced)
        return priced

    def _run(self, columns: Columns, select: np.ndarray, priced: Priced) -> tuple[np.ndarray, np.ndarray]:
        missing_rows = np.empty(len(select), np.int64)
        missing_keys = np.empty(len(select), np.uint64)
        count = kernel.price_events(
            select,
            columns.status,
            columns.kind,
            columns.tokens,
            columns.quantity,
            columns.reported_nano_usd,
            columns.event_time_ms,
            columns.hash,
            self._index_keys,
            self._index_rows,
            self._rates,
            self._units,
            self._kind_estimate,
            priced.cost_nano_usd,
            priced.estimate_nano_usd,
            priced.status,
            priced.table_nano_usd,
            missing_rows,
            missing_keys,
        )
        return missing_rows[:count], missing_keys[:count]

    def _resolve(self, columns: Columns, missing: np.ndarray, keys: np.ndarray) -> int:
        """Add the missing keys that credit allows, most frequent first; returns how many."""
        unique, first, events = np.unique(keys, return_index=True, return_counts=True)
        # One-off names are where hostile keys are; a new model in real use must not wait behind them.
        order = np.argsort(-events, kind="stable")[: min(int(self._credit / KNOWN_NAME_CREDIT), MAX_KEYS)]
        if self._count + len(order) > MAX_KEYS:
            self._clear()
        blocks = []
        for position in order.tolist():
            if self._credit < 1:
                break
            blocks.append(self._compile(columns, int(missing[first[position]])))
        added = unique[order[: len(blocks)]]
        kernel.index_keys(self._index_keys, self._index_rows, added, np.array(blocks, np.int32))
        self._count += len(added)
        self.refused_keys += len(unique) - len(added)
        return len(added)

    def _clear(self) -> None:
        self._index_keys = np.zeros(CAPACITY, np.uint64)
        self._index_rows = np.zeros(CAPACITY, np.int32)
        self._count = 0

    def _compile(self, columns: Columns, row: int) -> int:
        """First rate row for the key of one event."""
        if columns.length[row, _NAME_COLUMNS].max() > MAX_NAME_BYTES:
            self._credit -= KNOWN_NAME_CREDIT
            return kernel.UNKNOWN_ROW
        provider, model, tier, region, unit = (columns.text(row, name) for name in _NAMES)
        kind = KINDS[columns.kind[row]]
        unit = unit.strip().lower()
        match = self._match(provider, model, region)
        rates = catalogue.rates(match, catalogue.tier_of(tier)) if match.model is not None else [_UNKNOWN]
        token_prices = self._overrides.token_prices(kind, match)
        unit_price = self._overrides.quantity_price(kind, match, unit)
        prices = [_token_prices(rate, token_prices) for rate in rates]
        if unit_price is not None:
            unit_prices = [unit_price] * len(rates)
        else:
            unit_prices = [_catalogue_unit_price(rate, kind, unit) for rate in rates]
        return self._add_block(rates, prices, unit_prices, _estimate_unit_nano_usd(kind, unit))

    def _match(self, provider: str, model: str, region: str) -> Match:
        key = (provider, model, catalogue.is_global(region))
        match = self._matches.get(key)
        if match is None:
            if len(self._matches) >= MAX_MATCHES:
                self._matches.clear()
            match = self._matches[key] = catalogue.find(provider, model, region)
            self._credit -= 1
        else:
            self._credit -= KNOWN_NAME_CREDIT
        return match

    def _add_block(
        self, rates: list[Rate], prices: list[tuple[int, ...]], unit_prices: list[float], unit_estimate: float
    ) -> int:
        """First row of the block with this content, which is added if there is none yet."""
        rows = np.array(
            [_row(rate, price, len(rates) - 1 - i) for i, (rate, price) in enumerate(zip(rates, prices, strict=True))],
            np.int64,
        )
        units = np.array([(price, unit_estimate) for price in unit_prices], np.float64)
        content = rows.tobytes() + units.tobytes()
        first = self._blocks.get(content)
        if first is None:
            first = self._blocks[content] = len(self._rates)
            self._rates = np.concatenate([self._rates, rows])
            self._units = np.concatenate([self._units, units])
        return first


def _token_prices(rate: Rate, own: dict[int, int]) -> tuple[int, ...]:
    if rate.pico_usd is None:
        return with_parents(own)
    return tuple(own.get(bucket, price) for bucket, price in enumerate(rate.pico_usd))


def _catalogue_unit_price(rate: Rate, kind: str, unit: str) -> float:
    unit = _singular(unit)
    # A GPU second is not a second of the audio that the model hears.
    usd = rate.quantity_usd.get(unit) if kind == "AUDIO" or unit not in UNIT_SECONDS else None
    return -1.0 if usd is None else float(usd * NANO_PER_USD)


def _row(rate: Rate, prices: tuple[int, ...], more: int) -> list[int]:
    dearest = max(*prices, 0)
    limit = kernel.NO_LIMIT if dearest == 0 else (2**62 - rate.request_pico_usd) // dearest
    if rate.request_pico_usd:
        limit = min(limit, 2**62)
    flags = rate.tier_missing * kernel.TIER_MISSING + (min(prices) < 0) * kernel.PARTIAL
    row = [0] * FIELDS
    row[kernel.START] = rate.start_ms
    row[kernel.TOD_START] = rate.tod_start_ms
    row[kernel.TOD_END] = rate.tod_end_ms
    row[kernel.ABOVE] = rate.above_tokens
    row[kernel.MORE] = more
    row[kernel.LIMIT] = limit
    row[kernel.REQUEST] = rate.request_pico_usd
    row[kernel.FLAGS] = flags
    row[PRICE:] = prices
    return row


def _singular(unit: str) -> str:
    """``Web_Searches`` and ``seconds`` as the catalogue's units are written; ``unit`` is lower case already."""
    if unit.endswith("searches"):
        return unit[:-2]
    return unit[:-1] if unit.endswith("s") and unit != "ms" else unit


def _estimate_unit_nano_usd(kind: str, unit: str) -> float:
    usd = ESTIMATE_UNIT_USD[kind]
    if kind in DEFAULT_SECONDS:
        usd *= UNIT_SECONDS.get(_singular(unit), DEFAULT_SECONDS[kind])
    return usd * NANO_PER_USD
