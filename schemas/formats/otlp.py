"""OTLP/JSON, as the OpenTelemetry Collector's Kafka exporter writes it: one record holds the spans of many scopes.

Only unpacked here; what a span means is said in schemas.formats.otel. Field names are those of the protobuf mapping
(camelCase); values are wrapped in an object that names their type.
"""

from schemas.formats.fields import child, wrong


def recognises(record: dict) -> bool:
    return "resourceSpans" in record


def records(record: dict) -> list[dict]:
    """The spans as single objects with plain attributes; raises FormatError if a level is not what it should be."""
    spans = []
    for resource_spans in _objects(record, "resourceSpans"):
        resource = {"attributes": _attributes(child(resource_spans, "resource"))}
        for scope_spans in _objects(resource_spans, "scopeSpans"):
            for span in _objects(scope_spans, "spans"):
                spans.append({**span, "attributes": _attributes(span), "resource": resource})
    return spans


def _objects(record: dict, name: str) -> list[dict]:
    found = record.get(name)
    if found is None:
        return []
    if type(found) is not list or not all(type(item) is dict for item in found):
        raise wrong(name, found, "a list of objects")
    return found


def _attributes(record: dict) -> dict:
    """Scalars only: no lists, no nested objects, which no field of an event is read from."""
    attributes = {}
    for pair in _objects(record, "attributes"):
        value = pair.get("value")
        if type(pair.get("key")) is str and type(value) is dict:
            for kind in ("stringValue", "intValue", "doubleValue", "boolValue"):
                if kind in value:
                    attributes[pair["key"]] = value[kind]
    return attributes
