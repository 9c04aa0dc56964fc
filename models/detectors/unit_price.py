"""What one event was charged against what the price table says: finds a broken price on its first event.

Stateless per event, so it needs no warm-up: an event is flagged if its reported cost is at least ``ratio`` times
the table's and the excess is worth a dollar, or, where the table knows no price, if it exceeds ``call_cap``.
Per (provider, model, hour) one finding is kept: a broken table breaks every call, and people want one alert
that grows, not thousands. It is told at 1, 10, 100, ... events, and resolved once its hour is over and what was
allowed to be late has come. A call that comes later still opens it again, and it is resolved at once.

Revisions count half offsets, since one finding may open again with the very next event after its resolution: an event
at ``offset`` says 2 * offset + 1, a resolution before ``next_offset`` says 2 * next_offset.

Source: detector notes 5.3; the incident it is tested on is 10,033 tokens charged at $9,990.01.
Cost: four comparisons an event in numpy, Python only for flagged events; at most MAX_OPEN findings in memory, the
oldest of which is resolved before its time if there are more.
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
Key = tuple[str, str, int]
"""Provider, model, hour since 1970."""


@dataclass(slots=True)
class _Open:
    events: int = 0
    charged_nano_usd: int = 0
    table_nano_usd: int = 0
    next_report: int = 1
    first_ms: int = 0
    last_ms: int = 0
    examples: tuple[str, ...] = ()
    team: str = ""
    agent: str = ""
    use_case: str = ""
    session_id: str = ""
    """These four: of the event that was told of last."""
    known: bool = True
    """The table had a price for it."""


def suspicious(config: UnitPriceConfig, reported_nano_usd: np.ndarray, table_nano_usd: np.ndarray) -> np.ndarray:
    """bool[n]: events charged far above the table. reported int64[n] (NO_COST: none), table int64[n] (-1: unknown)."""
    has_table = table_nano_usd >= 0
    excess = reported_nano_usd - np.maximum(table_nano_usd, 0)
    above = (reported_nano_usd >= config.ratio * table_nano_usd) & (excess >= config.min_excess_nano_usd)
    capped = reported_nano_usd >= config.call_cap_nano_usd
    return (reported_nano_usd != NO_COST) & np.where(has_table, above, capped)


class UnitPrice:
    """Open findings of one partition."""

    def __init__(self, config: UnitPriceConfig):
        self.config = config
        self._open: OrderedDict[Key, _Open] = OrderedDict()

    def check(
        self, columns: Columns, keep: np.ndarray, table_nano_usd: np.ndarray, now_ms: int, price_version: str
    ) -> list[dict]:
        """Findings of one batch; keep bool[n], table int64[n]."""
        reported = np.where(keep, columns.reported_nano_usd, NO_COST)
        findings = []
        for row in np.flatnonzero(suspicious(self.config, reported, table_nano_usd)).tolist():
            findings += self._judge(columns, row, int(reported[row]), int(table_nano_usd[row]), now_ms, price_version)
        return findings

    def resolve(self, watermark_ms: int, next_offset: int, now_ms: int, price_version: str) -> list[dict]:
        """The last word on the findings whose hour is over at this watermark."""
        over = [key for key in self._open if (key[2] + 1) * HOUR_MS <= watermark_ms]
        return [self._resolved(key, next_offset, now_ms, price_version) for key in over]

    def _resolved(self, key: Key, next_offset: int, now_ms: int, price_version: str) -> dict:
        return self._finding(key, self._open.pop(key), "resolved", 2 * next_offset, now_ms, price_version)

    def _judge(self, columns: Columns, row: int, reported: int, table: int, now_ms: int, version: str) -> list[dict]:
        provider, model = columns.text(row, "provider"), columns.text(row, "model")
        time, offset = int(columns.event_time_ms[row]), int(columns.offset[row])
        key = (provider, model, time // HOUR_MS)
        findings = []
        if key not in self._open and len(self._open) >= MAX_OPEN:
            findings.append(self._resolved(next(iter(self._open)), offset, now_ms, version))
        entry = self._open.setdefault(key, _Open(first_ms=time, last_ms=time))
        entry.events += 1
        entry.charged_nano_usd += reported
        entry.table_nano_usd += max(table, 0)
        entry.first_ms, entry.last_ms = min(entry.first_ms, time), max(entry.last_ms, time)
        entry.examples = (*entry.examples, columns.text(row, "event_id"))[:MAX_EXAMPLES]
        if entry.events < entry.next_report:
            return findings
        entry.next_report *= 10
        for name in ("team", "agent", "use_case", "session_id"):
            setattr(entry, name, columns.text(row, name))
        entry.known = table >= 0
        tokens = int(columns.tokens[row].sum())
        size = f" of {tokens:,} tokens" if entry.events == 1 and tokens else ""
        status = "open" if entry.events == 1 else "updated"
        return [*findings, self._finding(key, entry, status, 2 * offset + 1, now_ms, version, size)]

    def _finding(
        self, key: Key, entry: _Open, status: str, revision: int, now_ms: int, price_version: str, size: str = ""
    ) -> dict:
        provider, model, hour = key
        excess = entry.charged_nano_usd - entry.table_nano_usd
        return make_finding(
            id=finding_id(NAME, *key),
            revision=revision,
            status=status,
            detector=NAME,
            severity="critical",
            scope_kind="model",
            scope_name=model,
            team=entry.team,
            agent=entry.agent,
            use_case=entry.use_case,
            model=model,
            session_id=entry.session_id,
            window_start=hour * HOUR_MS,
            window_ms=HOUR_MS,
            observed_nano_usd=entry.charged_nano_usd,
            expected_nano_usd=entry.table_nano_usd,
            score=entry.charged_nano_usd / max(entry.table_nano_usd, 1),
            confidence=1.0 if entry.known else 0.7,
            baseline_size=0,
            first_event_time=entry.first_ms,
            last_event_time=entry.last_ms,
            detection_time=now_ms,
            reason=self._reason(model, entry, size) + ("; its hour is over." if status == "resolved" else "."),
            cause=[{"dimension": "price", "name": model, "excess_nano_usd": excess}],
            example_event_ids=list(entry.examples),
            price_version=price_version,
            details={"provider": provider, "events": str(entry.events)},
        )

    def _reason(self, model: str, entry: _Open, size: str) -> str:
        if entry.known:
            expectation = f"the price table says {format_usd(entry.table_nano_usd)}: a price error"
        else:
            expectation = (
                f"above the cap of {format_usd(self.config.call_cap_nano_usd)} for a call without a known price"
            )
        calls, charged = counted(entry.events, "call"), format_usd(entry.charged_nano_usd)
        return f"{calls}{size} to {model or 'an unnamed model'} charged {charged}; {expectation}"

    def take_delta(self) -> list:
        """All open findings, oldest first: there are few."""
        return [[*key, *(getattr(entry, name) for name in _Open.__slots__)] for key, entry in self._open.items()]

    def load_delta(self, delta: list) -> None:
        """Become what ``take_delta`` copied."""
        self._open = OrderedDict(
            ((provider, model, hour), _Open(*entry[:6], tuple(entry[6]), *entry[7:]))
            for provider, model, hour, *entry in delta
        )
