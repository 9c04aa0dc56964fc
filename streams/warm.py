"""Compile every kernel into the cache: ``python -m streams.warm``.

A worker does this before it joins the group, so that the first batch does not wait for the compiler while the
group waits for the worker. Some 40 s on two slow cores the first time, a second or two from the cache after that.
"""

import time

import numpy as np

from models.config import BudgetConfig, EngineConfig, LearnerConfig, UnitCostConfig
from models.engine import UsageEngine
from models.hashtable import Index, remove_rows
from models.merge_kernels import lookup
from models.pricing import PriceTable
from models.rolling import EVERYTHING
from models.rollup import RollupEngine
from models.scopes import Scope
from streams.replay import Replay
from streams.transport.split import split

MINUTE_MS = 60_000


def warm() -> float:
    """Run a little of everything; returns the seconds it took."""
    started = time.monotonic()
    split(np.zeros(0, np.uint8), np.zeros((0, 9), np.int64))
    # Learners have no kernels, and need River, which takes a second to import.
    learner = LearnerConfig(n_trees=0)
    # With the scopes that are kept on request, whose kernels a worker may need for its first batch.
    extra = ("user", "tag:warm")
    session = BudgetConfig("warm", Scope("session", session="warm"), 1)
    units = (UnitCostConfig("warm"),)
    replay = Replay(EngineConfig(learner=learner, extra_scopes=extra, budgets=(session,), unit_costs=units))
    base = int(time.time() * 1000) // MINUTE_MS * MINUTE_MS - 120 * MINUTE_MS
    for minute in range(0, 100, 50):
        events = [_event(base + minute * MINUTE_MS + second * 1000, second) for second in range(3)]
        replay.feed(events)
    replay.finish()
    engine = UsageEngine(replay.config, 0, PriceTable())
    UsageEngine.restore(replay.config, engine.prices, [engine.take_delta(EVERYTHING)])
    rollup = RollupEngine(replay.config)
    rollup.apply(engine.flush(), base)
    list(rollup.advance(base).spend.rows({}))
    RollupEngine.restore(replay.config, [rollup.take_delta(EVERYTHING)])
    index = Index()
    for kind in (np.int32, np.int64):
        remove_rows(index.keys, index.rows, index.keys, np.zeros(0, kind))
    lookup(0, np.zeros((0, 2), np.int64), index.keys, index.rows)
    return time.monotonic() - started


def _event(event_time: int, number: int) -> dict:
    return {
        "event_id": f"warm-{number}-{event_time}",
        "source": "warm-ü",
        "event_time": event_time,
        "user": "warm",
        "transaction_type": "warm",
        "transaction_id": f"warm-{number}",
        "tags": {"warm": "warm"},
        "session_id": "warm" * (1 + 20 * (number % 2)),
        "team": "warm",
        "model": "gpt-4o",
        "provider": "openai",
        "input_tokens": 1000,
        "cost_nano_usd": None if number else 1,
    }


if __name__ == "__main__":
    print(f"kernels ready in {warm():.1f} s")
