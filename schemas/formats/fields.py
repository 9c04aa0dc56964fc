"""Reading fields of other people's JSON: the one error, and what counts as a text, a count, dollars.

Every helper raises FormatError and nothing else, whatever it is given. null means left out everywhere.
Called by the formats of this package.
"""

import json
import re
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from schemas.codec import EventError
from schemas.columns import MAX_COST_NANO_USD

REASONS = (
    "null_value",
    "bad_json",
    "unknown_format",
    "bad_field",
    "missing_identity",
    "bad_event_time",
    "inconsistent_tokens",
    "unknown_operation",
    "too_large",
    "adapter_failed",
)
"""Reason codes of a FormatError; bounded, so that they can label a metric.

``bad_field``: a field that decides identity, tokens, cost or attribution has another type than the format says.
``inconsistent_tokens``: no known convention makes the buckets non-negative and add up to the stated total.
``unknown_operation``: tokens on a span of a kind that may repeat the tokens of others.
``too_large``: the event does not fit a record. ``adapter_failed``: a defect of ours, see the worker's log.
"""

NANO_PER_USD = 10**9
_WHOLE_TEXT = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_NUMBER_TEXT = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", re.ASCII)


class FormatError(EventError):
    """A record that gives no event; ``reason`` is one of REASONS, the message says what is accepted."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def parse_json(data: bytes) -> object:
    """The JSON in ``data``; raises FormatError for anything else."""
    try:
        return json.loads(data.decode())
    except UnicodeDecodeError as error:
        raise FormatError("bad_json", f"not UTF-8 at byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        message = f"not JSON at character {error.pos + 1}: {error.msg}; accepted: one object, without line breaks"
        raise FormatError("bad_json", message) from None
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits; brackets without end
        raise FormatError("bad_json", f"not JSON that can be read: {error}") from None


def shown(value: object) -> str:
    """As JSON where it is JSON, and short: an error must not repeat a megabyte of somebody's prompt."""
    try:
        text = json.dumps(value, default=str)
    except (ValueError, TypeError, RecursionError):  # nested deeper here than where it was read
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def wrong(name: str, value: object, accepted: str) -> FormatError:
    return FormatError("bad_field", f'field "{name}" is {shown(value)}; accepted: {accepted}')


def text(record: Mapping[str, Any], *names: str) -> str:
    """The first of ``names`` that is there and not empty, else ""; numbers are taken as ids."""
    for name in names:
        value = record.get(name)
        if value is None or value == "":
            continue
        if type(value) is str:
            return value
        if type(value) is int and -(2**63) <= value < 2**64:
            return str(value)
        raise wrong(name, value, "a string")
    return ""


def count(record: Mapping[str, Any], *names: str) -> int | None:
    """The first of ``names`` that is there, as a whole number from 0; also written as a float or a decimal string."""
    for name in names:
        value = record.get(name)
        if value is None:
            continue
        if (type(value) is str and _WHOLE_TEXT.fullmatch(value)) or (type(value) is float and value.is_integer()):
            value = int(value)
        if type(value) is not int or not 0 <= value < 2**63:
            raise wrong(name, value, "a whole number from 0")
        return value
    return None


def child(record: Mapping[str, Any], *names: str) -> dict:
    """The first of ``names`` that is there, as an object; {} if none is."""
    for name in names:
        value = record.get(name)
        if value is None:
            continue
        if type(value) is not dict:
            raise wrong(name, value, "an object")
        return value
    return {}


def nano_usd(record: Mapping[str, Any], name: str) -> int | None:
    """Dollars as int64 nano-USD, ties to even; a float counts as the decimal number it is written as."""
    value = record.get(name)
    if value is None:
        return None
    is_number = type(value) in (int, float) or (type(value) is str and _NUMBER_TEXT.fullmatch(value))
    # The bound comes first: an integer of 1e308 dollars would be written out digit by digit.
    if not is_number or not abs(float_of(value)) <= MAX_COST_NANO_USD / NANO_PER_USD:
        raise wrong(name, value, f"dollars, up to {MAX_COST_NANO_USD // NANO_PER_USD}")
    return int((Decimal(str(value)) * NANO_PER_USD).to_integral_value(ROUND_HALF_EVEN))


def float_of(value: float | str) -> float:
    """inf where it does not fit."""
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def tag_values(record: Mapping[str, Any]) -> dict[str, str]:
    """What of an object can be a tag: texts as they are, numbers and truth values as JSON; the rest is left out."""
    tags = {}
    for name, value in record.items():
        if type(value) is str:
            tags[name] = value
        elif type(value) in (int, float, bool) and abs(value) < 2**63:
            tags[name] = json.dumps(value)
    return tags
