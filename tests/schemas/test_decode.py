"""The decoder against fastavro and against a plain-Python twin: good, evolved, cut and mutated events."""

import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
from pathlib import Path

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import decode as decode_module
from schemas.codec import encode, schema_text
from schemas.columns import KINDS, MAX_COST_NANO_USD, MAX_TOKENS, REJECT_REASONS, STRINGS, TOKENS
from schemas.decode import Decoder
from schemas.hashing import hash_text
from schemas.program import SchemaError, compile_program

KEY = 0x74656E666F6C6421
MS = {"event_time": 1_790_000_000_000}
GOOD = {"event_id": "e1", "source": "gateway", **MS}

compiles = settings(deadline=None, max_examples=150)  # the first example waits for the compiler
seeds = st.integers(0, 2**32 - 1)
text = st.one_of(st.sampled_from(("", "a", "team-7", "x" * 100)), st.text(max_size=20))
identity = text.filter(bool)
events = st.fixed_dictionaries(
    {
        "event_id": identity,
        "source": identity,
        "event_time": st.integers(946_684_800_000, 7_258_118_399_999),
        "kind": st.sampled_from(KINDS),
        "quantity": st.floats(0, 1e12),
        "cost_nano_usd": st.none() | st.integers(0, MAX_COST_NANO_USD),
        "tags": st.dictionaries(text, text, max_size=3),
        **{name: text for name in STRINGS[2:]},
        **{name: st.integers(0, MAX_TOKENS) for name in TOKENS},
    }
)


@pytest.fixture(scope="module")
def decoder():
    return Decoder(KEY)


def confluent(schema_id: int, value: bytes) -> bytes:
    return b"\0" + struct.pack(">I", schema_id) + value


def reasons(columns) -> list[str]:
    return [REJECT_REASONS[status] for status in columns.status]


@compiles
@given(st.lists(events, max_size=4))
def test_events_come_back_as_they_were_written(decoder, kit, written):
    columns = decoder.decode(*kit.batch([encode("usage_event", event) for event in written]))
    assert [kit.row_of(columns, row) for row in range(len(written))] == written
    assert columns.offset.tolist() == list(range(100, 100 + len(written)))
    for row, event in enumerate(written):
        assert [int(h) for h in columns.hash[row]] == [hash_text(event[name], KEY) for name in STRINGS]


@compiles
@given(seeds)
def test_evolved_schemas_read_as_fastavro_does(kit, seed):
    rng = random.Random(seed)
    framed = rng.random() < 0.5
    schema = kit.evolve(rng, event_id_first=not framed)
    writer = kit.Writer(rng, schema)
    values = [writer.event() for _ in range(4)]
    decoder = Decoder(KEY, schemas={9: schema}) if framed else Decoder(KEY, writer_schema=json.dumps(schema))
    columns = decoder.decode(*kit.batch([confluent(9, value) if framed else value for value in values]))
    for row, value in enumerate(values):
        got = kit.row_of(columns, row)
        assert got == kit.twin(schema, value)
        expected = kit.oracle(schema, value)
        if isinstance(got, dict):
            assert got == expected
        elif got in ("missing_identity", "bad_event_time", "out_of_range"):
            assert expected is not None
        else:
            assert expected is None


@compiles
@given(seeds)
def test_mutated_events_are_judged_as_by_the_twin(kit, seed):
    rng = random.Random(seed)
    schema = kit.evolve(rng, event_id_first=False)
    writer = kit.Writer(rng, schema)
    values = [kit.mutate(rng, writer.event()) for _ in range(20)]
    columns = Decoder(KEY, schemas={1: schema}).decode(*kit.batch([confluent(1, value) for value in values]))
    for row, value in enumerate(values):
        assert kit.row_of(columns, row) == kit.twin(schema, value)


