"""One worker: the agents, their timers and the web part around one Faust app. ``tenfold worker`` runs it.

Order of starting: broker (embedded, if none is configured), topics, kernels, producer, baselines, then the group.
Order of stopping (SIGTERM, SIGINT): the flow stops, partitions are checkpointed and committed, the group is left, the
producer is flushed. Any unexpected error ends the process with its reason and without a checkpoint, so that the
next owner reads on from the last one.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import structlog

from models.engine import STATE_VERSION as USAGE_VERSION
from models.learners.team_vector import forests
from models.rollup import STATE_VERSION as ROLLUP_VERSION
from schemas.decode import Decoder
from streams.agents.adapt import AdaptAgent
from streams.agents.alert import AlertAgent
from streams.agents.rollup import RollupAgent
from streams.agents.spend_series import SpendSeries
from streams.agents.usage import UsageAgent
from streams.app import build_worker_app
from streams.broker.embedded import EmbeddedBroker
from streams.config import Settings
from streams.config_sections import WebSettings
from streams.errors import RetryableError
from streams.follow import decoded, follow
from streams.memory import freeze_objects, keep_freed_memory, keep_freezing
from streams.notify.receivers import build_links
from streams.producer import Producer
from streams.registry import schema_fetcher
from streams.state.store import StateStore
from streams.topics import ensure_topics
from streams.transport import TP, Lease, run_app
from streams.warm import warm
from streams.web.chart import chart_route
from streams.web.decisions import Decisions, decision_routes
from streams.web.interactions import interaction_routes
from streams.web.metrics import Metrics
from streams.web.server import WebServer

log = structlog.get_logger()

CATCH_UP_SECONDS = 60.0
ALERT_TICK_SECONDS = 1.0


def clock_ms() -> int:
    """Milliseconds since 1970, the only clock of the agents."""
    return time.time_ns() // 1_000_000


async def run_worker(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; raises TenfoldError with the reason for anything else."""
    keep_freed_memory()
    async with contextlib.AsyncExitStack() as stack:
        if settings.broker.embedded:
            broker = stack.enter_context(EmbeddedBroker())
            log.warning("embedded_broker_started", servers=broker.bootstrap, kept="nothing, it is in memory")
            settings = _for_embedded(settings.with_servers(broker.bootstrap))
        kafka = settings.connection()
        client_settings = kafka.client_options()
        topics = settings.topic_names()
        report = await ensure_topics(kafka, topics, replication=settings.topics.replication)
        for warning in report.warnings:
            log.warning("topic_differs", warning=warning)
        log.info("kernels_ready", seconds=round(await asyncio.to_thread(warm), 2))

        metrics = Metrics()
        lease = Lease(settings.transport.session_timeout)
        producer = await stack.enter_async_context(Producer(kafka, guard=lease.check))
        state_producer = await stack.enter_async_context(Producer(kafka, guard=lease.check, compress=False))
        config = settings.engine()
        decoder = Decoder(
            config.hash_key, schemas=settings.writer_schemas(), fetch_schema=schema_fetcher(settings.schemas)
        )
        adapt = AdaptAgent(topics=topics, producer=producer, metrics=metrics, keep_texts=settings.topics.rejected_texts)
        usage = UsageAgent(
            config=config,
            topics=topics,
            producer=producer,
            store=StateStore(topics.usage_state.name, state_producer, client_settings, state_version=USAGE_VERSION),
            decoder=decoder,
            metrics=metrics,
            clock_ms=clock_ms,
            at_end=lambda partition: app.at_end(TP(topics.usage.name, partition)),
        )
        rollup = RollupAgent(
            config=config,
            topics=topics,
            producer=producer,
            store=StateStore(topics.rollup_state.name, state_producer, client_settings, state_version=ROLLUP_VERSION),
            metrics=metrics,
            clock_ms=clock_ms,
        )
        series = SpendSeries()
        alert = AlertAgent(
            settings=settings,
            client_settings=client_settings,
            topics=topics,
            producer=producer,
            metrics=metrics,
            clock_ms=clock_ms,
            guard=lease.check,
            links=build_links(settings, series),
        )
        agents = {
            topics.foreign.name: adapt,
            topics.usage.name: usage,
            topics.partials.name: rollup,
            topics.anomalies.name: alert,
        }
        app = build_worker_app(settings, agents, lease)

        caught_up = asyncio.Event()

        def take_baselines(records) -> None:
            usage.take_baselines(decoded("baseline", records))

        def take_feedback(records) -> None:
            feedback = decoded("feedback", records)
            alert.take_feedback(feedback)
            usage.take_feedback(feedback)
            rollup.take_feedback(feedback)

        decisions, decisions_read = Decisions(clock_ms), asyncio.Event()
        flush = settings.flush
        stop = asyncio.Event()
        timers = [
            follow(client_settings, topics.baselines.name, take_baselines, caught_up=caught_up),
            follow(client_settings, topics.feedback.name, take_feedback, caught_up=alert.feedback_read),
            follow(
                client_settings,
                topics.budget_definitions.name,
                rollup.take_definitions,
                caught_up=rollup.definitions_read,
            ),
            follow(client_settings, topics.decisions.name, decisions.take, caught_up=decisions_read),
            every(ALERT_TICK_SECONDS, alert.tick),
            every(flush.usage_interval / 1000, usage.flush),
            every(flush.rollup_interval / 1000, rollup.publish),
            usage.keep_checkpointing(flush.checkpoint_interval / 1000),
            rollup.keep_checkpointing(flush.checkpoint_interval / 1000),
            asyncio.to_thread(forests),
            keep_freezing(),
        ]
        if settings.web.chart_key is not None:
            timers.append(follow(client_settings, topics.spend.name, series.take, from_beginning=False))
        background = Background(timers, app.fail)
        await stack.enter_async_context(background)
        if settings.web.enabled:
            routes = alert_routes(settings.web, producer, topics.feedback.name)
            routes = [*routes, *decision_routes(decisions, decisions_read.is_set)]
            web = WebServer(settings.web, metrics, ready=lambda: readiness(app, caught_up), routes=routes)
            await stack.enter_async_context(web)
            log.info("web_started", url=web.url)
        await _first(caught_up.wait(), app.crash_seen.wait(), seconds=CATCH_UP_SECONDS)
        if app.crashed:
            raise app.crash_reason
        if not caught_up.is_set():
            raise RetryableError(
                f"{topics.baselines.name} was not read within {CATCH_UP_SECONDS:.0f} s: a broker does not answer"
            )
        freeze_objects()
        log.info("worker_started", servers=kafka.servers, group=settings.transport.group)
        await run_app(app, stop=stop)
        log.info("worker_stopped")


