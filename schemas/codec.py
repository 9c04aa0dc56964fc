"""Schemas by name, and plain Avro bytes for what is not on the hot path.

``load_schema`` reads ``schemas/NAME.avsc``; ``encode`` and ``decode`` go through fastavro, some microseconds a
record: for findings, partials, windows and for writing events, never for reading them (schemas.decode does).
"""

import io
import json
from functools import cache
from importlib import resources

import fastavro


class EventError(ValueError):
    """A JSON event that is not a UsageEvent; the message names the field and what is accepted."""


@cache
def schema_text(name: str) -> str:
    """The schema's JSON as shipped, to hand to a registry or a producer."""
    return resources.files("schemas").joinpath(f"{name}.avsc").read_text()


@cache
def load_schema(name: str) -> dict:
    """The parsed schema ``NAME.avsc``, such as ``usage_event``."""
    return fastavro.parse_schema(json.loads(schema_text(name)))


def encode(name: str, record: dict) -> bytes:
    """Plain Avro binary of ``record``; fields left out take their defaults."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, load_schema(name), record)
    return out.getvalue()


_ADDED = {"feedback": b"\0"}
"""What the fields that a schema has gained at its end hold by default: records of before end without them."""


def decode(name: str, value: bytes) -> dict:
    """The record in ``value``, written with this version's schema or one before; timestamps are integers (ms)."""
    return fastavro.schemaless_reader(io.BytesIO(value + _ADDED.get(name, b"")), _raw_schema(name))


@cache
def _raw_schema(name: str) -> dict:
    return fastavro.parse_schema(_without_logical_types(json.loads(schema_text(name))))


def _without_logical_types(node):
    """The schema with timestamps as longs: times stay integers (ms) on both sides."""
    if isinstance(node, dict):
        return {k: _without_logical_types(v) for k, v in node.items() if k != "logicalType"}
    if isinstance(node, list):
        return [_without_logical_types(item) for item in node]
    return node
