"""Every topic: its name, key, value schema, partitions and how long its records are kept.

``ensure_topics`` makes the brokers agree: it creates what is missing and checks what exists, and never changes or
deletes an existing topic.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, NoError, TopicAlreadyExistsError, for_code
from aiokafka.partitioner import murmur2

from models.config import DAY_MS
from streams.errors import ConfigError, RetryableError
from streams.transport.settings import Connection

DEFAULT_PREFIX = "tenfold."
_CREATE_TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic; ``schema`` names ``schemas/NAME.avsc``, "" where the value is not Avro."""

    name: str
    key: str
    schema: str
    partitions: int
    cleanup: Literal["delete", "compact"]
    retention_ms: int = -1
    """Of records in a topic that is not compacted; -1 keeps them."""

    def config(self, replication: int) -> dict[str, str]:
        """Topic settings to create it with."""
        config = {"cleanup.policy": self.cleanup}
        if self.cleanup == "delete":
            config["retention.ms"] = str(self.retention_ms)
        else:
            # Restores read the whole topic: compact early, and roll segments so that there is something to compact.
            config |= {"min.cleanable.dirty.ratio": "0.2", "segment.ms": "3600000", "segment.bytes": str(64 << 20)}
        if replication > 2:
            config["min.insync.replicas"] = "2"
        return config


@dataclass(frozen=True, slots=True)
class Topics:
    """All topics of one deployment, by role."""

    foreign: Topic
    usage: Topic
    usage_state: Topic
    partials: Topic
    rollup_state: Topic
    baselines: Topic
    spend: Topic
    budgets: Topic
    budget_definitions: Topic
    decisions: Topic
    shares: Topic
    unit_costs: Topic
    sessions: Topic
    anomalies: Topic
    rejected: Topic
    notifications: Topic
    feedback: Topic

    def __iter__(self):
        return (getattr(self, name) for name in self.__slots__)


def topics(prefix: str = DEFAULT_PREFIX, usage_partitions: int = 8) -> Topics:
    """The topics under ``prefix``.

    >>> t = topics("acme.", usage_partitions=8)
    >>> t.usage.name, t.usage.partitions, t.usage_state.partitions, t.partials.partitions
    ('acme.usage', 8, 8, 1)
    """

    def deleted(name: str, key: str, schema: str, days: int, partitions: int = 1) -> Topic:
        return Topic(prefix + name, key, schema, partitions, "delete", days * DAY_MS)

    def compacted(name: str, key: str, schema: str, partitions: int = 1) -> Topic:
        return Topic(prefix + name, key, schema, partitions, "compact")

    return Topics(
        # Adapting is the slowest step per event: as many workers must be able to share it as share the counting.
        foreign=deleted("foreign", "any", "", 7, usage_partitions),
        usage=deleted("usage", "root session id", "usage_event", 7, usage_partitions),
        usage_state=compacted("usage-state", "block of a partition's state", "", usage_partitions),
        partials=deleted("partials", "source partition", "partials", 2),
        rollup_state=compacted("rollup-state", "block of a partition's state", ""),
        baselines=compacted("baselines", "peer group", "baseline"),
        spend=compacted("spend", "scope and window", "window_spend"),
        budgets=compacted("budgets", "budget and period", "budget_status"),
        budget_definitions=compacted("budget-definitions", "budget", ""),
        decisions=compacted("decisions", "scope", "decision"),
        unit_costs=compacted("unit-costs", "transaction type and day", "unit_cost"),
        shares=compacted("shares", "what and day", "day_shares"),
        sessions=deleted("sessions", "root session id", "session_summary", 30),
        anomalies=deleted("anomalies", "finding id", "finding", 90),
        rejected=deleted("rejected", "topic, partition and offset", "rejected", 30),
        notifications=compacted("notifications", "dedup key", ""),
        feedback=compacted("feedback", "subject and verdict", "feedback"),
    )


def partition_for(key: bytes, partitions: int) -> int:
    """The partition that Kafka's default partitioner (murmur2) sends ``key`` to.

    >>> partition_for(b"session-1", 4), partition_for(b"session-2", 4)
    (0, 3)
    """
    return (murmur2(key) & 0x7FFFFFFF) % partitions


