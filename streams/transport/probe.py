"""What a broker can do that no public call of aiokafka tells."""

import asyncio

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaError,
    NoError,
    NotCoordinatorError,
    for_code,
)
from aiokafka.protocol.transaction import InitProducerIdRequest

from streams.errors import RetryableError
from streams.transport.settings import Connection

_NOT_YET = (CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError)
_ATTEMPTS = 20
_BACKOFF_SECONDS = 0.25


async def offers_idempotence(connection: Connection) -> bool:
    """Whether the broker gives out producer ids; asking costs one round trip, and ids are plentiful.

    Raises RetryableError if no broker can be reached.
    """
    client = AIOKafkaClient(**connection.client_options())
    try:
        await client.bootstrap()
    except KafkaError as error:
        await client.close()
        raise RetryableError(
            f"no broker of {', '.join(connection.servers)} can be reached ({error}): start it, or correct "
            "broker.servers"
        ) from error
    try:
        for _ in range(_ATTEMPTS):
            request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000)  # type: ignore[arg-type]
            response = await client.send(client.get_random_node(), request)
            answer = for_code(response.error_code)
            if answer not in _NOT_YET:
                return answer is NoError
            await asyncio.sleep(_BACKOFF_SECONDS)
        return False
    except KafkaError:
        # Too old a broker, or one that closes the connection at a request it does not know.
        return False
    finally:
        await client.close()
