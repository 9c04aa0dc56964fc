"""What the demo shows: spend, budgets, findings and alerts, from the topics that any consumer can read.

``DemoView`` only collects; ``render`` draws the whole page anew, ``summary`` the last word. Nothing here knows
Kafka: the demo feeds it decoded records.
"""

import time
from collections import deque
from datetime import UTC, datetime

from rich.columns import Columns
from rich.console import Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadtest.receiver import Received
from models.config import MINUTE_MS
from models.money import format_usd

STYLE = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
RANK = {"info": 0, "warning": 1, "critical": 1}
SPARKS = "▁▂▃▄▅▆▇█"
MINUTES = 20
UNNAMED = {"team": "(no team)", "model": "(no model: tools, people)"}


class DemoView:
    """The newest of everything."""

    def __init__(self, total_events: int):
        self.total_events = total_events
        self.sent = 0
        self.started = time.monotonic()
        self.panes: dict[tuple[str, str], dict[int, dict]] = {}
        self.budgets: dict[str, dict] = {}
        self.findings: dict[str, dict] = {}
        self.alerts: deque[Received] = deque(maxlen=200)
        self.watermark = 0
        self.sessions = 0

    def take_spend(self, row: dict) -> None:
        if row["scope_kind"] in ("team", "model") and row["window_ms"] == MINUTE_MS:
            panes = self.panes.setdefault((row["scope_kind"], row[row["scope_kind"]]), {})
            known = panes.get(row["window_start"])
            if known is None or row["revision"] >= known["revision"]:
                panes[row["window_start"]] = row
        self.watermark = max(self.watermark, row["watermark"])

    def take_budget(self, status: dict) -> None:
        self.budgets[status["budget"]] = status

    def take_finding(self, finding: dict) -> bool:
        """True if it is new or has changed."""
        known = self.findings.get(finding["id"])
        if known is not None and known["revision"] >= finding["revision"]:
            return False
        self.findings[finding["id"]] = finding
        return True

    def take_alert(self, alert: Received) -> None:
        self.alerts.append(alert)

    def spend(self, kind: str) -> list[tuple[str, int, list[int]]]:
        """(name, cost, cost of the last minutes) by falling cost."""
        newest = max((start for panes in self.panes.values() for start in panes), default=0)
        rows = []
        for (scope_kind, name), panes in self.panes.items():
            if scope_kind == kind:
                starts = range(newest - (MINUTES - 1) * MINUTE_MS, newest + 1, MINUTE_MS)
                series = [panes[start]["cost_nano_usd"] if start in panes else 0 for start in starts]
                rows.append((name or UNNAMED[kind], sum(row["cost_nano_usd"] for row in panes.values()), series))
        return sorted(rows, key=lambda row: -row[1])

    def render(self, height: int = 50) -> Group:
        """The page, for a terminal of ``height`` lines."""
        room = max(height - 24, 8)
        return Group(
            self._head(),
            Columns([self._spend_table("team"), self._spend_table("model")], expand=True),
            self._budget_table(),
            self._findings_panel(min(room // 2, 7)),
            self._alerts_panel(room - min(room // 2, 7)),
        )

    def summary(self) -> Group:
        """Totals and what was found, once it is over."""
        by_detector: dict[str, list[dict]] = {}
        for finding in self.findings.values():
            by_detector.setdefault(finding["detector"], []).append(finding)
        table = Table(
            "detector", "findings", "critical", "the costliest", title="What Tenfold found", title_justify="left"
        )
        for detector, found in sorted(by_detector.items()):
            worst = max(found, key=lambda f: (f["severity"] == "critical", f["excess_nano_usd"]))
            critical = sum(f["severity"] == "critical" for f in found)
            table.add_row(detector, str(len(found)), str(critical), Text(worst["reason"]))
        return Group(
            Columns([self._spend_table("team"), self._spend_table("model")], expand=True), self._budget_table(), table
        )

    def _head(self) -> Text:
        seconds = time.monotonic() - self.started
        clock = (
            datetime.fromtimestamp(self.watermark / 1000, UTC).strftime("%H:%M:%S") if self.watermark else "--:--:--"
        )
        return Text.assemble(
            ("Tenfold demo", "bold"),
            f"  {self.sent:,} of {self.total_events:,} events  {seconds:.0f} s  watermark {clock} UTC  "
            f"{self.sessions:,} sessions ended  {len(self.findings):,} findings  {len(self.alerts)} alerts",
            ("  (Ctrl-C ends)", "dim"),
        )

    def _spend_table(self, kind: str) -> Table:
        table = Table(f"spend per {kind}", "cost", f"last {MINUTES} minutes", expand=True, pad_edge=False)
        table.columns[0].overflow = "ellipsis"
        table.columns[0].no_wrap = True
        table.columns[1].justify = "right"
        for name, cost, series in self.spend(kind)[:7]:
            table.add_row(name, format_usd(cost), sparkline(series))
        return table

    def _budget_table(self) -> Table:
        table = Table("budget", "spent", "of", "used", "", "burn 1h / 6h", "", expand=True, pad_edge=False)
        for name, status in sorted(self.budgets.items(), key=lambda item: -item[1]["spent_ratio"]):
            ratio = status["spent_ratio"]
            style = "red" if ratio >= 1 else "yellow" if ratio >= 0.5 else "green"
            burns = " / ".join(f"{burn['long_burn']:.1f}x" for burn in status["burn"][:2])
            firing = any(burn["firing"] for burn in status["burn"])
            table.add_row(
                name,
                format_usd(status["spent_nano_usd"]),
                format_usd(status["limit_nano_usd"]),
                f"{ratio:.0%}",
                ProgressBar(total=1.0, completed=min(ratio, 1.0), width=20, complete_style=style, finished_style=style),
                burns,
                Text("BURNING", "bold red") if firing else "",
            )
        return table

    def _findings_panel(self, lines: int) -> Panel:
        newest = sorted(
            (f for f in self.findings.values() if f["status"] != "resolved"),
            key=lambda f: (RANK[f["severity"]], f["detection_time"]),
        )[-lines:]
        return Panel(Group(*(finding_line(f) for f in reversed(newest))), title="findings", title_align="left")

    def _alerts_panel(self, lines: int) -> Panel:
        texts: list[Text] = []
        for alert in reversed(self.alerts):
            block = alert_lines(alert)
            if texts and len(texts) + len(block) > lines:
                break
            texts += block
        return Panel(Group(*texts[:lines]), title="alerts as Slack and PagerDuty get them", title_align="left")


def finding_line(finding: dict) -> Text:
    """One finding on one line."""
    return Text.assemble(
        (f"{finding['severity']:<8} ", STYLE[finding["severity"]]),
        (f"{finding['detector']:<16} ", "bold"),
        finding["reason"],
        overflow="ellipsis",
        no_wrap=True,
    )


def alert_lines(alert: Received) -> list[Text]:
    """An alert as it would be read."""
    lines = alert.lines()
    first = Text.assemble((f"[{alert.service}] ", "bold magenta"), lines[0], overflow="ellipsis", no_wrap=True)
    return [first, *(Text(f"   {line}", style="dim", overflow="ellipsis", no_wrap=True) for line in lines[1:])]


def sparkline(series: list[int]) -> str:
    """One character a minute.

    >>> sparkline([0, 1, 8])
    '▁▁█'
    """
    top = max(series, default=0)
    if top <= 0:
        return SPARKS[0] * len(series)
    return "".join(SPARKS[min(int(value / top * len(SPARKS)), len(SPARKS) - 1)] for value in series)
