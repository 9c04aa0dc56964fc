"""Logging, set up once: the one module with global logging state.

One line per happening: an event name in the past tense and key/value pairs. On a terminal lines are coloured
text, anywhere else JSON. Lines of the standard library's loggers (Faust, aiokafka, aiohttp) go the same way,
from WARNING on. No line shows a secret: every rendered line is searched for the secrets that ``configure``
and ``hide`` were told, whatever library wrote it, and they are replaced.

Cost: some 20 us a line on top of writing it; lines are per batch, never per record.

Called by the command line before anything else. Faust's worker must be started with ``override_logging=False``
and ``redirect_stdouts=False``, or it replaces the handler installed here.
"""

import json
import logging
import sys
from collections.abc import Iterable
from typing import Any, Literal, TextIO

import structlog

from streams.errors import ConfigError

HIDDEN = "**********"
LEVELS = ("debug", "info", "warning", "error")
MIN_SECRET_LENGTH = 6
"""Shorter secrets are not searched for: replacing every "abc" would make lines useless, and hide nothing."""
_LIBRARIES = (
    "faust",
    "mode",
    "aiokafka",
    "kafka",
    "aiohttp",
    "asyncio",
    "streams.transport.app",
    "streams.transport.consumer",
)
"""The last two: Faust's services log under the module of our subclasses; our own lines are "streams.transport"."""

_secrets: tuple[str, ...] = ()


def configure(
    level: str = "info",
    format: Literal["auto", "console", "json"] = "auto",
    *,
    stream: TextIO | None = None,
    secrets: Iterable[str] = (),
) -> None:
    """Send all logging to ``stream`` (standard error if None); may be called again, the last call counts.

    Raises ConfigError for an unknown level.
    """
    if level not in LEVELS:
        raise ConfigError(f"log.level = {level!r} is not accepted: give one of {', '.join(LEVELS)}")
    stream = stream or sys.stderr
    console = format == "console" or (format == "auto" and stream.isatty())
    hide(secrets)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if console:
        rendering.append(structlog.dev.ConsoleRenderer(colors=stream.isatty()))
    else:
        rendering += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    rendering.append(_hide_in_line)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=rendering, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    quiet = max(logging.WARNING, root.level)
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(quiet)


def hide(secrets: Iterable[str]) -> None:
    """Never render these strings again, in any line of this process."""
    global _secrets
    found = set(_secrets)
    for secret in secrets:
        if len(secret) >= MIN_SECRET_LENGTH:
            found |= {secret, json.dumps(secret)[1:-1]}
    # Longest first: a secret that contains another must go as a whole.
    _secrets = tuple(sorted(found, key=len, reverse=True))


def redact(text: str) -> str:
    """``text`` without the secrets known so far, for what is stored or shown elsewhere than in a log line."""
    for secret in _secrets:
        if secret in text:
            text = text.replace(secret, HIDDEN)
    return text


def _hide_in_line(logger: Any, name: str, line: str) -> str:
    return redact(line)
