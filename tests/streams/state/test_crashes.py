"""Owners that crash at any step, former owners that go on, compaction: the state is that of an engine never stopped.

The store is the real one; the topic is a list of records, which compaction may thin out at any moment.
"""

import asyncio
import random
from collections import defaultdict
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from loadtest.builders import columns_of
from models.config import DAY_MS, HOUR_MS, EngineConfig, SessionConfig, SessionOutlierConfig, WindowConfig
from models.engine import STATE_VERSION, UsageEngine
from models.pricing import PriceTable
from models.rolling import SLICES
from streams.state import chain, store
from streams.state.chain import SLOTS
from streams.state.store import StateStore
from tests.panes import pane_rows

MINUTE_MS = 60_000
T0 = 1_795_000_000_000
CONFIG = EngineConfig(
    windows=WindowConfig(lateness_ms=5_000, minute_retention_ms=HOUR_MS, hour_retention_ms=DAY_MS),
    sessions=SessionConfig(idle_ms=3 * MINUTE_MS),
    session_outlier=SessionOutlierConfig(
        ratio=3.0, min_baseline=3, min_excess_nano_usd=1, absolute_cap_nano_usd=10**9, half_life_days=0.2
    ),
    dedupe_events=150,
)
PRICES = PriceTable()
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
"""A smaller seed is not a simpler history."""
PANE = ("scope_kind", "team", "model", "agent", "use_case", "window_start", "window_ms")


class Crash(Exception):
    """The process is gone."""


class Topic:
    """Records of one partition, as they are in the log."""

    def __init__(self):
        self.records: list[tuple[bytes, bytes | None]] = []

    def compact(self, rng: random.Random) -> None:
        """The cleaner keeps the newest value of each key of a part of the log, and may forget deletions there."""
        part = rng.randrange(len(self.records) + 1)
        newest = {key: index for index, (key, _) in enumerate(self.records[:part])}
        forget = rng.random() < 0.5
        self.records = [
            (key, value)
            for index, (key, value) in enumerate(self.records)
            if index >= part or (newest[key] == index and not (forget and value is None))
        ]


class Writer:
    """What the store needs of a producer; crashes when its time has come."""

    def __init__(self, topic: Topic):
        self.topic, self.left = topic, None

    async def send(self, _name, key, value, *, partition):
        if self.left == 0:
            raise Crash
        if self.left is not None:
            self.left -= 1
        self.topic.records.append((key, value))

    async def flush(self):
        if self.left == 0:
            raise Crash


class History:
    """Batches in order, with what an engine that never stopped made of each."""

    def __init__(self, rng: random.Random):
        self.rng, self.now_ms, self.batches, self.sent = rng, T0, [], []
        self.steady = UsageEngine(CONFIG, 0, PRICES)
        self.expected: list[tuple] = []
        self.baselines: list[list[dict]] = []
        self.published: dict[tuple, list[int]] = {}

    def event(self) -> dict:
        rng = self.rng
        if self.sent and rng.random() < 0.15:
            return rng.choice(self.sent[-300:])
        event = {
            "event_id": f"e{len(self.sent)}",
            "source": "s",
            "event_time": self.now_ms - rng.choice((0, 0, 500, 4_000, 400_000, 2 * HOUR_MS, 2 * DAY_MS)),
            "session_id": rng.choice(("", *(f"s{rng.randrange(60)}" for _ in range(6)), "long-" + "é" * 30)),
            "team": f"team-{rng.randrange(3)}",
            "agent": f"agent-{min(rng.randrange(8), rng.randrange(40))}",
            "model": rng.choice(("", "m1", "m2")),
            "provider": "p",
            "cost_nano_usd": rng.choice((10**6,) * 20 + (0, 10**9, 500 * 10**9)),
            "input_tokens": 5,
        }
        self.sent.append(event)
        return event

    def more(self) -> None:
        self.now_ms += self.rng.choice((100, 1_000, 10_000, 90_000, 240_000, 240_000, HOUR_MS, 8 * HOUR_MS))
        first = self.batches[-1][1] if self.batches else 0
        batch = [self.event() for _ in range(self.rng.randrange(1, 25))]
        self.batches.append((batch, first + len(batch), self.now_ms))
        self.expected.append(self.run(self.steady, len(self.batches) - 1))
        flushed = self.steady.flush()
        take(self.published, flushed)
        self.baselines.append(flushed["baselines"] if self.rng.random() < 0.2 else [])
        self.steady.update_baselines(self.baselines[-1])

    def run(self, engine: UsageEngine, index: int) -> tuple:
        batch, next_offset, now_ms = self.batches[index]
        out = engine.apply(columns_of(batch, engine.next_offset), next_offset, now_ms)
        later = engine.advance(now_ms)
        return outputs(out), outputs(later)


