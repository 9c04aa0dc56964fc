"""Session cost at least ten times its peers' median: the finding behind a candidate of models.sessions.

The comparison itself is one limit per peer group inside the session kernel; the limits come from models.baselines.
This file says what crossing one means to a person. Warning: ratio times the median and a quarter standard error of it;
only info while the excess is not worth a dollar. Critical: half a standard error, at least 20 peers, a dollar of
excess, and, of a hundred peers or more, to be above their p95. Info: on course for a warning, since at call 1, 2, 4,
... it costs three times what its peers did by then, and would come to the threshold if it grew on as they do.
Until a group has 20 sessions only an absolute cap pages.
"""

from models.config import SessionOutlierConfig
from models.detectors.session_story import SessionView
from models.explain import FACTORS
from models.findings import counted, finding_id, make_finding
from models.money import format_usd
from models.session_kernels import CRITICAL

NAME = "session_outlier"
SEVERITY = ("info", "warning", "critical")


def session_finding(config: SessionOutlierConfig, view: SessionView) -> dict:
    """The Finding of a session run that costs too much, or is on course to."""
    cost, stats, level = view.cost, view.stats, view.level
    expected = view.expected_nano_usd
    common = view.common()
    if stats is None:
        rule, margin, confidence = "cap", cost / config.absolute_cap_nano_usd, 0.5
        reason = (
            f"Session {view.session_id} has cost {format_usd(cost)} in {view.counted_events()}, above the cap of "
            f"{format_usd(config.absolute_cap_nano_usd)} for sessions without enough peers to compare with "
            f"({view.peers})"
        )
    else:
        rule, margin = "on_course" if level == 0 else "ratio", cost / max(expected, 1)
        confidence = min(1.0, stats.reliable / (stats.reliable + 5.0)) * (1.0 if level == CRITICAL else 0.8)
        if level == 0:
            confidence = min(confidence, 0.5)
            reason = (
                f"Session {view.session_id} is on course for an outlier: after {view.counted_events()} it has cost "
                f"{format_usd(cost)}, far more than its peers by then; a whole session of {view.peers} costs "
                f"{format_usd(expected)} (median of {stats.n:.0f})"
            )
        else:
            reason = (
                f"Session {view.session_id} has cost {format_usd(cost)}, {margin:.1f}x the median "
                f"{format_usd(expected)} of {stats.n:.0f} sessions of {view.peers}; {_driver(view, common['cause'])}"
            )
    common["details"]["rule"] = rule
    worth_a_look = level > 0 and (stats is None or cost - expected >= config.min_excess_nano_usd)
    return make_finding(
        id=finding_id(NAME, view.session_id, view.times[0]),
        detector=NAME,
        severity=SEVERITY[level] if worth_a_look else "info",
        score=margin,
        confidence=confidence,
        reason=reason + view.runaway_words() + ".",
        **common,
    )


def _driver(view: SessionView, cause: list[dict]) -> str:
    """The largest factor, in the words of a bill."""
    factors = [part for part in cause if part["dimension"] in FACTORS]
    top = max(factors, key=lambda part: part["excess_nano_usd"])["dimension"]
    usual, events = view.stats.usual, max(view.events, 1)
    if top == "volume":
        return f"mainly {counted(view.events, 'event')} where about {view.stats.events_median:.0f} are usual"
    if top == "size":
        tokens = sum(view.sums[4:8]) / events
        return f"mainly {tokens:,.0f} tokens an event where {usual.event_tokens:,.0f} are usual"
    if top == "mix":
        return "mainly dearer kinds of tokens: less from the cache, or more output"
    return (
        f"mainly {format_usd(view.cost // events)} an event where "
        f"{format_usd(round(usual.event_cost_nano_usd))} is usual"
    )
