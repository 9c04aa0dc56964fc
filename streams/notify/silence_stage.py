"""Which findings people do not want to hear of now: the calendar of the settings, and what they said themselves.

Silenced until: a finding, or all of a scope and detector, by ``Feedback`` records; "not an anomaly" silences a finding
for good. A ``[[silences]]`` entry is one span or a weekly one, in local time of its zone: a night in which clocks
change is as long as it really is.

Pure but for what it was told; the caller passes the time. Called by the notifier for every change of a finding.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from streams.notify.config import WEEKDAYS, SilenceSettings
from streams.notify.matchers import all_match, labels, parse

FOREVER_MS = 2**62
MAX_SAID = 10_000
_SILENT = ("silenced", "planned", "false")


class Silences:
    def __init__(self, calendar: Sequence[SilenceSettings] = ()) -> None:
        self._calendar = [(silence, parse(silence.match)) for silence in calendar]
        self._said: dict[tuple, dict] = {}
        self._acknowledged: dict[str, dict] = {}

    def take(self, feedback: Mapping) -> bool:
        """Note a ``Feedback`` record; True if it may change what is told."""
        if feedback["verdict"] == "acknowledged" and feedback["finding_id"]:
            self.acknowledge(feedback["finding_id"], feedback)
            return True
        if feedback["verdict"] not in _SILENT:
            return False
        _keep(self._said, (_subject(feedback), feedback["verdict"]), dict(feedback))
        return True

    def acknowledge(self, finding_id: str, feedback: Mapping) -> None:
        """Somebody looks after this finding: small changes and repeats of it are not told any more."""
        _keep(self._acknowledged, finding_id, dict(feedback, finding_id=finding_id))

    def acknowledged(self, finding_id: str) -> dict | None:
        """Who looks after it, as a ``Feedback`` record."""
        return self._acknowledged.get(finding_id)

    def acknowledgements(self) -> list[dict]:
        return list(self._acknowledged.values())

    def reason(self, finding: Mapping, now_ms: int, groups: Iterable[str] = ()) -> str:
        """Why this finding is silent now; empty if it is not. ``groups``: keys of the alerts it is part of.

        "Not an anomaly" is about what there was when it was said, not about what comes to a group later.
        """
        wide = (finding["scope_kind"], finding["scope_name"])
        ids = ((id,) for id in (finding["id"], *groups))
        for subject in (*ids, (*wide, finding["detector"]), (*wide, "")):
            for verdict in _SILENT:
                said = self._said.get((subject, verdict))
                if said is None or now_ms >= _until(said):
                    continue
                if verdict != "false" or finding["first_event_time"] <= said["at_ms"]:
                    return f"{_WORDS[verdict]} by {said['user'] or 'someone'}"
        known = None
        for silence, matchers in self._calendar:
            if covers(silence, now_ms):
                known = known or labels(finding)
                if all_match(matchers, known):
                    return f"planned: {silence.name}"
        return ""

    def active(self, now_ms: int) -> list[tuple[str, str, int]]:
        """Subject, reason and end of what is silent now; ``FOREVER_MS`` if it has none."""
        rows = [
            (" ".join(filter(None, subject)), f"{_WORDS[verdict]} by {said['user'] or 'someone'}", _until(said))
            for (subject, verdict), said in self._said.items()
            if now_ms < _until(said)
        ]
        return rows + [
            (", ".join(silence.match), f"planned: {silence.name}", end(silence, now_ms))
            for silence, _ in self._calendar
            if covers(silence, now_ms)
        ]


_WORDS = {"silenced": "silenced", "planned": "planned", "false": "not an anomaly"}


def _keep(kept: dict, key: object, feedback: dict) -> None:
    """The latest ``MAX_SAID``; what was said longest ago goes first."""
    kept.pop(key, None)
    kept[key] = feedback
    if len(kept) > MAX_SAID:
        del kept[next(iter(kept))]


def _subject(feedback: Mapping) -> tuple:
    if feedback["finding_id"]:
        return (feedback["finding_id"],)
    return (feedback["scope_kind"], feedback["scope_name"], feedback["detector"])


def _until(said: Mapping) -> int:
    """ "Not an anomaly" has no end unless one is given."""
    return said["until_ms"] or (FOREVER_MS if said["verdict"] == "false" else 0)


def covers(silence: SilenceSettings, now_ms: int) -> bool:
    return end(silence, now_ms) > now_ms


def end(silence: SilenceSettings, now_ms: int) -> int:
    """When the span that holds ``now_ms`` ends; 0 if none does."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    if silence.starts is not None:
        holds = silence.instant(silence.starts) <= now < silence.instant(silence.ends)
        return _ms(silence.instant(silence.ends)) if holds else 0
    zone = ZoneInfo(silence.timezone)
    today = now.astimezone(zone).date()
    start_time = time.fromisoformat(silence.start_time)
    midnight = silence.end_time == "24:00"
    end_time = time(0) if midnight else time.fromisoformat(silence.end_time)
    # A span begins today or, past midnight, yesterday.
    for day in (today, today - timedelta(days=1)):
        if WEEKDAYS[day.weekday()] not in silence.weekdays:
            continue
        last = day + timedelta(days=1) if midnight or end_time <= start_time else day
        start = datetime.combine(day, start_time, zone).astimezone(UTC)
        stop = datetime.combine(last, end_time, zone).astimezone(UTC)
        if start <= now < stop:
            return _ms(stop)
    return 0


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
