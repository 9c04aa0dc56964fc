"""Compiles a writer's Avro schema against the UsageEvent schema into a program for the decoding kernel.

A program is int32[words]: instructions of three words (op, a, b) in the writer's field order, each moving one
field into a column or skipping one. Jump targets are relative to the program's first word, so programs can be
laid end to end. Named records that are skipped become routines, compiled once, so neither recursive nor
exponentially nested schemas make a program larger than the schema is.

Follows "Schema Resolution" of the Avro 1.11 specification, with these choices:
- names of records, enums and fixed types are not compared, only their structure (most readers do the same);
- a union branch that the reader cannot take is an error of the record (bad_union), not of the schema, as long as
  another branch fits;
- logical types are ignored, but for event times in micro- or nanoseconds, which would be read as milliseconds;
- ``tags`` are kept encoded, so they must be a map of string or bytes.

Costs some milliseconds per schema, once. Called by schemas.decode.
"""

import json
from dataclasses import dataclass

import fastavro
import numpy as np

from schemas.codec import load_schema
from schemas.columns import KINDS, STRINGS, TOKENS

# Operations; a and b are the two words that follow. Reading:
END = 0
STRING = 1  # a: column
TOKEN = 2  # a: column
TIME = 3
KIND = 4  # a: symbols, b: next instruction; then the writer's symbols as indexes into KINDS
COST = 5
QUANTITY_DOUBLE = 6
QUANTITY_FLOAT = 7
QUANTITY_LONG = 8
TAGS = 9
# Fields that the writer does not have:
NO_STRING = 10  # a: column
NO_TOKEN = 11  # a: column, b: value
NO_KIND = 12  # a: value
NO_QUANTITY = 13
# Skipping and control:
SKIP_VARINT = 14
SKIP_FIXED = 15  # a: bytes
SKIP_BYTES = 16
UNION = 17  # a: branches; then the target of each, or NO_BRANCH
JUMP = 18  # a: target
RETURN = 19
NEXT = 20  # a: target when done, b: 1 if items take no bytes
CALL = 21  # a: target
LOOP = 22  # begins an array or map; NEXT follows

NO_BRANCH = -1
WIDTH = 3
MAX_WORDS = 1 << 16
"""Larger programs are refused: 256 KiB, some 10,000 fields, is no usage event but an attack."""

_PRIMITIVE_BYTES = {"null": 0, "boolean": 1, "float": 4, "double": 8}
_PRIMITIVES = {*_PRIMITIVE_BYTES, "int", "long", "string", "bytes"}
_STRING_OPS = {"string": STRING, "bytes": STRING}
_ACCEPTED = {
    "string": _STRING_OPS,
    "token": {"int": TOKEN, "long": TOKEN},
    "time": {"int": TIME, "long": TIME},
    "quantity": {"double": QUANTITY_DOUBLE, "float": QUANTITY_FLOAT, "int": QUANTITY_LONG, "long": QUANTITY_LONG},
    "kind": {"enum": KIND},
    "cost": {"null": None, "int": COST, "long": COST},
    "tags": {"map": TAGS},
}
"""Writer types that each kind of reader field takes, and the operation that reads them."""


class SchemaError(ValueError):
    """A writer's schema that cannot be read as usage events; the message names the field and what is accepted."""


@dataclass(frozen=True, slots=True)
class Program:
    """What the kernel runs, and how values name it.

    code          int32[words]
    fingerprint   the 8 bytes of CRC-64-AVRO as in a single-object header
    unframed      whether a valid event never begins with byte 0, so that it can go without a frame
    """

    code: np.ndarray
    fingerprint: bytes
    unframed: bool


