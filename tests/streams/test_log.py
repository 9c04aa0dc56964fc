"""Lines are JSON off a terminal, libraries are routed, and no secret is rendered by any way in."""

import io
import json
import logging

import pytest
import structlog
from pydantic import SecretStr

from streams import log
from streams.errors import ConfigError


@pytest.fixture(autouse=True)
def restored():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in log._LIBRARIES}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, value in levels.items():
        logging.getLogger(name).setLevel(value)
    structlog.reset_defaults()
    log._secrets = ()


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_with_bound_context():
    stream = io.StringIO()
    log.configure("info", stream=stream)
    with structlog.contextvars.bound_contextvars(partition=3):
        structlog.get_logger().info("batch_applied", records=10, team="zahlung-ä")
    (line,) = lines(stream)
    assert line["event"] == "batch_applied"
    assert (line["records"], line["partition"], line["level"]) == (10, 3, "info")
    assert line["team"] == "zahlung-ä"
    assert line["timestamp"].endswith("Z")


def test_libraries_only_from_warning_on():
    stream = io.StringIO()
    log.configure("debug", stream=stream)
    logging.getLogger("aiokafka.consumer").info("quiet")
    logging.getLogger("faust.app").warning("loud %s", 1)
    assert [line["event"] for line in lines(stream)] == ["loud 1"]


def test_level_filters_own_lines():
    stream = io.StringIO()
    log.configure("error", stream=stream)
    structlog.get_logger().warning("unseen")
    structlog.get_logger().error("seen")
    assert [line["event"] for line in lines(stream)] == ["seen"]


@pytest.mark.parametrize("format", ["json", "console"])
def test_no_way_in_renders_a_secret(format):
    secret = 'hook"s3cret/T0/B0'
    stream = io.StringIO()
    log.configure("info", format, stream=stream, secrets=[secret])
    logger = structlog.get_logger()
    logger.info("by_value", url=f"https://hooks.example/{secret}", typed=SecretStr(secret))
    logging.getLogger("aiohttp.client").error("cannot connect to %s", secret)
    try:
        raise RuntimeError(secret)
    except RuntimeError:
        logger.exception("failed")
    text = stream.getvalue()
    assert "by_value" in text and "RuntimeError" in text
    assert secret not in text and json.dumps(secret)[1:-1] not in text
    assert log.HIDDEN in text
    assert log.redact(f"x {secret} y") == f"x {log.HIDDEN} y"


def test_short_secrets_do_not_blank_every_line():
    log.hide(["a", ""])
    assert log.redact("banana") == "banana"


def test_unknown_level():
    with pytest.raises(ConfigError, match=r"log\.level = 'loud' is not accepted: give one of debug, info"):
        log.configure("loud")
