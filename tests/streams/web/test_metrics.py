"""Names as agreed, totals as a count per record would give, and label sets that cannot grow without end."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from models.counters import COUNTERS
from streams.web import metrics as module
from streams.web.metrics import Metrics


def counters(**values: int) -> list[int]:
    return [values.get(name, 0) for name in COUNTERS]


def samples(metrics: Metrics) -> dict:
    body, _ = metrics.render()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[name, tuple(sorted(labels.items()))]


def test_batch_totals():
    metrics = Metrics()
    row = counters(
        cost_nano_usd=1_500_000_000, unpriced_events=2, input_tokens=100, cache_read_tokens=7, output_tokens=30
    )
    for _ in range(2):
        metrics.batch_applied(
            "usage",
            10,
            0.002,
            duplicates=1,
            late=3,
            rejected={"truncated": 4},
        )
        metrics.spent(
            [("payments", "gpt-5.4", "openai", "LLM", row), ("", "", "", "GPU", counters(cost_nano_usd=10**9))]
        )
    labels = {"team": "payments", "model": "gpt-5.4", "provider": "openai", "kind": "LLM"}
    unknown = {"team": "unknown", "model": "unknown", "provider": "unknown", "kind": "GPU"}
    assert value(metrics, "ai_cost_usd_total", **labels) == 3.0
    assert value(metrics, "ai_cost_usd_total", **unknown) == 2.0
    assert value(metrics, "ai_cost_tokens_total", **labels, direction="input") == 200
    assert value(metrics, "ai_cost_tokens_total", **labels, direction="cache_read") == 14
    assert value(metrics, "ai_cost_tokens_total", **labels, direction="cache_write") == 0
    assert value(metrics, "ai_cost_tokens_total", **labels, direction="output") == 60
    assert value(metrics, "ai_cost_unpriced_events_total", model="gpt-5.4") == 4
    assert value(metrics, "ai_cost_late_events_total") == 6
    assert value(metrics, "ai_cost_duplicate_events_total") == 2
    assert value(metrics, "ai_cost_quarantined_events_total", reason="truncated") == 8
    assert value(metrics, "tenfold_batches_total", agent="usage") == 2
    assert value(metrics, "tenfold_records_total", agent="usage") == 20
    assert value(metrics, "tenfold_apply_seconds_count", agent="usage") == 2


def test_hostile_names_are_bounded_and_nothing_is_lost():
    metrics = Metrics()
    rows = [(f"t{n % 350}", f"m{n}", f"p{n}", "LLM", counters(cost_nano_usd=10**9)) for n in range(6_000)]
    metrics.spent(rows)
    usd = {labels: total for (name, labels), total in samples(metrics).items() if name == "ai_cost_usd_total"}
    assert len(usd) <= module.MAX_SERIES + 1
    assert sum(usd.values()) == len(rows)
    assert len(metrics.render()[0]) < 3_000_000
    long = "x" * 5_000
    metrics.batch_applied("usage", 1, 0.1, rejected={long: 1})
    assert value(metrics, "ai_cost_quarantined_events_total", reason="x" * module.MAX_NAME_LENGTH) == 1


def test_budgets():
    metrics = Metrics()
    status = {
        "budget": "payments",
        "unit": "nano_usd",
        "spent_ratio": 1.3,
        "limit_nano_usd": 100 * 10**9,
        "spent_nano_usd": 130 * 10**9,
        "burn": [{"long_ms": 3_600_000, "short_ms": 300_000, "long_burn": 14.5, "short_burn": 20.0}],
    }
    metrics.budgets_published([status])
    assert value(metrics, "ai_cost_budget_limit_usd", budget="payments") == 100
    assert value(metrics, "ai_cost_budget_remaining_usd", budget="payments") == -30
    assert value(metrics, "ai_cost_budget_used_ratio", budget="payments") == 1.3
    metrics.budgets_published([{**status, "budget": "tokens", "unit": "tokens", "spent_ratio": 0.4, "burn": []}])
    assert value(metrics, "ai_cost_budget_used_ratio", budget="tokens") == 0.4
    assert ("ai_cost_budget_limit_usd", (("budget", "tokens"),)) not in samples(metrics)
    assert value(metrics, "ai_cost_budget_burn_rate_ratio", budget="payments", window="1h") == 14.5
    assert value(metrics, "ai_cost_budget_burn_rate_ratio", budget="payments", window="5m") == 20.0


def test_a_finding_counts_once_for_every_severity(monkeypatch):
    monkeypatch.setattr(module, "MAX_SEEN_ALERTS", 3)
    metrics = Metrics()
    found = {"id": "a", "status": "open", "detector": "spend_rate", "severity": "warning"}
    worse = {**found, "status": "updated", "severity": "critical"}
    metrics.findings_raised([found, {**found, "status": "updated"}, worse, worse, {**worse, "status": "resolved"}])
    assert value(metrics, "ai_cost_anomaly_alerts_total", detector="spend_rate", severity="warning") == 1
    assert value(metrics, "ai_cost_anomaly_alerts_total", detector="spend_rate", severity="critical") == 1
    metrics.findings_raised({**found, "id": f"{n}"} for n in range(50))
    assert value(metrics, "ai_cost_anomaly_alerts_total", detector="spend_rate", severity="warning") == 51
    assert len(metrics._seen_alerts) == 3


def test_event_to_alert():
    metrics = Metrics()
    metrics.notification_settled("ops", {"status": "open", "last_event_time": 10_000}, True, 10_400)
    metrics.notification_settled("ops", {"status": "open", "last_event_time": 99_000}, True, 10_400)
    metrics.notification_settled("ops", {"status": "resolved", "last_event_time": 0}, True, 10_400)
    metrics.notification_settled("ops", {"status": "open", "last_event_time": 0}, False, 10_400)
    assert value(metrics, "ai_cost_event_to_alert_seconds_count") == 2
    assert value(metrics, "ai_cost_event_to_alert_seconds_sum") == pytest.approx(0.4)
    assert value(metrics, "tenfold_notifications_total", receiver="ops", result="delivered") == 3
    assert value(metrics, "tenfold_notifications_total", receiver="ops", result="refused") == 1


def test_gauges_follow_the_assignment():
    metrics = Metrics()
    metrics.set_lag("tenfold.usage", {0: 5, 1: 7})
    metrics.set_lag("tenfold.partials", {0: 1})
    metrics.set_lag("tenfold.usage", {1: 6})
    lag = {labels: n for (name, labels), n in samples(metrics).items() if name == "tenfold_lag_records"}
    assert lag == {
        (("partition", "1"), ("topic", "tenfold.usage")): 6,
        (("partition", "0"), ("topic", "tenfold.partials")): 1,
    }
    metrics.set_pending({"slack": 3})
    assert value(metrics, "tenfold_pending_notifications", receiver="slack") == 3


def test_two_workers_in_one_process_do_not_share():
    first, second = Metrics(), Metrics()
    first.batch_applied("usage", 1, 0.1)
    assert ("tenfold_batches_total", (("agent", "usage"),)) not in samples(second)