@dataclass(frozen=True, slots=True)
class TopicReport:
    """What ``ensure_topics`` found and did; ``warnings`` are for the operator to read."""

    created: tuple[str, ...] = ()
    existing: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


async def ensure_topics(
    connection: Connection, wanted: Iterable[Topic], *, replication: int = 1, create: bool = True
) -> TopicReport:
    """Create the missing topics, and return once every partition of all has a leader; or only say what is missing.

    Raises ConfigError if an existing topic has another number of partitions or a creation is refused, and
    RetryableError if no broker can be reached or leaders do not appear in time.
    """
    wanted = {topic.name: topic for topic in wanted}
    admin = AIOKafkaAdminClient(**connection.client_options())
    try:
        await admin.start()
        found = await _partitions(admin, wanted)
        problems = [_mismatch(wanted[name], count) for name, count in found.items() if count != wanted[name].partitions]
        if problems:
            raise ConfigError(problems)
        missing = [topic for name, topic in wanted.items() if name not in found]
        warnings = await _policy_warnings(admin, [wanted[name] for name in found])
        if not create:
            names = tuple(topic.name for topic in missing)
            return TopicReport(existing=tuple(sorted(found)), missing=names, warnings=tuple(warnings))
        await _create(admin, missing, replication)
        async with asyncio.timeout(_CREATE_TIMEOUT_SECONDS):
            while await _partitions(admin, wanted) != {name: topic.partitions for name, topic in wanted.items()}:
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError as error:
        raise RetryableError(
            f"topics without a leader after {_CREATE_TIMEOUT_SECONDS:.0f} s: check the brokers"
        ) from error
    except KafkaError as error:
        raise RetryableError(
            f"the topics cannot be checked at {', '.join(connection.servers)} ({error!r}): start the brokers, or "
            "correct broker.servers"
        ) from error
    finally:
        await admin.close()
    created = tuple(sorted(topic.name for topic in missing))
    return TopicReport(created, tuple(sorted(found)), warnings=tuple(warnings))


def _mismatch(topic: Topic, count: int) -> str:
    return (
        f"topic {topic.name} has {count} partitions, {topic.partitions} are needed: set topics.partitions to what the "
        "usage topic has, or delete the topic, or use another topics.prefix (partitions of a topic with state must "
        "not be added later: keys would move away from their state)"
    )


async def _partitions(admin: AIOKafkaAdminClient, wanted: Mapping[str, Topic]) -> dict[str, int]:
    """Number of partitions that have a leader, of those of ``wanted`` that exist."""
    # All topics are listed: some brokers create a topic, with partitions of their own choice, when asked by name.
    return {
        answer["topic"]: sum(partition["leader"] >= 0 for partition in answer["partitions"])
        for answer in await admin.describe_topics()
        if answer["topic"] in wanted and for_code(answer["error_code"]) is NoError
    }


async def _create(admin: AIOKafkaAdminClient, missing: list[Topic], replication: int) -> None:
    if not missing:
        return
    response = await admin.create_topics(
        [
            NewTopic(topic.name, topic.partitions, replication, topic_configs=topic.config(replication))
            for topic in missing
        ]
    )
    problems = []
    for name, code, *said in response.topic_errors:
        error = for_code(code)
        if error not in (NoError, TopicAlreadyExistsError):
            detail = f" ({said[0]})" if said and said[0] else ""
            problems.append(
                f"topic {name} was not created: {error.__name__}{detail}; allow it, or create it beforehand"
            )
    if problems:
        raise ConfigError(problems)


async def _policy_warnings(admin: AIOKafkaAdminClient, existing: list[Topic]) -> list[str]:
    """A compacted topic that is cleaned by age would forget state, and one that is not cleaned grows."""
    if not existing:
        return []
    try:
        responses = await admin.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic.name, {"cleanup.policy": ""}) for topic in existing]
        )
    except KafkaError:
        return []
    policies = {}
    for response in responses:
        for _code, _said, _kind, topic_name, entries in response.resources:
            for entry_name, policy, *_ in entries:
                if entry_name == "cleanup.policy" and policy:
                    policies[topic_name] = policy
    return [
        f"topic {topic.name} has cleanup.policy={policies[topic.name]}, {topic.cleanup} is expected"
        for topic in existing
        if topic.name in policies and policies[topic.name] != topic.cleanup
    ]
