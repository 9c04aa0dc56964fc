"""What the decoder's tests share: a plain-Python twin of the kernel, and writers' schemas with bytes of them."""

import io
import json
import random
import struct

import fastavro
import numpy as np
import pytest

from schemas.codec import schema_text
from schemas.columns import KINDS, MAX_COST_NANO_USD, MAX_QUANTITY, MAX_TOKENS, REJECT_REASONS, STRINGS, TOKENS
from schemas.decode import tags

READER = json.loads(schema_text("usage_event").replace(', "logicalType": "timestamp-millis"', ""))
FIELDS = {field["name"]: field for field in READER["fields"]}
MAX_DEPTH = 64


class Rejected(Exception):
    """The reason, as in REJECT_REASONS; ``lax`` where fastavro is known to read on.

    It takes varints of any length, counts negative indexes from the end and ignores the byte sizes of blocks.
    """

    def __init__(self, reason: str, lax: bool = False):
        super().__init__(reason)
        self.lax = lax


class Twin:
    """Reads one value by walking the writer's schema, as slowly and plainly as can be."""

    def __init__(self, schema: dict, data: bytes):
        self.schema = schema
        self.data = data
        self.at = 0
        self.depth = 0
        self.problem = None
        self.named = {}
        self._collect(schema)

    def _collect(self, schema):
        if isinstance(schema, list):
            for branch in schema:
                self._collect(branch)
        elif isinstance(schema, dict):
            if "name" in schema:
                self.named[schema["name"]] = schema
            for field in schema.get("fields", []):
                self._collect(field["type"])
            for inner in ("items", "values"):
                if inner in schema:
                    self._collect(schema[inner])

    def event(self) -> dict:
        row = {name: field["default"] for name, field in FIELDS.items() if "default" in field}
        for field in self.schema["fields"]:
            name = field["name"]
            if name in FIELDS:
                row[name] = self.read(name, field["type"])
            else:
                self.skip(field["type"])
        if self.at != len(self.data):
            raise Rejected("trailing_bytes")
        if self.problem:
            raise Rejected(self.problem)
        return row

    def wrong(self, reason):
        self.problem = self.problem or reason

    def read(self, name, written):
        kind = self.kind(written)
        if kind == "union":
            branch = self.branch(written)
            accepted = {"double": ("int", "long", "float", "double"), "string": ("string", "bytes")}
            own = FIELDS[name]["type"]
            own = own[1] if isinstance(own, list) else own
            own = own if isinstance(own, str) else own["type"]
            fits = accepted.get(own, ("int", "long") if own == "long" else (own,))
            if name == "cost_nano_usd":
                fits += ("null",)
            if self.kind(branch) not in fits:
                raise Rejected("bad_union")
            return self.read(name, branch)
        if kind in ("string", "bytes"):
            value = self.text()
            if name in ("event_id", "source") and not value:
                self.wrong("missing_identity")
        elif kind == "null":
            value = None
        elif kind == "enum":
            symbols = self.definition(written)["symbols"]
            index = self.long()
            if not 0 <= index < len(symbols):
                raise Rejected("bad_enum", lax=index < 0)
            value = symbols[index] if symbols[index] in KINDS else "OTHER"
        elif kind == "map":
            value = self.map_of_text()
        else:
            value = self.long() if kind in ("int", "long") else self.real(kind)
            bounds = {"cost_nano_usd": MAX_COST_NANO_USD, "quantity": MAX_QUANTITY}
            if name == "event_time":
                if not 946684800000 <= value < 7258118400000:
                    self.wrong("bad_event_time")
            elif not 0 <= value <= bounds.get(name, MAX_TOKENS):
                self.wrong("out_of_range")
        return value

    def skip(self, written):
        kind = self.kind(written)
        if kind == "union":
            self.skip(self.branch(written))
        elif kind in ("int", "long", "enum"):
            self.long()
        elif kind in ("string", "bytes"):
            self.take(self.length())
        elif kind in ("array", "map"):
            items = self.definition(written)["items" if kind == "array" else "values"]
            self.enter()
            for count in self.blocks():
                if kind == "array" and self.empty(items):
                    continue
                for _ in range(count):
                    if kind == "map":
                        self.take(self.length())
                    self.skip(items)
            self.depth -= 1
        elif kind == "record":
            if not self.empty(written):
                self.enter()
                for field in self.definition(written)["fields"]:
                    self.skip(field["type"])
                self.depth -= 1
        else:
            sizes = {"null": 0, "boolean": 1, "float": 4, "double": 8}
            self.take(sizes[kind] if kind in sizes else self.definition(written)["size"])

    def enter(self):
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Rejected("too_deep")

    def empty(self, written, within=()):
        kind = self.kind(written)
        if kind == "record":
            record = self.definition(written)
            if record["name"] in within:
                return False
            return all(self.empty(field["type"], (*within, record["name"])) for field in record["fields"])
        return kind == "null" or (kind == "fixed" and self.definition(written)["size"] == 0)

    def definition(self, written):
        return self.named.get(written, written) if isinstance(written, str) else written

    def kind(self, written):
        definition = self.definition(written)
        if isinstance(definition, list):
            return "union"
        return definition if isinstance(definition, str) else definition["type"]

    def branch(self, written):
        index = self.long()
        if not 0 <= index < len(written):
            raise Rejected("bad_union", lax=index < 0)
        return written[index]

    def map_of_text(self):
        value = {}
        for count in self.blocks():
            for _ in range(count):
                key = self.text()
                value[key] = self.text()
        return value

    def blocks(self):
        while count := self.long():
            end = None
            if count < 0:
                size = self.long()
                if size < 0 or count == -(2**63):
                    raise Rejected("bad_length", lax=True)
                if size > len(self.data) - self.at:
                    raise Rejected("truncated", lax=True)
                end = self.at + size
            yield abs(count)
            if end is not None and self.at != end:
                raise Rejected("bad_length", lax=True)

    def long(self):
        value = 0
        for i in range(10):
            byte = self.take(1)[0]
            if i == 9 and byte > 1:
                raise Rejected("bad_varint", lax=True)
            value |= (byte & 0x7F) << 7 * i
            if byte < 0x80:
                break
        return (value >> 1) ^ -(value & 1)

    def real(self, kind):
        return struct.unpack("<d" if kind == "double" else "<f", self.take(8 if kind == "double" else 4))[0]

    def text(self):
        try:
            return self.take(self.length()).decode()
        except UnicodeDecodeError:
            raise Rejected("bad_utf8") from None

    def length(self):
        length = self.long()
        if length < 0:
            raise Rejected("bad_length")
        return length

    def take(self, size):
        if size > len(self.data) - self.at:
            raise Rejected("truncated")
        self.at += size
        return self.data[self.at - size : self.at]