def compile_program(schema: str | dict) -> Program:
    """The program that reads what ``schema`` (JSON text or its dict) wrote.

    Raises SchemaError if it is no Avro record schema, or not one that UsageEvent can be read from.
    """
    try:
        parsed = fastavro.parse_schema(json.loads(schema) if isinstance(schema, str) else schema)
        if not isinstance(parsed, dict) or parsed.get("type") not in ("record", "error"):
            raise SchemaError("the writer's schema must be a record")
        compiler = _Compiler(parsed)
        compiler.event(parsed)
        canonical = fastavro.schema.to_parsing_canonical_form(parsed)
    except SchemaError:
        raise
    except Exception as error:
        # fastavro lets some malformed schemas through and answers others with whatever its walk stumbles on:
        # KeyError, TypeError, RecursionError.
        raise SchemaError(f"not a valid Avro schema: {type(error).__name__}: {error}"[:500]) from error
    fingerprint = bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))
    return Program(np.array(compiler.code, np.int32), fingerprint, compiler.begins_with_text(parsed["fields"][0]))


class _Compiler:
    def __init__(self, parsed: dict):
        self.code: list[int] = []
        self._named: dict[str, dict] = parsed.get("__named_schemas", {})
        self._routines: dict[str, int] = {}
        self._calls: list[tuple[int, str]] = []
        self._empty: dict[str, bool] = {}

    def event(self, record: dict) -> None:
        """The whole program: defaults, the fields in writer order, END, then the routines."""
        reader = {field["name"]: field for field in load_schema("usage_event")["fields"]}
        written = {field["name"] for field in record["fields"]}
        for name, field in reader.items():
            if name not in written:
                if "default" not in field:
                    raise SchemaError(f"{name}: the writer's schema has no such field and it has no default")
                self._default(name, field["default"])
        for field in record["fields"]:
            if field["name"] in reader:
                self._read(field["name"], field["type"])
            else:
                self._skip(field["type"])
        self._emit(END)
        for position, name in self._calls:  # grows while routines are compiled
            if name not in self._routines:
                self._routines[name] = len(self.code)
                for field in self._named[name]["fields"]:
                    self._skip(field["type"])
                self._emit(RETURN)
            self.code[position + 1] = self._routines[name]

    def begins_with_text(self, field: dict) -> bool:
        """Whether the field is an event_id whose length, or else union index above 0, is the first byte."""
        schema = self._resolve(field["type"])
        if isinstance(schema, list):
            return field["name"] == "event_id" and _type_of(self._resolve(schema[0])) not in _STRING_OPS
        return field["name"] == "event_id"

    def _emit(self, op: int, a: int = 0, b: int = 0, table: int = 0) -> int:
        if len(self.code) + WIDTH + table > MAX_WORDS:
            raise SchemaError(f"the writer's schema is too large (more than {MAX_WORDS // WIDTH} steps)")
        position = len(self.code)
        self.code += [op, a, b, *[NO_BRANCH] * table]
        return position

    def _default(self, name: str, default) -> None:
        kind = _kind_of(name)
        if kind == "string":
            self._emit(NO_STRING, STRINGS.index(name))
        elif kind == "token":
            self._emit(NO_TOKEN, TOKENS.index(name), default)
        elif kind == "kind":
            self._emit(NO_KIND, KINDS.index(default))
        elif kind == "quantity":
            self._emit(NO_QUANTITY)
        # cost and tags: Columns.empty holds their defaults already

    def _read(self, name: str, written) -> None:
        kind = _kind_of(name)
        if not self._read_as(kind, name, written):
            accepted = ", ".join(_ACCEPTED[kind])
            raise SchemaError(f"{name}: the writer's type is {_describe(written)}; accepted: {accepted}")

    def _read_as(self, kind: str, name: str, written) -> bool:
        """Emit the reading of ``written`` into field ``name``; False, with nothing emitted, if it does not fit."""
        schema = self._resolve(written)
        if isinstance(schema, list):
            return self._union(schema, lambda branch: self._read_as(kind, name, branch))
        written_type = schema if isinstance(schema, str) else schema["type"]
        if written_type not in _ACCEPTED[kind]:
            return False
        op = _ACCEPTED[kind][written_type]
        if kind == "string":
            self._emit(op, STRINGS.index(name))
        elif kind == "token":
            self._emit(op, TOKENS.index(name))
        elif kind == "kind":
            self._symbols(schema["symbols"])
        elif kind == "tags":
            values = self._resolve(schema["values"])
            if _type_of(values) not in _STRING_OPS:
                return False
            self._emit(op)
        elif kind == "time" and isinstance(schema, dict) and _not_millis(schema):
            return False
        elif op is not None:
            self._emit(op)
        return True

    def _symbols(self, symbols: list[str]) -> None:
        unknown = KINDS.index(_field_type("kind")["default"])
        position = self._emit(KIND, len(symbols), table=len(symbols))
        for i, symbol in enumerate(symbols):
            self.code[position + WIDTH + i] = KINDS.index(symbol) if symbol in KINDS else unknown
        self.code[position + 2] = len(self.code)

    def _union(self, branches: list, emit) -> bool:
        """``emit(branch)`` for each branch, joined behind; False, with nothing emitted, if none fits."""
        position = self._emit(UNION, len(branches), table=len(branches))
        jumps = []
        for i, branch in enumerate(branches):
            target = len(self.code)
            if emit(branch):
                self.code[position + WIDTH + i] = target
                jumps.append(self._emit(JUMP))
        for jump in jumps:
            self.code[jump + 1] = len(self.code)
        if not jumps:
            del self.code[position:]
        return bool(jumps)

    def _skip(self, written) -> bool:
        schema = self._resolve(written)
        kind = _type_of(schema)
        if kind == "union":
            self._union(schema, self._skip)
        elif self._takes_no_bytes(schema):
            pass
        elif kind in _PRIMITIVE_BYTES:
            self._emit(SKIP_FIXED, _PRIMITIVE_BYTES[kind])
        elif kind in ("int", "long", "enum"):
            self._emit(SKIP_VARINT)
        elif kind in ("string", "bytes"):
            self._emit(SKIP_BYTES)
        elif kind == "fixed":
            if not isinstance(schema["size"], int) or not 0 <= schema["size"] < 1 << 31:
                raise SchemaError(f"fixed type {schema['name']} of {schema['size']} bytes")
            self._emit(SKIP_FIXED, schema["size"])
        elif kind in ("array", "map"):
            items = schema["items" if kind == "array" else "values"]
            self._emit(LOOP)
            loop = self._emit(NEXT, b=int(kind == "array" and self._takes_no_bytes(items)))
            if kind == "map":
                self._emit(SKIP_BYTES)
            self._skip(items)
            self._emit(JUMP, loop)
            self.code[loop + 1] = len(self.code)
        else:
            self._calls.append((self._emit(CALL), schema["name"]))
        return True

    def _takes_no_bytes(self, written) -> bool:
        """Whether every value of a type is empty; a value of any other type takes at least one byte."""
        schema = self._resolve(written)
        kind = _type_of(schema)
        if kind == "fixed":
            return schema["size"] == 0
        if kind in ("record", "error"):
            name = schema["name"]
            if name not in self._empty:
                self._empty[name] = False  # a record that holds itself has no finite value, so none that is empty
                self._empty[name] = all(self._takes_no_bytes(field["type"]) for field in schema["fields"])
            return self._empty[name]
        return kind == "null"

    def _resolve(self, written):
        """The definition behind a name or behind ``{"type": {...}}``."""
        while True:
            if isinstance(written, str) and written not in _PRIMITIVES:
                written = self._named[written]
            elif isinstance(written, dict) and not isinstance(written["type"], str):
                written = written["type"]
            elif isinstance(written, dict) and written["type"] in self._named:
                written = self._named[written["type"]]
            else:
                return written


def _type_of(schema) -> str:
    if isinstance(schema, list):
        return "union"
    return schema if isinstance(schema, str) else schema["type"]


def _not_millis(schema: dict) -> bool:
    return str(schema.get("logicalType", "")).endswith(("-micros", "-nanos"))


def _describe(written) -> str:
    text = written if isinstance(written, str) else json.dumps(written, default=str)
    return text if len(text) <= 200 else text[:200] + "..."


def _field_type(name: str):
    return next(field["type"] for field in load_schema("usage_event")["fields"] if field["name"] == name)


def _kind_of(name: str) -> str:
    """Which family of columns a reader field belongs to."""
    if name in STRINGS:
        return "string"
    if name in TOKENS:
        return "token"
    return {"event_time": "time", "cost_nano_usd": "cost"}.get(name, name)
