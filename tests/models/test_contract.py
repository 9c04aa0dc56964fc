"""One contract for all detectors and learners: what each must do whatever it detects.

Bounded memory; scoring learns nothing; the same input gives the same scores; a restored one goes on identically; NaN,
negative, huge and missing numbers neither stop it nor spoil it; compiled kernels give what the same code gives as
plain Python, bit for bit. A new detector is one more entry of SUBJECTS.
"""

import json
import math
import os
import subprocess
import sys
import warnings
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
AS_SCRIPT = __name__ == "__main__"
if AS_SCRIPT:
    # Plain Python: NUMBA_DISABLE_JIT is set. A prefetch is a hint to a processor and nothing else.
    import models.hashtable

    models.hashtable.prefetch = models.hashtable.prefetch_slot = lambda *_: None

from loadtest.builders import columns_of  # noqa: E402
from models.baselines import Baselines  # noqa: E402
from models.config import (  # noqa: E402
    MINUTE_MS,
    USD,
    CacheShareConfig,
    EngineConfig,
    LearnerConfig,
    RunawayConfig,
    SessionOutlierConfig,
    SpendRateConfig,
)
from models.detectors.cache_share import CacheShare  # noqa: E402
from models.detectors.spend_rate import SpendRate  # noqa: E402
from models.engine import UsageEngine  # noqa: E402
from models.learners.team_vector import TeamVectors  # noqa: E402
from models.pricing import PriceTable  # noqa: E402
from models.rolling import EVERYTHING  # noqa: E402
from schemas.codec import encode  # noqa: E402
from schemas.columns import MAX_COST_NANO_USD, MAX_QUANTITY, NO_COST, REJECT_REASONS, Columns  # noqa: E402
from schemas.decode import Decoder  # noqa: E402
from streams.state import codec  # noqa: E402

START = 1_795_460_400_000
HOSTILE = (math.nan, math.inf, -math.inf, -1.0, -1e300, 1e300, 0.0, None, 5e-324, 2.0**63)


class SessionDetectors:
    """session_outlier, runaway_agent and unit_price with their baselines: one engine, a few sessions at a time."""

    name = "session detectors"
    bound = 600_000
    compiled = True

    def __init__(self, engine: UsageEngine | None = None):
        config = EngineConfig(dedupe_events=1_000)
        self.engine = engine or UsageEngine(config, 0, PriceTable())

    def feed(self, step: int, values: list[float | None]) -> list:
        now = START + step * 5 * MINUTE_MS
        first = self.engine.next_offset
        columns = self.columns([_event(step, at, value, now) for at, value in enumerate(values)], first)
        out = self.engine.apply(columns, first + len(columns), now)
        ended = self.engine.advance(now)
        for at, finding in enumerate(out.findings):
            verdict = ("false", "true", "planned")[(step + at) % 3]
            self.engine.feedback({"finding_id": finding["id"], "verdict": verdict, "at_ms": now})
        self.engine.update_baselines(self.engine.flush()["baselines"])
        return [*out.findings, *ended.findings, out.counted, out.rejected]

    def columns(self, events: list[dict], first: int) -> Columns:
        """Decoded, as in production; where nothing is compiled, made as the decoder would."""
        if not self.compiled:
            columns = columns_of(events, first)
            cost, quantity = columns.reported_nano_usd, columns.quantity
            wrong = (cost != NO_COST) & ((cost < 0) | (cost > MAX_COST_NANO_USD))
            wrong |= ~((quantity >= 0) & (quantity <= MAX_QUANTITY))
            columns.status[wrong] = REJECT_REASONS.index("out_of_range")
            return columns
        records = [encode("usage_event", event) for event in events]
        ends = np.cumsum([len(record) for record in records], dtype=np.int64)
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        payload = np.frombuffer(bytearray(b"".join(records)), np.uint8)
        return Decoder(1).decode(payload, starts, ends, np.arange(first, first + len(records), dtype=np.int64))

    def score(self) -> list:
        return self.engine.baselines.limits.tolist()

    def saved(self) -> dict:
        merged = [
            {"level": key[0], "team": key[1], "agent": key[2], "model": key[3], "revision": 1}
            | {"cost_bins": group.cost_bins, "event_bins": group.event_bins, "sums": group.sums}
            for key, group in self.engine.baselines._merged.items()
        ]
        return {"delta": self.engine.take_delta(EVERYTHING), "merged": merged}

    def restored(self, saved: dict) -> "SessionDetectors":
        engine = UsageEngine.restore(self.engine.config, self.engine.prices, [saved["delta"]])
        engine.update_baselines(saved["merged"])
        return SessionDetectors(engine)


