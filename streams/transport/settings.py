"""What the transport needs to know, as frozen values; ``streams.config`` fills them in."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aiokafka.helpers import create_ssl_context

from streams.transport.assemble import Limits


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach Kafka; the same for every client of the process."""

    servers: tuple[str, ...]
    client_id: str = "tenfold"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str = ""
    sasl_password: str = field(default="", repr=False)
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None

    @classmethod
    def to(cls, bootstrap: str) -> "Connection":
        """Plain text to ``host:port,host:port``."""
        return cls(servers=tuple(part.strip() for part in bootstrap.split(",")))

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments of every aiokafka client; reads the certificates, so OSError or SSLError may be raised."""
        options: dict[str, Any] = {
            "bootstrap_servers": list(self.servers),
            "client_id": self.client_id,
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.startswith("SASL"):
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        if self.security_protocol.endswith("SSL"):
            paths = {"cafile": self.ssl_cafile, "certfile": self.ssl_certfile, "keyfile": self.ssl_keyfile}
            options["ssl_context"] = create_ssl_context(**{name: path and str(path) for name, path in paths.items()})
        return options


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """Of one worker's consumer; times are milliseconds."""

    connection: Connection
    group: str = "tenfold"
    instance_id: str | None = None
    """Static membership: a restart within ``session_timeout_ms`` moves no partition."""
    delivery: Literal["raw_spans", "consumer_records"] = "raw_spans"
    allow_untested_versions: bool = False
    limits: Limits = field(default_factory=Limits)
    auto_offset_reset: Literal["earliest", "latest"] = "earliest"
    isolation_level: Literal["read_uncommitted", "read_committed"] = "read_committed"
    buffer_deliveries: int = 8
    """Deliveries that may wait in front of an agent; a full buffer holds fetching back."""
    commit_interval_ms: int = 1_000
    session_timeout_ms: int = 45_000
    heartbeat_interval_ms: int = 1_000
    rebalance_timeout_ms: int = 60_000
    max_poll_interval_ms: int = 300_000
    request_timeout_ms: int = 90_000
    fetch_max_wait_ms: int = 100
    fetch_max_bytes: int = 16 << 20
    max_partition_fetch_bytes: int = 2 << 20
    client_rack: str | None = None
    assignment_timeout_ms: int = 120_000
    """Longest wait for partitions, at start or in a rebalance, before the process is given up."""
    stop_timeout_ms: int = 30_000

    @property
    def max_poll_items(self) -> int:
        """What aiokafka counts in one poll: record batches or records."""
        return 4_096 if self.delivery == "raw_spans" else self.limits.records
