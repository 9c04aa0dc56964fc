"""What Prometheus sees: spend and alerts as ``ai_cost_*``, the pipeline's own health as ``tenfold_*``.

Counted once per batch, with the totals a count per record would give. Labels are bounded: past ``MAX_NAMES``
teams, models or providers, and past ``MAX_SERIES`` combinations of them, everything new counts as "other", so
hostile names can neither fill this process nor Prometheus. Never a session, a user or an event id. An unknown name
reads "unknown", since Prometheus takes an empty label for none.

Counters start at 0 with the process and count what this worker did: a batch that is read again after a crash
counts again. The topics are exact; these are for watching. Spend comes once a second, is added up first and reaches
Prometheus' counters when they are asked for: a row costs some 1 us instead of 10.
"""

from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from models.config import USD
from models.counters import CACHE_READ, CACHE_WRITE, COST, INPUT, OUTPUT, UNPRICED

MAX_NAMES = 200
MAX_SERIES = 2_000
MAX_NAME_LENGTH = 100
MAX_SEEN_ALERTS = 10_000
OTHER = "other"
_DIRECTIONS = (("input", INPUT), ("cache_read", CACHE_READ), ("cache_write", CACHE_WRITE), ("output", OUTPUT))
_ALERT_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800)
_PAUSE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
_RESTORE_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_APPLY_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)


class BoundedNames:
    """The first ``limit`` distinct names as they are, everything after them "other"."""

    def __init__(self, limit: int = MAX_NAMES) -> None:
        self._limit = limit
        self._names: set[str] = set()

    def __call__(self, name: str) -> str:
        name = name[:MAX_NAME_LENGTH] or "unknown"
        if name in self._names:
            return name
        if len(self._names) < self._limit:
            self._names.add(name)
            return name
        return OTHER


