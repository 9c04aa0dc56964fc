"""Brokers for tests that need one; each starts once per session, when the first test asks for it.

Topics are the tests' own: use a fresh prefix or name, since all tests of a session share the broker.
"""

from collections.abc import Iterator

import pytest

from streams.broker.embedded import EmbeddedBroker
from streams.broker.kafka import KafkaBroker, missing_tools
from streams.errors import ConfigError


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[str]:
    """Bootstrap address of the embedded broker (Tansu, in memory)."""
    try:
        broker = EmbeddedBroker().start()
    except ConfigError as error:
        pytest.skip(str(error))
    with broker:
        yield broker.bootstrap


@pytest.fixture(scope="session")
def kafka_node() -> Iterator[KafkaBroker]:
    """A real Apache Kafka node, to kill, pause and restart; leave it running."""
    if lacking := missing_tools():
        pytest.skip(f"no Apache Kafka: {lacking}")
    try:
        broker = KafkaBroker().start()
    except ConfigError as error:
        pytest.skip(f"no Apache Kafka: {error}")
    with broker:
        yield broker


@pytest.fixture(scope="session")
def kafka_broker(kafka_node: KafkaBroker) -> str:
    """Bootstrap address of a real Apache Kafka node."""
    return kafka_node.bootstrap