@compiles
@given(seeds)
def test_mutated_events_are_judged_as_by_fastavro(decoder, kit, seed):
    rng = random.Random(seed)
    writer = kit.Writer(rng, kit.READER)
    values = [kit.mutate(rng, writer.event()) for _ in range(20)]
    values = [value for value in values if value[:1] not in (b"\0", b"\xc3")]
    columns = decoder.decode(*kit.batch(values))
    for row, value in enumerate(values):
        got = kit.row_of(columns, row)
        expected = kit.oracle(kit.READER, value)
        if isinstance(got, dict):
            assert got == expected
        elif got in ("missing_identity", "bad_event_time", "out_of_range"):
            assert expected is not None
        elif not kit.fastavro_is_lax(kit.READER, value):
            assert expected is None


@compiles
@given(seeds, st.binary(min_size=16, max_size=16))
def test_bytes_around_a_value_change_nothing(decoder, kit, seed, canary):
    rng = random.Random(seed)
    writer = kit.Writer(rng, kit.READER)
    values = [kit.mutate(rng, writer.event()) if rng.random() < 0.7 else writer.event() for _ in range(10)]
    alone = [decoder.decode(*kit.batch([value])) for value in values]
    within = decoder.decode(*kit.batch(values, canary))
    for row in range(len(values)):
        assert kit.row_of(within, row) == kit.row_of(alone[row], 0)
        if within.status[row] == 0:
            assert within.hash[row].tolist() == alone[row].hash[0].tolist()


def test_cut_anywhere_an_event_is_truncated(decoder, kit):
    event = {**GOOD, "team": "Zoë", "tags": {"a": "b", "c": ""}, "cost_nano_usd": 10**9, "quantity": 2.0}
    value = encode("usage_event", event)
    cuts = [value[:n] for n in range(len(value))]
    assert set(reasons(decoder.decode(*kit.batch(cuts)))) == {"truncated"}
    framed = [confluent(3, value)[:n] for n in range(len(value) + 5)]
    assert set(reasons(Decoder(KEY, schemas={3: kit.READER}).decode(*kit.batch(framed)))) == {"truncated"}
    assert reasons(decoder.decode(*kit.batch([value, value + b"\0"]))) == ["ok", "trailing_bytes"]


def raw(value, **changes) -> bytes:
    """An event whose fields may be given as raw bytes, in the bundled schema's order."""
    out = b""
    for field in json.loads(schema_text("usage_event"))["fields"]:
        name = field["name"]
        if name in changes and isinstance(changes[name], bytes):
            out += changes[name]
            continue
        stream = io.BytesIO()
        single = {"type": "record", "name": "One", "fields": [field]}
        given_value = {**GOOD, **value, **changes}
        record = {name: given_value[name]} if name in given_value else {}
        fastavro.schemaless_writer(stream, fastavro.parse_schema(single), record)
        out += stream.getvalue()
    return out


WRONG_VALUES = {
    "missing_identity": [{"source": ""}, {"event_id": b"\x80\x00"}],
    "bad_event_time": [{"event_time": t} for t in (946_684_799_999, 7_258_118_400_000, -1, 2**63 - 1, -(2**63))],
    "out_of_range": [
        {"input_tokens": -1},
        {"output_image_tokens": MAX_TOKENS + 1},
        {"cost_nano_usd": -1},
        {"cost_nano_usd": MAX_COST_NANO_USD + 1},
        *({"quantity": q} for q in (-1e-9, 1.01e12, float("nan"), float("inf"), float("-inf"))),
    ],
    "bad_varint": [{"input_tokens": b"\xff" * 9 + b"\x02"}, {"tags": b"\x80" * 10 + b"\x00"}],
    "bad_length": [
        {"team": b"\x01"},
        {"team": b"\xff" * 9 + b"\x01"},
        {"tags": b"\x03\x01"},
        {"tags": b"\x01\x0a\x02a\x02b\x00"},
        {"tags": b"\xff" * 9 + b"\x01\x00\x00"},
    ],
    "truncated": [{"team": b"\xfe" * 9 + b"\x01"}, {"tags": b"\xfe" * 9 + b"\x01"}, {"tags": b"\x01\x7e"}],
    "bad_utf8": [
        {"team": b"\x02\xff"},
        {"team": b"\x06\xed\xa0\x80"},
        {"model": b"\x04\xc0\x80"},
        {"unit": b"\x08\xf4\x90\x80\x80"},
        {"tags": b"\x02\x02a\x02\x80\x00"},
    ],
    "bad_union": [{"cost_nano_usd": b"\x01"}, {"cost_nano_usd": b"\x04"}],
    "bad_enum": [{"kind": b"\x01"}, {"kind": b"\x16"}],
}


