"""Usage events from files: JSONL, JSONL.gz, Avro containers, Parquet, and JSONL on standard input.

Guarantees: every event that is yielded has all fields of ``UsageEvent`` with the right types, so it encodes.
Only the form is judged here; ranges and empty identities are the decoder's judgement, so that a file and a topic
reject alike. Memory stays constant whatever the size of the file. Called by ``tenfold replay`` and
``tenfold produce``. About 10 us an event from JSONL to Avro bytes on one core.
"""

import gzip
import heapq
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from os import PathLike, fspath
from typing import BinaryIO

import fastavro

from schemas.codec import EventError, encode, load_schema
from schemas.columns import KINDS, STRINGS, TOKENS
from streams.errors import ConfigError

OnError = Callable[[EventError], None]

FORMATS = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".avro", ".parquet")
"""How a file's format is told: by the end of its name."""

PARQUET_ROWS = 50_000
"""Rows held at once: some 50 MB of Python objects, and few enough passes over a file of one row group."""

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


def read_events(path: str | PathLike, on_error: OnError | None = None) -> Iterator[dict]:
    """The events of one file in its order; ``-`` reads JSONL from standard input.

    A bad event is handed to ``on_error`` and reading goes on, or is raised when there is none; the error names
    the file and the line (or row). A file that cannot be read any further (a torn gzip, a broken Avro block)
    always raises EventError. Raises ConfigError for a name that tells no format or a missing library, and OSError.
    """
    name = fspath(path)
    if name == "-":
        yield from _jsonl(sys.stdin.buffer, "standard input", on_error)
    elif name.endswith(".parquet"):
        yield from _validated(_parquet_rows(name), name, "row ", on_error)
    elif name.endswith(".avro"):
        with open(name, "rb") as file:
            yield from _avro(file, name)
    elif name.endswith(FORMATS):
        with gzip.open(name, "rb") if name.endswith(".gz") else open(name, "rb") as file:
            yield from _jsonl(file, name, on_error)
    else:
        raise ConfigError(f"cannot tell the format of {name}: its name must end in {', '.join(FORMATS)}")


def merge_files(paths: Iterable[str | PathLike], on_error: OnError | None = None) -> Iterator[dict]:
    """The events of several files in one order by event time; equal times keep the order of ``paths``.

    Where each file is sorted, so is the result. Where no event of a file is more than L ms behind an earlier
    one, none of the result is either, so files within the allowed lateness stay within it.
    """
    return heapq.merge(*(read_events(path, on_error) for path in paths), key=_event_time_of)


def encode_event(event: dict) -> bytes:
    """Plain Avro of an event that ``event_from_json`` or ``read_events`` returned."""
    return encode("usage_event", event)


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
        raise EventError(f"an event is {_shown(obj)}; accepted: a JSON object")
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


def _event_time_of(event: dict) -> int:
    return event["event_time"]


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
    return EventError(f'field "{name}" is {_shown(value)}; accepted: {accepted}')


def _shown(value: object) -> str:
    """As JSON where it is JSON, and short: an error must not repeat a megabyte of somebody's prompt."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _unknown_field(name: str) -> EventError:
    near = _FOREIGN_NAMES.get(name.lower()) or next(iter(get_close_matches(name, _FIELDS, n=1, cutoff=0.5)), None)
    hint = f'; did you mean "{near}"?' if near else '; put what has no field of its own into "tags"'
    return EventError(f"unknown field {_shown(name)}{hint}")


def _jsonl(file: BinaryIO, name: str, on_error: OnError | None) -> Iterator[dict]:
    """Blank lines are skipped and counted; a byte order mark at the start is skipped."""
    lines = enumerate(file, 1)
    number = 0
    while True:
        try:
            number, line = next(lines)
        except StopIteration:
            return
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise EventError(f"{name}: unreadable after line {number}: {error}") from error
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.isspace():
            continue
        try:
            event = event_from_json(_parsed(line))
        except EventError as error:
            _report(error, f"{name}:{number}", on_error)
        else:
            yield event


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise EventError(f"not UTF-8 at byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        raise EventError(f"not JSON at character {error.pos + 1}: {error.msg}; accepted: one object a line") from None
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits; brackets without end
        raise EventError(f"not JSON that can be read: {error}") from None


def _avro(file: BinaryIO, name: str) -> Iterator[dict]:
    """The writer's schema may be older or newer: Avro's own resolution fills in and leaves out."""
    row = 0
    try:
        for event in fastavro.reader(file, reader_schema=load_schema("usage_event")):
            row += 1
            event["event_time"] = (event["event_time"] - _EPOCH) // _MS
            yield event
    except GeneratorExit:
        raise
    except Exception as error:  # fastavro raises what its C code met: IndexError, EOFError, zlib.error, ...
        problem = str(error) or type(error).__name__
        raise EventError(f"{name}: unreadable after row {row}: {problem}") from error


def _parquet_rows(name: str) -> Iterator[dict]:
    try:
        import polars
    except ImportError:
        raise ConfigError(f"reading {name} needs polars: pip install polars, or convert the file to JSONL") from None
    try:
        frame = polars.scan_parquet(name, glob=False)
        rows = frame.select(polars.len()).collect().item()
        for start in range(0, rows, PARQUET_ROWS):
            for row in frame.slice(start, PARQUET_ROWS).collect().iter_rows(named=True):
                tags = row.get("tags")
                if isinstance(tags, list):  # a Parquet map
                    row["tags"] = {tag["key"]: tag["value"] for tag in tags}
                elif isinstance(tags, dict):  # a struct holds null where a row lacks the key
                    row["tags"] = {key: tag for key, tag in tags.items() if tag is not None}
                yield row
    except polars.exceptions.PolarsError as error:
        raise EventError(f"{name}: unreadable: {error}") from error


def _validated(rows: Iterable[object], name: str, unit: str, on_error: OnError | None) -> Iterator[dict]:
    for number, row in enumerate(rows, 1):
        try:
            event = event_from_json(row)
        except EventError as error:
            _report(error, f"{name}: {unit}{number}", on_error)
        else:
            yield event


def _report(error: EventError, place: str, on_error: OnError | None) -> None:
    located = EventError(f"{place}: {error}")
    if on_error is None:
        raise located from error
    on_error(located)
