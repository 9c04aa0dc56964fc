"""The last hour of spend per minute, for the pictures in alerts.

Follows ``tenfold.spend`` from the time it starts on, so it knows as much of the past as it has been running; a
finding about something else, or from before, gets a picture of its two figures. Decoration: it holds nobody up, and
what goes wrong here only costs a picture. 1 KB for each team, model and pair; the ``MAX_SCOPES`` used last.
"""

from collections import OrderedDict
from collections.abc import Iterable

from schemas.codec import decode
from streams.notify import text
from streams.web.chart import Chart

MINUTE_MS = 60_000
MINUTES = 60
MAX_SCOPES = 2_000
_NAMES = {"team": ("team",), "model": ("model",), "team_model": ("team", "model"), "agent": ("agent",),
          "use_case": ("use_case",)}  # fmt: skip


class SpendSeries:
    def __init__(self) -> None:
        self._minutes: OrderedDict[tuple, dict[int, int]] = OrderedDict()

    def take(self, records: Iterable) -> None:
        """Records of the spend topic; what is none is passed over."""
        for record in records:
            try:
                window = decode("window_spend", record.value)
            except Exception:  # fastavro raises what its C code met; the rollup agent says so.
                continue
            if window["window_ms"] != MINUTE_MS:
                continue
            key = (window["scope_kind"], *(window[name] for name in _NAMES.get(window["scope_kind"], ())))
            minutes = self._minutes.setdefault(key, {})
            self._minutes.move_to_end(key)
            minutes[window["window_start"]] = window["cost_nano_usd"] // 1_000
            while len(minutes) > MINUTES:
                del minutes[min(minutes)]
            if len(self._minutes) > MAX_SCOPES:
                self._minutes.popitem(last=False)

    def chart(self, finding: dict) -> Chart:
        """The hour up to the finding's last event, or its two figures."""
        title = f"{text.title(finding)}: {finding['scope_name'] or '(unknown)'}"
        kind = finding["scope_kind"]
        key = (kind, *(finding[name] for name in _NAMES[kind])) if kind in _NAMES else ()
        last = finding["last_event_time"] // MINUTE_MS * MINUTE_MS
        minutes = {start: cost for start, cost in self._minutes.get(key, {}).items() if start <= last}
        if len(minutes) < 5 or finding["window_ms"] <= 0:
            cost, expected = finding["observed_nano_usd"] // 1_000, finding["expected_nano_usd"] // 1_000
            return Chart(title, 0, 0, (cost,), expected)
        first = max(min(minutes), last - (MINUTES - 1) * MINUTE_MS)
        costs = [minutes.get(start, 0) for start in range(first, last + 1, MINUTE_MS)]
        expected = finding["expected_nano_usd"] * MINUTE_MS // finding["window_ms"] // 1_000
        return Chart(title, first, MINUTE_MS, costs, expected)