@pytest.mark.parametrize("reason", WRONG_VALUES)
def test_reasons(decoder, kit, reason):
    values = [raw({}, **changes) for changes in WRONG_VALUES[reason]]
    got = decoder.decode(*kit.batch([*values, raw({})]))
    assert reasons(got) == [reason] * len(values) + ["ok"]
    assert [kit.twin(kit.READER, value) for value in values] == [reason] * len(values)


def test_bounds_are_inside(decoder, kit):
    largest = {"input_tokens": MAX_TOKENS, "quantity": 1e12, "cost_nano_usd": MAX_COST_NANO_USD}
    values = [raw(largest, event_time=t) for t in (946_684_800_000, 7_258_118_399_999)]
    assert reasons(decoder.decode(*kit.batch(values))) == ["ok", "ok"]


def test_a_wrong_form_goes_before_a_wrong_value(decoder, kit):
    assert reasons(decoder.decode(*kit.batch([raw({}, input_tokens=-1) + b"\0"]))) == ["trailing_bytes"]


def test_null_and_empty_values(decoder, kit):
    columns = decoder.decode(*kit.batch([None, b"", encode("usage_event", GOOD)]))
    assert reasons(columns) == ["null_value", "truncated", "ok"]
    assert len(decoder.decode(*kit.batch([]))) == 0


def extended(*types) -> dict:
    """The bundled schema with fields before the last."""
    schema = json.loads(schema_text("usage_event"))
    schema["fields"][-1:-1] = [{"name": f"x{i}", "type": one} for i, one in enumerate(types)]
    return schema


def with_extra(extra: bytes) -> bytes:
    return encode("usage_event", GOOD)[:-1] + extra + b"\0"


def test_blocks_of_items_without_bytes_take_no_time(kit):
    nothing = {"type": "record", "name": "Nothing", "fields": [{"name": "n", "type": "null"}]}
    schema = extended({"type": "array", "items": "null"}, {"type": "array", "items": nothing})
    huge = kit.zigzag(2**62) + kit.zigzag(-(2**62)) + kit.zigzag(0) + kit.zigzag(0)
    decoder = Decoder(KEY, writer_schema=schema)
    assert reasons(decoder.decode(*kit.batch([with_extra(huge * 2), with_extra(huge)]))) == ["ok", "truncated"]


def test_depth_of_skipped_values_is_bounded(kit):
    node = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
    decoder = Decoder(KEY, writer_schema=extended(node))
    values = [with_extra(b"\x02" * depth + b"\0") for depth in (0, kit.MAX_DEPTH - 1, kit.MAX_DEPTH, 100_000)]
    assert reasons(decoder.decode(*kit.batch(values))) == ["ok", "ok", "too_deep", "too_deep"]
    endless = {"type": "record", "name": "Endless", "fields": [{"name": "self", "type": "Endless"}]}
    assert reasons(Decoder(KEY, writer_schema=extended(endless)).decode(*kit.batch([with_extra(b"")]))) == ["too_deep"]


