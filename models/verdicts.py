"""What people say about findings of rates and of cache shares, and what it changes: a key's guard, and what is planned.

A verdict counts once, however often the topic is read: for each finding the newest by ``at_ms`` stands, and changing
one's mind takes the former effect back. "true" and "planned" take back that the finding raised its key's guard (people
want such findings), "false" raises it as much again. "planned" with an end also keeps its scope from opening anything
until then: events of that time are learnt, not reported. Findings of the last MAX_KNOWN can be spoken about.

Called by models.rate_watch and models.cache_watch; the records are those of ``schemas/feedback.avsc``.
"""

from collections.abc import Mapping

from models.scopes import Scope

MAX_KNOWN = 10_000
STEPS = {"true": -1, "planned": -1, "false": 1}
"""Guard steps of each verdict that is about detection; the others are about messages."""


class Verdicts:
    """State of one RateWatch or CacheWatch, about the findings of ``detector``.

    >>> said = Verdicts("spend_rate")
    >>> said.remember("spend_rate-1", 60_000, Scope("team", "payments"))
    >>> said.take({"finding_id": "spend_rate-1", "verdict": "false", "at_ms": 5, "until_ms": 0})[1].key
    'team:payments'
    >>> said.take({"finding_id": "spend_rate-1", "verdict": "true", "at_ms": 6, "until_ms": 0})[2]
    -2
    """

    def __init__(self, detector: str):
        self._detectors = ("", detector)
        self._known: dict[str, tuple[int, Scope]] = {}
        self._said: dict[str, tuple[int, str]] = {}
        self._planned: dict[str, int] = {}

    def remember(self, finding_id: str, size_ms: int, scope: Scope) -> None:
        """A finding that people will hear of, by windows of ``size_ms``."""
        self._known[finding_id] = (size_ms, scope)
        if len(self._known) > MAX_KNOWN:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._said.pop(oldest, None)

    def take(self, feedback: Mapping) -> tuple[int, Scope, int] | None:
        """(window size, scope, guard steps) that a Feedback record changes; None if it changes no guard."""
        verdict, finding_id = feedback["verdict"], feedback["finding_id"]
        if verdict not in STEPS:
            return None
        if not finding_id:
            if verdict == "planned" and feedback["detector"] in self._detectors:
                self._plan(f"{feedback['scope_kind']}:{feedback['scope_name']}", feedback["until_ms"])
            return None
        if finding_id not in self._known:
            return None
        at_ms, former = self._said.get(finding_id, (-1, ""))
        if feedback["at_ms"] <= at_ms:
            return None
        self._said[finding_id] = (feedback["at_ms"], verdict)
        size_ms, scope = self._known[finding_id]
        if verdict == "planned":
            self._plan(f"{scope.kind}:{scope.label}", feedback["until_ms"])
        return size_ms, scope, STEPS[verdict] - STEPS.get(former, 0)

    def _plan(self, name: str, until_ms: int) -> None:
        self._planned[name] = until_ms
        if len(self._planned) > MAX_KNOWN:
            del self._planned[next(iter(self._planned))]

    def planned(self, start_ms: int) -> set[str]:
        """``kind:label`` of the scopes that are planned to be unusual at this time."""
        return {name for name, until_ms in self._planned.items() if until_ms > start_ms}

    def snapshot(self) -> dict:
        return {
            "known": [[key, size_ms, list(scope)] for key, (size_ms, scope) in self._known.items()],
            "said": [[key, *said] for key, said in self._said.items()],
            "planned": [[name, until_ms] for name, until_ms in self._planned.items()],
        }

    def load(self, snapshot: dict) -> None:
        """Become what ``snapshot`` copied."""
        self._known = {key: (size_ms, Scope(*scope)) for key, size_ms, scope in snapshot["known"]}
        self._said = {key: (at_ms, verdict) for key, at_ms, verdict in snapshot["said"]}
        self._planned = dict(snapshot["planned"])
