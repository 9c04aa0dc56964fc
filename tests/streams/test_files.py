import gzip
import io
import json
import math
import sys
from datetime import UTC, datetime, timedelta

import fastavro
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import EventError, decode, load_schema
from schemas.columns import KINDS, STRINGS, TOKENS
from streams.errors import ConfigError
from streams.files import encode_event, event_from_json, merge_files, read_events

NEEDED = {"event_id": "e1", "source": "gw", "event_time": 1_793_610_000_000}
FULL = {
    **NEEDED,
    **{name: f"{name} é🚀" for name in STRINGS if name not in NEEDED},
    "kind": "GPU",
    **{name: number for number, name in enumerate(TOKENS, 1)},
    "quantity": 2.5,
    "cost_nano_usd": 7,
    "tags": {"a": "b"},
}


def write_lines(path, events):
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


# event_from_json


def test_defaults_are_those_of_the_schema():
    event = event_from_json(NEEDED)
    assert decode("usage_event", encode_event(event)) == event
    for field in load_schema("usage_event")["fields"]:
        if "default" in field:
            assert event[field["name"]] == field["default"]
    assert set(event) == {field["name"] for field in load_schema("usage_event")["fields"]}


def test_every_field_comes_through():
    assert event_from_json(FULL) == FULL
    assert decode("usage_event", encode_event(event_from_json(FULL))) == FULL


def test_defaults_are_not_shared():
    event_from_json(NEEDED)["tags"]["x"] = "y"
    assert event_from_json(NEEDED)["tags"] == {}


@pytest.mark.parametrize("name", [*STRINGS[2:], "kind", *TOKENS, "quantity", "cost_nano_usd", "tags"])
def test_null_means_left_out(name):
    assert event_from_json({**NEEDED, name: None}) == event_from_json(NEEDED)


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (1_793_610_000_000, 1_793_610_000_000),
        ("1793610000000", 1_793_610_000_000),
        (1_793_610_000_000.0, 1_793_610_000_000),
        ("2026-11-02T09:00:00Z", 1_793_610_000_000),
        ("2026-11-02T10:00:00+01:00", 1_793_610_000_000),
        ("2026-11-02 04:00:00.1239-05:00", 1_793_610_000_123),
        ("20261102T090000Z", 1_793_610_000_000),
        (datetime(2026, 11, 2, 9, 0, 0, 999, UTC), 1_793_610_000_000),
        ("1969-12-31T23:59:59.9999Z", -1),
    ],
)
def test_event_times(value, ms):
    assert event_from_json({**NEEDED, "event_time": value})["event_time"] == ms


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)), st.integers(-14 * 60, 14 * 60))
def test_iso_times_with_any_zone_floor_to_ms(naive, zone_minutes):
    text = (
        f"{naive.isoformat()}{'-' if zone_minutes < 0 else '+'}{abs(zone_minutes) // 60:02}:{abs(zone_minutes) % 60:02}"
    )
    elapsed = naive - timedelta(minutes=zone_minutes) - datetime(1970, 1, 1)
    microseconds = (elapsed.days * 86_400 + elapsed.seconds) * 10**6 + elapsed.microseconds
    assert event_from_json({**NEEDED, "event_time": text})["event_time"] == math.floor(microseconds / 1000)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("input_tokens", "1200", 1200),
        ("input_tokens", 1200.0, 1200),
        ("cost_nano_usd", "-9223372036854775808", -(2**63)),
        ("cost_nano_usd", 0, 0),
        ("quantity", 3, 3.0),
        ("quantity", "2.5e3", 2500.0),
    ],
)
def test_numbers_in_other_writings(name, value, expected):
    got = event_from_json({**NEEDED, name: value})[name]
    assert got == expected and type(got) is type(expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_token": 1}, 'unknown field "input_token"; did you mean "input_tokens"?'),
        ({"prompt_tokens": 1}, 'unknown field "prompt_tokens"; did you mean "input_tokens"?'),
        ({"cost": 1}, 'unknown field "cost"; did you mean "cost_nano_usd"?'),
        ({"cost_usd": None}, 'unknown field "cost_usd"; did you mean "cost_nano_usd"?'),
        ({"zzzzzz": 1}, 'unknown field "zzzzzz"; put what has no field of its own into "tags"'),
        ({"input_tokens": "many"}, 'field "input_tokens" is "many"; accepted: a whole number of 64 bits'),
        ({"input_tokens": 1.5}, 'field "input_tokens" is 1.5; accepted: a whole number'),
        ({"input_tokens": True}, 'field "input_tokens" is true; accepted: a whole number'),
        ({"input_tokens": 2**63}, 'field "input_tokens" is 9223372036854775808; accepted: a whole number'),
        ({"input_tokens": "9" * 19}, 'field "input_tokens" is "9999999999999999999"; accepted'),
        ({"input_tokens": "٣"}, 'field "input_tokens" is'),
        ({"cost_nano_usd": float("inf")}, 'field "cost_nano_usd" is Infinity; accepted'),
        ({"quantity": "nan"}, 'field "quantity" is "nan"; accepted: a number'),
        ({"quantity": 10**400}, 'field "quantity" is 1000'),
        ({"quantity": False}, 'field "quantity" is false'),
        ({"kind": "llm"}, f'field "kind" is "llm"; accepted: one of {", ".join(KINDS)}'),
        ({"kind": ["LLM"]}, 'field "kind" is ["LLM"]; accepted: one of LLM'),
        ({"team": 5}, 'field "team" is 5; accepted: a string'),
        ({"team": "\ud800"}, 'field "team" is "\\ud800"; accepted: a string'),
        ({"team": ["x" * 10**6]}, 'field "team" is ["xxxxxxxxxxxxxxxx'),
        ({"tags": [["a", "b"]]}, 'field "tags" is [["a", "b"]]; accepted: an object of strings'),
        ({"tags": {"a": 1}}, 'field "tags.a" is 1; accepted: a string'),
        ({"tags": {"a": None}}, 'field "tags.a" is null; accepted: a string'),
        (
            {"event_time": "2026-11-02T09:00:00"},
            'field "event_time" is "2026-11-02T09:00:00"; accepted: a time with a zone',
        ),
        ({"event_time": "yesterday"}, 'field "event_time" is "yesterday"; accepted: ms since 1970 or ISO-8601'),
        ({"event_time": True}, 'field "event_time" is true; accepted'),
        ({"event_time": None}, 'field "event_time" is missing'),
        ({"event_id": None}, 'field "event_id" is missing; every event needs event_id, source, event_time'),
    ],
)
def test_errors_name_field_value_and_what_is_accepted(change, message):
    with pytest.raises(EventError) as error:
        event_from_json({**NEEDED, **change})
    assert str(error.value).startswith(message)
    assert len(str(error.value)) < 250


