"""Usage events from files: JSONL, JSONL.gz, Avro containers, Parquet, and JSONL on standard input.

Guarantees: every event that is yielded has all fields of ``UsageEvent`` with the right types, so it encodes. A line
of JSON may be in any format of schemas.formats; Avro and Parquet hold canonical events. Only the form is judged
here; ranges and empty identities are the decoder's judgement, so that a file and a topic reject alike. Memory stays
constant whatever the size of the file. Called by ``tenfold replay`` and ``tenfold produce``. About 10 us a canonical
event from JSONL to Avro bytes on one core.
"""

import gzip
import heapq
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from os import PathLike, fspath
from typing import BinaryIO

import fastavro

from schemas.codec import EventError, encode, load_schema
from schemas.formats import adapt_value
from schemas.formats.canonical import event_from_json
from streams.errors import ConfigError

OnError = Callable[[EventError], None]

FORMATS = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".avro", ".parquet")
"""How a file's format is told: by the end of its name."""

PARQUET_ROWS = 50_000
"""Rows held at once: some 50 MB of Python objects, and few enough passes over a file of one row group."""

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


def _event_time_of(event: dict) -> int:
    return event["event_time"]


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
        adapted = adapt_value(line)
        for problem in adapted.problems:
            _report(problem, f"{name}:{number}", on_error)
        yield from adapted.events


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
