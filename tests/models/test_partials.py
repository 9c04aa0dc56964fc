"""Panes as columns: there and back, in parts, and what is none; changed windows against fastavro."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import EngineConfig
from models.counters import COUNTERS
from models.partials import PartialsError, columns, packed
from models.rollup import RollupEngine
from models.scopes import SCOPE_KINDS, Scope
from models.spend import ChangedWindows
from schemas.codec import decode, encode
from tests.panes import pane_columns, pane_rows

longs = st.integers(-(2**63), 2**63 - 1)
names = st.text(alphabet="a|\\:\nü", max_size=4)
scopes = st.builds(
    lambda kind, team, model: Scope.of(kind, team=team, model=model, agent=team, use_case=model),
    st.sampled_from(SCOPE_KINDS),
    names,
    names,
)
panes = st.lists(
    st.tuples(scopes, longs, st.integers(1, 2**63 - 1), st.lists(longs, min_size=8, max_size=8)), max_size=12
)


def record(rows) -> dict:
    return {
        "source_partition": 3,
        "next_offset": 7,
        "watermark": 5,
        "idle": False,
        "panes": packed(columns(rows)),
        "transactions": None,
        "baselines": [],
    }


@given(panes)
def test_what_is_written_is_what_is_read(rows):
    message = record(rows)
    assert decode("partials", encode("partials", message)) == message
    got = [(Scope(*list(row.values())[:5]), *list(row.values())[5:]) for row in pane_rows(message)]
    assert got == [(scope, start, size, *sums) for scope, start, size, sums in rows]
    assert pane_columns(pane_rows(message)) == message["panes"]


@given(panes, st.integers(0, 12))
def test_parts_hold_what_the_whole_holds_and_no_scope_too_many(rows, cut):
    whole = columns(rows)
    first, second = whole.take(slice(cut)), whole.take(slice(cut, None))
    parts = [row for part in (first, second) for row in pane_rows({"panes": packed(part)})]
    assert parts == pane_rows({"panes": packed(whole)})
    assert set(first.scopes) == {scope.key for scope, *_ in rows[:cut]}


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("scope", b"\x02\0\0\0", "not there"),
        ("scope", b"\xff\xff\xff\xff", "not there"),
        ("scope", b"", "differ in length"),
        ("counters", b"\0" * 56, "differ in length"),
        ("window_ms", b"\0" * 8, "no length"),
        ("scopes", ["team:a", "planet:x"], "not the key"),
        ("scopes", ["team:a\\", "team:b"], "not the key"),
    ],
)
def test_what_cannot_be_partials_is_refused_whole(column, value, said):
    engine = RollupEngine(EngineConfig())
    message = record([(Scope("team", "a"), 0, 60_000, [1] * 8)])
    message["panes"]["scopes"] = ["team:a", "team:b"]
    message["panes"][column] = value
    with pytest.raises(PartialsError, match=said):
        engine.apply(message, 0)
    assert (len(engine.panes), engine.watermark_ms, engine.sources.snapshot()["sources"]) == (0, -1, [])


@given(scopes)
def test_a_scope_is_what_its_key_says(scope):
    assert Scope.parse(scope.key) == scope


@pytest.mark.parametrize("key", ["", "team", "planet:a", "team:a|b", "team_model:a", "team:a\\", "organisation:a"])
def test_what_is_no_key_is_refused(key):
    with pytest.raises(ValueError, match="not the key of a scope"):
        Scope.parse(key)


@settings(deadline=None)
@given(panes, longs, st.integers(0, 2**40))
def test_changed_windows_are_those_of_fastavro(rows, revision, watermark_ms):
    known: list[Scope] = []
    numbers = []
    for scope, *_ in rows:
        if scope not in known:
            known.append(scope)
        numbers.append(known.index(scope))
    n = len(rows)
    start = np.array([start % 2**41 for _, start, _, _ in rows], np.int64)
    size = np.array([size % 2**40 + 1 for _, _, size, _ in rows], np.int64)
    totals = np.array([sums for *_, sums in rows], np.int64).reshape(n, len(COUNTERS))
    windows = ChangedWindows(
        known, np.array(numbers, np.int64), start, size, totals, np.full(n, revision, np.int64), watermark_ms
    )
    encoded: dict = {}
    for (key, value), row in zip(windows.rows(encoded), windows, strict=True):
        scope = Scope(row["scope_kind"], row["team"], row["model"], row["agent"], row["use_case"])
        assert key == f"{scope.key}@{row['window_start']}+{row['window_ms']}".encode()
        assert value == encode("window_spend", row)
        assert row["final"] == (row["window_start"] + row["window_ms"] <= watermark_ms)
