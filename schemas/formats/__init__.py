"""Usage events in other people's JSON, one format a file: what ``tenfold.foreign`` and JSONL files may hold.

A format is a module with ``recognises(record)`` and ``events(record)``; it is told by the record's own fields, since
Kafka's headers do not reach the agents. To add one, write its file and add it to FORMATS.

Guarantees: pure functions of the record, so a record that comes again gives the same events with the same identity.
Whatever is put in, either events with all fields of ``UsageEvent`` and the right types come out, or problems with a
bounded reason (REASONS). Token buckets are disjoint, never negative and add up to the total that the record states.

Cost: 10 to 30 us a record, of which parsing is the smaller part. Called by the adapt agent and by streams.files.
"""

from dataclasses import dataclass, field

from schemas.codec import EventError
from schemas.formats import canonical, cloudevents, litellm, otel, otlp
from schemas.formats.fields import REASONS, FormatError, parse_json, shown

__all__ = ["REASONS", "Adapted", "FormatError", "adapt", "adapt_value"]

FORMATS = (canonical, otel, litellm)
"""Formats of single records, in the order in which they are asked."""


@dataclass(slots=True)
class Adapted:
    """What one value gave. A value with several records may give both events and problems; neither is no error."""

    events: list[dict] = field(default_factory=list)
    problems: list[FormatError] = field(default_factory=list)


def adapt_value(value: bytes | None) -> Adapted:
    """The events in a Kafka value or a line of a file; never raises.

    >>> adapted = adapt_value(b'{"specversion": "1.0"}')
    >>> adapted.problems[0].reason, str(adapted.problems[0])
    ('missing_identity', 'a CloudEvent needs "id" and "source"')
    """
    if value is None:
        return Adapted(problems=[FormatError("null_value", "the record has no value")])
    try:
        parsed = parse_json(value)
    except FormatError as error:
        return Adapted(problems=[error])
    return adapt(parsed)


def adapt(parsed: object) -> Adapted:
    """Like ``adapt_value``, for a value that is parsed already: one record, or a list of records."""
    adapted = Adapted()
    for item in parsed if type(parsed) is list else [parsed]:
        try:
            records = _unpacked(item)
        except FormatError as error:
            adapted.problems.append(error)
            continue
        for record in records:
            try:
                adapted.events += _events(record)
            except FormatError as error:
                adapted.problems.append(error)
            except EventError as error:
                adapted.problems.append(FormatError("bad_field", str(error)))
    return adapted


def _unpacked(item: object) -> list[dict]:
    if type(item) is not dict:
        raise FormatError("unknown_format", f"an event is {shown(item)}; accepted: a JSON object")
    return otlp.records(item) if otlp.recognises(item) else [item]


def _events(record: dict) -> list[dict]:
    if cloudevents.recognises(record):
        return cloudevents.events(record, _enveloped)
    found = _by_format(record)
    if found is None:
        raise FormatError(
            "unknown_format",
            f"an object with the fields {shown(sorted(record))} is of no known format; accepted: UsageEvent, "
            "LiteLLM StandardLoggingPayload, OpenTelemetry GenAI spans (also OTLP), CloudEvents around one of them",
        )
    return found


def _enveloped(data: dict) -> list[dict] | None:
    """An envelope in an envelope is no format."""
    if otlp.recognises(data):
        return [event for span in otlp.records(data) for event in _by_format(span) or []]
    return _by_format(data)


def _by_format(record: dict) -> list[dict] | None:
    for known in FORMATS:
        if known.recognises(record):
            return known.events(record)
    return None
