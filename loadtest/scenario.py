"""The demo's timeline: one hour of AI usage at one company, played faster than it happened.

Real are the chat traffic (Mooncake), the coding assistant and support traffic (Azure) and the coding agent's calls
with their recorded costs (Aider), among them the call of 10,033 tokens recorded at $9,990.01. Synthetic are the
loan approvals, the loan that runs away, and the last twelve minutes of support traffic at four times its rate;
``loadtest/data/README.md`` says so too. The same arguments give the same events. Memory: some 30 MB; the whole
hour takes about a second to make.
"""

import heapq
import math
import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from streams.files import event_from_json, read_events

DATA = Path(__file__).parent / "data"
HOUR_MS = 3_600_000

SESSION_GAP_MS = 120_000
"""A coding session's pauses are cut to this, so that a day of work fits the hour."""
INCIDENT_AT_MS = 2_400_000
INCIDENT_NANO_USD = 9_990_012_528_750

SUPPORT_STEP_AT_MS = 2_880_000
SUPPORT_STEP_FACTOR = 4

LOANS = 135
LOAN_EVERY_MS = 24_000
LOAN_MODEL = ("anthropic", "claude-sonnet-4-5")
"""$3 and $15 per million input and output tokens, with no dearer tier below 200,000."""
RUNAWAY_LOAN = 90
"""Its session id is ``loan-0090-RUN``; it starts like any other, then the agent asks for one document for ever."""
RUNAWAY_TURNS = 240
RUNAWAY_TURN_MS = 4_400
RUNAWAY_MAX_TOKENS = 190_000


def demo_events(
    now_ms: int, speed: float = 40.0, *, run: str | None = None, seed: int = 10, data: Path = DATA
) -> Iterator[tuple[float, dict]]:
    """``(play_at_seconds, event)`` by play time, from 0 to 3600 / speed; events are complete UsageEvents.

    The hour ends when playing ends, so no event is ever in the future of a player that starts at ``now_ms``:
    ``event_time = now_ms + 3600 s / speed - 1 h + play_at x speed``. ``run`` ends every event, session and
    transaction id, so that a second run is not taken for a repeat of the first; by default it is ``now_ms`` in hex.
    """
    if not speed > 0:
        raise ValueError(f"speed is {speed}; accepted: a number above 0")
    if run is None:
        run = f"{now_ms:x}"
    hour_start_ms = now_ms + round(HOUR_MS / speed) - HOUR_MS
    timeline = heapq.merge(
        _chat(data), _azure(data, random.Random(seed)), _coding(data), _loans(random.Random(seed + 1)), key=_at_ms
    )
    for at_ms, event in timeline:
        event["event_time"] = hour_start_ms + at_ms
        for name in ("event_id", "session_id", "transaction_id"):
            if event[name]:
                event[name] = f"{event[name]}-{run}"
        yield at_ms / 1000 / speed, event


def _at_ms(item: tuple[int, dict]) -> int:
    return item[0]


def _chat(data: Path) -> Iterator[tuple[int, dict]]:
    """Mooncake's hour as it was."""
    first_ms = None
    for event in read_events(data / "mooncake.jsonl.gz"):
        first_ms = event["event_time"] if first_ms is None else first_ms
        yield event["event_time"] - first_ms, event


def _azure(data: Path, rng: random.Random) -> Iterator[tuple[int, dict]]:
    """Azure's hour as it was; from the step on, each support request comes four times within five seconds."""
    first_ms = None
    copies: list[tuple[int, int, dict]] = []
    for event in read_events(data / "azure.jsonl.gz"):
        first_ms = event["event_time"] if first_ms is None else first_ms
        at_ms = event["event_time"] - first_ms
        while copies and copies[0][0] <= at_ms:
            copy_at_ms, _, copy = heapq.heappop(copies)
            yield copy_at_ms, copy
        if event["team"] == "support" and at_ms >= SUPPORT_STEP_AT_MS:
            for number in range(2, SUPPORT_STEP_FACTOR + 1):
                copy = {**event, "event_id": f"{event['event_id']}x{number}"}
                heapq.heappush(copies, (at_ms + rng.randrange(5_000), rng.getrandbits(32), copy))
        yield at_ms, event
    while copies:
        copy_at_ms, _, copy = heapq.heappop(copies)
        yield copy_at_ms, copy


def _coding(data: Path) -> Iterator[tuple[int, dict]]:
    """Aider's sessions in their order, started so that calls come evenly and every session ends within the hour."""
    sessions: dict[str, list[dict]] = {}
    for event in read_events(data / "aider.jsonl.gz"):
        sessions.setdefault(event["session_id"], []).append(event)
    total = sum(map(len, sessions.values()))
    last_ms = HOUR_MS - 10_000
    before = 0
    timeline = []
    for events in sessions.values():
        offsets_ms = [0]
        for earlier, later in pairwise(events):
            offsets_ms.append(offsets_ms[-1] + min(later["event_time"] - earlier["event_time"], SESSION_GAP_MS))
        squeeze = min(1.0, last_ms / max(offsets_ms[-1], 1))
        offsets_ms = [int(offset_ms * squeeze) for offset_ms in offsets_ms]
        start_ms = (last_ms - offsets_ms[-1]) * before // total
        before += len(events)
        for event, offset_ms in zip(events, offsets_ms, strict=True):
            if event["cost_nano_usd"] == INCIDENT_NANO_USD:
                start_ms = INCIDENT_AT_MS - offset_ms
        timeline += [(start_ms + offset_ms, event) for event, offset_ms in zip(events, offsets_ms, strict=True)]
    timeline.sort(key=_at_ms)
    yield from timeline


