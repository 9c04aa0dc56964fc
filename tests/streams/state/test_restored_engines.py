"""An engine that is stopped and restored from its bytes at random points goes on as one that never stopped."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import BudgetConfig, EngineConfig, SessionConfig, SessionOutlierConfig, SpendRateConfig, WindowConfig
from models.engine import UsageEngine
from models.pricing import PriceTable
from models.rolling import EVERYTHING, SLICES
from models.rollup import RollupEngine
from models.scopes import Scope
from schemas.codec import encode
from schemas.decode import Decoder
from streams.state import codec
from tests.panes import pane_rows

MINUTE_MS = 60_000
T0 = 1_795_000_000_000
CONFIG = EngineConfig(
    windows=WindowConfig(lateness_ms=5_000, idle_partition_ms=20_000),
    sessions=SessionConfig(idle_ms=3 * MINUTE_MS),
    session_outlier=SessionOutlierConfig(ratio=3.0, min_baseline=3, min_excess_nano_usd=1, absolute_cap_nano_usd=10**9),
    spend_rate=SpendRateConfig(warm_up_windows=3, windows=1, min_excess_nano_usd=1),
    budgets=(BudgetConfig("a", Scope("team", "team-a"), 50 * 10**9), BudgetConfig("b", Scope("team", "$array"), 10**9)),
    dedupe_events=1_000,
)
TEAMS = ("team-a", "$array", "")
MODELS = (("openai", "gpt-4o"), ("anthropic", "claude-sonnet-4-5"), ("", "no-such-model"), ("openai", ""))
DECODER = Decoder(CONFIG.hash_key)


class Usage:
    """Random usage as a gateway might send it: sessions, repeats, late and bad events, a dear call now and then."""

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        self.now_ms = T0
        self.sent: list[bytes] = []
        self.offset = 0

    def batch(self):
        rng = self.rng
        self.now_ms += rng.choice((100, 1_000, 10_000, 90_000, 240_000))
        values: list[bytes | None] = []
        for _ in range(rng.randrange(0, 60)):
            if self.sent and rng.random() < 0.1:
                values.append(rng.choice(self.sent))
                continue
            provider, model = rng.choice(MODELS)
            session = rng.choice(("", *(f"s{rng.randrange(40)}" for _ in range(8)), "long-" + "x" * 50))
            event = {
                "event_id": f"{len(self.sent)}" if rng.random() < 0.98 else "",
                "source": rng.choice(("gateway", "sdk")),
                "event_time": self.now_ms - rng.choice((0, 0, 500, 4_000, 400_000)),
                "session_id": session,
                "team": rng.choice(TEAMS),
                "agent": rng.choice(("coder", "reviewer")),
                "provider": provider,
                "model": model,
                "input_tokens": rng.randrange(10 ** rng.randrange(1, 7)),
                "output_tokens": rng.randrange(2_000),
                "cost_nano_usd": rng.choice((None,) * 20 + (0, 10**9, 500 * 10**9)),
            }
            values.append(encode("usage_event", event))
            self.sent.append(values[-1])
        if rng.random() < 0.1:
            values.append(None)
        ends = np.cumsum([len(value or b"") for value in values], dtype=np.int64)
        starts = ends - np.array([len(value or b"") for value in values], np.int64)
        ends = np.where([value is None for value in values], starts - 1, ends) if values else ends
        payload = np.frombuffer(bytearray(b"".join(value or b"" for value in values)) or bytearray(1), np.uint8)
        first = self.offset
        self.offset += len(values)
        return (payload, starts, ends, np.arange(first, self.offset, dtype=np.int64)), self.offset


class Stopped:
    """An engine that is stopped and restored: what its deltas were, as bytes."""

    def __init__(self, engine, restore):
        self.engine, self._restore, self._deltas = engine, restore, []

    def stop(self) -> None:
        slice_number = len(self._deltas) % SLICES if self._deltas else EVERYTHING
        self._deltas.append(codec.encode(self.engine.take_delta(slice_number)))
        self.engine = self._restore(codec.decode(raw) for raw in self._deltas[-SLICES:])


def restored_usage(deltas) -> UsageEngine:
    return UsageEngine.restore(CONFIG, PriceTable(CONFIG.prices), deltas)


def restored_rollup(deltas) -> RollupEngine:
    return RollupEngine.restore(CONFIG, deltas)


def outputs(out) -> tuple:
    """Everything that leaves; sessions that end together may do so in any order."""
    return (
        sorted(out.findings, key=repr),
        sorted(out.sessions, key=repr),
        (out.counted, out.duplicates, out.late, out.rejected, out.unpriced),
    )


def partials(flushed: dict) -> dict:
    return {
        **flushed,
        "panes": sorted(pane_rows(flushed), key=repr),
        "baselines": sorted(flushed["baselines"], key=repr),
    }


def merged(out) -> tuple:
    return tuple(sorted(rows, key=repr) for rows in (out.spend, out.budgets, out.baselines, out.findings))


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_restored_engines_go_on_identically(seed):
    usage, rng = Usage(seed), random.Random(~seed)
    steady, steady_rollup = UsageEngine(CONFIG, 0, PriceTable()), RollupEngine(CONFIG)
    stopped = Stopped(UsageEngine(CONFIG, 0, PriceTable()), restored_usage)
    stopped_rollup = Stopped(RollupEngine(CONFIG), restored_rollup)
    baselines: list[dict] = []

    def stop() -> None:
        if rng.random() < 0.3:
            stopped.stop()
            stopped.engine.update_baselines(baselines)

    for _ in range(40):
        arguments, next_offset = usage.batch()
        results = [
            engine.apply(DECODER.decode(*arguments), next_offset, usage.now_ms) for engine in (steady, stopped.engine)
        ]
        assert outputs(results[0]) == outputs(results[1])
        stop()
        assert outputs(steady.advance(usage.now_ms)) == outputs(stopped.engine.advance(usage.now_ms))
        if rng.random() < 0.5:
            flushed = steady.flush()
            assert partials(flushed) == partials(stopped.engine.flush())
            for engine in (steady_rollup, stopped_rollup.engine):
                engine.apply(flushed, usage.now_ms)
            if rng.random() < 0.15:  # Seldom: every team's trees are built anew.
                stopped_rollup.stop()
            out = steady_rollup.advance(usage.now_ms)
            assert merged(out) == merged(stopped_rollup.engine.advance(usage.now_ms))
            baselines += out.baselines
            for engine in (steady, stopped.engine):
                engine.update_baselines(out.baselines)
        stop()
    assert outputs(steady.finish(usage.now_ms)) == outputs(stopped.engine.finish(usage.now_ms))
    assert merged(steady_rollup.finish(usage.now_ms)) == merged(stopped_rollup.engine.finish(usage.now_ms))


def test_the_random_usage_raises_what_the_property_is_about():
    """Otherwise the property would hold of engines that do nothing."""
    seen: set[str] = set()
    sessions = duplicates = late = rejected = 0
    for seed in range(12):
        usage = Usage(seed)
        engine, rollup = UsageEngine(CONFIG, 0, PriceTable()), RollupEngine(CONFIG)
        for _ in range(25):
            arguments, next_offset = usage.batch()
            out = engine.apply(DECODER.decode(*arguments), next_offset, usage.now_ms)
            rollup.apply(engine.flush(), usage.now_ms)
            result = rollup.advance(usage.now_ms)
            engine.update_baselines(result.baselines)
            seen.update(finding["detector"] for finding in (*out.findings, *result.findings))
            seen.update(finding["status"] for finding in (*out.findings, *result.findings))
            sessions += len(out.sessions)
            duplicates, late, rejected = duplicates + out.duplicates, late + out.late, rejected + out.rejected
    assert {"session_outlier", "unit_price", "budget_milestone", "open", "updated", "resolved"} <= seen, seen
    assert min(sessions, duplicates, late, rejected) > 50, (sessions, duplicates, late, rejected)


def test_a_state_of_another_version_is_refused():
    delta = UsageEngine(CONFIG, 3, PriceTable()).take_delta(EVERYTHING)
    with pytest.raises(ValueError, match=r"partition 3 has version 99, this program reads"):
        restored_usage([{**delta, "version": 99}])
    delta = RollupEngine(CONFIG).take_delta(EVERYTHING)
    with pytest.raises(ValueError, match=r"version 99, this program reads"):
        restored_rollup([{**delta, "version": 99}])
