"""Peer groups: bins, quantiles, thresholds and learning."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.baselines import TEAM_AGENT, Baselines, groups_fed
from models.config import DAY_MS, USD, RunawayConfig, SessionOutlierConfig
from models.counters import COST, COUNTERS, EVENTS, INPUT, OUTPUT
from models.peer_group import BINS, LOWEST_COST_NANO_USD, bin_of, quantile
from models.rolling import EVERYTHING
from models.session_kernels import COST_EDGES, LIMIT_CALLS, LIMIT_PAGE, LIMIT_STEP, LIMIT_WARN, NEVER, STEPS
from models.sessions import EndedRuns
from models.watch import WIDTH

DAY = 20_000


def make(config: SessionOutlierConfig) -> Baselines:
    return Baselines(config, RunawayConfig())


def ended(costs: list[int], events: int = 5, flagged: bool = False) -> EndedRuns:
    """Runs whose events cost the same each."""
    n = len(costs)
    sums = np.zeros((n, len(COUNTERS)), np.int64)
    sums[:, COST], sums[:, EVENTS], sums[:, INPUT], sums[:, OUTPUT] = costs, events, 1000 * events, 10 * events
    at_step = np.minimum(np.array(costs)[:, None] / events * 2.0 ** np.arange(STEPS), np.array(costs)[:, None])
    path = np.searchsorted(COST_EDGES, at_step, side="right").astype(np.uint8)
    return EndedRuns(
        session_id=[""] * n,
        combo=np.zeros(n, np.int32),
        sums=sums,
        times=np.full((n, 3), DAY * DAY_MS),
        level=np.full(n, int(flagged), np.int8),
        signals=np.zeros(n, np.uint8),
        path=path,
        watched=np.full(n, -1),
        watch=np.zeros((0, WIDTH), np.int64),
        watch_ids=np.zeros((0, 3, 65), np.uint8),
    )


def observe(baselines: Baselines, group: int, costs: list[int], events: int = 5, flagged: bool = False) -> None:
    baselines.observe(np.full(len(costs), group), ended(costs, events, flagged))


def broadcast(source: Baselines) -> list[dict]:
    return source.take_dirty()


@given(st.lists(st.integers(LOWEST_COST_NANO_USD, 10**12), min_size=1, max_size=200), st.floats(0.05, 0.95))
def test_quantile_is_within_a_bin_of_the_exact_one(values, q):
    bins = np.bincount(bin_of(np.array(values, np.float64), LOWEST_COST_NANO_USD), minlength=BINS).astype(float)
    exact = sorted(values)[min(int(q * len(values)), len(values) - 1)]
    lower = sorted(values)[max(0, int(np.ceil(q * len(values))) - 1)]
    found = quantile(bins, q, LOWEST_COST_NANO_USD)
    assert lower / 1.36 <= found <= exact * 1.36


def test_values_beyond_the_edges_fall_in_the_outer_bins():
    assert bin_of(np.array([1.0, 1e18]), LOWEST_COST_NANO_USD).tolist() == [0, BINS - 1]
    assert quantile(np.zeros(BINS), 0.5, 1) == 0.0


def test_without_peers_only_the_absolute_cap_flags():
    baselines = make(SessionOutlierConfig(absolute_cap_nano_usd=50 * USD))
    group = baselines.register("t", "a", "m")
    assert baselines.limits[group, LIMIT_WARN] == baselines.limits[group, LIMIT_PAGE] == 50 * USD
    assert baselines.stats[group] is None


def test_threshold_is_ten_times_the_median_plus_a_margin_that_shrinks_with_peers():
    config = SessionOutlierConfig()
    ratios = []
    for n in (25, 400, 10_000):
        baselines = make(config)
        group = baselines.register("t", "a", "m")
        rng = np.random.default_rng(1)
        observe(baselines, group, (rng.lognormal(0, 0.8, n) * USD).astype(int).tolist())
        baselines.merge(broadcast(baselines))
        stats = baselines.stats[group]
        assert stats.expected_nano_usd == pytest.approx(USD, rel=0.35)
        assert (
            config.ratio * stats.expected_nano_usd
            < baselines.limits[group, LIMIT_WARN]
            < baselines.limits[group, LIMIT_PAGE]
        )
        ratios.append(baselines.limits[group, LIMIT_PAGE] / stats.expected_nano_usd)
    assert ratios[0] > ratios[1] > ratios[2]
    assert ratios[2] == pytest.approx(10, rel=0.05)


def test_few_peers_do_not_page_and_fewer_do_not_warn():
    baselines = make(SessionOutlierConfig(absolute_cap_nano_usd=50 * USD))
    group = baselines.register("t", "a", "m")
    observe(baselines, group, [USD] * 4)
    baselines.merge(broadcast(baselines))
    assert baselines.limits[group, LIMIT_WARN] == baselines.limits[group, LIMIT_PAGE] == 50 * USD
    observe(baselines, group, [USD] * 10)
    baselines.merge(broadcast(baselines))
    assert 9 * USD < baselines.limits[group, LIMIT_WARN] < 50 * USD
    assert baselines.limits[group, LIMIT_PAGE] == 50 * USD


def test_a_new_group_is_judged_by_its_ancestor_with_a_wider_margin():
    baselines = make(SessionOutlierConfig())
    known = baselines.register("t", "a", "m")
    observe(baselines, known, [USD] * 200)
    baselines.merge(broadcast(baselines))
    new_agent = baselines.register("t", "b", "m")
    new_team = baselines.register("x", "b", "m")
    assert baselines.stats[new_agent].reliable == 200
    assert baselines.limits[new_agent, LIMIT_PAGE] > baselines.limits[known, LIMIT_PAGE]
    assert baselines.limits[new_team, LIMIT_PAGE] > baselines.limits[known, LIMIT_PAGE]


def test_sessions_that_share_neither_team_nor_model_are_not_peers():
    """A loan that costs a thousand chats is no anomaly."""
    config = SessionOutlierConfig()
    baselines = make(config)
    chat = baselines.register("chat", "assistant", "kimi-k2")
    observe(baselines, chat, [USD // 200] * 500)
    baselines.merge(baselines.take_dirty())
    loan = baselines.register("lending", "loan-agent", "claude")
    assert baselines.stats[loan] is None
    assert baselines.limits[loan, LIMIT_WARN] == baselines.limits[loan, LIMIT_PAGE] == config.absolute_cap_nano_usd
    observe(baselines, loan, [7 * USD] * 6)
    baselines.merge(baselines.take_dirty())
    assert baselines.stats[loan].expected_nano_usd == pytest.approx(7 * USD, rel=0.2)


def test_cheap_sessions_never_page_below_a_dollar_of_excess():
    baselines = make(SessionOutlierConfig(min_excess_nano_usd=USD))
    group = baselines.register("t", "a", "m")
    observe(baselines, group, [100_000] * 500)
    baselines.merge(broadcast(baselines))
    assert baselines.limits[group, LIMIT_PAGE] >= USD
    assert baselines.limits[group, LIMIT_WARN] < 10_000_000


def test_flagged_sessions_are_winsorised_and_free_ones_teach_nothing():
    baselines = make(SessionOutlierConfig())
    group = baselines.register("t", "a", "m")
    observe(baselines, group, [USD] * 100)
    baselines.merge(broadcast(baselines))
    observe(baselines, group, [0] * 50)
    assert baselines.take_dirty() == []
    observe(baselines, group, [900 * USD], flagged=True)
    part = next(part for part in baselines.take_dirty() if part["level"] == 0)
    highest = max(i for i, count in enumerate(part["cost_bins"]) if count)
    assert highest <= bin_of(np.array([11.0 * USD]), LOWEST_COST_NANO_USD)[0]


def test_every_level_of_the_chain_learns():
    baselines = make(SessionOutlierConfig())
    observe(baselines, baselines.register("t", "a", "m"), [USD])
    keys = {(p["level"], p["team"], p["agent"], p["model"]) for p in baselines.take_dirty()}
    assert keys == groups_fed("t", "a", "m")
    assert len(keys) == 5


def test_a_session_without_a_model_is_compared_with_its_agents_sessions_of_any_model():
    """An agent that calls a tool first must not look like ten times the sessions that only call tools."""
    baselines = make(SessionOutlierConfig())
    with_model, without = baselines.register("t", "a", "m"), baselines.register("t", "a", "")
    observe(baselines, with_model, [7 * USD] * 100)
    observe(baselines, without, [USD // 100] * 5)
    baselines.merge(baselines.take_dirty())
    assert baselines.stats[without].n == 105
    assert baselines.limits[without, LIMIT_WARN] > 60 * USD
    assert {key[0] for key in groups_fed("t", "a", "")} == {TEAM_AGENT, 3}


def test_restored_baselines_judge_the_same():
    baselines = make(SessionOutlierConfig())
    group = baselines.register("t", "a", "m")
    observe(baselines, group, [USD, 2 * USD, 3 * USD] * 20)
    merged = baselines.take_dirty()
    baselines.merge(merged)
    observe(baselines, group, [USD])
    restored = make(baselines.config)
    restored.load_delta(baselines.take_delta(EVERYTHING))
    restored.rebuild()
    number = restored.register("t", "a", "m")
    restored.merge(merged)
    assert restored.limits[number, LIMIT_PAGE] == baselines.limits[group, LIMIT_PAGE]
    assert restored.take_dirty() == baselines.take_dirty()
    observe(restored, number, [USD])
    observe(baselines, group, [USD])
    assert restored.take_dirty() == baselines.take_dirty()


def test_days_without_weight_are_forgotten():
    baselines = make(SessionOutlierConfig(half_life_days=1))
    observe(baselines, baselines.register("t", "a", "m"), [USD])
    baselines.take_dirty()
    baselines.expire((DAY + 3) * DAY_MS)
    assert any(slot is not None for slot in baselines.take_delta(EVERYTHING)["slots"])
    baselines.expire((DAY + 8) * DAY_MS)
    assert all(slot is None for slot in baselines.take_delta(EVERYTHING)["slots"])


def test_one_dear_session_of_the_cold_start_does_not_hide_the_next():
    """Two of two dozen peers are their p95: it says nothing until there are a hundred."""
    config = SessionOutlierConfig()
    baselines = make(config)
    group = baselines.register("t", "a", "m")
    # Flagged by the cap before anything was known of its peers, so there was nothing to winsorise it to.
    observe(baselines, group, [64 * USD] * 2, flagged=True)
    observe(baselines, group, [2 * USD] * 22)
    baselines.merge(broadcast(baselines))
    assert baselines.stats[group].tail_nano_usd > 50 * USD
    assert baselines.limits[group, LIMIT_PAGE] < 30 * USD
    observe(baselines, group, [2 * USD] * 73 + [64 * USD] * 6)
    baselines.merge(broadcast(baselines))
    assert baselines.stats[group].n > 100
    assert baselines.limits[group, LIMIT_PAGE] > 64 * USD / 1.35, "the bin that the dear ones are in"


@pytest.mark.parametrize(("dear", "pages"), [(4, True), (8, False)])
def test_a_page_is_for_what_fewer_than_one_in_twenty_do(dear, pages):
    baselines = make(SessionOutlierConfig())
    group = baselines.register("t", "a", "m")
    observe(baselines, group, [2 * USD] * (120 - dear) + [60 * USD] * dear)
    baselines.merge(broadcast(baselines))
    assert bool(baselines.limits[group, LIMIT_PAGE] < 40 * USD) is pages
    assert baselines.limits[group, LIMIT_WARN] < 40 * USD


def test_calls_and_steps_are_limited_by_what_peers_do():
    config = SessionOutlierConfig()
    baselines = make(config)
    group = baselines.register("t", "a", "m")
    assert baselines.limits[group, LIMIT_CALLS] == RunawayConfig().calls_cap, "no peers, only the cap"
    observe(baselines, group, [8 * USD] * 19, events=8)
    baselines.merge(broadcast(baselines))
    assert (baselines.limits[group, LIMIT_STEP:] == NEVER).all()
    observe(baselines, group, [8 * USD] * 21, events=8)
    baselines.merge(broadcast(baselines))
    limits = baselines.limits[group]
    assert 70 <= limits[LIMIT_CALLS] <= 110
    for step, usual in enumerate((1, 2, 4, 8)):
        # Whoever costs ten times as much at a call is on course: peers cost so many times more in the end.
        assert limits[LIMIT_STEP + step] == pytest.approx(limits[LIMIT_WARN] * usual / 8, rel=0.2)
    assert (limits[LIMIT_STEP + 4 :] == NEVER).all(), "no peer has made so many calls"


def test_what_an_event_usually_is_comes_from_runs_that_were_not_flagged():
    baselines = make(SessionOutlierConfig())
    group = baselines.register("t", "a", "m")
    observe(baselines, group, [USD] * 30, events=10)
    baselines.merge(broadcast(baselines))
    observe(baselines, group, [900 * USD], events=2, flagged=True)
    baselines.merge(broadcast(baselines))
    usual = baselines.stats[group].usual
    assert usual.event_cost_nano_usd == USD / 10
    assert usual.event_tokens == 1010
    assert usual.token_weight == pytest.approx((1000 + 5 * 10) / 1010)


def test_a_new_group_does_not_copy_those_before_it():
    baselines = make(SessionOutlierConfig(absolute_cap_nano_usd=50 * USD))
    arrays = set()
    for number in range(3_000):
        assert baselines.register(f"team-{number}", "", "m") == number
        assert baselines.limits[number, LIMIT_PAGE] == 50 * USD
        arrays.add(len(baselines.limits))
    assert len(arrays) < 12
