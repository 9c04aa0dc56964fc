"""Canonical usage events by the million, for benches: made as arrays.

Every event is plain Avro of ``schemas/usage_event.avsc``, about 200 bytes, keyed by its session, in the partition
``session % partitions``; its team is ``session % teams``, its model ``model_of(session)``. An event is a copy of one
fastavro encoding with a few bytes of fixed width overwritten (ids, time, tokens), so a million take a second to make;
tests decode them again with fastavro. The same seed gives the same bytes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from schemas.codec import encode

START_MS = 1_795_460_400_000
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.5-pro")
ID_HEX = 32
"""Digits of event and session ids."""
ZIPF_EXPONENT = 1.1
LEFT_OUT = ("agent", "use_case", "environment", "user", "response_id")
"""By a lean event."""
CHUNK = 100_000
MIN_TOKENS, MAX_TOKENS = 64, 8191
"""Whose zigzag varints have two bytes."""
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


@dataclass(frozen=True, slots=True)
class Load:
    """What a topic is filled with. ``events_per_second`` is of event time."""

    events: int
    sessions: int = 100_000
    teams: int = 101
    """Not a multiple of the partitions, so that every team is in all of them."""
    keys: Literal["uniform", "zipf", "new"] = "uniform"
    """``new``: every event has a session of its own."""
    partitions: int = 4
    padding: int = 0
    """Bytes added to each event, in its ``region``."""
    lean: bool = False
    """No fields but those that identify, attribute and price an event."""
    first: int = 0
    """Number of the first event: ids and new sessions follow from it."""
    first_session: int = 0
    events_per_second: int = 500_000
    start_ms: int = START_MS
    """Event time of the first event."""
    seed: int = 1


def session_numbers(load: Load) -> Iterator[np.ndarray]:
    """int64 session number of each event, in chunks."""
    rng = np.random.default_rng(load.seed)
    if load.keys == "zipf":
        weights = np.arange(1, load.sessions + 1, dtype=np.float64) ** -ZIPF_EXPONENT
        edges = np.cumsum(weights) / weights.sum()
    for at in range(0, load.events, CHUNK):
        n = min(CHUNK, load.events - at)
        if load.keys == "new":
            yield load.first_session + load.first + np.arange(at, at + n)
        elif load.keys == "zipf":
            yield load.first_session + np.minimum(np.searchsorted(edges, rng.random(n)), load.sessions - 1)
        else:
            yield load.first_session + rng.integers(0, load.sessions, n)


def values(
    load: Load, numbers: Callable[[Load], Iterator[np.ndarray]] = session_numbers
) -> Iterator[tuple[np.ndarray, list[bytes]]]:
    """(session int64[n], Avro values) in chunks, in order of event time; ``numbers`` chooses the sessions."""
    encoder = Encoder(load)
    at = 0
    for sessions in numbers(load):
        number = at + np.arange(len(sessions))
        time_ms = load.start_ms + number * 1000 // load.events_per_second
        yield sessions, encoder.encode(load.first + number, sessions, time_ms)
        at += len(sessions)


class Encoder:
    """Makes a load's events; their tokens are random."""

    def __init__(self, load: Load):
        self._rng = np.random.default_rng(load.seed + 1)
        self._templates = [_Template(load, model) for model in range(len(MODELS))]

    def encode(self, number: np.ndarray, session: np.ndarray, time_ms: np.ndarray) -> list[bytes]:
        """Avro values of events: their numbers, which make their ids, sessions and event times, int64[n] each."""
        out = np.empty(len(number), object)
        for rows, encoded in self.rows(number, session, time_ms):
            size, data = encoded.shape[1], encoded.tobytes()
            out[rows] = [data[at : at + size] for at in range(0, len(data), size)]
        return out.tolist()

    def rows(
        self, number: np.ndarray, session: np.ndarray, time_ms: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The same by model, since a model's events have one size: (rows int64[m], values uint8[m, size])."""
        tokens = self._rng.integers(MIN_TOKENS, MAX_TOKENS, (len(number), 2))
        of_model = model_of(session)
        for model, template in enumerate(self._templates):
            rows = np.flatnonzero(of_model == model)
            if len(rows):
                yield rows, template.fill(number[rows], session[rows], time_ms[rows], tokens[rows])


def model_of(session: np.ndarray) -> np.ndarray:
    """Index in MODELS, in no step with partitions and teams."""
    return session // 5 % len(MODELS)


def session_keys(session: np.ndarray) -> np.ndarray:
    """Kafka keys of sessions int64[n]: their ids, uint8[n, ID_HEX]."""
    return _hex(session, 0x5E)


def session_key(session: int) -> bytes:
    """Kafka key of a session's events: its id."""
    return session_keys(np.array([session])).tobytes()


class _Template:
    """One encoded event of a model, and where its varying parts lie."""

    def __init__(self, load: Load, model: int):
        self.teams = load.teams
        width = len(str(max(load.teams - 1, 1)))
        event = {
            "event_id": "E" * ID_HEX,
            "source": "bench",
            "event_time": load.start_ms,
            "session_id": "S" * ID_HEX,
            "team": "team-" + "T" * width,
            "agent": f"agent-{model}",
            "use_case": "bench",
            "environment": "production",
            "user": "u" * 16,
            "provider": "openai",
            "model": MODELS[model],
            "region": "r" * load.padding,
            "input_tokens": MIN_TOKENS,
            "output_tokens": MAX_TOKENS,
            "response_id": "r" * 18,
        }
        if load.lean:
            event = {name: value for name, value in event.items() if name not in LEFT_OUT}
        data = encode("usage_event", event)
        self.bytes = np.frombuffer(data, np.uint8)
        self.event_id = data.index(b"E" * ID_HEX)
        self.session_id = data.index(b"S" * ID_HEX)
        self.team, self.team_width = data.index(b"T" * width), width
        self.time = data.index(_varint(load.start_ms))
        self.input = data.index(_varint(MIN_TOKENS), self.team)
        self.output = data.index(_varint(MAX_TOKENS), self.input + 2)

    def fill(self, number: np.ndarray, session: np.ndarray, time_ms: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        rows = np.tile(self.bytes, (len(number), 1))
        rows[:, self.event_id : self.event_id + ID_HEX] = _hex(number, 0xE7)
        rows[:, self.session_id : self.session_id + ID_HEX] = session_keys(session)
        digits = session % self.teams
        for place in range(self.team_width):
            rows[:, self.team + self.team_width - 1 - place] = ord("0") + digits // 10**place % 10
        _put_varint(rows, self.time, time_ms)
        _put_varint(rows, self.input, tokens[:, 0])
        _put_varint(rows, self.output, tokens[:, 1])
        return rows


def _hex(number: np.ndarray, salt: int) -> np.ndarray:
    """Digits uint8[n, 32] of a well mixed id for each number (splitmix64, twice)."""
    out = np.empty((len(number), ID_HEX), np.uint8)
    for half in range(2):
        z = number.astype(np.uint64) * np.uint64(2) + np.uint64(half) + np.uint64(salt << 40)
        z *= np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
        for digit in range(16):
            out[:, 16 * half + digit] = _HEX[(z >> np.uint64(4 * digit)) & np.uint64(15)]
    return out


def _varint(value: int) -> bytes:
    zigzag, out = value << 1, bytearray()
    while zigzag > 127:
        out.append(zigzag & 127 | 128)
        zigzag >>= 7
    return bytes([*out, zigzag])


def _put_varint(rows: np.ndarray, at: int, value: np.ndarray) -> None:
    """Overwrite a varint by others that have as many bytes."""
    zigzag = value << 1
    width = len(_varint(int(value[0]))) if len(value) else 0
    for byte in range(width):
        last = byte == width - 1
        rows[:, at + byte] = zigzag >> 7 * byte & 127 | (0 if last else 128)