class Metrics:
    """All metrics of one worker, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        series = ("team", "model", "provider", "kind")
        self._usd = Counter("ai_cost_usd", "Cost of usage, in dollars.", series, registry=registry)
        self._tokens = Counter("ai_cost_tokens", "Tokens used.", (*series, "direction"), registry=registry)
        self._unpriced = Counter("ai_cost_unpriced_events", "Events of unknown price.", ("model",), registry=registry)
        self._late = Counter("ai_cost_late_events", "Events behind the watermark; they count.", registry=registry)
        self._duplicates = Counter("ai_cost_duplicate_events", "Events seen before, not counted.", registry=registry)
        self._quarantined = Counter(
            "ai_cost_quarantined_events", "Events sent to the rejected topic.", ("reason",), registry=registry
        )
        self._budget_limit = Gauge("ai_cost_budget_limit_usd", "The budget.", ("budget",), registry=registry)
        self._budget_left = Gauge(
            "ai_cost_budget_remaining_usd",
            "What is left of it; below 0 past it.",
            ("budget",),
            registry=registry,
        )
        self._budget_used = Gauge(
            "ai_cost_budget_used_ratio", "Used of the budget, in its unit.", ("budget",), registry=registry
        )
        self._budget_burn = Gauge(
            "ai_cost_budget_burn_rate_ratio",
            "Spend rate over the window against an even spend of the budget.",
            ("budget", "window"),
            registry=registry,
        )
        self._alerts = Counter(
            "ai_cost_anomaly_alerts", "Findings that reached a severity.", ("detector", "severity"), registry=registry
        )
        self._event_to_alert = Histogram(
            "ai_cost_event_to_alert_seconds",
            "From the last event of a finding to the receiver's acceptance of it.",
            buckets=_ALERT_SECONDS,
            registry=registry,
        )
        self._batches = Counter("tenfold_batches", "Batches applied.", ("agent",), registry=registry)
        self._records = Counter("tenfold_records", "Records in them.", ("agent",), registry=registry)
        self._apply = Histogram(
            "tenfold_apply_seconds", "Time to apply a batch.", ("agent",), buckets=_APPLY_SECONDS, registry=registry
        )
        self._lag = Gauge(
            "tenfold_lag_records", "Records of a partition not read yet.", ("topic", "partition"), registry=registry
        )
        self._live_sessions = Gauge("tenfold_live_sessions", "Sessions held in memory.", registry=registry)
        self._checkpoints = Counter("tenfold_checkpoints", "Checkpoints made durable.", ("agent",), registry=registry)
        self._checkpoint_bytes = Counter(
            "tenfold_checkpoint_bytes", "Size of the checkpoints.", ("agent",), registry=registry
        )
        self._checkpoint_pause = Histogram(
            "tenfold_checkpoint_pause_seconds",
            "Time that the stream waited while changed rows were copied.",
            ("agent",),
            buckets=_PAUSE_SECONDS,
            registry=registry,
        )
        self._state_read = Counter(
            "tenfold_restore_read_bytes", "State read when partitions came.", ("agent",), registry=registry
        )
        self._restored_rows = Counter("tenfold_restored_rows", "Rows of state restored.", ("agent",), registry=registry)
        self._restore = Histogram(
            "tenfold_restore_seconds",
            "Time to restore a partition.",
            ("agent",),
            buckets=_RESTORE_SECONDS,
            registry=registry,
        )
        self._notifications = Counter(
            "tenfold_notifications", "Findings delivered or refused.", ("receiver", "result"), registry=registry
        )
        self._pending = Gauge(
            "tenfold_pending_notifications", "Findings waiting for a receiver.", ("receiver",), registry=registry
        )
        self._team, self._model, self._provider = BoundedNames(), BoundedNames(), BoundedNames()
        self._reason, self._budget, self._detector = BoundedNames(50), BoundedNames(), BoundedNames(50)
        self._seen_alerts: dict[tuple[str, str], None] = {}
        self._of_agent: dict[str, tuple[Counter, Counter, Histogram]] = {}
        self._lag_partitions: dict[str, set[int]] = {}
        self._spent: dict[tuple[str, ...], Sequence[int]] = {}
        """By team, model, provider and kind: not counted yet."""
        self._spend: dict[tuple[str, str, str, str], tuple[Counter, list[tuple[int, Counter]]]] = {}

    def batch_applied(
        self,
        agent: str,
        records: int,
        seconds: float,
        *,
        duplicates: int = 0,
        late: int = 0,
        rejected: Mapping[str, int] | None = None,
    ) -> None:
        """One batch of ``records``. ``rejected`` by reason."""
        of_agent = self._of_agent.get(agent)
        if of_agent is None:
            counted = (self._batches, self._records, self._apply)
            of_agent = self._of_agent[agent] = tuple(metric.labels(agent) for metric in counted)
        batches, counted_records, apply = of_agent
        batches.inc()
        counted_records.inc(records)
        apply.observe(seconds)
        if duplicates:
            self._duplicates.inc(duplicates)
        if late:
            self._late.inc(late)
        for reason, count in (rejected or {}).items():
            self._quarantined.labels(self._reason(reason)).inc(count)

    def bounded(self, team: str, model: str, provider: str) -> tuple[str, str, str]:
        """What these names count as."""
        return self._team(team), self._model(model), self._provider(provider)

    def spent(self, rows: Iterable[tuple[str, str, str, str, Sequence[int]]]) -> None:
        """What was counted since the last call: ``UsageEngine.take_spent``."""
        for *key, counters in rows:
            known = self._spent.get(series := tuple(key))
            self._spent[series] = counters if known is None else [a + b for a, b in zip(known, counters, strict=True)]
        if len(self._spent) > MAX_SERIES:
            self._count_spent()

    def _count_spent(self) -> None:
        spent, self._spent = self._spent, {}
        for (team, model, provider, kind), counters in spent.items():
            usd, tokens = self._series(team, model, provider, kind)
            usd.inc(counters[COST] / USD)
            for counter, child in tokens:
                if counters[counter]:
                    child.inc(counters[counter])
            if counters[UNPRICED]:
                self._unpriced.labels(self._model(model)).inc(counters[UNPRICED])

    def findings_raised(self, findings: Iterable[dict]) -> None:
        """Findings as sent to their topic; each counts once for every severity it reaches."""
        for finding in findings:
            seen = (finding["id"], finding["severity"])
            if finding["status"] == "resolved" or seen in self._seen_alerts:
                continue
            self._seen_alerts[seen] = None
            if len(self._seen_alerts) > MAX_SEEN_ALERTS:
                del self._seen_alerts[next(iter(self._seen_alerts))]
            self._alerts.labels(self._detector(finding["detector"]), finding["severity"]).inc()

    def budgets_published(self, statuses: Iterable[dict]) -> None:
        """``BudgetStatus`` records as sent to their topic."""
        for status in statuses:
            budget = self._budget(status["budget"])
            self._budget_used.labels(budget).set(status["spent_ratio"])
            if status["unit"] == "nano_usd":
                self._budget_limit.labels(budget).set(status["limit_nano_usd"] / USD)
                self._budget_left.labels(budget).set((status["limit_nano_usd"] - status["spent_nano_usd"]) / USD)
            for burn in status["burn"]:
                self._budget_burn.labels(budget, _window(burn["long_ms"])).set(burn["long_burn"])
                self._budget_burn.labels(budget, _window(burn["short_ms"])).set(burn["short_burn"])

    def notification_settled(self, receiver: str, finding: dict, ok: bool, now_ms: int) -> None:
        """What ``Notifier`` reports to ``on_delivered``, and when."""
        self._notifications.labels(receiver, "delivered" if ok else "refused").inc()
        if ok and finding["status"] != "resolved":
            self._event_to_alert.observe(max(0, now_ms - finding["last_event_time"]) / 1000)

    def set_pending(self, pending: Mapping[str, int]) -> None:
        """Findings waiting, by receiver (``Notifier.pending_by_receiver``)."""
        for receiver, count in pending.items():
            self._pending.labels(receiver).set(count)

    def set_lag(self, topic: str, lag_records: Mapping[int, int]) -> None:
        """Lag of the partitions owned now, of one topic; partitions no longer owned disappear."""
        for partition in self._lag_partitions.get(topic, set()) - set(lag_records):
            self._lag.remove(topic, str(partition))
        self._lag_partitions[topic] = set(lag_records)
        for partition, records in lag_records.items():
            self._lag.labels(topic, str(partition)).set(records)

    def set_live_sessions(self, count: int) -> None:
        self._live_sessions.set(count)

    def checkpoint_made(self, agent: str, size_bytes: int, pause_seconds: float) -> None:
        """A checkpoint is durable."""
        self._checkpoints.labels(agent).inc()
        self._checkpoint_bytes.labels(agent).inc(size_bytes)
        self._checkpoint_pause.labels(agent).observe(pause_seconds)

    def state_read(self, agent: str, size_bytes: int) -> None:
        """So much more of a partition's state has come in."""
        self._state_read.labels(agent).inc(size_bytes)

    def state_restored(self, agent: str, rows: int, seconds: float) -> None:
        """A partition's state is whole."""
        self._restored_rows.labels(agent).inc(rows)
        self._restore.labels(agent).observe(seconds)

    def render(self) -> tuple[bytes, str]:
        """The exposition text and its content type."""
        self._count_spent()
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    def _series(self, team: str, model: str, provider: str, kind: str) -> tuple[Counter, list[tuple[int, Counter]]]:
        labels = (*self.bounded(team, model, provider), kind)
        found = self._spend.get(labels)
        if found is None:
            if len(self._spend) >= MAX_SERIES:
                labels = (OTHER, OTHER, OTHER, OTHER)
                if (found := self._spend.get(labels)) is not None:
                    return found
            tokens = [(counter, self._tokens.labels(*labels, name)) for name, counter in _DIRECTIONS]
            found = self._spend[labels] = (self._usd.labels(*labels), tokens)
        return found


def _window(ms: int) -> str:
    """``1h``, ``5m``: the windows are the same few for every budget."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if ms % size == 0:
            return f"{ms // size}{unit}"
    return f"{ms}ms"
