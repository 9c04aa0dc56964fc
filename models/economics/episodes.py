"""Findings that stay open from day to day: opened when a day breaks a rule, resolved when a day keeps it again.

Guarantee: one finding per episode, whatever its length. Its id names the hour it opened after, and its revision is the
hour of event time it was judged after, so that what is judged again after a restart is the same finding. Between
breaking a rule and keeping it there is room (the caller's hysteresis) in which nothing is said.

Called by models.economics only.
"""

from collections.abc import Callable
from enum import Enum

from models.budgets.calendar import Period
from models.config import HOUR_MS
from models.findings import finding_id, make_finding

NOTABLE_GROWTH = 1.5
"""An open finding is told again within the day when its score has grown by this since it was last told."""


class Verdict(Enum):
    BROKEN = "broken"
    BETWEEN = "between"
    KEPT = "kept"


class Episodes:
    """Open findings of one detector, by key."""

    def __init__(self, detector: str):
        self.detector = detector
        self._open: dict[str, dict] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._open

    @property
    def keys(self) -> list[str]:
        return list(self._open)

    def judge(
        self, key: str, verdict: Verdict, finding: Callable[[str], dict], hour_end_ms: int, *, always: bool = False
    ) -> list[dict]:
        """What to tell after the hour that ends at ``hour_end_ms``; ``finding(status)`` makes the Finding dict.

        ``always``: an open finding that is still BROKEN is told again, even if it has not grown much.
        """
        told = self._open.get(key)
        if told is None:
            if verdict is not Verdict.BROKEN:
                return []
            status, id = "open", finding_id(self.detector, key, hour_end_ms)
        elif verdict is Verdict.KEPT:
            status, id = "resolved", told["id"]
        elif verdict is Verdict.BROKEN:
            status, id = "updated", told["id"]
        else:
            return []
        found = {**finding(status), "id": id, "revision": hour_end_ms // HOUR_MS}
        if status == "updated" and not always and found["score"] < NOTABLE_GROWTH * told["score"]:
            return []
        if status == "resolved":
            del self._open[key]
        else:
            self._open[key] = found
        return [found]

    def snapshot(self) -> list:
        return [[key, told] for key, told in self._open.items()]

    def load(self, snapshot: list) -> None:
        self._open = dict(snapshot)


def day_finding(period: Period, end_ms: int, now_ms: int, **own) -> dict:
    """A Finding dict about a day as far as ``end_ms``; its episode gives it an id and a revision."""
    return make_finding(
        id="",
        window_start=period.start_ms,
        window_ms=period.length_ms,
        confidence=1.0 if end_ms >= period.end_ms else 0.8,
        first_event_time=period.start_ms,
        last_event_time=min(end_ms, period.end_ms) - 1,
        detection_time=now_ms,
        **{"severity": "warning", "baseline_size": 0, **own},
    )


def no_longer_judged(told: dict, now_ms: int) -> dict:
    """The last word on an open finding whose rule is no more, or has changed."""
    return {
        **told,
        "status": "resolved",
        "revision": told["revision"] + 1,
        "detection_time": now_ms,
        "reason": f"No longer judged, since the settings were changed; before: {told['reason']}",
    }
