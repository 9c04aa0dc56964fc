"""What people say about session findings, and what it changes: what a session teaches, and its peers' guard.

A verdict counts once, however often the topic is read: for each finding the newest by ``at_ms`` stands, and changing
one's mind takes the former effect back.

    false     the session was normal: it teaches its whole cost, not ten times the median, and lifts its group's limits
    true      it takes back the lift of one such verdict on its group
    planned   neither: a cost that was wanted once is no reason to expect it again

Both effects are numbers of the group's histogram of a day (models.baselines), so they reach every partition by way of
rollup, weigh half after two weeks, and are forgotten with the day. The group is the most specific one: what one agent's
people say lifts nobody else's limits.

Guarantee: the last MAX_KNOWN findings of a partition can be spoken about. What comes before its finding (after a crash
the events are read again later than the topic of feedback) waits for it; only that is not part of the state, since
whoever restores an engine gives it all feedback again. Called by models.engine only; the records are those of
``schemas/feedback.avsc``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from models.rolling import EVERYTHING

MAX_KNOWN = 2_000
STEPS = {"true": -1, "planned": 0, "false": 1}
"""Guard steps of each verdict that is about detection; the others are about messages."""


@dataclass(slots=True)
class Told:
    """A session that people have heard of, and what it has taught once it is over."""

    team: str
    agent: str
    model: str
    day: int
    """Of the finding: where the guard is counted."""
    taught_day: int = -1
    taught_model: str = ""
    """A session may name its model after it was flagged."""
    taught_bin: int = 0
    """As an outlier."""
    true_bin: int = 0
    counters: list[int] = field(default_factory=list)
    at_ms: int = -1
    verdict: str = ""

    @property
    def ended(self) -> bool:
        return self.taught_day >= 0

    @property
    def normal(self) -> bool:
        return self.verdict == "false"


@dataclass(frozen=True, slots=True)
class Change:
    """What a verdict changes: guard steps, and whether the session teaches as a normal one from now on (1), or as an
    outlier again (-1)."""

    told: Told
    steps: int
    teaches: int


class SessionVerdicts:
    """State of one UsageEngine.

    >>> said = SessionVerdicts()
    >>> said.tell("session_outlier-1", "lending", "loans", "gpt-4o", 20_000)
    >>> said.take({"finding_id": "session_outlier-1", "verdict": "false", "at_ms": 5}).steps
    1
    >>> said.take({"finding_id": "session_outlier-1", "verdict": "true", "at_ms": 6}).steps
    -2
    """

    def __init__(self):
        self._known: dict[str, Told] = {}
        self._early: dict[str, Mapping] = {}
        self._changed: set[str] = set()

    def tell(self, finding_id: str, team: str, agent: str, model: str, day: int) -> Change | None:
        """A finding that people will hear of; what was said of it already, if anything was."""
        if finding_id in self._known:
            return None
        self._known[finding_id] = Told(team, agent, model, day)
        self._changed.add(finding_id)
        self._trim()
        early = self._early.pop(finding_id, None)
        return None if early is None else self.take(early)

    def end(self, finding_id: str, day: int, model: str, taught_bin: int, true_bin: int, counters: list[int]) -> None:
        """The session is over and has taught this."""
        told = self._known.get(finding_id)
        if told is not None:
            told.taught_day, told.taught_model, told.counters = day, model, counters
            told.taught_bin, told.true_bin = taught_bin, true_bin
            self._changed.add(finding_id)

    def is_normal(self, finding_id: str) -> bool:
        """Whether people said that it was no anomaly."""
        told = self._known.get(finding_id)
        return told is not None and told.normal

    def take(self, feedback: Mapping) -> Change | None:
        """What a Feedback record changes; None if it changes nothing."""
        verdict, finding_id = feedback["verdict"], feedback["finding_id"]
        if verdict not in STEPS or not finding_id:
            return None
        told = self._known.get(finding_id)
        if told is None:
            early = self._early.get(finding_id)
            if early is None or early["at_ms"] < feedback["at_ms"]:
                self._early[finding_id] = dict(feedback)
                if len(self._early) > MAX_KNOWN:
                    del self._early[next(iter(self._early))]
            return None
        if feedback["at_ms"] <= told.at_ms:
            return None
        steps, was_normal = STEPS[verdict] - STEPS.get(told.verdict, 0), told.normal
        told.at_ms, told.verdict = feedback["at_ms"], verdict
        self._changed.add(finding_id)
        return Change(told, steps, told.normal - was_normal if told.ended else 0)

    def _trim(self) -> None:
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]

    def take_delta(self, slice_number: int) -> dict:
        """What changed since the delta before; all there is with slice 0 (models.rolling)."""
        whole = slice_number in (0, EVERYTHING)
        rows = [
            [finding_id, *(getattr(told, name) for name in Told.__slots__)]
            for finding_id, told in self._known.items()
            if whole or finding_id in self._changed
        ]
        self._changed.clear()
        return {"whole": whole, "known": rows}

    def load_delta(self, delta: dict) -> None:
        """Take one delta over the state so far."""
        if delta["whole"]:
            self._known.clear()
        for finding_id, *values in delta["known"]:
            self._known[finding_id] = Told(*values)
            self._trim()
