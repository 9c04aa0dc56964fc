"""What one event was charged against what the price table says: finds a broken price on its first event.

Stateless per event, so it needs no warm-up: an event is flagged if its reported cost is at least ``ratio`` times
the table's and the excess is worth a dollar, or, where the table knows no price, if it exceeds ``call_cap``.
Per (provider, model, hour) one finding is kept: a broken table breaks every call, and people want one alert
that grows, not thousands. It is told at 1, 10, 100, ... events, under one more
than the offset of the event as its revision.

Source: detector notes 5.3; the incident it is tested on is 10,033 tokens charged at $9,990.01.
Cost: four comparisons an event in numpy, Python only for flagged events; at most MAX_OPEN findings in memory.
"""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from models.config import HOUR_MS, UnitPriceConfig
from models.findings import counted, finding_id, make_finding
from models.money import format_usd
from schemas.columns import NO_COST, Columns

NAME = "unit_price"
MAX_OPEN = 10_000
MAX_EXAMPLES = 5


@dataclass(slots=True)
class _Open:
    events: int = 0
    charged_nano_usd: int = 0
    table_nano_usd: int = 0
    next_report: int = 1
    first_ms: int = 0
    last_ms: int = 0
    examples: tuple[str, ...] = ()


def suspicious(config: UnitPriceConfig, reported_nano_usd: np.ndarray, table_nano_usd: np.ndarray) -> np.ndarray:
    """bool[n]: events charged far above the table. reported int64[n] (NO_COST: none), table int64[n] (-1: unknown)."""
    has_table = table_nano_usd >= 0
    excess = reported_nano_usd - np.maximum(table_nano_usd, 0)
    above = (reported_nano_usd >= config.ratio * table_nano_usd) & (excess >= config.min_excess_nano_usd)
    capped = reported_nano_usd >= config.call_cap_nano_usd
    return (reported_nano_usd != NO_COST) & np.where(has_table, above, capped)


class UnitPrice:
    """Open findings of one partition; bounded, oldest forgotten first."""

    def __init__(self, config: UnitPriceConfig):
        self.config = config
        self._open: OrderedDict[tuple[str, str, int], _Open] = OrderedDict()

    def check(
        self, columns: Columns, keep: np.ndarray, table_nano_usd: np.ndarray, now_ms: int, price_version: str
    ) -> list[dict]:
        """Findings of one batch; keep bool[n], table int64[n]."""
        reported = np.where(keep, columns.reported_nano_usd, NO_COST)
        findings = []
        for row in np.flatnonzero(suspicious(self.config, reported, table_nano_usd)).tolist():
            finding = self._judge(columns, row, int(reported[row]), int(table_nano_usd[row]), now_ms, price_version)
            if finding:
                findings.append(finding)
        return findings

    def _judge(self, columns: Columns, row: int, reported: int, table: int, now_ms: int, version: str) -> dict | None:
        provider, model = columns.text(row, "provider"), columns.text(row, "model")
        time = int(columns.event_time_ms[row])
        key = (provider, model, time // HOUR_MS)
        if key not in self._open and len(self._open) >= MAX_OPEN:
            self._open.popitem(last=False)
        entry = self._open.setdefault(key, _Open(first_ms=time, last_ms=time))
        entry.events += 1
        entry.charged_nano_usd += reported
        entry.table_nano_usd += max(table, 0)
        entry.first_ms, entry.last_ms = min(entry.first_ms, time), max(entry.last_ms, time)
        entry.examples = (*entry.examples, columns.text(row, "event_id"))[:MAX_EXAMPLES]
        if entry.events < entry.next_report:
            return None
        entry.next_report *= 10
        what = counted(entry.events, "call")
        tokens = int(columns.tokens[row].sum())
        if table >= 0:
            expectation = f"the price table says {format_usd(entry.table_nano_usd)}: a price error"
        else:
            expectation = (
                f"above the cap of {format_usd(self.config.call_cap_nano_usd)} for a call without a known price"
            )
        excess = entry.charged_nano_usd - entry.table_nano_usd
        size = f" of {tokens:,} tokens" if entry.events == 1 and tokens else ""
        return make_finding(
            id=finding_id(NAME, *key),
            revision=int(columns.offset[row]) + 1,
            status="open" if entry.events == 1 else "updated",
            detector=NAME,
            severity="critical",
            scope_kind="model",
            scope_name=model,
            team=columns.text(row, "team"),
            agent=columns.text(row, "agent"),
            use_case=columns.text(row, "use_case"),
            model=model,
            session_id=columns.text(row, "session_id"),
            window_start=key[2] * HOUR_MS,
            window_ms=HOUR_MS,
            observed_nano_usd=entry.charged_nano_usd,
            expected_nano_usd=entry.table_nano_usd,
            score=entry.charged_nano_usd / max(entry.table_nano_usd, 1),
            confidence=1.0 if table >= 0 else 0.7,
            baseline_size=0,
            first_event_time=entry.first_ms,
            last_event_time=entry.last_ms,
            detection_time=now_ms,
            reason=f"{what}{size} to {model or 'an unnamed model'} charged {format_usd(entry.charged_nano_usd)}; "
            f"{expectation}.",
            cause=[{"dimension": "price", "name": model, "excess_nano_usd": excess}],
            example_event_ids=list(entry.examples),
            price_version=version,
            details={"provider": provider, "events": str(entry.events)},
        )

    def take_delta(self) -> list:
        """All open findings, oldest first: there are few."""
        return [[*key, *(getattr(entry, name) for name in _Open.__slots__)] for key, entry in self._open.items()]

    def load_delta(self, delta: list) -> None:
        """Become what ``take_delta`` copied."""
        self._open = OrderedDict(
            ((provider, model, hour), _Open(*entry[:-1], tuple(entry[-1]))) for provider, model, hour, *entry in delta
        )
