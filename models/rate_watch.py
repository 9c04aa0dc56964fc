"""Runs spend_rate and the team learner over closed windows, and words their findings: rates and silence.

Guarantee: every window is judged once, by event time (models.watched). A late amendment changes the money of a window,
not its judgement.

A finding's contributions add up to its excess to the nano-dollar: for a team by model, for a model by team, each
part against its own expectation, what is left as "other". An incident is one finding: opened, updated whenever its
excess per window has doubled, resolved with the total.

Netting: teams, models and each team's use of each model are all watched, so that one part's rise cannot hide behind
another's fall. A part is reported only while neither its team nor its model is, since their findings name it.

Called by models.rollup only.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

import numpy as np

from models.config import HOUR_MS, MINUTE_MS, EngineConfig
from models.counters import COST
from models.detectors.spend_rate import LOW_RUN, RUN_PEAK, RUN_SPENT, RUN_USUAL, Judgement, SpendRate
from models.findings import finding_id, make_finding
from models.learners.team_vector import TeamVectors
from models.money import format_usd
from models.panes_merge import MergedPanes
from models.scopes import Scope
from models.verdicts import Verdicts
from models.watched import Watched

NAME = "spend_rate"
SILENCE = "silence"
KINDS = ("team", "model", "team_model")
MAX_CAUSES = 5
HALF_CONFIDENCE_WINDOWS = 30
_MAX_NANO_USD = 2**62


@dataclass(slots=True)
class Incident:
    """What an open incident has come to so far; nano-USD."""

    opened_ms: int
    revision: int = 1
    reported_excess: int = 0
    observed: int = 0
    expected: int = 0
    last_hot_ms: int = 0
    parts: dict[str, int] = field(default_factory=dict)
    muted: bool = False
    """A part whose team or model had a finding when this opened."""


class _Watch(Watched):
    """The keys of one window size."""

    def __init__(self, rates: SpendRate):
        super().__init__(rates, KINDS, HOUR_MS if rates.window_ms % HOUR_MS == 0 else MINUTE_MS)
        self.rates = rates
        self.parts: dict[tuple[str, str], list[int]] = defaultdict(list)
        self.incidents: dict[Scope, Incident] = {}
        self.silences: dict[Scope, Incident] = {}

    def add(self, scope: Scope) -> int:
        row = super().add(scope)
        if scope.kind == "team_model":
            self.parts["team", scope.team].append(row)
            self.parts["model", scope.model].append(row)
        return row

    def spend(self, panes: MergedPanes, start_ms: int) -> np.ndarray:
        """int64[n] nano-USD of the window at ``start_ms`` for all keys, new ones included."""
        numbers, costs = [], []
        for pane_start in range(start_ms, start_ms + self.size_ms, self.pane_ms):
            scopes, totals = panes.window(pane_start, self.pane_ms)
            numbers.append(scopes)
            costs.append(totals[:, COST])
        number, cost = np.concatenate(numbers), np.concatenate(costs)
        row = self.rows_of(panes, number)
        self.rates.add(len(self.keys) - len(self.rates))
        spend = np.zeros(len(self.keys), np.int64)
        np.add.at(spend, row[row >= 0], cost[row >= 0])
        return spend

    def pass_to(self, next_ms: int) -> None:
        """The windows before ``next_ms`` are done with."""
        self.next_ms = next_ms
        if next_ms % HOUR_MS < self.size_ms:
            self.forget(self.rates.silent(next_ms // HOUR_MS))

    def relabel(self, keys: list[Scope]) -> None:
        self.parts.clear()
        super().relabel(keys)

    def cause(self, scope: Scope, observed: np.ndarray, expected: np.ndarray) -> dict[str, int]:
        """Excess of each part of a team or model in one window, nano-USD by model or team."""
        rows = self.parts.get((scope.kind, scope.team if scope.kind == "team" else scope.model), ())
        return {
            (self.keys[row].model if scope.kind == "team" else self.keys[row].team): int(observed[row])
            - int(expected[row])
            for row in rows
        }

    def snapshot(self) -> dict:
        return {
            **super().snapshot(),
            "incidents": [[list(key), asdict(incident)] for key, incident in self.incidents.items()],
            "silences": [[list(key), asdict(incident)] for key, incident in self.silences.items()],
            "rates": self.rates.snapshot(),
        }

    @classmethod
    def restore(cls, rates: SpendRate, snapshot: dict) -> "_Watch":
        self = cls(rates)
        self.load(snapshot)
        self.incidents = {Scope(*key): Incident(**incident) for key, incident in snapshot["incidents"]}
        self.silences = {Scope(*key): Incident(**incident) for key, incident in snapshot["silences"]}
        return self


class RateWatch:
    """Both window sizes and the learner."""

    def __init__(self, config: EngineConfig):
        self.config = config
        self.learner = TeamVectors(config.learner)
        self.verdicts = Verdicts(NAME)
        self._minute = _Watch(SpendRate(config.spend_rate, config.spend_rate.window_ms))
        self._hour = _Watch(SpendRate(config.spend_rate, HOUR_MS)) if self._minute.size_ms < HOUR_MS else None
        self.changed = True
        """Since somebody set this to False: nothing does between the windows that close."""

    def advance(self, panes: MergedPanes, watermark_ms: int, now_ms: int) -> list[dict]:
        """Findings of the windows that the watermark has closed since the last call."""
        watch, findings = self._minute, []
        before = self._position
        closed = watch.closed(panes, watermark_ms)
        start_ms = closed.start
        while start_ms < closed.stop:
            silent = _silent(watch, panes, start_ms, closed.stop)
            if silent:
                watch.rates.pass_silence(start_ms, silent)
                watch.pass_to(start_ms + silent * watch.size_ms)
            else:
                self._learn(panes, start_ms)
                findings += self._judge(watch, panes, start_ms, now_ms)
            start_ms = watch.next_ms
            if self._hour is not None:
                for hour_ms in self._hour.closed(panes, start_ms):
                    findings += self._judge(self._hour, panes, hour_ms, now_ms)
        self.changed |= self._position != before
        return findings

    @property
    def _position(self) -> tuple[int | None, int | None]:
        return self._minute.next_ms, self._hour and self._hour.next_ms

    def _learn(self, panes: MergedPanes, start_ms: int) -> None:
        watch = self._minute
        totals: dict[str, np.ndarray] = {}
        for pane_start in range(start_ms, start_ms + watch.size_ms, watch.pane_ms):
            for number, counters in zip(*panes.window(pane_start, watch.pane_ms), strict=True):
                scope = panes.scopes[number]
                if scope.kind == "team":
                    totals[scope.team] = totals[scope.team] + counters if scope.team in totals else counters
        for team in sorted(totals):
            scope = Scope("team", team)
            incident = watch.incidents.get(scope)
            about = "" if incident is None else finding_id(NAME, scope.key, incident.opened_ms)
            self.learner.observe(team, totals[team].tolist(), start_ms, watch.size_ms, about)

    def _judge(self, watch: _Watch, panes: MergedPanes, start_ms: int, now_ms: int) -> list[dict]:
        observed = watch.spend(panes, start_ms)
        judged = watch.rates.judge(observed.astype(np.float64), start_ms, self._eligible(watch, start_ms))
        expected = np.rint(np.minimum(judged.expected, _MAX_NANO_USD)).astype(np.int64)
        findings = []
        # Teams and models first: whether a part is reported depends on them.
        moved = np.flatnonzero(judged.open | judged.closing).tolist()
        for row in sorted(moved, key=lambda row: watch.keys[row].kind == "team_model"):
            scope = watch.keys[row]
            finding = self._follow(watch, scope, row, judged, observed, expected, start_ms, now_ms)
            if finding is not None:
                findings.append(finding)
        if watch is self._minute:
            findings += self._silences(watch, judged, observed, expected, start_ms, now_ms)
        watch.pass_to(start_ms + watch.size_ms)
        return findings

    def feedback(self, feedback: Mapping) -> None:
        """What a person said (``schemas/feedback.avsc``); any number of repeats, in any order, changes nothing."""
        self.changed = True
        self.learner.feedback(feedback)
        verdict = self.verdicts.take(feedback)
        if verdict is None:
            return
        size_ms, scope, steps = verdict
        for watch in (self._minute, self._hour):
            if watch is not None and watch.size_ms == size_ms and scope in watch.rows:
                watch.rates.verdict(watch.rows[scope], steps)

    def _eligible(self, watch: _Watch, start_ms: int) -> np.ndarray:
        """bool[n]: minute by minute if they are dense, by hour sums if not; nothing that is planned."""
        eligible = self._own(watch)
        planned = self.verdicts.planned(start_ms)
        if planned:
            eligible &= np.array([f"{key.kind}:{key.label}" not in planned for key in watch.keys], np.bool_)
        return eligible

    def _own(self, watch: _Watch) -> np.ndarray:
        if watch is not self._hour:
            return ~watch.rates.sparse()
        sparse = self._minute.rates.sparse()
        rows = [self._minute.rows.get(key, -1) for key in watch.keys]
        return np.array([row < 0 or bool(sparse[row]) for row in rows], np.bool_)

    def _follow(
        self,
        watch: _Watch,
        scope: Scope,
        row: int,
        judged: Judgement,
        observed: np.ndarray,
        expected: np.ndarray,
        start_ms: int,
        now_ms: int,
    ) -> dict | None:
        """Move one incident on by one window; its finding if people should hear of it."""
        parts = watch.cause(scope, observed, expected)
        spent, usual = int(observed[row]), int(expected[row])
        incident = watch.incidents.get(scope)
        if incident is None:
            incident = watch.incidents[scope] = Incident(start_ms, muted=_covered(scope, watch.incidents))
        incident.observed += spent
        incident.expected += usual
        for name, excess in parts.items():
            incident.parts[name] = incident.parts.get(name, 0) + excess
        if judged.strength[row] >= 1.0 or judged.opening[row]:
            incident.last_hot_ms = start_ms
        if judged.closing[row]:
            del watch.incidents[scope]
            status, window_ms = "resolved", start_ms + watch.size_ms - incident.opened_ms
            spent, usual, parts, window_start = incident.observed, incident.expected, incident.parts, incident.opened_ms
        elif judged.opening[row]:
            status, window_ms, window_start = "open", watch.size_ms, start_ms
        elif spent - usual >= 2 * incident.reported_excess:
            status, window_ms, window_start = "updated", watch.size_ms, start_ms
        else:
            return None
        if incident.muted:
            return None
        if status != "open":
            incident.revision += 1
        incident.reported_excess = max(incident.reported_excess, spent - usual)
        dimension = "model" if scope.kind == "team" else "team"
        cause = _ranked(dimension, parts, spent - usual)
        critical = spent >= self.config.session_outlier.ratio * usual
        key = (scope.key, incident.opened_ms) + ((watch.size_ms,) if watch is self._hour else ())
        windows = int(judged.windows[row])
        id = finding_id(NAME, *key)
        self.verdicts.remember(id, watch.size_ms, scope)
        return make_finding(
            id=id,
            revision=incident.revision,
            status=status,
            detector=NAME,
            severity="critical" if critical else "warning",
            scope_kind=scope.kind,
            scope_name=scope.label,
            team=scope.team,
            model=scope.model,
            window_start=window_start,
            window_ms=window_ms,
            observed_nano_usd=spent,
            expected_nano_usd=usual,
            score=float(judged.strength[row]),
            learner_score=self.learner.score(scope.team) if scope.kind == "team" else None,
            confidence=windows / (windows + HALF_CONFIDENCE_WINDOWS),
            baseline_size=windows,
            first_event_time=incident.opened_ms,
            last_event_time=(incident.last_hot_ms if status == "resolved" else start_ms) + watch.size_ms - 1,
            detection_time=now_ms,
            reason=_reason(scope, status, spent, usual, window_start, window_ms, cause),
            cause=cause,
            details={"opened": str(incident.opened_ms), "judged_window_ms": str(watch.size_ms)},
        )

    def _silences(
        self, watch: _Watch, judged: Judgement, observed: np.ndarray, expected: np.ndarray, start_ms: int, now_ms: int
    ) -> list[dict]:
        """Findings of teams and models that have stopped, or go on after a stop."""
        findings = []
        for row in np.flatnonzero(judged.stopped).tolist():
            scope = watch.keys[row]
            if scope.kind == "team_model":
                continue
            run = int(watch.rates.counts[row, LOW_RUN])
            incident = Incident(start_ms - (run - 1) * watch.size_ms)
            watch.silences[scope] = incident
            self._measure_silence(watch, row, incident, start_ms)
            findings.append(self._silence(watch, scope, row, judged, incident, "open", start_ms, now_ms))
        for scope, incident in list(watch.silences.items()):
            row = watch.rows[scope]
            if judged.silent[row]:
                self._measure_silence(watch, row, incident, start_ms)
                continue
            del watch.silences[scope]
            incident.revision += 1
            findings.append(self._silence(watch, scope, row, judged, incident, "resolved", start_ms, now_ms))
        return findings

    def _measure_silence(self, watch: _Watch, row: int, incident: Incident, start_ms: int) -> None:
        values = watch.rates.values[row]
        incident.observed, incident.expected = round(values[RUN_SPENT]), round(min(values[RUN_USUAL], _MAX_NANO_USD))
        incident.last_hot_ms = start_ms

    def _silence(
        self,
        watch: _Watch,
        scope: Scope,
        row: int,
        judged: Judgement,
        incident: Incident,
        status: str,
        start_ms: int,
        now_ms: int,
    ) -> dict:
        windows = int(judged.windows[row])
        window_ms = incident.last_hot_ms + watch.size_ms - incident.opened_ms
        return make_finding(
            id=finding_id(SILENCE, scope.key, incident.opened_ms),
            revision=incident.revision,
            status=status,
            detector=SILENCE,
            severity="warning",
            scope_kind=scope.kind,
            scope_name=scope.label,
            team=scope.team,
            model=scope.model,
            window_start=incident.opened_ms,
            window_ms=window_ms,
            observed_nano_usd=incident.observed,
            expected_nano_usd=incident.expected,
            score=window_ms / watch.size_ms / max(float(watch.rates.values[row, RUN_PEAK]), 1.0),
            confidence=windows / (windows + HALF_CONFIDENCE_WINDOWS),
            baseline_size=windows,
            first_event_time=incident.opened_ms,
            last_event_time=incident.last_hot_ms + watch.size_ms - 1,
            detection_time=now_ms,
            reason=_silence_reason(scope, status, incident, window_ms),
            details={"opened": str(incident.opened_ms), "judged_window_ms": str(watch.size_ms)},
        )

    def snapshot(self) -> dict:
        return {
            "minute": self._minute.snapshot(),
            "hour": None if self._hour is None else self._hour.snapshot(),
            "learner": self.learner.snapshot(),
            "verdicts": self.verdicts.snapshot(),
            "window_ms": self._minute.size_ms,
        }

    @classmethod
    def restore(cls, config: EngineConfig, snapshot: dict) -> "RateWatch":
        """As it was; a window size that has changed begins with an empty past, since its levels mean nothing now."""
        self = cls(config)
        self.learner = TeamVectors.restore(config.learner, snapshot["learner"])
        self.verdicts.load(snapshot["verdicts"])
        if snapshot["window_ms"] == self._minute.size_ms:
            self._minute = _restore(self._minute, snapshot["minute"])
            if self._hour is not None:
                self._hour = _restore(self._hour, snapshot["hour"])
        return self


def _restore(watch: _Watch, snapshot: dict) -> _Watch:
    rates = SpendRate.restore(watch.rates.config, watch.size_ms, snapshot["rates"])
    return _Watch.restore(rates, snapshot)


def _silent(watch: _Watch, panes: MergedPanes, start_ms: int, stop_ms: int) -> int:
    """How many windows from ``start_ms`` on, within its hour, nobody spent anything in, if no incident is open.

    They can be passed in one step: months without usage would else take minutes, a tenth of a millisecond each.
    """
    if not watch.rates.calm():
        return 0
    last_ms = min(stop_ms, (start_ms // HOUR_MS + 1) * HOUR_MS) - watch.size_ms
    silent = 0
    while start_ms + silent * watch.size_ms <= last_ms:
        at_ms = start_ms + silent * watch.size_ms
        if any(panes.any(pane_ms, watch.pane_ms) for pane_ms in range(at_ms, at_ms + watch.size_ms, watch.pane_ms)):
            break
        silent += 1
    return silent


def _ranked(dimension: str, parts: dict[str, int], excess: int) -> list[dict]:
    """The largest contributions, and what is left as "other": together exactly ``excess``."""
    top = sorted(parts.items(), key=lambda part: (-abs(part[1]), part[0]))[:MAX_CAUSES]
    cause = [
        {"dimension": dimension, "name": name or "(unknown)", "excess_nano_usd": part} for name, part in top if part
    ]
    rest = excess - sum(part["excess_nano_usd"] for part in cause)
    if rest or not cause:
        cause.append({"dimension": dimension, "name": "other", "excess_nano_usd": rest})
    return cause


def _reason(scope: Scope, status: str, spent: int, usual: int, start_ms: int, window_ms: int, cause: list[dict]) -> str:
    who = f"{scope.kind.capitalize()} {scope.label}"
    since = utc_time(start_ms)
    top = max(cause, key=lambda part: part["excess_nano_usd"])
    blame = ""
    if top["name"] != "other" and top["excess_nano_usd"] > 0:
        blame = f"; {top['name']} accounts for {format_usd(top['excess_nano_usd'])} of the excess"
    if status == "resolved":
        return (
            f"{who} is back to its usual spend: in the {length_in_words(window_ms)} from {since} it spent "
            f"{format_usd(spent)} where {format_usd(usual)} is usual{blame}."
        )
    times = f"{spent / usual:.1f}x the usual {format_usd(usual)}" if usual > 0 else "where nothing is usual"
    return f"{who} spent {format_usd(spent)} in the {length_in_words(window_ms)} from {since}, {times}{blame}."


def _covered(scope: Scope, incidents: dict[Scope, Incident]) -> bool:
    """Whether a part's team or model has a finding that names it."""
    if scope.kind != "team_model":
        return False
    return Scope("team", scope.team) in incidents or Scope("model", model=scope.model) in incidents


def _silence_reason(scope: Scope, status: str, incident: Incident, window_ms: int) -> str:
    who = f"{scope.kind.capitalize()} {scope.label}"
    since = utc_time(incident.opened_ms)
    spent = f"{format_usd(incident.observed)} where {format_usd(incident.expected)} is usual"
    if status == "resolved":
        return f"{who} is no longer silent: in the {length_in_words(window_ms)} from {since} it spent {spent}."
    return f"{who} has stopped: {spent} since {since}; an outage, a finished job or lost events."


def utc_time(ms: int) -> str:
    """Hour and minute."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%H:%M} UTC"


def length_in_words(ms: int) -> str:
    """The window in words: minute, 10 minutes, hour."""
    for unit_ms, unit in ((HOUR_MS, "hour"), (MINUTE_MS, "minute")):
        if ms % unit_ms == 0:
            return unit if ms == unit_ms else f"{ms // unit_ms} {unit}s"
    return f"{ms / 1000:.0f} seconds"