def _event(step: int, at: int, value: float | None, now: int) -> dict:
    cost = None
    if value is not None and not math.isnan(value):
        cost = int(min(max(value * USD, -(2.0**62)), 2.0**62))
    return {
        "event_id": f"{step}-{at}",
        "source": "contract",
        "event_time": now + at,
        "session_id": f"s{(step + at) % 40}-{step // 8}",
        "team": "t",
        "agent": f"a{at % 3}",
        "provider": "openai",
        "model": "gpt-4o",
        "kind": "TOOL_CALL" if at % 4 == 0 else "LLM",
        "input_tokens": 100 + at,
        "output_tokens": 10,
        "quantity": 0.0 if value is None else value,
        "cost_nano_usd": cost,
    }


class PeerBaselines:
    """What groups of peers cost, as a learner by itself: many groups, one after the other."""

    name = "peer baselines"
    bound = 2_000_000

    def __init__(self, baselines: Baselines | None = None):
        self.baselines = baselines or Baselines(SessionOutlierConfig(), RunawayConfig())

    def feed(self, step: int, values: list[float | None]) -> list:
        group = self.baselines.register("t", f"a{step % 5}", "m")
        bins = [0] * 64
        for value in values:
            if value is not None and math.isfinite(value) and value > 0:
                bins[min(max(int(math.log(value) * 3) + 30, 0), 63)] += 1
        names = {"level": 0, "team": "t", "agent": f"a{step % 5}", "model": "m"}
        self.baselines.merge([{**names, "cost_bins": bins, "event_bins": bins, "sums": [], "revision": step}])
        return self.baselines.limits[group].tolist()

    def score(self) -> list:
        return self.baselines.limits.tolist()

    def saved(self) -> dict:
        merged = [
            [list(key), group.cost_bins, group.event_bins, group.sums] for key, group in self.baselines._merged.items()
        ]
        return {"names": [list(names) for names in self.baselines._names], "merged": merged}

    def restored(self, saved: dict) -> "PeerBaselines":
        baselines = Baselines(self.baselines.config, self.baselines.runaway)
        for names in saved["names"]:
            baselines.register(*names)
        baselines.merge(
            [
                {"level": key[0], "team": key[1], "agent": key[2], "model": key[3], "revision": 1}
                | {"cost_bins": cost, "event_bins": events, "sums": sums}
                for key, cost, events, sums in saved["merged"]
            ]
        )
        return PeerBaselines(baselines)


class SpendRates:
    """spend_rate over as many keys as values."""

    name = "spend rates"
    bound = 200_000
    keys = 24

    def __init__(self, rates: SpendRate | None = None):
        self.rates = rates or SpendRate(SpendRateConfig(), MINUTE_MS)
        if rates is None:
            self.rates.add(self.keys)

    def feed(self, step: int, values: list[float | None]) -> list:
        spend = np.array([math.nan if value is None else value * USD for value in values])
        judged = self.rates.judge(spend, START + step * MINUTE_MS, np.ones(len(values), np.bool_))
        states = (judged.strength, judged.expected, judged.open, judged.closing, judged.silent)
        return [state.tolist() for state in states]

    def score(self) -> list:
        spend, at = np.full(self.keys, 5.0 * USD), START + 60_000 * MINUTE_MS
        return [*(part.tolist() for part in self.rates.score(spend, at)), self.rates.surprise(spend, at).tolist()]

    def saved(self) -> dict:
        return self.rates.snapshot()

    def restored(self, saved: dict) -> "SpendRates":
        return SpendRates(SpendRate.restore(self.rates.config, self.rates.window_ms, saved))


class TeamTrees:
    """The half-space trees of a few teams."""

    name = "team trees"
    bound = 100_000

    def __init__(self, teams: TeamVectors | None = None):
        self.teams = teams or TeamVectors(LearnerConfig(window_size=10, n_trees=3, height=4))

    def feed(self, step: int, values: list[float | None]) -> list:
        totals = [0 if v is None or not math.isfinite(v) else int(min(max(v, -1e9), 1e9) * 1e6) for v in values[:8]]
        about = f"finding{step // 12}" if step % 12 > 8 else ""
        if step % 7 == 0:
            self.teams.feedback({"finding_id": f"finding{step // 24}", "verdict": ("false", "true")[step % 2]})
        return [self.teams.observe(f"team{step % 3}", totals, START + step * MINUTE_MS, MINUTE_MS, about)]

    def score(self) -> list:
        totals = [10**9, 0, 10, 0, 600, 200, 0, 200]
        return [self.teams.peek(f"team{team}", totals, MINUTE_MS) for team in range(3)]

    def saved(self) -> dict:
        return self.teams.snapshot()

    def restored(self, saved: dict) -> "TeamTrees":
        return TeamTrees(TeamVectors.restore(self.teams.config, saved))


