"""Which findings are not told because an open one says the same: after Alertmanager's inhibition.

A rule mutes findings that its ``target`` matches while a finding that its ``source`` matches is open and both agree
in the ``equal`` labels. Two conditions beyond Alertmanager's: a source never mutes what is more severe than itself,
whose receivers might not take the source; and with ``explains`` the sources together must make up that share of the
target's excess, each per hour of its window, so that a small session does not hide a large drift.

``DEFAULT_RULES`` hold where the settings have no ``[[inhibit]]``. Cost: one dict look-up per rule and finding.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from streams.notify.config import InhibitSettings
from streams.notify.matchers import all_match, labels, parse
from streams.notify.receiver import SEVERITIES

DEFAULT_RULES = (
    InhibitSettings(
        source=("detector=budget_burn", "scope=~organisation:.*"),
        target=("detector=budget_burn", "scope!~organisation:.*"),
    ),
    InhibitSettings(
        source=("detector=session_outlier",),
        target=("detector=spend_rate", "scope_kind=team"),
        equal=("team",),
        explains=0.5,
    ),
)
_HOUR_MS = 3_600_000


class Inhibitor:
    """Open sources by rule and shared labels. ``update`` with every revision; ``by`` asks."""

    def __init__(self, rules: Sequence[InhibitSettings] | None = None, findings: Iterable[Mapping] = ()) -> None:
        """``findings`` are open already. No rules given: ``DEFAULT_RULES``."""
        self._rules = [
            (number, parse(rule.source), parse(rule.target), rule.equal, rule.explains)
            for number, rule in enumerate(DEFAULT_RULES if rules is None else rules)
        ]
        self._sources: dict[tuple, dict[str, Mapping]] = defaultdict(dict)
        self._keys: dict[str, list[tuple]] = {}
        for finding in findings:
            self.update(finding)

    def update(self, finding: Mapping) -> bool:
        """Note a revision; True if what others are muted by may have changed."""
        was = self.forget(finding["id"])
        if finding["status"] == "resolved":
            return was
        known = labels(finding)
        keys = [
            (number, *(known.get(label, "") for label in equal))
            for number, source, _, equal, _ in self._rules
            if all_match(source, known)
        ]
        for key in keys:
            self._sources[key][finding["id"]] = finding
        if keys:
            self._keys[finding["id"]] = keys
        return was or bool(keys)

    def forget(self, finding_id: str) -> bool:
        keys = self._keys.pop(finding_id, ())
        for key in keys:
            del self._sources[key][finding_id]
            if not self._sources[key]:
                del self._sources[key]
        return bool(keys)

    def by(self, finding: Mapping) -> str:
        """The id of the finding that mutes this one (the dearest of several); empty if none does."""
        known = labels(finding)
        rank = SEVERITIES.index(finding["severity"])
        for number, _, target, equal, explains in self._rules:
            if not all_match(target, known):
                continue
            sources = [
                source
                for source in self._sources.get((number, *(known.get(label, "") for label in equal)), {}).values()
                if source["id"] != finding["id"] and SEVERITIES.index(source["severity"]) >= rank
            ]
            if explains:
                sources = [source for source in sources if _overlap(source, finding)]
                if sum(map(_hourly, sources)) < explains * _hourly(finding):
                    continue
            if sources:
                return max(sources, key=_hourly)["id"]
        return ""


def _hourly(finding: Mapping) -> float:
    """Excess per hour, nano-USD."""
    return finding["excess_nano_usd"] * _HOUR_MS / max(finding["window_ms"], 1)


def _overlap(source: Mapping, target: Mapping) -> bool:
    """The windows judged have a moment in common."""
    return source["window_start"] <= target["last_event_time"] and target["window_start"] <= source["last_event_time"]
