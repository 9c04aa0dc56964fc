"""Plain Avro bytes of records that this version or one before has written."""

import io

import fastavro

from schemas.codec import decode, encode, load_schema

SAID = {"finding_id": "f", "verdict": "false", "at_ms": 5, "user": "ana", "note": "a big task"}


def test_feedback_of_before_notes_is_read():
    schema = {**load_schema("feedback"), "fields": load_schema("feedback")["fields"][:-1]}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, {name: SAID[name] for name in SAID if name != "note"})
    old, new = decode("feedback", out.getvalue()), decode("feedback", encode("feedback", SAID))
    assert old == {**new, "note": ""}
    assert new["note"] == "a big task"
