"""What people say about session findings: who is told what, once, however often and whenever it is said."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.builders import columns_of
from models.config import DAY_MS, USD, EngineConfig
from models.engine import UsageEngine
from models.peer_group import GUARD, MAX_GUARD, SAID
from models.pricing import PriceTable
from models.rolling import EVERYTHING, SLICES
from models.rollup import RollupEngine
from models.session_kernels import COST_EDGES, LIMIT_WARN
from models.session_verdicts import MAX_KNOWN, SessionVerdicts
from streams.state import codec

START = 1_795_460_400_000
NOW = START + DAY_MS
DEAR = int(np.searchsorted(COST_EDGES, 90 * USD, side="right"))


def event(number: int, at_ms: int, session: str, cost: int, **more) -> dict:
    names = {"source": "test", "team": "t", "agent": "a", "model": "m"}
    return {
        **{"event_id": f"e{number}", "event_time": at_ms, "session_id": session, "cost_nano_usd": cost},
        **names,
        **more,
    }


def said(verdict: str, finding_id: str, at_ms: int = 1) -> dict:
    return {"finding_id": finding_id, "verdict": verdict, "at_ms": at_ms, "until_ms": 0, "detector": ""}


class Bench:
    """An engine with 30 peers of $2, and its rollup."""

    def __init__(self):
        self.usage, self.rollup = UsageEngine(EngineConfig(), 0, PriceTable()), RollupEngine(EngineConfig())
        self.number = 0
        for peer in range(30):
            self.spend(f"peer{peer}", 2 * USD, START)
            self.spend(f"other{peer}", 2 * USD, START, agent="b")
        self.end()

    def spend(self, session: str, cost: int, at_ms: int, **more) -> list[dict]:
        self.number += 1
        first = self.usage.next_offset
        rows = [event(self.number, at_ms, session, cost, **more)]
        return self.usage.apply(columns_of(rows, first), first + 1, NOW).findings

    def end(self) -> None:
        self.usage.finish(NOW)
        self.publish()

    def publish(self) -> None:
        self.rollup.apply(self.usage.flush(), NOW)
        self.usage.update_baselines(self.rollup.advance(NOW).baselines)

    def limit(self, agent: str = "a") -> int:
        return int(self.usage.baselines.limits[self.usage.baselines.register("t", agent, "m"), LIMIT_WARN])

    def own(self) -> tuple:
        """Own histograms and sums, without how often something was said."""
        baselines = self.usage.baselines
        sums = baselines._sums.copy()
        sums[:, SAID] = 0
        return {key: (baselines._bins[row].tolist(), sums[row].tolist()) for key, row in baselines._own.items()}


@pytest.mark.parametrize("when", ["before the end", "after it"])
def test_a_false_one_teaches_its_whole_cost_and_lifts_its_groups_limits_alone(when):
    bench = Bench()
    before, others = bench.limit(), bench.limit("b")
    (finding,) = bench.spend("dear", 90 * USD, START + DAY_MS)
    if when == "after it":
        bench.end()
    assert all(bins[0][DEAR] == 0 for bins, _ in bench.own().values())
    bench.usage.feedback(said("false", finding["id"]))
    bench.end()
    taught = {key[0]: bins[0][DEAR] for (key, _), (bins, _) in bench.own().items() if key[1] in ("t", "")}
    assert set(taught.values()) <= {0, 1} and sum(taught.values()) >= 4
    assert bench.limit() == pytest.approx(before * np.exp(0.1), rel=0.05)
    assert bench.limit("b") == pytest.approx(others, rel=0.03)
    merged = bench.usage.baselines._merged[0, "t", "a", "m"]
    assert merged.cost_bins[DEAR] > 0.9, "it has come by way of rollup"


def test_what_people_confirm_takes_lifts_back_and_lifts_end_at_twice():
    bench = Bench()
    before = bench.limit()
    ids = []
    for number in range(20):
        (finding,) = bench.spend(f"dear{number}", 95 * USD, START + DAY_MS + number)
        ids.append(finding["id"])
    for id in ids:
        bench.usage.feedback(said("false", id))
    bench.publish()
    assert bench.limit() == pytest.approx(before * np.exp(MAX_GUARD), rel=0.01)
    for id in ids:
        bench.usage.feedback(said("true", id, 2))
    bench.publish()
    assert bench.limit() == pytest.approx(before, rel=0.01)


verdicts = st.lists(st.tuples(st.sampled_from(["true", "false", "planned", "silenced"]), st.integers(1, 9)), max_size=6)


@settings(max_examples=25, deadline=None)
@given(verdicts, st.integers(0, 6), st.integers(0, 6))
def test_the_newest_verdict_stands_whenever_it_was_said(given_, told_at, ended_at):
    """Before the finding, while its session runs, or after its end: as if only the newest had ever been said."""
    about = [one for one in given_ if one[0] != "silenced"]
    newest = max(about, key=lambda one: (one[1], -about.index(one)), default=None)
    outcomes = []
    for script in (given_, [] if newest is None else [newest]):
        bench = Bench()
        finding_id = None
        steps = [*script, *[None] * (7 - len(script))]
        (probe,) = Bench().spend("dear", 90 * USD, START + DAY_MS)
        for step, one in enumerate(steps):
            if step == min(told_at, 5) and finding_id is None:
                (finding,) = bench.spend("dear", 90 * USD, START + DAY_MS)
                finding_id = finding["id"]
                assert finding_id == probe["id"]
            if step == max(ended_at, min(told_at, 5) + 1):
                bench.end()
            if one is not None:
                bench.usage.feedback(said(one[0], probe["id"], one[1]))
        bench.end()
        outcomes.append((bench.own(), bench.limit()))
    assert outcomes[0] == outcomes[1]


def test_a_verdict_counts_in_rollup_although_no_event_came():
    """The offset stands still and there are no more sessions: what was said tells the later message."""
    bench = Bench()
    (finding,) = bench.spend("dear", 90 * USD, START + DAY_MS)
    bench.end()
    bench.usage.feedback(said("false", finding["id"]))
    partials = bench.usage.flush()
    earlier = [{**part, "sums": [*part["sums"][:GUARD], 0, 0]} for part in partials["baselines"]]
    bench.rollup.apply(partials, NOW)
    bench.rollup.apply({**partials, "baselines": earlier}, NOW)
    merged = {(row["level"], row["agent"]): row for row in bench.rollup.advance(NOW).baselines}
    assert merged[0, "a"]["sums"][GUARD] == 1.0


def test_verdicts_survive_by_rolling_deltas_and_repeats_change_nothing():
    bench = Bench()
    deltas = [bench.usage.take_delta(0)]
    ids = []
    for number in range(1, 2 * SLICES):
        (finding,) = bench.spend(f"dear{number}", 90 * USD, START + DAY_MS + number)
        ids.append(finding["id"])
        bench.usage.feedback(said("false", finding["id"]))
        deltas.append(codec.decode(codec.encode(bench.usage.take_delta(number % SLICES))))
    restored = UsageEngine.restore(EngineConfig(), PriceTable(), deltas[-SLICES:])
    for id in ids:
        assert restored.verdicts.is_normal(id)
        restored.feedback(said("false", id))
    whole = bench.usage.take_delta(EVERYTHING)
    again = restored.take_delta(EVERYTHING)
    assert codec.encode(again["verdicts"]) == codec.encode(whole["verdicts"])
    assert codec.encode(again["baselines"]) == codec.encode(whole["baselines"])


def test_the_latest_findings_can_be_spoken_about_and_no_more_are_kept():
    verdicts = SessionVerdicts()
    for number in range(MAX_KNOWN + 5):
        verdicts.take(said("false", f"unknown{number}"))
        verdicts.tell(f"f{number}", "t", "a", "m", 0)
    assert verdicts.take(said("false", "f4")) is None
    assert verdicts.take(said("false", "f5")).steps == 1
    assert len(verdicts._known) == len(verdicts._early) == MAX_KNOWN
    assert verdicts.tell("unknown4", "t", "a", "m", 0) is None
    assert verdicts.tell("unknown3000", "t", "a", "m", 0) is None
    assert verdicts.tell(f"unknown{MAX_KNOWN + 4}", "t", "a", "m", 0).steps == 1
