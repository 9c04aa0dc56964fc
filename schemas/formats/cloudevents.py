"""CloudEvents 1.0 in structured mode: an envelope around a usage event of any other format, or around plain usage.

The envelope's ``source`` and ``id`` are the identity, whatever the data says; if the data gives several events, the
number of each follows the id. ``time`` and a ``subject`` of the form ``session/ID`` fill in what the data lacks.

Plain usage is ``{"model": ..., "provider": ..., "usage": {...}}`` with the usage object of a provider (schemas
.formats.usage) and, if wanted, any field of ``UsageEvent`` under its own name. Other fields of it are not looked at.
"""

from collections.abc import Callable

from schemas.columns import STRINGS, TOKENS
from schemas.formats import canonical
from schemas.formats.fields import FormatError, child, shown, tag_values, text
from schemas.formats.usage import read_usage

SESSION_SUBJECT = "session/"
_OWN = frozenset(STRINGS) - {"event_id", "source"} | {"kind", "quantity", "cost_nano_usd"}


def recognises(record: dict) -> bool:
    return "specversion" in record


def events(record: dict, inner: Callable[[dict], list[dict] | None]) -> list[dict]:
    """The events of the data; ``inner`` adapts data of another format and returns None if it is of none.

    Raises EventError or FormatError.
    """
    identity, source, subject = text(record, "id"), text(record, "source"), text(record, "subject")
    if not identity or not source:
        raise FormatError("missing_identity", 'a CloudEvent needs "id" and "source"')
    data = record.get("data")
    if type(data) is not dict:
        raise FormatError("unknown_format", f'"data" is {shown(data)}; accepted: an object of JSON')
    if canonical.recognises(data):
        given = {name: value for name, value in data.items() if value is not None}
        found = canonical.events({"event_id": identity, "source": source, "event_time": record.get("time"), **given})
    else:
        found = inner(data)
        if found is None:
            found = [_plain(data, identity, source, record.get("time"))]
    session = subject.removeprefix(SESSION_SUBJECT) if subject.startswith(SESSION_SUBJECT) else ""
    for number, event in enumerate(found):
        own = {
            "event_id": identity if len(found) == 1 else f"{identity}/{number}",
            "source": source,
            "session_id": event["session_id"] or session,
        }
        tags = event["tags"] if session or not subject else {"subject": subject} | event["tags"]
        # Anew through the one check of all events: the envelope's texts may be anything.
        found[number] = canonical.event_from_json({**event, **own, "tags": tags})
    return found


def _plain(data: dict, identity: str, source: str, time: object) -> dict:
    if time is None:
        raise FormatError("bad_event_time", 'a CloudEvent around plain usage needs "time"')
    usage = child(data, "usage", "usageMetadata")
    if not usage and not any(name in data for name in (*TOKENS, "quantity", "cost_nano_usd")):
        raise FormatError("unknown_format", '"data" is of no known format and has no "usage"')
    fields = read_usage(usage or {name: data.get(name, 0) for name in TOKENS})
    fields |= {name: data[name] for name in _OWN if data.get(name) is not None}
    fields["model"] = text(data, "model", "modelVersion", "modelId")
    fields["service_tier"] = (
        text(data, "service_tier") or text(child(data, "serviceTier"), "type") or fields.get("service_tier", "")
    )
    fields["response_id"] = text(data, "response_id", "responseId", "id")
    tags = tag_values(child(data, "tags"))
    return canonical.event_from_json(
        {**fields, "event_id": identity, "source": source, "event_time": time, "tags": tags}
    )
