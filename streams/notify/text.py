"""A finding in words and figures for people, shared by the destinations; none of it is escaped yet."""

from datetime import UTC, datetime

from models.money import format_usd

TITLES = {
    "session_outlier": "Session costs far more than its peers",
    "runaway_agent": "Session behaves like a runaway agent",
    "unit_price": "Calls cost far more than their price",
    "spend_rate": "Spending faster than usual",
    "cache_share": "Prompts no longer read from the cache",
    "silence": "Spending has stopped",
    "budget_milestone": "Budget milestone reached",
    "budget_burn": "Budget is burning too fast",
    "model_mix": "Dear models are used more than the policy allows",
    "unit_cost": "A transaction costs more than it should",
    "attribution": "Spend that nobody is known for",
    "cheaper_model": "A cheaper model could do it",
    "self_host": "Enough tokens to think of running it yourself",
}
_UNITS = {
    "session_outlier": "sessions",
    "runaway_agent": "sessions",
    "spend_rate": "windows",
    "cache_share": "windows",
    "silence": "windows",
}
_NAMES = ("team", "model", "agent", "use_case", "session_id")
_LABELS = {"use_case": "Use case", "session_id": "Session"}


def title(finding: dict) -> str:
    """``Critical: session costs far more than its peers``, or ``Resolved: ...``."""
    what = TITLES.get(finding["detector"], finding["detector"].replace("_", " "))
    state = "Resolved" if finding["status"] == "resolved" else finding["severity"].capitalize()
    return f"{state}: {what[:1].lower()}{what[1:]}"


def facts(finding: dict) -> list[tuple[str, str]]:
    """Label and value of what is known, most important first; ten at the most."""
    budget = finding["detector"].startswith("budget")
    found = [("Cost", format_usd(finding["observed_nano_usd"]))]
    if finding["expected_nano_usd"]:
        found += [
            ("Budget" if budget else "Expected", format_usd(finding["expected_nano_usd"])),
            ("Ratio", f"{finding['ratio']:.2f}x" if finding["ratio"] < 10 else f"{finding['ratio']:,.1f}x"),
            ("Over" if budget else "Excess", format_usd(finding["excess_nano_usd"])),
        ]
    names = [(_LABELS.get(name, name.capitalize()), finding[name]) for name in _NAMES if finding[name]]
    if not names:
        names = [(finding["scope_kind"].replace("_", " ").capitalize(), finding["scope_name"] or "(unknown)")]
    if budget and "period" in finding["details"]:
        # A ratio means nothing without its budget and period (maximhq/bifrost#5770).
        found.append(("Period", f"{finding['details'].get('budget', '')} {finding['details']['period']}".strip()))
    when = [("When", span(finding["first_event_time"], finding["last_event_time"]))]
    baseline = [("Baseline", baseline_text(finding))] if finding["baseline_size"] > 0 else []
    return (found + when + names + baseline)[:10]


def baseline_text(finding: dict) -> str:
    unit = _UNITS.get(finding["detector"], "samples")
    return f"{finding['baseline_size']:,} {unit}"


def causes(finding: dict, limit: int = 5) -> list[str]:
    """``$31.20 model: gpt-5.4``, largest share of the excess first."""
    largest = sorted(finding["cause"], key=lambda part: -abs(part["excess_nano_usd"]))[:limit]
    return [f"{format_usd(part['excess_nano_usd'])} {part['dimension']}: {part['name']}" for part in largest]


def utc(ms: int) -> str:
    """``2026-11-23 19:00:05``, or the number if it is no time that a calendar knows."""
    try:
        return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"


def span(first_ms: int, last_ms: int) -> str:
    """``2026-11-23 19:00:05 to 19:06:10 UTC``.

    >>> span(0, 65_000)
    '1970-01-01 00:00:00 to 00:01:05 UTC'
    """
    first, last = utc(first_ms), utc(last_ms)
    if first == last:
        return f"{first} UTC"
    if first[:11] == last[:11] and "ms" not in first + last:
        last = last[11:]
    return f"{first} to {last} UTC"


def clip(text: str, limit: int) -> str:
    """At most ``limit`` UTF-16 units, which is what Slack's limits count; an ellipsis where something is missing.

    >>> clip("abcdef", 4), clip("ab", 4)
    ('abc…', 'ab')
    """
    encoded = text.encode("utf-16-le", "surrogatepass")
    if len(encoded) <= 2 * limit:
        return text
    return encoded[: 2 * (limit - 1)].decode("utf-16-le", "ignore") + "…"


def units(text: str) -> int:
    """Length in UTF-16 units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