class CacheShares:
    """cache_share over as many keys as values: each value is a number of tokens read from the cache."""

    name = "cache shares"
    bound = 50_000
    keys = 24

    def __init__(self, shares: CacheShare | None = None):
        self.shares = shares or CacheShare(CacheShareConfig(), MINUTE_MS)
        if shares is None:
            self.shares.add(self.keys)

    def totals(self, values: list[float | None]) -> np.ndarray:
        reads = [0 if v is None or math.isnan(v) else int(min(max(v * 1e4, -(2.0**62)), 2.0**62)) for v in values]
        rows = [[USD, 0, 30, 0, 1_000, read, at, 100] for at, read in enumerate(reads)]
        return np.array(rows, np.int64)

    def feed(self, step: int, values: list[float | None]) -> list:
        judged = self.shares.judge(self.totals(values), START + step * MINUTE_MS)
        if step % 10 == 0:
            self.shares.verdict(step % self.keys, 1 - step % 3)
        return [judged.low.tolist(), judged.opening.tolist(), judged.open.tolist(), self.shares.values.tolist()]

    def score(self) -> list:
        return [part.tolist() for part in self.shares.score(self.totals([0.0] * self.keys))]

    def saved(self) -> dict:
        return self.shares.snapshot()

    def restored(self, saved: dict) -> "CacheShares":
        return CacheShares(CacheShare.restore(self.shares.config, self.shares.window_ms, saved))


SUBJECTS = (SessionDetectors, PeerBaselines, SpendRates, CacheShares, TeamTrees)
subjects = pytest.mark.parametrize("make", SUBJECTS, ids=lambda make: make.name)


def values(rng: np.random.Generator, hostile: bool = False) -> list[float | None]:
    """24 dollar amounts; some of them of HOSTILE."""
    usual = [float(value) for value in rng.lognormal(-2, 1, SpendRates.keys)]
    if hostile:
        for at in rng.integers(0, len(usual), 6).tolist():
            usual[at] = HOSTILE[int(rng.integers(len(HOSTILE)))]
    return usual


def run(subject, seed: int, steps: range, hostile: bool = False) -> list:
    outputs = []
    for step in steps:
        outputs.append(subject.feed(step, values(np.random.default_rng((seed, step)), hostile)))
    return outputs


def through_codec(saved: dict) -> dict:
    return codec.decode(codec.encode(saved))


@subjects
def test_the_same_input_gives_the_same(make):
    assert repr(run(make(), 1, range(60))) == repr(run(make(), 1, range(60)))
    assert repr(run(make(), 1, range(60))) != repr(run(make(), 2, range(60)))


@subjects
@pytest.mark.parametrize("hostile", [False, True])
def test_a_restored_one_goes_on_identically(make, hostile):
    steady = make()
    run(steady, 3, range(50), hostile)
    restored = steady.restored(through_codec(steady.saved()))
    assert repr(steady.score()) == repr(restored.score())
    assert repr(run(steady, 3, range(50, 90), hostile)) == repr(run(restored, 3, range(50, 90), hostile))


@subjects
def test_scoring_learns_nothing(make):
    subject = make()
    run(subject, 4, range(40))
    before = codec.encode(subject.saved())
    first = subject.score()
    assert repr(subject.score()) == repr(first)
    assert codec.encode(subject.saved()) == before


@subjects
def test_hostile_numbers_stop_and_spoil_nothing(make):
    subject = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        run(subject, 5, range(30))
        hostile = run(subject, 5, range(30, 60), hostile=True)
        after = run(subject, 5, range(60, 120))
    json.dumps([hostile, after], allow_nan=False)


@subjects
def test_memory_is_bounded(make):
    subject = make()
    run(subject, 6, range(150))
    size = len(codec.encode(subject.saved()))
    run(subject, 6, range(150, 450))
    later = len(codec.encode(subject.saved()))
    assert later < subject.bound
    assert later < 1.6 * size + 20_000, "three times the input is not three times the state"


def digest(make) -> str:
    subject = make()
    subject.compiled = False
    return blake2b(json.dumps(run(subject, 7, range(45), hostile=True)).encode()).hexdigest()


def test_kernels_equal_plain_python():
    """The same code without the compiler, in a process of its own."""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(Path(__file__))]
    plain = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    assert plain.returncode == 0, plain.stderr[-2000:]
    assert json.loads(plain.stdout) == {make.name: digest(make) for make in SUBJECTS}


if AS_SCRIPT:
    print(json.dumps({make.name: digest(make) for make in SUBJECTS}))