def test_spans_outside_the_payload_are_refused(decoder):
    payload = np.zeros(10, np.uint8)
    for start, end in ((0, 11), (-1, 4), (-9, -2)):
        with pytest.raises(ValueError, match="span"):
            decoder.decode(payload, np.array([start]), np.array([end]), np.array([0]))
    with pytest.raises(ValueError, match="contiguous"):
        decoder.decode(np.zeros(10, np.int8), np.array([0]), np.array([1]), np.array([0]))
    with pytest.raises(ValueError, match="one length"):
        decoder.decode(payload, np.array([0]), np.array([1]), np.array([0, 1]))


def smallest(event_id="string", last: bool = True) -> dict:
    """The schema with the fewest fields, event_id last or first."""
    fields = [{"name": "event_time", "type": "long"}, {"name": "source", "type": "string"}]
    fields.insert(2 if last else 0, {"name": "event_id", "type": event_id})
    return {"type": "record", "name": "UsageEvent", "fields": fields}


class TestFrames:
    """Values that name their schema."""

    older = smallest()

    def older_value(self, event_id="e1") -> bytes:
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, fastavro.parse_schema(self.older), {**GOOD, "event_id": event_id})
        return stream.getvalue()

    def test_ids_are_fetched_once_and_only_their_rows_decoded_again(self, kit):
        asked = []

        def fetch(schema_id):
            asked.append(schema_id)
            return {5: json.dumps(self.older), 6: '"string"'}.get(schema_id)

        decoder = Decoder(KEY, schemas={4: kit.READER}, fetch_schema=fetch)
        plain = encode("usage_event", GOOD)
        values = [
            plain,
            confluent(4, plain),
            confluent(5, self.older_value("e5")),
            confluent(6, b""),
            confluent(7, b""),
        ]
        for _ in range(2):
            columns = decoder.decode(*kit.batch(values))
            assert reasons(columns) == ["ok", "ok", "ok", "unknown_schema", "unknown_schema"]
            assert columns.text(2, "event_id") == "e5"
            assert columns.text(2, "model") == ""
        assert sorted(asked) == [5, 6, 7]
        assert "record" in decoder.failures[6]
        assert "no such" in decoder.failures[7]

    def test_single_object_encoding(self, kit):
        decoder = Decoder(KEY, fetch_schema=lambda _: json.dumps(self.older))
        mark = b"\xc3\x01"
        plain = mark + compile_program(schema_text("usage_event")).fingerprint + encode("usage_event", GOOD)
        older = mark + compile_program(self.older).fingerprint + self.older_value()
        assert reasons(decoder.decode(*kit.batch([plain, older]))) == ["ok", "unknown_schema"]
        decoder.decode(*kit.batch([confluent(1, self.older_value())]))
        cuts = [older[:n] for n in range(2, len(older))]
        assert set(reasons(decoder.decode(*kit.batch(cuts)))) == {"truncated"}
        assert reasons(decoder.decode(*kit.batch([older]))) == ["ok"]

    def test_fingerprint_of_the_specification(self):
        """CRC-64-AVRO, written out from the specification, of a schema that is its own canonical form."""
        canonical = json.dumps(self.older, separators=(",", ":"))
        canonical = canonical.replace('{"type":"record","name":"UsageEvent"', '{"name":"UsageEvent","type":"record"')
        empty = 0xC15D213AA4D7A795
        crc = empty
        for byte in canonical.encode():
            crc ^= byte
            for _ in range(8):
                crc = (crc >> 1) ^ (empty & -(crc & 1))
        assert compile_program(self.older).fingerprint == crc.to_bytes(8, "little")

    def test_a_flood_of_ids_is_bounded(self, kit, monkeypatch):
        monkeypatch.setattr(decode_module, "MAX_FAILURES", 10)
        asked = []
        decoder = Decoder(KEY, fetch_schema=asked.append)
        for round_ in range(20):
            flood = [confluent(1000 * round_ + i, b"x") for i in range(500)]
            columns = decoder.decode(*kit.batch([*flood, encode("usage_event", GOOD)]))
            assert reasons(columns) == ["unknown_schema"] * 500 + ["ok"]
        assert len(asked) == 20 * decode_module.MAX_FETCHES_PER_BATCH
        assert len(decoder.failures) == 10

    def test_the_most_frequent_id_is_fetched_in_a_flood(self, kit):
        decoder = Decoder(KEY, fetch_schema={77: json.dumps(self.older)}.get)
        columns = decoder.decode(*kit.batch([confluent(i, self.older_value()) for i in (*range(50), 77, 77)]))
        assert reasons(columns) == ["unknown_schema"] * 50 + ["ok", "ok"]

    def test_the_number_of_schemas_is_bounded(self, kit, monkeypatch):
        monkeypatch.setattr(decode_module, "MAX_SCHEMAS", 3)
        decoder = Decoder(KEY, schemas={0: self.older}, fetch_schema=lambda _: json.dumps(self.older))
        columns = decoder.decode(*kit.batch([confluent(i, self.older_value()) for i in range(5)]))
        assert reasons(columns) == ["ok", "ok", "ok", "unknown_schema", "unknown_schema"]

    def test_a_failed_id_is_asked_for_again_later(self, kit, monkeypatch):
        monkeypatch.setattr(decode_module, "RETRY_AFTER_BATCHES", 3)
        answers = [None, json.dumps(self.older)]
        decoder = Decoder(KEY, fetch_schema=lambda _: answers.pop(0))
        got = [reasons(decoder.decode(*kit.batch([confluent(1, self.older_value())])))[0] for _ in range(5)]
        assert got == ["unknown_schema"] * 3 + ["ok"] * 2
        assert decoder.failures == {}

    def test_what_fetching_raises_passes_and_can_be_tried_again(self, kit):
        answers = [ConnectionError("registry down"), json.dumps(self.older)]

        def fetch(_):
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        decoder = Decoder(KEY, fetch_schema=fetch)
        values = kit.batch([confluent(1, self.older_value())])
        with pytest.raises(ConnectionError):
            decoder.decode(*values)
        assert reasons(decoder.decode(*values)) == ["ok"]

    def test_schemas_given_are_judged_at_once(self):
        with pytest.raises(SchemaError, match=r"schema 8: .*record"):
            Decoder(KEY, schemas={8: '"string"'})
        with pytest.raises(SchemaError, match="32-bit"):
            Decoder(KEY, schemas={-1: self.older})

    def test_schemas_whose_events_may_begin_with_zero_need_a_frame(self):
        for schema in (self.older, smallest(["string", "null"], last=False), smallest(["bytes"], last=False)):
            with pytest.raises(SchemaError, match="must come first"):
                Decoder(KEY, writer_schema=schema)
        Decoder(KEY, writer_schema=smallest(["null", "string"], last=False))


def test_nothing_is_read_or_indexed_out_of_bounds(kit, tmp_path):
    """Thousands of mutated values, each between unreadable pages, with every array index checked."""
    rng = random.Random(11)
    cases = []
    for _ in range(12):
        schema = kit.evolve(rng, event_id_first=False)
        writer = kit.Writer(rng, schema)
        values = [writer.event() for _ in range(10)]
        values += [kit.mutate(rng, rng.choice(values)) for _ in range(240)]
        values += [values[0][:n] for n in range(len(values[0]))]
        cases.append((schema, [confluent(1, value) for value in values]))
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    script = Path(__file__).with_name("guarded_decode.py")
    done = subprocess.run(
        [sys.executable, script], input=pickle.dumps(cases), capture_output=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    for (schema, values), statuses in zip(cases, pickle.loads(done.stdout), strict=True):
        for value, status in zip(values, statuses, strict=True):
            expected = kit.twin(schema, value[5:])
            assert REJECT_REASONS[status] == (expected if isinstance(expected, str) else "ok")
