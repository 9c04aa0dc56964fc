"""Live sessions against a plain Python twin, event by event."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.builders import columns_of
from models.combos import Combos
from models.config import SessionConfig
from models.counters import COST, COUNTERS, EVENTS, event_counters
from models.rolling import EVERYTHING, SLICES
from models.sessions import NEVER, EndedRuns, Sessions

START = 1_795_460_400_000
IDLE_MS = 60_000

events = st.lists(
    st.builds(
        lambda session, at, cost, model, team: {
            "event_time": START + at * 10_000,
            "session_id": session,
            "cost_nano_usd": cost,
            "model": model,
            "team": team,
        },
        st.sampled_from(["", "s1", "s2", "s3", "a-session-id-that-is-much-longer-than-forty-bytes-ü"]),
        st.integers(0, 60),
        st.integers(0, 10),
        st.sampled_from(["", "m"]),
        st.sampled_from(["t", "u"]),
    ),
    max_size=50,
)


@dataclass
class Run:
    session_id: str
    names: tuple
    start: int
    first: int
    last: int
    cost: int = 0
    events: int = 0
    level: int = 0
    revision: int = 0
    reported: int = 0


@dataclass
class Twin:
    """The same rules with objects."""

    warn: int
    page: int
    live: dict[str, Run] = field(default_factory=dict)
    ended: list[Run] = field(default_factory=list)
    candidates: list[tuple] = field(default_factory=list)

    def apply(self, event: dict) -> None:
        session, time = event["session_id"], event["event_time"]
        if not session:
            return
        names = (event["team"], event["model"])
        run = self.live.get(session)
        if run and time > run.last + IDLE_MS:
            self.ended.append(run)
            run = None
        if run is None:
            run = self.live[session] = Run(session, names, time, time, time)
        elif not run.names[1] and names[1]:
            run.names = names
        run.cost += event["cost_nano_usd"]
        run.events += 1
        run.first, run.last = min(run.first, time), max(run.last, time)
        level = 2 if run.cost >= self.page else max(run.level, 1 if run.cost >= self.warn else 0)
        if level > run.level or (run.level and run.cost >= max(2 * run.reported, self.warn)):
            run.level, run.revision, run.reported = level, run.revision + 1, run.cost
            times = (run.start, run.first, run.last)
            self.candidates.append((session, level, run.revision, times, run.cost, run.events))

    def end_idle(self, watermark: int) -> list[Run]:
        over = [run for run in self.live.values() if run.last + IDLE_MS < watermark]
        for run in over:
            del self.live[run.session_id]
        return over


class Subject:
    """Sessions with what the engine puts around them."""

    def __init__(self, warn: int, page: int):
        self.sessions = Sessions(SessionConfig(idle_ms=IDLE_MS))
        self.combos = Combos()
        self.warn, self.page = np.array([warn], np.int64), np.array([page], np.int64)

    def apply(self, batch: list[dict]) -> tuple[list[tuple], EndedRuns]:
        columns = columns_of(batch)
        keep = np.ones(len(batch), np.bool_)
        counters = np.zeros((len(batch), len(COUNTERS)), np.int64)
        zeros = np.zeros(len(batch), np.int64)
        event_counters(keep, columns.tokens, columns.reported_nano_usd, zeros, zeros == 1, counters)
        combo = self.combos.assign(columns, keep, lambda team, agent, model: 0)
        has_model = np.array([bool(names[3]) for names in self.combos.names], np.bool_)
        found, ended = self.sessions.apply(columns, combo, counters, has_model, self.combos.group, self.warn, self.page)
        candidates = [
            (session_id, int(level), int(revision), tuple(times.tolist()), int(sums[COST]), int(sums[EVENTS]))
            for session_id, level, revision, times, sums in zip(
                found.session_id, found.level, found.revision, found.times, found.sums, strict=True
            )
        ]
        assert found.session_id == [batch[event]["session_id"] for event in found.event]
        return candidates, ended

    def facts(self, runs: EndedRuns) -> list[tuple]:
        return sorted(
            (runs.session_id[i], self.combos.names[runs.combo[i]][0::3][:2], *runs.times[i].tolist(),
             int(runs.sums[i, COST]), int(runs.sums[i, EVENTS]), int(runs.level[i]), int(runs.revision[i]))
            for i in range(len(runs))
        )  # fmt: skip


def restored(config: SessionConfig, deltas: list[dict]) -> Sessions:
    sessions = Sessions(config)
    for delta in deltas:
        sessions.load_delta(delta)
    sessions.rebuild()
    return sessions


def facts(runs: list[Run]) -> list[tuple]:
    return sorted(
        (run.session_id, run.names, run.start, run.first, run.last, run.cost, run.events, run.level, run.revision)
        for run in runs
    )


@settings(max_examples=120, deadline=None)
@given(events, st.lists(st.integers(0, 50), max_size=4), st.integers(1, 30), st.integers(0, 30), st.booleans())
def test_equals_plain_python(batch, cuts, warn, more, restore):
    twin, subject = Twin(warn, warn + more), Subject(warn, warn + more)
    edges = sorted({0, *[min(cut, len(batch)) for cut in cuts], len(batch)})
    newest, deltas = START, []
    for low, high in pairwise(edges):
        part = batch[low:high]
        for event in part:
            twin.apply(event)
            newest = max(newest, event["event_time"])
        candidates, ended = subject.apply(part)
        assert candidates == twin.candidates
        assert subject.facts(ended) == facts(twin.ended)
        twin.candidates.clear()
        twin.ended.clear()
        watermark = newest - 20_000
        assert subject.facts(subject.sessions.end_idle(watermark)) == facts(twin.end_idle(watermark))
        assert len(subject.sessions) == len(twin.live)
        if restore:
            deltas.append(subject.sessions.take_delta(len(deltas) % SLICES if deltas else EVERYTHING))
            subject.sessions = restored(subject.sessions.config, deltas)
    assert subject.facts(subject.sessions.end_idle(NEVER)) == facts(list(twin.live.values()))
    assert len(subject.sessions) == 0


def test_rows_are_used_again():
    subject = Subject(NEVER, NEVER)
    for round_number in range(30):
        at = START + round_number * 10 * IDLE_MS
        batch = [{"event_time": at, "session_id": f"{round_number}-{i}", "cost_nano_usd": 1} for i in range(500)]
        subject.apply(batch)
        assert len(subject.sessions.end_idle(at + 2 * IDLE_MS)) == 500
    assert len(subject.sessions.key) < 4_000


def test_usage_after_the_idle_time_begins_another_run():
    subject = Subject(NEVER, NEVER)
    event = {"session_id": "s", "cost_nano_usd": 7}
    _, ended = subject.apply([{**event, "event_time": START}, {**event, "event_time": START + IDLE_MS + 1}])
    assert len(ended) == 1
    assert ended.times[0].tolist() == [START, START, START]
    assert len(subject.sessions) == 1
