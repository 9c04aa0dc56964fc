"""A session that runs away before its cost says so: too many calls, or the signature of a loop.

Fires on ten times the calls of the median peer (and above their p99), whatever they cost, since a loop of cheap calls
hides behind the sum (PostHog/posthog PR#49099: 74,765 identical calls, $91); and on a loop's signature (models.watch)
once the session has both cost and called three times what its peers do, and a dollar. A session that is already
flagged as an outlier gets no second finding: the outlier names the symptoms. Warning; only info while it has neither
cost a dollar nor made 5,000 calls.

The comparisons are made in the session kernel; this file words them. Called by models.engine.
"""

from models.config import RunawayConfig
from models.detectors.session_story import SessionView
from models.findings import finding_id, make_finding
from models.money import format_usd

NAME = "runaway_agent"


def runaway_finding(config: RunawayConfig, view: SessionView) -> dict:
    """The Finding of a session run that behaves like a loop."""
    stats = view.stats
    usual = 0.0 if stats is None else stats.events_median
    score = view.events / usual if usual else view.events / config.calls_cap
    calls = (
        f"where its peers need about {usual:.0f} ({view.peers})"
        if usual
        else f"and has no peers to compare with ({view.peers})"
    )
    reason = f"Session {view.session_id} has made {view.counted_events()}, {calls}, for {format_usd(view.cost)}"
    few = stats is None or stats.reliable < 20
    return make_finding(
        id=finding_id(NAME, view.session_id, view.times[0]),
        detector=NAME,
        severity="warning" if view.cost >= config.min_cost_nano_usd or view.events >= config.calls_cap else "info",
        score=score,
        confidence=0.5 if few else 0.8,
        reason=reason + view.runaway_words() + ".",
        **view.common(),
    )
