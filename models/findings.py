"""Findings as they leave the engines: dicts of the ``Finding`` schema, built in one place.

Ids depend on nothing but what was judged, so a repeat after a restart overwrites itself.
"""

import hashlib


def finding_id(detector: str, *parts: str | int) -> str:
    """A stable id: the detector's name and 80 bits of a digest of what it judged.

    >>> finding_id("session_outlier", "s-77", 0) == finding_id("session_outlier", "s-77", 0)
    True
    """
    text = "\x1f".join(str(part) for part in parts)
    return f"{detector}-{hashlib.blake2b(text.encode(), digest_size=10).hexdigest()}"


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "event"), counted(1200, "event")
    ('1 event', '1,200 events')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percent(share: float, digits: int = 0) -> str:
    """A share for people.

    >>> percent(0.125), percent(0.125, 1)
    ('12 %', '12.5 %')
    """
    return f"{share:.{digits}%}".replace("%", " %")


def make_finding(
    *,
    id: str,
    detector: str,
    severity: str,
    scope_kind: str,
    scope_name: str,
    window_start: int,
    window_ms: int,
    observed_nano_usd: int,
    expected_nano_usd: int,
    score: float,
    confidence: float,
    baseline_size: int,
    first_event_time: int,
    last_event_time: int,
    detection_time: int,
    reason: str,
    revision: int = 1,
    status: str = "open",
    team: str = "",
    model: str = "",
    agent: str = "",
    use_case: str = "",
    session_id: str = "",
    learner_score: float | None = None,
    cause: list[dict] | None = None,
    example_event_ids: list[str] | None = None,
    price_version: str = "",
    details: dict[str, str] | None = None,
) -> dict:
    """A dict that encodes as ``Finding``; excess and ratio follow from observed and expected."""
    return {
        "id": id,
        "revision": revision,
        "status": status,
        "detector": detector,
        "severity": severity,
        "scope_kind": scope_kind,
        "scope_name": scope_name,
        "team": team,
        "model": model,
        "agent": agent,
        "use_case": use_case,
        "session_id": session_id,
        "window_start": window_start,
        "window_ms": window_ms,
        "observed_nano_usd": observed_nano_usd,
        "expected_nano_usd": expected_nano_usd,
        "excess_nano_usd": observed_nano_usd - expected_nano_usd,
        "ratio": observed_nano_usd / expected_nano_usd if expected_nano_usd else 0.0,
        "score": score,
        "learner_score": learner_score,
        "confidence": confidence,
        "baseline_size": baseline_size,
        "first_event_time": first_event_time,
        "last_event_time": last_event_time,
        "detection_time": detection_time,
        "reason": reason,
        "cause": cause or [],
        "example_event_ids": example_event_ids or [],
        "price_version": price_version,
        "details": details or {},
    }
