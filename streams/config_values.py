"""Values as people write them: durations as ``"30m"``, money as dollars, servers as ``host:port``.

Everything here is exact: money goes through Decimal, never through a binary float.
"""

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, SecretStr

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)")
MAX_USD = Decimal(9_000_000_000)
"""What an int64 of nano-USD holds, rounded down."""


def parse_duration_ms(value: Any) -> int:
    """Milliseconds of ``"1h30m"``, ``"90s"``, ``"250ms"`` or a whole number of milliseconds.

    >>> parse_duration_ms("1h30m"), parse_duration_ms("0.5s"), parse_duration_ms(250)
    (5400000, 500, 250)
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        text = value.replace(" ", "").lower()
        if text.isascii() and text.isdigit():
            return int(text)
        parts = _PART.findall(text)
        if parts and "".join(number + unit for number, unit in parts) == text:
            total = sum(Decimal(number) * _UNIT_MS[unit] for number, unit in parts)
            if total == int(total):
                return int(total)
            raise ValueError("it is not a whole number of milliseconds")
    raise ValueError("it is not a duration")


def parse_usd(value: Any) -> Decimal:
    """Exact dollars of ``25000``, ``0.015`` or ``"0.0000004"``.

    >>> parse_usd("0.1") + parse_usd(0.2)
    Decimal('0.3')
    """
    try:
        if isinstance(value, bool):
            raise ValueError
        # repr of a float is the shortest text that reads back as it: what was written.
        usd = Decimal(repr(value) if isinstance(value, float) else value)
    except (InvalidOperation, TypeError, ValueError):
        raise ValueError("it is not an amount in dollars") from None
    if not usd.is_finite():
        raise ValueError("it is not an amount in dollars")
    if abs(usd) > MAX_USD:
        raise ValueError("it is more than nine billion dollars")
    return usd


def parse_server(value: str) -> str:
    """``host:port`` of a broker; port 9092 if none is given.

    >>> parse_server("kafka-1"), parse_server("[::1]:9093")
    ('kafka-1:9092', '[::1]:9093')
    """
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?", value.strip())
    port = int(match[2] or 9092) if match else 0
    if not match or not 0 < port < 65536:
        raise ValueError("a broker is host:port")
    return f"{match[1]}:{port}"


def _servers(value: Any) -> Any:
    if isinstance(value, str):
        value = [part for part in value.split(",") if part.strip()]
    if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        return tuple(parse_server(part) for part in value)
    return value


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("no such time zone") from None
    return name


def _printable(secret: SecretStr) -> SecretStr:
    if any(ord(char) < 32 or ord(char) == 127 for char in secret.get_secret_value()):
        raise ValueError("it holds a line break or another control character")
    return secret


DurationMs = Annotated[int, BeforeValidator(parse_duration_ms)]
Usd = Annotated[Decimal, BeforeValidator(parse_usd), PlainSerializer(str)]
Servers = Annotated[tuple[str, ...], BeforeValidator(_servers)]
TimeZone = Annotated[str, AfterValidator(_timezone)]
OneLineSecret = Annotated[SecretStr, AfterValidator(_printable)]
"""A secret that goes into an HTTP header."""
