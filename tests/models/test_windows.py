"""Panes against plain dictionaries, and the watermark's rules."""

from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.builders import columns_of
from models.combos import Combos
from models.config import DAY_MS, HOUR_MS, MINUTE_MS, WindowConfig
from models.counters import COUNTERS, event_counters
from models.rolling import EVERYTHING
from models.scopes import SCOPE_KINDS, Scope
from models.windows import NO_WATERMARK, Panes, Watermark

START = 1_795_460_400_000

events = st.lists(
    st.builds(
        lambda team, model, agent, minute, cost, tokens, kind: {
            "event_time": START + minute * 20_000,
            "team": team,
            "model": model,
            "agent": agent,
            "cost_nano_usd": cost,
            "input_tokens": tokens,
            "output_tokens": tokens // 2,
            "cache_write_1h_tokens": tokens // 3,
            "kind": kind,
        },
        st.sampled_from(["", "a", "b", "a|b"]),
        st.sampled_from(["m1", "m2", ""]),
        st.sampled_from(["x", ""]),
        st.integers(-400, 400),
        st.integers(0, 10**12),
        st.integers(0, 10**6),
        st.sampled_from(["LLM", "GPU"]),
    ),
    max_size=60,
)


def add(panes: Panes, combos: Combos, batch: list[dict], watermark_ms: int = NO_WATERMARK) -> None:
    columns = columns_of(batch)
    keep = np.ones(len(batch), np.bool_)
    counters = np.zeros((len(batch), len(COUNTERS)), np.int64)
    zeros = np.zeros(len(batch), np.int64)
    event_counters(keep, columns.tokens, columns.reported_nano_usd, zeros, zeros == 1, counters)
    combo = combos.assign(columns, keep, lambda team, agent, model: 0)
    panes.add(combos, combo, columns.kind, columns.event_time_ms, counters, watermark_ms)


def expected(batch: list[dict]) -> dict:
    """The same sums with dictionaries."""
    sums = defaultdict(lambda: [0] * len(COUNTERS))
    for event in batch:
        row = [event["cost_nano_usd"], 0, 1, 0, event["input_tokens"], 0, event["cache_write_1h_tokens"],
               event["output_tokens"]]  # fmt: skip
        for kind in SCOPE_KINDS:
            scope = Scope.of(kind, team=event["team"], model=event["model"], agent=event["agent"], use_case="")
            for size in (MINUTE_MS, HOUR_MS):
                key = (scope, event["event_time"] // size * size, size)
                sums[key] = [a + b for a, b in zip(sums[key], row, strict=True)]
    return dict(sums)


def contents(panes: Panes, combos: Combos, rows: np.ndarray) -> dict:
    columns = (column.tolist() for column in panes.columns(rows))
    return {(combos.scopes[number], start, size): sums for number, start, size, sums in zip(*columns, strict=True)}


@settings(max_examples=60, deadline=None)
@given(events, st.integers(0, 60))
def test_panes_hold_what_plain_sums_hold_however_the_batch_is_cut(batch, cut):
    panes, combos = Panes(WindowConfig()), Combos()
    add(panes, combos, batch[:cut])
    first = contents(panes, combos, panes.take_dirty())
    add(panes, combos, batch[cut:])
    assert first == expected(batch[:cut])
    everything = contents(panes, combos, panes.live())
    assert everything == expected(batch)
    changed = {key for key in expected(batch[cut:])}
    assert contents(panes, combos, panes.take_dirty()) == {key: everything[key] for key in changed}
    assert len(panes.take_dirty()) == 0


@settings(max_examples=30, deadline=None)
@given(events, events)
def test_restored_panes_go_on_as_if_never_stopped(before, after):
    panes, combos = Panes(WindowConfig()), Combos()
    add(panes, combos, before)
    restored, again = Panes(panes.config), Combos()
    restored.load_delta(panes.take_delta(EVERYTHING))
    restored.rebuild()
    again.load_delta(combos.take_delta(EVERYTHING))
    again.rebuild(lambda team, agent, model: 0)
    add(panes, combos, after)
    add(restored, again, after)
    assert contents(restored, again, restored.take_dirty()) == contents(panes, combos, panes.take_dirty())


def test_old_panes_go_and_the_rest_stay():
    panes, combos = Panes(WindowConfig(minute_retention_ms=HOUR_MS, hour_retention_ms=2 * DAY_MS)), Combos()
    batch = [{"event_time": START + hour * HOUR_MS, "team": "a", "cost_nano_usd": 5} for hour in range(60)]
    add(panes, combos, batch)
    watermark = START + 59 * HOUR_MS
    assert panes.expire(watermark) == 0, "unpublished panes must stay"
    panes.take_dirty()
    assert panes.expire(watermark) > 0
    left = contents(panes, combos, panes.live())
    assert min(start for _, start, size in left if size == MINUTE_MS) + MINUTE_MS + HOUR_MS > watermark
    assert min(start for _, start, size in left if size == HOUR_MS) + HOUR_MS + 2 * DAY_MS > watermark
    late = {**batch[30], "event_time": START + 30 * HOUR_MS}
    add(panes, combos, [late], watermark)
    sizes = {size for _, _, size in contents(panes, combos, panes.take_dirty())}
    assert sizes == {HOUR_MS}, "an event whose minute pane is gone counts in its hour"


def test_watermark_lags_never_goes_back_and_ignores_the_far_future():
    watermark = Watermark(WindowConfig(lateness_ms=60_000, max_future_skew_ms=300_000))
    assert watermark.value_ms == NO_WATERMARK
    watermark.advance(np.array([START, START - 5_000]), now_ms=START)
    assert watermark.value_ms == START - 60_000
    watermark.advance(np.array([START - HOUR_MS]), now_ms=START)
    assert watermark.value_ms == START - 60_000
    # apache/metron PR#1197: one clock-fast producer must not drop everybody's events
    watermark.advance(np.array([START + DAY_MS, START + 1_000]), now_ms=START)
    assert watermark.value_ms == START + 1_000 - 60_000