@pytest.mark.parametrize("value", [[], "x", 5, None, True])
def test_only_objects_are_events(value):
    with pytest.raises(EventError, match="accepted: a JSON object"):
        event_from_json(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(FULL)) | st.text(max_size=5), JSON, max_size=6))
def test_whatever_passes_encodes(changes):
    try:
        event = event_from_json({**NEEDED, **changes})
    except EventError:
        return
    read = decode("usage_event", encode_event(event))
    if math.isnan(event["quantity"]):
        event["quantity"] = read["quantity"] = 0.0
    assert read == event


# files


@pytest.fixture
def events():
    return [event_from_json({**FULL, "event_id": f"e{n}", "event_time": 1_793_610_000_000 + n}) for n in range(5)]


def test_all_formats_read_the_same(tmp_path, events):
    write_lines(tmp_path / "a.jsonl", events)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    with open(tmp_path / "a.avro", "wb") as file:
        fastavro.writer(file, load_schema("usage_event"), events, codec="deflate")
    pl.DataFrame(events).write_parquet(tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.jsonl.gz", "a.avro", "a.parquet"):
        assert list(read_events(tmp_path / name)) == events, name


def test_standard_input(monkeypatch, events):
    data = "".join(json.dumps(event) + "\n" for event in events).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert list(read_events("-")) == events


def test_bad_lines_are_named_and_reading_goes_on(tmp_path, events):
    path = tmp_path / "a.jsonl"
    lines = [
        b"\xef\xbb\xbf" + json.dumps(events[0]).encode(),
        b"",
        b"{torn",
        b"\xff",
        b"[" * 100_000,
        b'{"event_time": ' + b"1" * 5000 + b"}",
        json.dumps({**NEEDED, "team": 5}).encode(),
        json.dumps(events[1]).encode(),  # no newline at the end
    ]
    path.write_bytes(b"\r\n".join(lines))
    errors = []
    assert list(read_events(path, errors.append)) == events[:2]
    expected = ("not JSON at character 2", "not UTF-8 at byte 1", "not JSON that", "not JSON that", 'field "team" is 5')
    assert len(errors) == len(expected)
    for line, text, error in zip(range(3, 8), expected, errors, strict=True):
        assert str(error).startswith(f"{path}:{line}: {text}")

    reading = read_events(path)
    assert next(reading) == events[0]
    with pytest.raises(EventError, match=r"a\.jsonl:3: not JSON"):
        next(reading)


def test_other_formats_and_several_events_a_line(tmp_path, events):
    cloud = {"specversion": "1.0", "id": "c1", "source": "gw", "time": "2026-11-02T09:00:00Z", "subject": "session/s"}
    data = {"model": "m", "usage": {"input_tokens": 3, "output_tokens": 2}}
    path = write_lines(tmp_path / "a.jsonl", [events[0], cloud | {"data": data}, [cloud | {"data": {}}, events[1]]])
    errors = []
    read = list(read_events(path, errors.append))
    assert [event["event_id"] for event in read] == ["e0", "c1", "e1"]
    assert read[1] == event_from_json(
        {**NEEDED, "event_id": "c1", "session_id": "s", "model": "m", "input_tokens": 3, "output_tokens": 2}
    )
    assert [str(error) for error in errors] == [f'{path}:3: "data" is of no known format and has no "usage"']


def test_torn_files_always_raise(tmp_path, events):
    packed = gzip.compress(write_lines(tmp_path / "a.jsonl", events * 50).read_bytes())
    (tmp_path / "torn.jsonl.gz").write_bytes(packed[:-20])
    (tmp_path / "plain.jsonl.gz").write_bytes(b"{}")
    with open(tmp_path / "a.avro", "wb") as file:
        fastavro.writer(file, load_schema("usage_event"), events * 50)
    (tmp_path / "torn.avro").write_bytes((tmp_path / "a.avro").read_bytes()[:-300])
    (tmp_path / "other.avro").write_bytes(b"not avro at all")
    (tmp_path / "other.parquet").write_bytes(b"not parquet at all")
    for name in ("torn.jsonl.gz", "plain.jsonl.gz", "torn.avro", "other.avro", "other.parquet"):
        errors = []
        with pytest.raises(EventError, match=f"{name}: unreadable"):
            list(read_events(tmp_path / name, errors.append))
        assert errors == []


def test_avro_of_other_versions(tmp_path):
    """An older writer lacks fields, a newer one has more; times may be finer than ours."""
    schema = {
        "type": "record",
        "name": "UsageEvent",
        "namespace": "tenfold",
        "fields": [
            {"name": "event_id", "type": "string"},
            {"name": "source", "type": "string"},
            {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "carbon_grams", "type": "double"},
            {"name": "input_tokens", "type": "int"},
        ],
    }
    record = {**NEEDED, "carbon_grams": 1.5, "input_tokens": 9}
    with open(tmp_path / "a.avro", "wb") as file:
        fastavro.writer(file, schema, [record])
    (event,) = read_events(tmp_path / "a.avro")
    assert event == event_from_json({**NEEDED, "input_tokens": 9})


def test_parquet_shapes(tmp_path):
    """Times with a zone, tags as a map, nulls for what a row lacks; a bad row is named."""
    moment = datetime(2026, 11, 2, 9, tzinfo=UTC)
    rows = [
        {"event_id": "1", "source": "gw", "event_time": moment, "team": "a", "tags": [{"key": "k", "value": "v"}]},
        {"event_id": "2", "source": "gw", "event_time": moment, "team": None, "tags": None},
        {"event_id": None, "source": "gw", "event_time": moment, "team": None, "tags": []},
    ]
    pl.DataFrame(rows).write_parquet(tmp_path / "a.parquet")
    errors = []
    first, second = read_events(tmp_path / "a.parquet", errors.append)
    assert first == event_from_json({**NEEDED, "event_id": "1", "team": "a", "tags": {"k": "v"}})
    assert second == event_from_json({**NEEDED, "event_id": "2"})
    assert [str(error) for error in errors] == [
        f'{tmp_path / "a.parquet"}: row 3: field "event_id" is missing; every event needs event_id, source, event_time'
    ]


def test_parquet_without_polars_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ConfigError, match="pip install polars"):
        list(read_events(tmp_path / "a.parquet"))


