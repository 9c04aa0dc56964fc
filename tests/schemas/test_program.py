"""Which writers' schemas are taken, what the refusals say, and that hostile schemas neither hang nor grow."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import schema_text
from schemas.columns import KINDS, STRINGS, TOKENS
from schemas.program import END, MAX_WORDS, SchemaError, compile_program

IDENTITY = [
    {"name": "event_id", "type": "string"},
    {"name": "source", "type": "string"},
    {"name": "event_time", "type": "long"},
]


def writer(*fields, drop=()) -> dict:
    kept = [field for field in IDENTITY if field["name"] not in drop]
    return {"type": "record", "name": "UsageEvent", "fields": [*kept, *fields]}


def field(name, written) -> dict:
    return {"name": name, "type": written}


def test_columns_are_the_bundled_schema():
    fields = {f["name"]: f for f in json.loads(schema_text("usage_event"))["fields"]}
    assert set(fields) == {*STRINGS, *TOKENS, "event_time", "kind", "quantity", "cost_nano_usd", "tags"}
    assert tuple(fields["kind"]["type"]["symbols"]) == KINDS
    assert {fields[name]["default"] for name in STRINGS[2:]} == {""}
    assert fields["quantity"]["default"] == 0
    assert fields["cost_nano_usd"]["default"] is None
    assert fields["tags"]["default"] == {}


@pytest.mark.parametrize("name", ["event_id", "source", "event_time"])
def test_a_missing_field_without_default_is_named(name):
    with pytest.raises(SchemaError, match=f"^{name}: .*no such field"):
        compile_program(writer(drop=(name,)))


INCOMPATIBLE = [
    ("team", "long", "string, bytes"),
    ("team", ["null", "int"], "string, bytes"),
    ("input_tokens", "double", "int, long"),
    ("quantity", "string", "double, float, int, long"),
    ("cost_nano_usd", "double", "null, int, long"),
    ("cost_nano_usd", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "null, int, long"),
    ("kind", "string", "enum"),
    ("tags", {"type": "map", "values": "long"}, "map"),
    ("tags", {"type": "map", "values": ["null", "string"]}, "map"),
    ("tags", {"type": "array", "items": "string"}, "map"),
]


@pytest.mark.parametrize(("name", "written", "accepted"), INCOMPATIBLE)
def test_an_incompatible_type_is_named_with_what_is_accepted(name, written, accepted):
    with pytest.raises(SchemaError) as caught:
        compile_program(writer(field(name, written)))
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert message.endswith(f"accepted: {accepted}")
    assert (written if isinstance(written, str) else json.dumps(next(iter(written)))) in message


@pytest.mark.parametrize("logical", ["timestamp-micros", "timestamp-nanos", "local-timestamp-micros"])
def test_event_times_in_other_units_are_refused(logical):
    micros = {"type": "long", "logicalType": logical}
    with pytest.raises(SchemaError, match=f"event_time: .*{logical}"):
        compile_program(writer(field("event_time", micros), drop=("event_time",)))
    compile_program(
        writer(field("event_time", {"type": "long", "logicalType": "timestamp-millis"}), drop=("event_time",))
    )


BROKEN = [
    "",
    "{",
    "[]",
    "3",
    "null",
    '"long"',
    '{"type": "record"}',
    '{"type": "record", "name": "A", "fields": 3}',
    '{"type": "record", "name": "A", "fields": []}',
    '{"type": "record", "name": "A", "fields": [{"name": "x", "type": "Nowhere"}]}',
    '{"type": "enum", "name": "A", "symbols": ["a"]}',
    "[" * 10_000,
    json.dumps(writer(field("x", {"type": "fixed", "name": "F", "size": -1}))),
    json.dumps(writer(field("x", {"type": "fixed", "name": "F", "size": 1 << 40}))),
    json.dumps(writer(field("x", {"type": "fixed", "name": "F", "size": "many"}))),
    json.dumps(writer(field("x", {"type": "array"}))),
]


@pytest.mark.parametrize("schema", BROKEN)
def test_what_is_no_schema_of_events_is_refused(schema):
    with pytest.raises(SchemaError):
        compile_program(schema)


@given(st.integers(0, 2**32 - 1))
def test_damaged_schemas_raise_nothing_else(seed):
    rng = random.Random(seed)
    text = list(json.dumps(writer(field("x", {"type": "map", "values": ["null", {"type": "array", "items": "long"}]}))))
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(text))
        text[at : at + rng.randrange(1, 8)] = rng.choice(["", '"', "{}", "[]", "null", "1", ",", "x"])
    try:
        program = compile_program("".join(text))
    except SchemaError:
        return
    assert END in program.code


def test_recursive_schemas_end():
    tree = {
        "type": "record",
        "name": "Tree",
        "fields": [field("left", ["null", "Tree"]), field("all", {"type": "array", "items": "Tree"})],
    }
    program = compile_program(
        writer(field("x", tree), field("y", "Tree"), field("z", {"type": "map", "values": "Tree"}))
    )
    assert len(program.code) < 300


def test_records_of_records_do_not_double_at_each_level():
    levels = [{"type": "record", "name": "L0", "fields": [field("a", "int"), field("b", "int")]}]
    for i in range(1, 60):
        fields = [field("a", f"L{i - 1}"), field("b", f"L{i - 1}")]
        levels.append({"type": "record", "name": f"L{i}", "fields": fields})
    program = compile_program(writer(*(field(f"x{i}", level) for i, level in enumerate(levels))))
    assert len(program.code) < 1500


def test_too_large_schemas_are_refused():
    with pytest.raises(SchemaError, match="too large"):
        compile_program(writer(*(field(f"x{i}", "int") for i in range(MAX_WORDS // 3))))


def test_fields_that_take_no_bytes_take_no_steps():
    nothing = {"type": "record", "name": "Nothing", "fields": [field("a", "null"), field("b", "null")]}
    assert len(compile_program(writer(field("x", nothing))).code) == len(compile_program(writer()).code)


def test_the_bundled_schema_is_one_step_a_field():
    schema = json.loads(schema_text("usage_event"))
    program = compile_program(schema)
    assert program.unframed
    # END; the table of 11 kinds; the union of the cost: two targets and two jumps.
    assert len(program.code) == 3 * (len(schema["fields"]) + 1) + 11 + 2 + 3 * 2 + 3
