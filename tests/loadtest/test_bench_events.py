"""Events of the benches: what was cut together is what fastavro would have written."""

import numpy as np
import pytest

from loadtest.bench.events import MAX_TOKENS, MIN_TOKENS, MODELS, START_MS, Load, model_of, session_key, values
from schemas.codec import decode, encode


@pytest.mark.parametrize("keys", ["uniform", "zipf"])
def test_every_event_is_sound_and_its_own(keys):
    load = Load(events=3_000, sessions=50, teams=12, keys=keys, padding=40, events_per_second=1_000)
    sessions, encoded = zip(*((s, v) for chunk in values(load) for s, v in zip(*chunk, strict=True)), strict=True)
    events = [decode("usage_event", value) for value in encoded]
    assert [encode("usage_event", event) for event in events] == list(encoded)
    assert len({event["event_id"] for event in events}) == load.events
    assert [event["event_time"] for event in events] == [START_MS + number for number in range(load.events)]
    for session, event in zip(sessions, events, strict=True):
        assert event["session_id"].encode() == session_key(session)
        assert event["team"] == f"team-{session % 12:02d}" and event["model"] == MODELS[model_of(session)]
        assert event["region"] == "r" * 40
        assert all(MIN_TOKENS <= event[name] <= MAX_TOKENS for name in ("input_tokens", "output_tokens"))
    assert len({event["session_id"] for event in events}) == len(set(sessions)) > 30
    counts = np.bincount(sessions)
    assert counts.max() > (4 if keys == "zipf" else 1) * counts.mean()


def test_without_padding_an_event_has_some_two_hundred_bytes():
    [(_, encoded)] = values(Load(events=1_000))
    assert 180 <= np.mean([len(value) for value in encoded]) <= 220


def test_lean_events_new_sessions_and_later_starts():
    load = Load(events=200, keys="new", lean=True, first=1_000, start_ms=START_MS + 60_000, events_per_second=1_000)
    ((sessions, encoded),) = values(load)
    events = [decode("usage_event", value) for value in encoded]
    assert sessions.tolist() == list(range(1_000, 1_200)) and len({event["session_id"] for event in events}) == 200
    assert [event["event_time"] for event in events] == [START_MS + 60_000 + number for number in range(200)]
    assert {len(value) for value in encoded} <= set(range(110, 150)) and events[0]["user"] == ""