def alert_routes(settings: WebSettings, producer: Producer, topic: str) -> list:
    """What alerts lead back to: charts, and what people answer."""

    async def store(key: bytes, value: bytes) -> None:
        await producer.send(topic, key, value)
        await producer.flush()

    charts = [chart_route(settings.chart_key.get_secret_value())] if settings.chart_key is not None else []
    return charts + interaction_routes(settings, store, clock_ms)


async def _first(*waits: Awaitable, seconds: float) -> None:
    """Return when one of them is done, or after ``seconds``."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _for_embedded(settings: Settings) -> Settings:
    """The embedded broker holds the first join back for half a session timeout."""
    quick = {"session_timeout": 10_000}
    return settings.model_copy(update={"transport": settings.transport.model_copy(update=quick)})


def readiness(app, caught_up: asyncio.Event) -> list[str]:
    """Why this worker is not ready; empty if it is."""
    reasons = []
    if not caught_up.is_set():
        reasons.append("peer baselines are still being read")
    if app.ready_at is None:
        reasons.append("the consumer group has not assigned partitions yet")
    return reasons


async def every(seconds: float, action: Callable[[], Awaitable[None]]) -> None:
    """Call ``action`` for ever, ``seconds`` after it last ended."""
    while True:
        await asyncio.sleep(seconds)
        await action()


class Background:
    """Tasks that must not end: the first one that does is reported to ``on_failure``."""

    def __init__(self, jobs: list, on_failure: Callable[[BaseException], None]):
        self._jobs = jobs
        self._on_failure = on_failure
        self._tasks: list[asyncio.Task] = []

    async def __aenter__(self) -> "Background":
        self._tasks = [asyncio.create_task(job) for job in self._jobs]
        for task in self._tasks:
            task.add_done_callback(self._ended)
        return self

    async def __aexit__(self, *exc) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._on_failure(task.exception())
