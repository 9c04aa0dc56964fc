"""The rates bench judges by what production judges by, and its events and halves are what it says."""

import numpy as np

from loadtest.accuracy import rates, tenants
from loadtest.accuracy.tenants import WEEK, WINDOW_MS
from loadtest.accuracy.watchers import incidents
from models.config import EngineConfig, SpendRateConfig, WindowConfig
from models.counters import COUNTERS
from models.panes_merge import MergedPanes
from models.partials import unpacked
from models.rate_watch import RateWatch
from tests.panes import pane_columns

USD = 10**9


def test_the_halves_and_groups_share_no_tenant_and_leave_none_out():
    everyone = tenants.load()
    groups = list(rates.groups(everyone).values())
    assert (np.sum(groups, axis=0) == 1).all()
    assert 0.3 < everyone.testing.mean() < 0.7
    assert np.allclose(everyone.spend[:, :WEEK].mean(axis=1), tenants.USUAL)


def test_an_event_multiplies_its_windows_only_and_seeds_repeat():
    week = tenants.load().spend[0, WEEK:]
    one, again = (rates.draw(week, np.random.default_rng(3), 2, rates.kinds()) for _ in range(2))
    assert one == again
    for event in one:
        changed = np.flatnonzero(event.inject(week) != week)
        last = WEEK if event.length == "permanent" else event.start + event.windows
        assert changed.min() == event.start and changed.max() < last
        assert week[event.start] >= rates.MIN_WORTH


def test_incidents_of_the_others_take_two_windows_and_are_quiet_for_six():
    hot = np.zeros((1, 40), np.bool_)
    hot[0, [3, 10, 11, 12, 30, 31]] = True
    assert np.flatnonzero(incidents(hot)[0]).tolist() == [11, 31]


def test_production_in_the_bench_opens_where_the_rate_watch_opens():
    """One tenant's two weeks through panes and RateWatch, as a worker runs it, and through the bench."""
    everyone = tenants.load()
    tenant = everyone.only(everyone.names == "m-mid/72")
    watcher = rates.production()
    opens = watcher(tenant.spend[:, :WEEK], tenant.spend[:, WEEK:])

    config = EngineConfig(
        spend_rate=SpendRateConfig(window_ms=WINDOW_MS), windows=WindowConfig(minute_retention_ms=60 * 86_400_000)
    )
    panes, watch, found = MergedPanes(config.windows), RateWatch(config), []
    zero = dict.fromkeys(COUNTERS, 0)
    for i, spend in enumerate(tenant.spend[0].tolist()):
        row = {
            "scope_kind": "team",
            "team": "t",
            "model": "",
            "agent": "",
            "use_case": "",
            "window_start": i * WINDOW_MS,
        }
        row |= zero | {"window_ms": 60_000, "cost_nano_usd": int(spend), "events": 1}
        panes.merge(0, i + 1, unpacked(pane_columns([row])))
        findings = watch.advance(panes, (i + 1) * WINDOW_MS, 0)
        found += [f["window_start"] // WINDOW_MS for f in findings if f["detector"] == "spend_rate"
                  and f["status"] == "open" and f["window_ms"] == WINDOW_MS]  # fmt: skip
    assert len(found) > 2
    assert [i for i in found if i >= WEEK] == (np.flatnonzero(opens[0]) + WEEK).tolist()
