"""cache_share through the rollup engine: what opens, what it costs to the nano-dollar, what is left in peace."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import DAY_MS, HOUR_MS, MINUTE_MS, USD, CacheShareConfig, EngineConfig
from models.counters import COUNTERS
from models.detectors.cache_share import CacheShare, empty
from models.pricing.list_price import ListPrices
from models.rolling import EVERYTHING
from models.rollup import RollupEngine
from schemas.codec import decode, encode
from streams.state import codec
from tests.panes import pane_columns

T0 = 1_795_460_400_000
INPUT_PRICE = 3_000
"""Nano-USD an input token; the other kinds by the weights that the detector knows."""


def counters(events: int, prompt: int, read: float, write: float = 0.0, output: int = 20_000) -> list[int]:
    reads, writes = round(prompt * read), round(prompt * write)
    plain = prompt - reads - writes
    cost = round(INPUT_PRICE * (plain + 0.1 * reads + 1.25 * writes + 5 * output))
    return [cost, 0, events, 0, plain, reads, writes, output]


class Feed:
    """Windows of team x model, minute by minute, into one engine."""

    def __init__(self, config: EngineConfig | None = None):
        self.config = config or EngineConfig()
        self.engine = RollupEngine(self.config)
        self.minute = self.offset = 0

    def play(self, minutes: int, rows: dict[str, list[int]], model: str = "m") -> list[dict]:
        found = []
        for _ in range(minutes):
            start = T0 + self.minute * MINUTE_MS
            panes = [
                pane
                for team, row in rows.items()
                for pane in (_pane(team, start, MINUTE_MS, row), _hour(team, start, row, self.minute % 60 + 1))
            ]
            panes = [{**pane, "model": model} for pane in panes]
            self.offset += 1
            self.minute += 1
            self.engine.apply(
                {
                    **{"source_partition": 0, "next_offset": self.offset, "idle": False, "panes": pane_columns(panes)},
                    **{"watermark": start + MINUTE_MS, "baselines": []},
                },
                start,
            )
            found += self.engine.advance(start).findings
        return [finding for finding in found if finding["detector"] == "cache_share"]


def _pane(team: str, start_ms: int, size_ms: int, row: list[int]) -> dict:
    names = {"scope_kind": "team_model", "team": team, "model": "m", "agent": "", "use_case": ""}
    return {**names, "window_start": start_ms, "window_ms": size_ms, **dict(zip(COUNTERS, row, strict=True))}


def _hour(team: str, start_ms: int, row: list[int], minutes: int) -> dict:
    return _pane(team, start_ms // HOUR_MS * HOUR_MS, HOUR_MS, [minutes * number for number in row])


GOOD, BAD = counters(50, 1_000_000, 0.8), counters(50, 1_000_000, 0.05)


def test_a_collapse_is_found_in_its_second_minute_and_costs_what_reads_would_have_saved():
    feed = Feed()
    assert feed.play(45, {"a": GOOD, "b": GOOD}) == []
    found = feed.play(10, {"a": BAD, "b": GOOD})
    opened = found[0]
    assert (opened["status"], opened["scope_name"]) == ("open", "a × m")
    assert opened["window_start"] == T0 + 45 * MINUTE_MS and opened["window_ms"] == 2 * MINUTE_MS
    saved = 2 * (BAD[0] - GOOD[0])
    assert opened["excess_nano_usd"] == pytest.approx(saved, rel=1e-6)
    assert opened["observed_nano_usd"] == 2 * BAD[0]
    assert "5% of its prompts from the cache where 80% is usual" in opened["reason"]
    assert [f["status"] for f in found[1:]] == ["updated", "updated"], "when it has doubled"
    ended = feed.play(5, {"a": GOOD, "b": GOOD})
    (resolved,) = ended
    assert resolved["status"] == "resolved"
    assert resolved["excess_nano_usd"] == pytest.approx(5 * saved, rel=1e-6)
    assert {finding["id"] for finding in [*found, resolved]} == {opened["id"]}
    assert [finding["revision"] for finding in [*found, resolved]] == [1, 2, 3, 4]


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0.2, 0.9),
    st.floats(0.0, 0.1),
    st.floats(0.0, 0.5),
    st.integers(100_000, 10**8),
    st.integers(0, 10**6),
)
def test_contributions_add_up_to_the_excess_to_the_nano_dollar(usual, now, write, prompt, output):
    feed = Feed(EngineConfig(cache_share=CacheShareConfig(warm_up_windows=3, min_excess_nano_usd=1)))
    feed.play(4, {"a": counters(30, prompt, usual, output=output)})
    found = feed.play(8, {"a": counters(30, prompt, now, write, output=output)})
    for finding in found:
        assert sum(part["excess_nano_usd"] for part in finding["cause"]) == finding["excess_nano_usd"] > 0
        assert finding["expected_nano_usd"] + finding["excess_nano_usd"] == finding["observed_nano_usd"]
        assert decode("finding", encode("finding", finding))["id"] == finding["id"]
    assert found or now > 0.4 * usual or usual - now < 0.07


@pytest.mark.parametrize(
    ("usual", "now"),
    [
        ([0.05], 0.0),  # hardly any was read from the cache before
        ([0.8], 0.45),  # less, but more than half
        ([0.1, 0.9, 0.5], 0.1),  # it goes up and down anyway
    ],
)
def test_what_is_usual_or_no_collapse_is_left_in_peace(usual, now):
    feed = Feed()
    for minute in range(60):
        assert feed.play(1, {"a": counters(50, 10**7, usual[minute % len(usual)])}) == []
    assert feed.play(10, {"a": counters(50, 10**7, now)}) == []


def test_few_calls_tell_nothing_by_the_minute_but_by_the_hour():
    good, bad = counters(5, 400_000, 0.8), counters(5, 400_000, 0.0)
    feed = Feed()
    assert feed.play(31 * 60, {"a": good}) == []
    found = feed.play(3 * 60, {"a": bad})
    assert (found[0]["status"], found[0]["details"]["judged_window_ms"]) == ("open", str(HOUR_MS))
    assert found[0]["excess_nano_usd"] > USD


def test_cheap_prompts_wait_for_the_dollar_and_a_new_habit_is_told_once():
    feed = Feed()
    good, bad = counters(50, 10_000, 0.8, output=0), counters(50, 10_000, 0.0, output=0)
    feed.play(60, {"a": good})
    minutes = int(np.ceil(USD / (bad[0] - good[0])))
    assert feed.play(minutes - 2, {"a": bad}) == []
    assert feed.play(4, {"a": bad})[0]["status"] == "open"
    statuses = [finding["status"] for finding in feed.play(2 * DAY_MS // MINUTE_MS, {"a": bad})]
    assert statuses[-1] == "resolved" and statuses.count("resolved") == 1 and "open" not in statuses


def test_a_restored_engine_goes_on_the_same_and_feedback_counts_once():
    feed, twin = Feed(), Feed()
    for one in (feed, twin):
        one.play(45, {"a": GOOD})
    opened = feed.play(3, {"a": BAD})[0]
    twin.play(3, {"a": BAD})
    twin.engine = RollupEngine.restore(feed.config, [codec.decode(codec.encode(twin.engine.take_delta(EVERYTHING)))])
    said = {"finding_id": opened["id"], "verdict": "false", "at_ms": 1, "until_ms": 0, "detector": ""}
    for one in (feed, twin):
        for _ in range(2):
            one.engine.feedback({**said, "scope_kind": "", "scope_name": ""})
    assert feed.play(60, {"a": GOOD}) == twin.play(60, {"a": GOOD})
    # A quarter less than half of the usual share: 35 % of 80 is low no more.
    assert feed.play(5, {"a": counters(50, 1_000_000, 0.35)}) == []
    assert feed.play(5, {"a": counters(50, 1_000_000, 0.2)})[0]["status"] == "open"


def test_where_reads_cost_what_input_costs_a_collapse_costs_nothing():
    """By the list, moonshotai/kimi-k2 has one price for all of a prompt."""
    prices = ListPrices()
    assert prices.pico_usd("claude-sonnet-4-5", T0)[:2] == (3_000_000, 300_000)
    for model, costs in (("kimi-k2", 0), ("claude-sonnet-4-5", 2)):
        of_input, of_reads, *_ = prices.pico_usd(model, T0)
        good, bad = (round(50 * 10**3 * (of_input * plain + of_reads * (1 - plain))) for plain in (0.2, 1.0))
        feed = Feed()
        feed.play(45, {"a": [good, 0, 50, 0, 10_000_000, 40_000_000, 0, 0]}, model)
        found = feed.play(2, {"a": [bad, 0, 50, 0, 50_000_000, 0, 0, 0]}, model)
        assert [round(f["excess_nano_usd"] / (bad - good), 3) for f in found] == [costs] * bool(costs)


def test_what_is_planned_opens_nothing():
    feed = Feed()
    feed.play(45, {"a": GOOD})
    until = T0 + DAY_MS
    planned = {"finding_id": "", "verdict": "planned", "at_ms": 1, "until_ms": until, "detector": ""}
    feed.engine.feedback({**planned, "scope_kind": "team_model", "scope_name": "a × m"})
    assert feed.play(10, {"a": BAD}) == []


def test_keys_unseen_for_five_weeks_are_forgotten():
    shares = CacheShare(CacheShareConfig(), MINUTE_MS)
    shares.add(2)
    shares.judge(np.array([GOOD, GOOD]), T0)
    shares.judge(np.array([GOOD, [0] * 8]), T0 + 36 * DAY_MS)
    silent = shares.silent(T0 + 36 * DAY_MS)
    assert silent.tolist() == [False, True]
    shares.keep(~silent)
    assert len(shares) == 1


reads = st.sampled_from([0.0, 0.05, 0.5, 0.8])
row = st.lists(st.tuples(st.sampled_from([3, 50]), reads), min_size=2, max_size=2)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), row), max_size=8))
def test_a_window_without_events_changes_nothing_while_all_is_calm(runs):
    shares, at_ms = CacheShare(CacheShareConfig(), MINUTE_MS), T0
    shares.add(2)
    for times, row in runs:
        for _ in range(times):
            shares.judge(np.array([counters(events, 100_000, read) for events, read in row]), at_ms)
            at_ms += MINUTE_MS
            if shares.calm():
                before = shares.snapshot()
                judged = shares.judge(empty(2), at_ms)
                at_ms += MINUTE_MS
                assert not (judged.opening.any() or judged.closing.any() or judged.open.any())
                assert all(np.array_equal(before[name], array) for name, array in shares.snapshot().items())


def test_months_without_usage_are_not_judged_window_by_window(monkeypatch):
    judged, judge = [], CacheShare.judge

    def noted(self, totals, start_ms):
        judged.append(start_ms)
        return judge(self, totals, start_ms)

    monkeypatch.setattr(CacheShare, "judge", noted)
    feed = Feed()
    feed.play(3, {"a": counters(50, 100_000, 0.8)})
    feed.minute += 1_900
    feed.play(2, {"a": counters(50, 100_000, 0.8)})
    assert len(judged) < 12
