"""Topics: what they are called, that brokers get them right, and that wrong ones are refused."""

import uuid
from importlib import resources

import pytest
from aiokafka.partitioner import DefaultPartitioner

from streams.errors import ConfigError, RetryableError
from streams.topics import Topic, ensure_topics, partition_for, topics
from streams.transport import Connection

brokers = [
    pytest.param("embedded_broker", marks=pytest.mark.broker),
    pytest.param("kafka_broker", marks=pytest.mark.kafka),
]


def test_names_are_unique_under_the_prefix_and_schemas_exist():
    found = list(topics("acme."))
    assert len({topic.name for topic in found}) == len(found)
    assert all(topic.name.startswith("acme.") for topic in found)
    for topic in found:
        assert not topic.schema or resources.files("schemas").joinpath(f"{topic.schema}.avsc").is_file()


def test_state_lies_beside_its_input():
    found = topics(usage_partitions=7)
    assert found.usage.partitions == found.usage_state.partitions == 7
    assert found.foreign.partitions == 7
    spread = (found.foreign, found.usage, found.usage_state)
    assert {topic.partitions for topic in found if topic not in spread} == {1}


def test_settings_of_a_topic():
    found = topics()
    assert found.usage.config(1) == {"cleanup.policy": "delete", "retention.ms": str(7 * 24 * 3_600_000)}
    assert found.budgets.config(1)["cleanup.policy"] == "compact" and "retention.ms" not in found.budgets.config(1)
    assert found.budgets.config(3)["min.insync.replicas"] == "2"


@pytest.mark.parametrize("partitions", [1, 4, 7])
def test_partition_for_is_what_the_default_partitioner_does(partitions):
    for i in range(200):
        key = b"session-%d" % i
        assert partition_for(key, partitions) == DefaultPartitioner()(key, list(range(partitions)), [])


@pytest.mark.parametrize("broker", brokers)
async def test_missing_topics_are_created_and_existing_ones_left_alone(request, broker):
    connection = Connection.to(request.getfixturevalue(broker))
    prefix = uuid.uuid4().hex + "."
    wanted = topics(prefix, usage_partitions=3)
    first = await ensure_topics(connection, [wanted.usage, wanted.partials])
    assert first.created == (wanted.partials.name, wanted.usage.name) and not first.existing
    report = await ensure_topics(connection, wanted)
    assert set(report.existing) == {wanted.usage.name, wanted.partials.name}
    assert set(report.created) == {topic.name for topic in wanted} - set(report.existing)
    assert not report.warnings
    assert await ensure_topics(connection, wanted) == type(report)((), tuple(sorted(t.name for t in wanted)), ())


@pytest.mark.parametrize("broker", brokers)
async def test_another_number_of_partitions_is_refused_with_the_setting(request, broker):
    connection = Connection.to(request.getfixturevalue(broker))
    prefix = uuid.uuid4().hex + "."
    await ensure_topics(connection, topics(prefix, usage_partitions=2))
    with pytest.raises(ConfigError, match=r"usage has 2 partitions, 5 are needed: set topics\.partitions"):
        await ensure_topics(connection, topics(prefix, usage_partitions=5))


@pytest.mark.kafka
async def test_what_real_kafka_refuses_or_keeps_differently_is_told(kafka_broker):
    connection = Connection.to(kafka_broker)
    name = uuid.uuid4().hex
    with pytest.raises(ConfigError, match=r"not created: InvalidReplicationFactorError"):
        await ensure_topics(connection, [Topic(name, "", "", 1, "delete")], replication=3)
    await ensure_topics(connection, [Topic(name, "", "", 1, "delete")])
    report = await ensure_topics(connection, [Topic(name, "", "", 1, "compact")])
    assert report.warnings == (f"topic {name} has cleanup.policy=delete, compact is expected",)


async def test_no_broker_says_which_and_what_to_do():
    with pytest.raises(RetryableError, match=r"127\.0\.0\.1:1.*broker\.servers"):
        await ensure_topics(Connection.to("127.0.0.1:1"), topics())