def twin(schema: dict, data: bytes) -> dict | str:
    """The row that ``data`` should decode to, or the reason why it should not."""
    try:
        return Twin(schema, data).event()
    except Rejected as rejected:
        return str(rejected)


def fastavro_is_lax(schema: dict, data: bytes) -> bool:
    try:
        Twin(schema, data).event()
    except Rejected as rejected:
        return rejected.lax
    return False


def oracle(schema: dict, data: bytes) -> dict | None:
    """What fastavro reads, or None if it refuses or leaves bytes over."""
    stream = io.BytesIO(data)
    try:
        row = fastavro.schemaless_reader(stream, fastavro.parse_schema(schema), fastavro.parse_schema(READER))
    except Exception:
        return None
    return row if stream.tell() == len(data) else None


def zigzag(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


TEXTS = ("", "a", "acme", "claude-opus-4-8", "team-" + "x" * 70, "Zoë", "模型", "🦉" * 5, "prod\0", "b" * 16, "c" * 17)


class Writer:
    """Random bytes of a schema; whatever is drawn is a valid value. Blocks come in both forms."""

    def __init__(self, rng: random.Random, schema: dict):
        self.rng = rng
        self.schema = schema
        self.named = Twin(schema, b"").named
        self.fits = Twin(schema, b"")

    def event(self) -> bytes:
        return b"".join(self.field(field["name"], field["type"]) for field in self.schema["fields"])

    def field(self, name, written):
        rng = self.rng
        kind = self.fits.kind(written)
        if name not in FIELDS:
            return self.value(written, 0)
        if kind == "union":
            usable = [i for i, b in enumerate(written) if b in ("string", "bytes", "int", "long", "double", "float")]
            usable += [i for i, b in enumerate(written) if b == "null" and name == "cost_nano_usd"]
            usable += [i for i, b in enumerate(written) if not isinstance(b, str)]
            usable = [i for i in usable if (name in STRINGS) == (written[i] in ("string", "bytes"))]
            fitting = name == "event_id" or rng.random() < 0.95
            index = rng.choice(usable) if fitting else rng.randrange(len(written))
            branch = written[index]
            wrong = index not in usable
            return zigzag(index) + (self.value(branch, 0) if wrong else self.field(name, branch))
        if kind in ("string", "bytes"):
            return self.text(rng.choice(TEXTS[1:] if name in ("event_id", "source") else TEXTS))
        if name == "event_time" and kind == "long":
            return zigzag(rng.randrange(1_600_000_000_000, 1_900_000_000_000))
        if kind in ("int", "long"):
            return zigzag(rng.choice((0, 1, 63, 64, 8191, 8192, 10**5, rng.randrange(2**31))))
        if kind in ("float", "double"):
            return struct.pack("<f" if kind == "float" else "<d", rng.choice((0.0, 1.5, 0.1, 1e9)))
        if kind == "map":
            return self.blocks(lambda: self.text(rng.choice(TEXTS)) + self.text(rng.choice(TEXTS)))
        return self.value(written, 0)

    def value(self, written, depth):
        rng = self.rng
        definition = self.fits.definition(written)
        kind = self.fits.kind(written)
        if kind == "union":
            index = 0 if depth > 3 else rng.randrange(len(definition))
            return zigzag(index) + self.value(definition[index], depth + 1)
        if kind == "enum":
            return zigzag(rng.randrange(len(definition["symbols"])))
        if kind in ("int", "long"):
            return zigzag(rng.choice((0, -1, 1, 200, -(2**31), 2**31 - 1)))
        if kind in ("string", "bytes"):
            return self.text(rng.choice(TEXTS))
        if kind == "array":
            return self.blocks(lambda: self.value(definition["items"], depth + 1), depth)
        if kind == "map":
            return self.blocks(lambda: self.text("k") + self.value(definition["values"], depth + 1), depth)
        if kind == "record":
            return b"".join(self.value(field["type"], depth + 1) for field in definition["fields"])
        sizes = {"null": 0, "boolean": 1, "float": 4, "double": 8}
        return rng.randbytes(sizes[kind] if kind in sizes else definition["size"])

    def text(self, text):
        data = text.encode()
        return zigzag(len(data)) + data

    def blocks(self, item, depth=0):
        out = b""
        for _ in range(0 if depth > 3 else self.rng.randrange(3)):
            items = [item() for _ in range(self.rng.randrange(1, 4))]
            body = b"".join(items)
            sized = self.rng.random() < 0.5
            out += (zigzag(-len(items)) + zigzag(len(body)) if sized else zigzag(len(items))) + body
        return out + zigzag(0)


def random_type(rng: random.Random, names: list[str], depth: int = 0):
    """Any Avro type for a field that the reader does not know; ``names`` collects named types to refer to."""
    simple = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
    kind = rng.choice((*simple, "enum", "fixed", "ref", "array", "map", "union", "record", "node"))
    if kind == "ref" and names:
        return rng.choice(names)
    if kind in simple or kind == "ref" or depth > 3:
        return rng.choice(simple) if kind not in simple else kind
    name = f"T{rng.randrange(10**9)}"
    if kind == "enum":
        names.append(name)
        return {"type": "enum", "name": name, "symbols": ["A", "B", "C"]}
    if kind == "fixed":
        names.append(name)
        return {"type": "fixed", "name": name, "size": rng.choice((0, 1, 16))}
    if kind == "array":
        return {"type": "array", "items": random_type(rng, names, depth + 1)}
    if kind == "map":
        return {"type": "map", "values": random_type(rng, names, depth + 1)}
    if kind == "union":
        branches = rng.sample(simple, rng.randrange(1, 4))
        record = {"type": "record", "name": name, "fields": [{"name": "x", "type": random_type(rng, names, depth + 1)}]}
        return [*branches, record]
    if kind == "node":
        fields = [{"name": "value", "type": "long"}, {"name": "next", "type": ["null", name]}]
        names.append(name)
        return {"type": "record", "name": name, "fields": fields}
    fields = [{"name": f"f{i}", "type": random_type(rng, names, depth + 1)} for i in range(rng.randrange(3))]
    names.append(name)
    return {"type": "record", "name": name, "fields": fields}


def evolved_type(rng: random.Random, name: str):
    own = FIELDS[name]["type"]
    if name in STRINGS:
        return rng.choice((own, own, own, "bytes", ["null", "string"], ["long", "bytes"], ["string"]))
    if name == "event_time":
        return rng.choice((own, own, ["null", "long"]))
    if name in TOKENS:
        return rng.choice((own, own, "int", ["null", "long"], ["string", "int"]))
    if name == "quantity":
        return rng.choice((own, "float", "int", "long", ["null", "double"], ["float", "string"]))
    if name == "cost_nano_usd":
        return rng.choice((own, "long", "int", "null", ["long", "null"], ["string", "null", "int"]))
    if name == "kind":
        symbols = rng.sample((*KINDS, "ROBOT", "VIDEO"), rng.randrange(1, len(KINDS)))
        enum = {"type": "enum", "name": "UsageKind", "symbols": symbols}
        return rng.choice((own, enum, ["null", enum]))
    return rng.choice((own, {"type": "map", "values": "bytes"}, ["null", own]))


def evolve(rng: random.Random, event_id_first: bool) -> dict:
    """A writer's schema that UsageEvent can be read from: fields added, gone, reordered and of another type."""
    names: list[str] = []
    fields = [
        {"name": name, "type": evolved_type(rng, name)}
        for name, field in FIELDS.items()
        if "default" not in field or rng.random() < 0.8
    ]
    head, rest = (fields[:1], fields[1:]) if event_id_first else ([], fields)
    if rng.random() < 0.7:
        rng.shuffle(rest)
    for i in range(rng.randrange(5)):
        rest.insert(rng.randrange(len(rest) + 1), {"name": f"extra{i}", "type": None})
    if head:
        head[0]["type"] = rng.choice(("string", "bytes", ["null", "string"]))  # a value may not begin with byte 0
    for field in head + rest:
        field["type"] = field["type"] or random_type(rng, names)  # in order: a name is defined before it is used
    return {"type": "record", "name": "UsageEvent", "namespace": "tenfold", "fields": head + rest}


def mutate(rng: random.Random, data: bytes) -> bytes:
    """``data`` with a few bytes changed, dropped, put in or cut off."""
    data = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data) + 1)
        choice = rng.random()
        if choice < 0.6 and at < len(data):
            data[at] = rng.choice((0, 1, 2, 0x7F, 0x80, 0xFF, rng.randrange(256), data[at] ^ 1 << rng.randrange(8)))
        elif choice < 0.75:
            del data[at : at + rng.randrange(1, 4)]
        elif choice < 0.9:
            data[at:at] = rng.randbytes(rng.randrange(1, 12))
        else:
            del data[at:]
    return bytes(data)


