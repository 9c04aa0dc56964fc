"""Live sessions and the watch list against a plain Python twin, event by event."""

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.builders import columns_of, hash_of
from models import session_kernels as kernels
from models.combos import Combos
from models.config import RunawayConfig, SessionConfig
from models.counters import COST, COUNTERS, EVENTS, event_counters
from models.rolling import EVERYTHING, SLICES
from models.session_kernels import LIMITS, NEVER
from models.sessions import EndedRuns, Sessions
from models.watch import MAX_SLOTS, RING, agents, cells, examples
from schemas.columns import KINDS

START = 1_795_460_400_000
IDLE_MS = 60_000
RUNAWAY = RunawayConfig(min_cost_nano_usd=3, repeats=4, growing_calls=3, short_output_tokens=50, agents=2)
LONG_ID = "an-event-id-of-more-than-sixty-four-bytes-is-no-example-" + "x" * 20

events = st.lists(
    st.builds(
        lambda session, at, cost, model, team, agent, kind, tokens, output, tag, long: {
            "event_time": START + at * 10_000,
            "session_id": session,
            "cost_nano_usd": cost,
            "model": model,
            "team": team,
            "agent": agent,
            "kind": kind,
            "input_tokens": tokens,
            "output_tokens": output,
            "tags": {"step": tag},
            "event_id": f"{LONG_ID if long else 'e'}{at}-{cost}",
        },
        st.sampled_from(["", "s1", "s2", "s3", "a-session-id-that-is-much-longer-than-forty-bytes-ü"]),
        st.integers(0, 60),
        st.integers(0, 10),
        st.sampled_from(["", "m"]),
        st.sampled_from(["t", "u"]),
        st.sampled_from(["", "a", "b", "c"]),
        st.sampled_from(["LLM", "LLM", "TOOL_CALL"]),
        st.sampled_from([0, 100, 100, 200]),
        st.sampled_from([1, 1, 60]),
        st.sampled_from(["x", "y"]),
        st.booleans(),
    ),
    max_size=60,
)


@dataclass
class Limits:
    warn: int = NEVER
    page: int = NEVER
    watch_cost: int = NEVER
    watch_calls: int = NEVER
    calls: int = NEVER
    step: int = NEVER

    def row(self) -> np.ndarray:
        steps = [self.step] * (LIMITS - 5)
        return np.array([[self.warn, self.page, self.watch_cost, self.watch_calls, self.calls, *steps]], np.int64)


@dataclass
class Watched:
    """A slot of the watch list with lists and dicts."""

    repeats: int = 0
    growing: int = 0
    prompt: int = 0
    ring: list = field(default_factory=list)
    agents: set = field(default_factory=set)
    cells: dict = field(default_factory=dict)
    examples: list = field(default_factory=list)

    def note(self, event: dict) -> None:
        same = tuple(str(event[n]) for n in ("kind", "model", "cost_nano_usd", "input_tokens", "output_tokens", "tags"))
        if same in self.ring:
            self.repeats += 2
        else:
            self.repeats = max(self.repeats - 1, 0)
            self.ring = [*self.ring, same][-RING:]
        if event["kind"] == "LLM" and event["input_tokens"]:
            grows = event["input_tokens"] >= self.prompt and event["output_tokens"] < RUNAWAY.short_output_tokens
            self.growing, self.prompt = self.growing + 1 if grows else 0, event["input_tokens"]
        self.agents.add(hash_of(event["agent"]) >> 58)
        cell = (event["team"], event["agent"], event["model"], event["kind"])
        if cell not in self.cells and len(self.cells) >= 11:
            cell = "other"
        cost, count = self.cells.get(cell, (0, 0))
        self.cells[cell] = (cost + event["cost_nano_usd"], count + 1)
        if len(event["event_id"]) <= 64:
            places = [*self.examples, *[(0, "")] * (3 - len(self.examples))]
            cheapest = min(range(3), key=lambda at: places[at][0])
            if event["cost_nano_usd"] > places[cheapest][0]:
                places[cheapest] = (event["cost_nano_usd"], event["event_id"])
            self.examples = places

    def facts(self) -> tuple:
        top = sorted((e for e in self.examples if e[0] > 0), key=lambda e: -e[0])
        return sorted(self.cells.values()), [name for _, name in top], len(self.agents)


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
    signals: int = 0
    reported: int = 0
    path: dict = field(default_factory=dict)
    watched: Watched | None = None