def outputs(out) -> tuple:
    return (
        sorted(out.findings, key=repr),
        sorted(out.sessions, key=repr),
        (out.counted, out.duplicates, out.late, out.rejected, out.unpriced),
    )


def take(published: dict, flushed: dict) -> None:
    for pane in pane_rows(flushed):
        published[tuple(pane[name] for name in PANE)] = list(pane.values())
    for part in flushed["baselines"]:
        published[part["level"], part["team"], part["agent"], part["model"], part["day"]] = list(part.values())


class Owner:
    """A worker that has the partition, or thinks so."""

    def __init__(self, topic: Topic, history: History):
        self.history, self.writer = history, Writer(topic)
        self.store = StateStore("state", self.writer, {"topic": topic}, state_version=STATE_VERSION)
        self.saved = 0

    async def start(self) -> "Owner":
        run = await self.store.load(0)
        if run is None:
            self.engine, self.next = UsageEngine(CONFIG, 0, PRICES), 0
        else:
            self.engine = UsageEngine.restore(CONFIG, PRICES, run.deltas())
            assert self.engine.next_offset == run.newest.next_offset
            assert self.engine.rows == run.newest.rows
            ends = [0, *(next_offset for _, next_offset, _ in self.history.batches)]
            self.next = ends.index(self.engine.next_offset)
        self.engine.update_baselines([record for records in self.history.baselines[: self.next] for record in records])
        return self

    def step(self, published: dict) -> None:
        """Take one batch in; what comes out must be what came out of the engine that never stopped."""
        history = self.history
        assert history.run(self.engine, self.next) == history.expected[self.next]
        if history.rng.random() < 0.6:
            take(published, self.engine.flush())
        self.engine.update_baselines(history.baselines[self.next])
        self.next += 1

    async def checkpoint(self, published: dict) -> None:
        if self.history.rng.random() < 0.8:
            take(published, self.engine.flush())
        ticket = self.store.begin(0)
        delta = self.engine.take_delta(ticket.slice_number)
        await self.store.save(ticket, self.engine.next_offset, self.engine.rows, delta)
        self.saved = self.next


async def read(settings, _topic, _partitions, *, fetch_bytes):
    for offset, (key, value) in enumerate(list(settings["topic"].records)):
        yield SimpleNamespace(key=key, value=value, offset=offset)


