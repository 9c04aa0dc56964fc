"""How clients are told to connect."""

from pathlib import Path

import pytest

from streams import transport
from streams.transport import Connection, TransportSettings


def test_plain_text_needs_servers_only():
    options = Connection.to("a:1, b:2").client_options()
    assert options == {"bootstrap_servers": ["a:1", "b:2"], "client_id": "tenfold", "security_protocol": "PLAINTEXT"}


def test_a_password_reaches_the_client_and_no_log():
    connection = Connection(
        ("a:1",), security_protocol="SASL_PLAINTEXT", sasl_username="me", sasl_password="correct horse"
    )
    assert connection.client_options()["sasl_plain_password"] == "correct horse"
    assert "horse" not in repr(connection) + repr(TransportSettings(connection))


def test_certificates_are_read_when_the_client_is_made():
    assert Connection(("a:1",), security_protocol="SSL").client_options()["ssl_context"].check_hostname
    with pytest.raises(FileNotFoundError):
        Connection(("a:1",), security_protocol="SASL_SSL", ssl_cafile=Path("/nowhere.pem")).client_options()


def test_every_exported_name_is_there():
    assert all(hasattr(transport, name) for name in transport.__all__)
