"""The canonical usage event as JSON: the fields of ``UsageEvent`` under their own names.

Guarantees: an event that is returned has all fields with the right types, so it encodes. Only the form is judged
here; ranges and empty identities are the decoder's judgement, so that a file and a topic reject alike. Some 3 us an
event. The other formats of this package build their events through ``event_from_json``, too.
"""

import re
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches

from schemas.codec import EventError, load_schema
from schemas.columns import KINDS, STRINGS, TOKENS
from schemas.formats.fields import shown

_REQUIRED = ("event_id", "source", "event_time")
_DEFAULTS = {
    **dict.fromkeys(STRINGS, ""),
    "kind": "LLM",
    **dict.fromkeys(TOKENS, 0),
    "quantity": 0.0,
    "cost_nano_usd": None,
}
_FIELDS = tuple(field["name"] for field in load_schema("usage_event")["fields"])
_FOREIGN_NAMES = {
    "completion_tokens": "output_tokens",
    "cost": "cost_nano_usd",
    "cost_usd": "cost_nano_usd",
    "id": "event_id",
    "model_name": "model",
    "prompt_tokens": "input_tokens",
    "run_id": "session_id",
    "time": "event_time",
    "timestamp": "event_time",
    "trace_id": "session_id",
}
"""Names that other systems use, for which no likeness of letters finds ours."""

_STRING, _WHOLE, _KIND, _TIME, _NUMBER, _TAGS = range(6)
_TYPE_OF = {
    **dict.fromkeys(STRINGS, _STRING),
    **dict.fromkeys((*TOKENS, "cost_nano_usd"), _WHOLE),
    "kind": _KIND,
    "event_time": _TIME,
    "quantity": _NUMBER,
    "tags": _TAGS,
}
_WHOLE_TEXT = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_NUMBER_TEXT = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def recognises(record: dict) -> bool:
    """No other format has fields of these names."""
    return "event_id" in record or "event_time" in record


def events(record: dict) -> list[dict]:
    """The one event of ``record``; raises EventError."""
    return [event_from_json(record)]


def event_from_json(obj: object) -> dict:
    """A canonical JSON event with every field: types checked, defaults filled in.

    ``event_time`` is ms since the epoch or ISO-8601 with a zone. null means left out. Numbers may be written as
    decimal strings, as JSON writers of 64-bit integers do. Raises EventError naming field, value and what is
    accepted; an unknown field is an error too, since its cost or tokens would be lost in silence.

    >>> event = event_from_json({"event_id": "1", "source": "gw", "event_time": "2026-11-02T09:00:00Z"})
    >>> event["event_time"], event["kind"], event["input_tokens"]
    (1793610000000, 'LLM', 0)
    >>> event_from_json({"event_id": "1", "source": "gw", "event_time": 0, "input_token": 5})
    Traceback (most recent call last):
    schemas.codec.EventError: unknown field "input_token"; did you mean "input_tokens"?
    """
    if type(obj) is not dict:
        raise EventError(f"an event is {shown(obj)}; accepted: a JSON object")
    event = _DEFAULTS.copy()
    event["tags"] = {}
    for name, value in obj.items():
        if value is None:
            if name not in _TYPE_OF:
                raise _unknown_field(name)
            continue
        match _TYPE_OF.get(name):
            case 0:  # _STRING
                if type(value) is not str or not (value.isascii() or _is_unicode(value)):
                    raise _wrong(name, value, "a string")
            case 1:  # _WHOLE
                if type(value) is not int or not -(2**63) <= value < 2**63:
                    value = _whole(name, value)
            case 2:  # _KIND
                if value not in KINDS:
                    raise _wrong(name, value, f"one of {', '.join(KINDS)}")
            case 3:  # _TIME
                if type(value) is not int or not -(2**63) <= value < 2**63:
                    value = _time_ms(name, value)
            case 4:  # _NUMBER
                if type(value) is not float:
                    value = _number(name, value)
            case 5:  # _TAGS
                value = _tags(name, value)
            case _:
                raise _unknown_field(name)
        event[name] = value
    for name in _REQUIRED:
        if obj.get(name) is None:
            raise EventError(f'field "{name}" is missing; every event needs {", ".join(_REQUIRED)}')
    return event


def _is_unicode(value: str) -> bool:
    """False for a lone surrogate: JSON can escape one, UTF-8 cannot hold it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _whole(name: str, value: object) -> int:
    whole = None
    if type(value) is float and value.is_integer():
        whole = int(value)
    elif type(value) is int:
        whole = value
    elif type(value) is str and _WHOLE_TEXT.fullmatch(value):
        whole = int(value)
    if whole is None or not -(2**63) <= whole < 2**63:
        raise _wrong(name, value, "a whole number of 64 bits, as a number or a decimal string")
    return whole


def _number(name: str, value: object) -> float:
    if type(value) is int or (type(value) is str and _NUMBER_TEXT.fullmatch(value)):
        try:
            return float(value)
        except OverflowError:
            pass
    raise _wrong(name, value, "a number, also as a decimal string")


def _time_ms(name: str, value: object) -> int:
    if type(value) is str and not _WHOLE_TEXT.fullmatch(value):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise _wrong(name, value, "ms since 1970 or ISO-8601 with a zone, such as 2026-11-02T09:00:00Z") from None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise _wrong(name, value.isoformat(), "a time with a zone, such as 2026-11-02T09:00:00Z")
        return (value - _EPOCH) // _MS
    return _whole(name, value)


def _tags(name: str, value: object) -> dict[str, str]:
    if type(value) is not dict:
        raise _wrong(name, value, "an object of strings")
    for key, tag in value.items():
        if type(tag) is not str or not (_is_unicode(tag) and _is_unicode(key)):
            raise _wrong(f"{name}.{key}", tag, "a string")
    return value


def _wrong(name: str, value: object, accepted: str) -> EventError:
    return EventError(f'field "{name}" is {shown(value)}; accepted: {accepted}')


def _unknown_field(name: str) -> EventError:
    near = _FOREIGN_NAMES.get(name.lower()) or next(iter(get_close_matches(name[:64], _FIELDS, n=1, cutoff=0.5)), None)
    hint = f'; did you mean "{near}"?' if near else '; put what has no field of its own into "tags"'
    return EventError(f"unknown field {shown(name)}{hint}")