_LOAN_STEPS = (
    # seconds after the start, kind, what, cost in nano-USD of one
    (0, "TOOL_CALL", "credit-report", 550_000_000),
    (4, "VECTOR_QUERY", "policy-search", 5_000_000),
    (6, "LLM", "read-application", 0),
    (25, "TOOL_CALL", "income-check", 350_000_000),
    (30, "VECTOR_QUERY", "policy-search", 5_000_000),
    (32, "LLM", "assess-income", 0),
    (55, "TOOL_CALL", "property-valuation", 450_000_000),
    (60, "VECTOR_QUERY", "policy-search", 5_000_000),
    (62, "LLM", "assess-property", 0),
    (80, "TOOL_CALL", "fraud-check", 250_000_000),
    (84, "VECTOR_QUERY", "policy-search", 5_000_000),
    (86, "LLM", "assess-risk", 0),
    (105, "COMPLIANCE", "fair-lending-check", 850_000_000),
    (110, "LLM", "write-decision", 0),
    (150, "HUMAN_REVIEW", "underwriter", 0),
)
_LLM_INPUT_TOKENS, _LLM_OUTPUT_TOKENS = 85_000, 4_000
_REVIEW_MINUTES, _REVIEW_MINUTE_NANO_USD = 4.2, 750_000_000
"""Together $7.20 a loan: 5 x $0.315 for tokens (22 %), $2.47 for tools, search and compliance, $3.15 for a person."""


def _loans(rng: random.Random) -> Iterator[tuple[int, dict]]:
    timeline = []
    for number in range(1, LOANS + 1):
        start_ms = (number - 1) * LOAN_EVERY_MS + rng.randrange(LOAN_EVERY_MS)
        timeline += _runaway(rng, start_ms) if number == RUNAWAY_LOAN else _loan(rng, number, start_ms)
    timeline.sort(key=_at_ms)
    yield from timeline


def _loan(rng: random.Random, number: int, start_ms: int) -> Iterator[tuple[int, dict]]:
    pace = _about(rng, 1.0, 0.15)
    for step, (second, kind, what, cost_nano_usd) in enumerate(_LOAN_STEPS, 1):
        at_ms = start_ms + int(second * 1000 * pace)
        if kind == "LLM":
            tokens = round(_about(rng, _LLM_INPUT_TOKENS, 0.2)), round(_about(rng, _LLM_OUTPUT_TOKENS, 0.2))
            yield at_ms, _loan_llm(number, step, what, *tokens)
        elif kind == "HUMAN_REVIEW":
            minutes = round(_about(rng, _REVIEW_MINUTES, 0.25), 2)
            cost_nano_usd = round(minutes * 100) * _REVIEW_MINUTE_NANO_USD // 100
            yield at_ms, _loan_event(number, step, kind, what, quantity=minutes, unit="minute", cost=cost_nano_usd)
        else:
            yield at_ms, _loan_event(number, step, kind, what, quantity=1, unit="call", cost=cost_nano_usd)


def _runaway(rng: random.Random, start_ms: int) -> Iterator[tuple[int, dict]]:
    """A tool call, then a model call with the whole context again and a short answer; about $115 in 18 minutes."""
    for turn in range(RUNAWAY_TURNS):
        at_ms = start_ms + turn * RUNAWAY_TURN_MS + rng.randrange(400)
        step = 2 * turn + 1
        yield (
            at_ms,
            _loan_event(RUNAWAY_LOAN, step, "TOOL_CALL", "fetch-document", quantity=1, unit="call", cost=20_000_000),
        )
        context = min(20_000 + 1_500 * turn, RUNAWAY_MAX_TOKENS) + rng.randrange(100)
        yield at_ms + 1_500, _loan_llm(RUNAWAY_LOAN, step + 1, "read-document", context, 30 + rng.randrange(15))


def _about(rng: random.Random, mean: float, spread: float) -> float:
    """Log-normal with this mean."""
    return mean * math.exp(rng.gauss(0.0, spread) - spread**2 / 2)


def _loan_llm(number: int, step: int, what: str, input_tokens: int, output_tokens: int) -> dict:
    provider, model = LOAN_MODEL
    event = _loan_event(number, step, "LLM", what)
    return event | {
        "provider": provider,
        "model": model,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
    }


def _loan_event(
    number: int, step: int, kind: str, what: str, quantity: float = 0.0, unit: str = "", cost: int | None = None
) -> dict:
    return event_from_json(
        {
            "event_id": f"loan-{number:04d}-{step:03d}",
            "source": "lending-platform",
            "event_time": 0,
            "session_id": f"loan-{number:04d}",
            "team": "lending",
            "agent": "loan-agent",
            "use_case": "loan-approval",
            "transaction_id": f"loan-{number:04d}",
            "transaction_type": "loan",
            "kind": kind,
            "quantity": quantity,
            "unit": unit,
            "cost_nano_usd": cost,
            "tags": {"step": what},
        }
    )