class Play:
    """Random things that happen to one partition; ``zombie_saves`` is how often a former owner may still save."""

    def __init__(self, seed: int, zombie_saves: int):
        self.rng = random.Random(seed)
        self.topic, self.history = Topic(), History(self.rng)
        self.published: dict[tuple, list] = {}
        self.former: list[list] = []
        self.zombie_saves = zombie_saves
        self.durable = 0
        self.seen: defaultdict[str, int] = defaultdict(int)

    async def takeover(self) -> None:
        while True:
            self.owner = Owner(self.topic, self.history)
            self.owner.writer.left = self.rng.choice((None, None, None, 0))
            try:
                await self.owner.start()
            except Crash:
                continue
            self.owner.writer.left = None
            break
        if self.zombie_saves <= SLOTS - SLICES:
            assert self.owner.next >= self.durable, "what was durable is restored"
        self.durable = self.owner.saved = self.owner.next

    async def happen(self) -> None:
        rng, owner = self.rng, self.owner
        what = rng.choices(
            ("step", "save", "crash_in_save", "crash", "replace", "zombie", "compact"), (30, 45, 4, 2, 2, 12, 10)
        )[0]
        self.seen[what] += 1
        if what == "step":
            if owner.next == len(self.history.batches):
                self.history.more()
            owner.step(self.published)
        elif what in ("save", "crash_in_save"):
            owner.writer.left = rng.choice((0, 1, 2, 5, 9, 20)) if what == "crash_in_save" else None
            try:
                await owner.checkpoint(self.published)
            except Crash:
                await self.takeover()
            else:
                owner.writer.left = None
                self.durable = owner.saved
                if what == "crash_in_save":
                    await self.takeover()
        elif what == "crash":
            await self.takeover()
        elif what == "replace":
            self.former.append([owner, self.zombie_saves])
            await self.takeover()
        elif what == "zombie" and self.former:
            former = rng.choice(self.former)
            if former[0].next < len(self.history.batches) and rng.random() < 0.4:
                former[0].step({})
            elif former[1]:
                former[1] -= 1
                await former[0].checkpoint({})
        elif what == "compact":
            self.topic.compact(rng)

    async def run(self, steps: int) -> None:
        await self.takeover()
        for _ in range(steps):
            await self.happen()
        await self.takeover()
        owner, history = self.owner, self.history
        while owner.next < len(history.batches):
            owner.step(self.published)
        take(self.published, owner.engine.flush())
        assert self.published == history.published
        assert outputs(owner.engine.finish(history.now_ms)) == outputs(history.steady.finish(history.now_ms))


@settings(max_examples=8, deadline=None, phases=NO_SHRINKING)
@given(st.integers(0, 2**32 - 1))
def test_no_crash_and_no_former_owner_changes_anything(seed):
    with small_blocks():
        asyncio.run(Play(seed, SLOTS - SLICES).run(250))


@settings(max_examples=4, deadline=None, phases=NO_SHRINKING)
@given(st.integers(0, 2**32 - 1))
def test_a_former_owner_that_does_not_stop_can_push_the_restart_back_but_not_change_what_comes_out(seed):
    with small_blocks():
        asyncio.run(Play(seed, 1_000).run(250))


def test_what_the_properties_are_about_happens():
    with small_blocks():
        play = Play(3, SLOTS - SLICES)
        asyncio.run(play.run(600))
    assert min(play.seen.values()) > 5, play.seen
    steady = play.history.steady
    assert len(steady.combos) > 2 * SLICES and steady.dedupe.state[0] > 3
    assert min(day for _, day in steady.baselines._own) > T0 // DAY_MS, "old days have gone"
    findings = [finding["status"] for pair in play.history.expected for out in pair for finding in out[0]]
    assert {"open", "updated", "resolved"} <= set(findings)
    assert sum(out[2][3] for pair in play.history.expected for out in pair) > 20, "too old"
    assert max(marker.seq for marker in scan_of(play.topic).markers.values()) > 2 * SLOTS


def test_the_topic_holds_so_many_checkpoints_and_no_more():
    """However long it goes on: after compaction, SLOTS markers of one owner, and blocks of these only."""

    async def go():
        topic, history = Topic(), History(random.Random(1))
        for _ in range(3):
            owner = await Owner(topic, history).start()
            for _ in range(3 * SLOTS):
                if owner.next == len(history.batches):
                    history.more()
                owner.step({})
                await owner.checkpoint({})
        await Owner(topic, history).start()
        return topic

    with small_blocks():
        scan = scan_of(asyncio.run(go()))
    assert len({epoch for epoch, _ in scan.markers}) == 1 and len(scan.markers) == SLOTS
    blocks = sum(marker.blocks for marker in scan.markers.values())
    assert len(scan.values) == SLOTS + blocks + 2, "and the claims of the last two owners"


def scan_of(topic: Topic) -> chain.Scan:
    scan = chain.Scan("state", 0)
    for key, value in topic.records:
        scan.take(key, value)
    return scan


@contextmanager
def small_blocks():
    """Some ten blocks a checkpoint, and the list instead of a broker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain, "BLOCK_BYTES", 1_500)
        patch.setattr(store, "read", read)
        yield
