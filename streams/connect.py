"""From settings to what clients and the transport take: the only place that maps one to the other."""

from streams.config import Settings
from streams.transport import Connection, TransportSettings


def with_servers(settings: Settings, servers: str) -> Settings:
    """The settings with other brokers: ``host:port,...`` of the command line, or an embedded broker."""
    parts = tuple(part.strip() for part in servers.split(",") if part.strip())
    return settings.model_copy(update={"broker": settings.broker.model_copy(update={"servers": parts})})


def connection(settings: Settings) -> Connection:
    """How every Kafka client of this process reaches the brokers."""
    broker = settings.broker
    return Connection(
        servers=broker.servers,
        client_id=broker.client_id,
        security_protocol=broker.security_protocol,
        sasl_mechanism=broker.sasl_mechanism,
        sasl_username=broker.sasl_username,
        sasl_password=broker.sasl_password.get_secret_value() if broker.sasl_password else "",
        ssl_cafile=broker.ssl_cafile,
        ssl_certfile=broker.ssl_certfile,
        ssl_keyfile=broker.ssl_keyfile,
    )


def transport_settings(settings: Settings) -> TransportSettings:
    """What the consumer of a worker is built from."""
    transport = settings.transport
    return TransportSettings(
        connection=connection(settings),
        group=transport.group,
        instance_id=transport.instance_id,
        delivery=transport.delivery,
        session_timeout_ms=transport.session_timeout,
        heartbeat_interval_ms=transport.heartbeat_interval,
        rebalance_timeout_ms=transport.rebalance_timeout,
        fetch_max_wait_ms=transport.fetch_max_wait,
        max_partition_fetch_bytes=transport.max_partition_fetch_bytes,
    )