@dataclass
class Twin:
    """The same rules with objects."""

    limits: Limits
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
        self.judge(run, event)

    def judge(self, run: Run, event: dict) -> None:
        limits, signals = self.limits, run.signals
        step = math.log2(run.events)
        if step == int(step) and step < kernels.STEPS:
            run.path[int(step)] = sum(1 for edge in kernels.COST_EDGES.tolist() if edge <= run.cost)
            if run.cost >= limits.step and run.level == 0:
                signals |= kernels.PROJECTED
            if step >= 4 and run.path[step] - run.path[step - 1] >= math.log(RUNAWAY.acceleration) / math.log(1.35):
                signals |= kernels.ACCELERATED
        if run.watched is None and (run.cost >= limits.watch_cost or run.events >= limits.watch_calls):
            run.watched = Watched()
        if run.watched:
            run.watched.note(event)
            signals |= kernels.REPEATED if run.watched.repeats >= RUNAWAY.repeats else 0
            signals |= kernels.GREW if run.watched.growing >= RUNAWAY.growing_calls else 0
            signals |= kernels.FANNED_OUT if len(run.watched.agents) >= RUNAWAY.agents else 0
        signals |= kernels.CALLS if run.events >= limits.calls else 0
        level = 2 if run.cost >= limits.page else max(run.level, 1 if run.cost >= limits.warn else 0)
        loop = kernels.REPEATED | kernels.GREW | kernels.ACCELERATED | kernels.FANNED_OUT
        loops = signals & loop and run.cost >= max(limits.watch_cost, 3) and run.events >= limits.watch_calls
        projected_now = signals & ~run.signals & kernels.PROJECTED
        if (signals & kernels.CALLS or loops) and level == 0 and not projected_now:
            signals |= kernels.RUNAWAY
        news = signals & ~run.signals & (kernels.PROJECTED | kernels.RUNAWAY)
        told = run.signals & kernels.RUNAWAY or (run.level and run.cost >= limits.warn)
        if level > run.level or news or (told and run.cost > run.reported and run.cost >= 2 * run.reported):
            flags = (run.level, level, run.signals, signals)
            run.level, run.reported = level, run.cost
            times = (run.start, run.first, run.last)
            watched = run.watched.facts() if run.watched else None
            self.candidates.append((run.session_id, flags, times, run.cost, run.events, watched))
        run.signals = signals

    def end_idle(self, watermark: int) -> list[Run]:
        over = [run for run in self.live.values() if run.last + IDLE_MS < watermark]
        for run in over:
            del self.live[run.session_id]
        return over


class Subject:
    """Sessions with what the engine puts around them."""

    def __init__(self, limits: Limits):
        self.sessions = Sessions(SessionConfig(idle_ms=IDLE_MS), RUNAWAY)
        self.combos = Combos()
        self.limits = limits.row()

    def apply(self, batch: list[dict]) -> tuple[list[tuple], EndedRuns]:
        columns = columns_of(batch)
        keep = np.ones(len(batch), np.bool_)
        counters = np.zeros((len(batch), len(COUNTERS)), np.int64)
        zeros = np.zeros(len(batch), np.int64)
        event_counters(keep, columns.tokens, columns.reported_nano_usd, zeros, zeros == 1, counters)
        combo = self.combos.assign(columns, keep, lambda team, agent, model: 0)
        has_model = np.array([bool(names[3]) for names in self.combos.names], np.bool_)
        found, ended = self.sessions.apply(columns, combo, counters, has_model, self.combos.group, self.limits)
        candidates = [
            (session_id, tuple(flags.tolist()), tuple(times.tolist()), int(sums[COST]),
             int(sums[EVENTS]), self.watched(watch, ids))
            for session_id, flags, times, sums, watch, ids in zip(
                found.session_id, found.flags, found.times, found.sums, found.watch, found.watch_ids,
                strict=True,
            )
        ]  # fmt: skip
        assert found.session_id == [batch[event]["session_id"] for event in found.event]
        return candidates, ended

    def watched(self, watch: np.ndarray, ids: np.ndarray) -> tuple | None:
        if not watch.any():
            return None
        parts = cells(watch)
        assert all(0 <= combo < len(self.combos) and kind < len(KINDS) for combo, kind, _, _ in parts if combo != -1)
        seen = round(64 * (1 - math.exp(-agents(watch) / 64)))
        return sorted((cost, count) for _, _, cost, count in parts), examples(watch, ids), seen

    def facts(self, runs: EndedRuns) -> list[tuple]:
        return sorted(
            (runs.session_id[i], self.combos.names[runs.combo[i]][0::3][:2], *runs.times[i].tolist(),
             int(runs.sums[i, COST]), int(runs.sums[i, EVENTS]), int(runs.level[i]), int(runs.signals[i]),
             [int(b) for b in runs.path[i, : int(runs.sums[i, EVENTS]).bit_length()]])
            for i in range(len(runs))
        )  # fmt: skip


