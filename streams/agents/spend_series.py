"""The last hour of spend per minute, for the pictures in alerts.

Follows ``tenfold.spend`` from the time it starts on, so it knows as much of the past as it has been running; a
finding about something else, or from before, gets a picture of its two figures. Decoration: it holds nobody up, and
what goes wrong here only costs a picture. Windows are kept as they came and read when a picture is wanted: 8 KB for
each scope; the ``MAX_SCOPES`` used last.
"""

from collections import OrderedDict
from collections.abc import Iterable

from models.scopes import SCOPE_KINDS, Scope
from schemas.codec import decode
from streams.notify import text
from streams.web.chart import Chart

MINUTE_MS = 60_000
MINUTES = 60
MAX_SCOPES = 2_000
_MINUTE = str(MINUTE_MS).encode()


class SpendSeries:
    def __init__(self) -> None:
        self._minutes: OrderedDict[bytes, dict[int, bytes]] = OrderedDict()

    def take(self, records: Iterable) -> None:
        """Records of the spend topic, whose keys say which window they are; what is none is passed over."""
        for record in records:
            scope, _, window = (record.key or b"").rpartition(b"@")
            start, _, size = window.partition(b"+")
            if size != _MINUTE or not start.isdigit() or record.value is None:
                continue
            minutes = self._minutes.setdefault(scope, {})
            self._minutes.move_to_end(scope)
            minutes[int(start)] = record.value
            while len(minutes) > MINUTES:
                del minutes[min(minutes)]
            if len(self._minutes) > MAX_SCOPES:
                self._minutes.popitem(last=False)

    def _costs(self, finding: dict) -> dict[int, int]:
        """Micro-USD by minute, as far as the finding's scope has windows."""
        if finding["scope_kind"] not in SCOPE_KINDS:
            return {}
        names = {name: finding[name] for name in ("team", "model", "agent", "use_case")}
        costs = {}
        for start, value in self._minutes.get(Scope.of(finding["scope_kind"], **names).key.encode(), {}).items():
            try:
                costs[start] = decode("window_spend", value)["cost_nano_usd"] // 1_000
            except Exception:  # fastavro raises what its C code met; what is no window has no cost.
                continue
        return costs

    def chart(self, finding: dict) -> Chart:
        """The hour up to the finding's last event, or its two figures."""
        title = f"{text.title(finding)}: {finding['scope_name'] or '(unknown)'}"
        last = finding["last_event_time"] // MINUTE_MS * MINUTE_MS
        minutes = {start: cost for start, cost in self._costs(finding).items() if start <= last}
        if len(minutes) < 5 or finding["window_ms"] <= 0:
            cost, expected = finding["observed_nano_usd"] // 1_000, finding["expected_nano_usd"] // 1_000
            return Chart(title, 0, 0, (cost,), expected)
        first = max(min(minutes), last - (MINUTES - 1) * MINUTE_MS)
        costs = [minutes.get(start, 0) for start in range(first, last + 1, MINUTE_MS)]
        expected = finding["expected_nano_usd"] * MINUTE_MS // finding["window_ms"] // 1_000
        return Chart(title, first, MINUTE_MS, costs, expected)
