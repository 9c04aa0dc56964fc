"""Session cost at least ten times its peers' median: the finding behind a candidate of models.sessions.

The comparison itself is one threshold per peer group inside the session kernel; the thresholds come from
models.baselines. This file says what crossing one means to a person. Warning: ratio times the median and half a
standard error of it; only info while the excess is not worth a dollar. Critical: a whole standard error, at least
20 peers, a dollar of excess, and, of a hundred peers or more, to be above their p99.
Until a group has 20 sessions only an absolute cap pages.
"""

from models.baselines import GroupStats
from models.config import SessionOutlierConfig
from models.counters import COST, EVENTS, INPUT, OUTPUT
from models.explain import volume_and_price
from models.findings import counted, finding_id, make_finding
from models.money import format_usd
from models.sessions import CRITICAL

NAME = "session_outlier"
SEVERITY = ("info", "warning", "critical")


def session_finding(
    *,
    config: SessionOutlierConfig,
    session_id: str,
    names: tuple[str, ...],
    stats: GroupStats | None,
    sums: list[int],
    times: list[int],
    level: int,
    revision: int,
    status: str,
    now_ms: int,
    event_ids: list[str],
    price_version: str,
) -> dict:
    """The Finding of a session run.

    names: (team, agent, use_case, model, provider); sums: its counters; times: (start, first, last) ms.
    """
    team, agent, use_case, model, _ = names
    cost, events = sums[COST], sums[EVENTS]
    worth_a_look = stats is None or cost - stats.expected_nano_usd >= config.min_excess_nano_usd
    peers = " × ".join(name for name in (team, agent, model) if name) or "all teams"
    if stats is None:
        expected, baseline, margin, confidence, cause = 0, 0, cost / config.absolute_cap_nano_usd, 0.5, []
        reason = (
            f"Session {session_id} has cost {format_usd(cost)} in {counted(events, 'event')}, above the cap of "
            f"{format_usd(config.absolute_cap_nano_usd)} for sessions without enough peers to compare with ({peers})."
        )
    else:
        expected, baseline = stats.expected_nano_usd, int(stats.reliable)
        margin = cost / max(expected, 1)
        confidence = min(1.0, stats.reliable / (stats.reliable + 5.0)) * (1.0 if level == CRITICAL else 0.8)
        cause = volume_and_price(cost, events, expected, stats.events_median, "events per session", "cost per event")
        driver = (
            f"{counted(events, 'event')} where {stats.events_median:.0f} would be usual"
            if cause[0]["excess_nano_usd"] >= cause[1]["excess_nano_usd"]
            else f"{format_usd(cost // max(events, 1))} an event where "
            f"{format_usd(round(expected / max(stats.events_median, 1.0)))} is usual"
        )
        reason = (
            f"Session {session_id} has cost {format_usd(cost)}, {margin:.1f}x the median {format_usd(expected)} of "
            f"{stats.n:.0f} sessions of {peers}; mainly {driver}."
        )
    return make_finding(
        id=finding_id(NAME, session_id, times[0]),
        revision=revision,
        status=status,
        detector=NAME,
        severity=SEVERITY[level] if worth_a_look else "info",
        scope_kind="session",
        scope_name=session_id,
        team=team,
        agent=agent,
        use_case=use_case,
        model=model,
        session_id=session_id,
        window_start=times[0],
        window_ms=max(times[2] - times[0], 0),
        observed_nano_usd=cost,
        expected_nano_usd=expected,
        score=margin,
        confidence=confidence,
        baseline_size=baseline,
        first_event_time=times[1],
        last_event_time=times[2],
        detection_time=now_ms,
        reason=reason,
        cause=cause,
        example_event_ids=event_ids,
        price_version=price_version,
        details={"events": str(events), "input_tokens": str(sums[INPUT]), "output_tokens": str(sums[OUTPUT])},
    )