def restored(config: SessionConfig, deltas: list[dict]) -> Sessions:
    sessions = Sessions(config, RUNAWAY)
    for delta in deltas:
        sessions.load_delta(delta)
    sessions.rebuild()
    return sessions


def facts(runs: list[Run]) -> list[tuple]:
    return sorted(
        (
            run.session_id,
            run.names,
            run.start,
            run.first,
            run.last,
            run.cost,
            run.events,
            run.level,
            run.signals,
            list(run.path.values()),
        )
        for run in runs
    )


limits = st.builds(
    lambda warn, more, watch_cost, watch_calls, calls, step: Limits(
        warn, warn + more, watch_cost, watch_calls, calls, step
    ),
    *[
        st.integers(1, 30),
        st.integers(0, 30),
        st.integers(1, 12),
        st.integers(1, 6),
        st.integers(3, 20),
        st.integers(3, 50),
    ],
)


@settings(max_examples=150, deadline=None)
@given(events, st.lists(st.integers(0, 60), max_size=4), limits, st.booleans())
def test_equals_plain_python(batch, cuts, limits, restore):
    twin, subject = Twin(limits), Subject(limits)
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
    subject = Subject(Limits())
    for round_number in range(30):
        at = START + round_number * 10 * IDLE_MS
        batch = [{"event_time": at, "session_id": f"{round_number}-{i}", "cost_nano_usd": 1} for i in range(500)]
        subject.apply(batch)
        assert len(subject.sessions.end_idle(at + 2 * IDLE_MS)) == 500
    assert len(subject.sessions.key) < 4_000


def test_usage_after_the_idle_time_begins_another_run():
    subject = Subject(Limits())
    event = {"session_id": "s", "cost_nano_usd": 7}
    _, ended = subject.apply([{**event, "event_time": START}, {**event, "event_time": START + IDLE_MS + 1}])
    assert len(ended) == 1
    assert ended.times[0].tolist() == [START, START, START]
    assert len(subject.sessions) == 1


def test_a_full_watch_list_keeps_the_dearest():
    subject = Subject(Limits(watch_cost=1))
    batch = [{"event_time": START, "session_id": f"s{i}", "cost_nano_usd": 10} for i in range(MAX_SLOTS)]
    subject.apply(batch)
    sessions = subject.sessions
    subject.apply([{"event_time": START, "session_id": "cheap", "cost_nano_usd": 9}])
    assert sessions.slot[MAX_SLOTS] == 0
    subject.apply([{"event_time": START, "session_id": "dear", "cost_nano_usd": 11}])
    assert sessions.slot[MAX_SLOTS + 1] > 0
    assert np.count_nonzero(sessions.slot) == MAX_SLOTS == len(sessions.watch.slots)
    owners = sessions.watch.slots[:, 0]
    held = sessions.slot[owners]
    assert (held == np.arange(1, MAX_SLOTS + 1)).all(), "each slot is of the session that names it"
    sessions.end_idle(NEVER)
    assert sessions.watch.state[1] > 0
    before = sessions.watch.state[0]
    subject.apply([{**event, "event_time": START + 10 * IDLE_MS} for event in batch])
    assert sessions.watch.state[0] == before, "freed slots are used again"


def test_a_live_session_costs_at_most_200_bytes():
    """At a million live sessions, with all arrays and the index as large as they then are; the watch list beside it."""
    subject = Subject(Limits())
    subject.sessions._reserve(1_000_000)
    arrays = [getattr(subject.sessions, name) for name in (*Sessions._SAVED, "_changed")]
    index = subject.sessions._index
    total = sum(array.nbytes / len(array) for array in arrays) + (index.keys.nbytes + index.rows.nbytes) / 1_000_000
    assert total <= 200