def row_of(columns, row: int) -> dict | str:
    """What the decoder made of one value, in the twin's form."""
    if columns.status[row]:
        return REJECT_REASONS[columns.status[row]]
    cost = int(columns.reported_nano_usd[row])
    return {
        **{name: columns.text(row, name) for name in STRINGS},
        **dict(zip(TOKENS, columns.tokens[row].tolist(), strict=True)),
        "event_time": int(columns.event_time_ms[row]),
        "kind": KINDS[columns.kind[row]],
        "quantity": float(columns.quantity[row]),
        "cost_nano_usd": None if cost == np.iinfo(np.int64).min else cost,
        "tags": tags(columns, row),
    }


def batch(values: list[bytes | None], gap: bytes = b"") -> tuple:
    """Arguments of ``Decoder.decode``: the values one after the other, ``gap`` before and behind each."""
    payload = bytearray(gap)
    spans = []
    for value in values:
        start = len(payload)
        payload += (value or b"") + gap
        spans.append((start, start - 1 if value is None else start + len(value)))
    starts, ends = np.array(spans, np.int64).reshape(-1, 2).T
    return np.frombuffer(bytes(payload), np.uint8), starts, ends, np.arange(100, 100 + len(values), dtype=np.int64)


class Kit:
    """The functions above, for tests: there is no package to import them from."""

    READER = READER
    MAX_DEPTH = MAX_DEPTH
    Writer = Writer
    batch = staticmethod(batch)
    evolve = staticmethod(evolve)
    mutate = staticmethod(mutate)
    fastavro_is_lax = staticmethod(fastavro_is_lax)
    oracle = staticmethod(oracle)
    row_of = staticmethod(row_of)
    twin = staticmethod(twin)
    zigzag = staticmethod(zigzag)


@pytest.fixture(scope="session")
def kit():
    return Kit