def test_unknown_and_missing_files(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot tell the format of .*events\.csv"):
        list(read_events(tmp_path / "events.csv"))
    with pytest.raises(FileNotFoundError):
        list(read_events(tmp_path / "none.jsonl"))


@given(st.lists(st.lists(st.integers(0, 1000), max_size=12), max_size=4), st.integers(0, 300))
def test_merged_disorder_is_at_most_that_of_the_files(tmp_path_factory, files, lateness):
    """Sorted files (lateness 0) give a sorted merge; nothing is lost; each file's own order stays."""
    folder = tmp_path_factory.mktemp("merge")
    paths = []
    for number, times in enumerate(files):
        newest, within = 0, []
        for time in sorted(times) if lateness == 0 else times:
            newest = max(newest, time)
            within.append(max(time, newest - lateness))
        paths.append(
            write_lines(
                folder / f"{number}.jsonl",
                [{"event_id": f"{number}-{i}", "source": "t", "event_time": time} for i, time in enumerate(within)],
            )
        )
    merged = list(merge_files(paths))
    newest = 0
    for event in merged:
        assert event["event_time"] >= newest - lateness
        newest = max(newest, event["event_time"])
    for number, times in enumerate(files):
        ids = [event["event_id"] for event in merged if event["event_id"].startswith(f"{number}-")]
        assert ids == [f"{number}-{i}" for i in range(len(times))]
