"""``tenfold replay`` on the sample data against totals that share no code with the engine."""

import filecmp
import json
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from loadtest.totals import totals
from models.config import HOUR_MS, EngineConfig
from streams.config import Settings
from streams.feedback_command import read_feedback
from streams.files import merge_files, read_events
from streams.replay import CHUNK_EVENTS, Replay, chunks, replay_to

DATA = Path(__file__).parents[2] / "loadtest" / "data"
FILES = sorted(DATA.glob("*.jsonl.gz"))
SMALL = [DATA / "aider.jsonl.gz", DATA / "mooncake.jsonl.gz"]
OUTPUTS = [
    "budgets.jsonl",
    "decisions.jsonl",
    "findings.jsonl",
    "rejected.jsonl",
    "sessions.jsonl",
    "shares.jsonl",
    "spend.jsonl",
    "summary.json",
    "unit_costs.jsonl",
]
INCIDENT = "aider-04966"
"""The call of 10,033 tokens recorded at $9,990.01."""
CONFIG = Settings(budgets=[{"team": "coding", "monthly_usd": 100}]).engine()


@pytest.fixture(scope="module")
def oracle() -> dict:
    return totals(FILES)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("replay")
    replay_to(merge_files(FILES), CONFIG, out)
    return out


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("small")
    replay_to(merge_files(SMALL), CONFIG, out)
    return out


def rows(out: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def by(records: list[dict], *names: str) -> dict:
    """Cost summed over the records of each combination of ``names``."""
    sums: Counter = Counter()
    for record in records:
        sums[tuple(record[name] for name in names)] += record["cost_nano_usd"]
    return sums


def windows(out: Path, kind: str, size_ms: int) -> list[dict]:
    return [row for row in rows(out, "spend.jsonl") if row["scope_kind"] == kind and row["window_ms"] == size_ms]


def test_totals_equal_those_of_another_road(replayed, oracle):
    summary = json.loads((replayed / "summary.json").read_text())
    assert summary["events"] == oracle["events"] == 59_606
    assert summary["unpriced"] == oracle["unpriced"] == 317
    assert summary["cost_nano_usd"] == oracle["cost_nano_usd"] == 54_528_221_677_656
    assert summary["cost_nano_usd_by_team"] == oracle["by_team"]
    assert summary["cost_nano_usd_by_model"] == oracle["by_model"]
    assert (summary["duplicates"], summary["rejected"], summary["late"]) == (0, 0, 0)


def test_hour_windows_equal_those_of_another_road(replayed, oracle):
    expected = {
        (team, int(hour)): cost for team, hours in oracle["by_team_hour"].items() for hour, cost in hours.items()
    }
    hours = windows(replayed, "team", HOUR_MS)
    assert {(row["team"], row["window_start"]): row["cost_nano_usd"] for row in hours} == expected
    assert sum(row["events"] for row in hours) == oracle["events"]
    assert sum(row["unpriced_events"] for row in hours) == oracle["unpriced"]
    assert all(row["estimated_nano_usd"] > 0 for row in hours if row["unpriced_events"]), "named, with an estimate"


@pytest.mark.parametrize("kind", ["team", "model", "team_model", "agent", "use_case"])
def test_every_scope_adds_up_to_the_whole(replayed, oracle, kind):
    hours = windows(replayed, kind, HOUR_MS)
    assert sum(row["cost_nano_usd"] for row in hours) == oracle["cost_nano_usd"]
    assert sum(row["events"] for row in hours) == oracle["events"]


def test_sessions_equal_those_of_another_road(replayed, oracle):
    runs = rows(replayed, "sessions.jsonl")
    assert {key[0]: cost for key, cost in by(runs, "session_id").items()} == oracle["by_session"]
    assert len({(run["session_id"], run["first_event_time"]) for run in runs}) == len(runs)
    with_session = sum(bool(event["session_id"]) for event in merge_files(FILES))
    assert sum(run["events"] for run in runs) == with_session


def test_the_incident_is_found_on_its_event(replayed):
    found = [row for row in rows(replayed, "findings.jsonl") if row["detector"] == "unit_price"]
    assert [row["example_event_ids"] for row in found] == [[INCIDENT]] * 2
    finding, resolved = found
    assert (resolved["id"], resolved["status"]) == (finding["id"], "resolved")
    assert finding["observed_nano_usd"] == 9_990_012_528_750
    assert (finding["status"], finding["severity"]) == ("open", "critical")
    assert sum(part["excess_nano_usd"] for part in finding["cause"]) == finding["excess_nano_usd"]


def test_the_incident_is_raised_by_the_batch_that_holds_it():
    seen: list[str] = []
    replay = Replay(EngineConfig(), lambda finding: finding["status"] == "open" and seen.append(finding["detector"]))
    around = list(read_events(DATA / "aider.jsonl.gz"))[4_500:5_200]
    for chunk in chunks(around, 50):
        before = seen.count("unit_price")
        replay.feed(chunk)
        holds = any(event["event_id"] == INCIDENT for event in chunk)
        assert seen.count("unit_price") - before == holds


def test_the_same_input_gives_the_same_files(small, tmp_path):
    replay_to(merge_files(SMALL), CONFIG, tmp_path)
    same, different, missing = filecmp.cmpfiles(small, tmp_path, OUTPUTS, shallow=False)
    assert (sorted(same), different, missing) == (OUTPUTS, [], [])
    assert sorted(path.name for path in tmp_path.iterdir()) == OUTPUTS
    assert rows(tmp_path, "budgets.jsonl") and rows(tmp_path, "findings.jsonl") and rows(tmp_path, "sessions.jsonl")


def disordered(events: list[dict], lateness_ms: int, rng: random.Random) -> list[dict]:
    """Each event moved back by less than ``lateness_ms``; one in five comes once more, within it too."""
    keyed = []
    for event in events:
        keyed.append((event["event_time"] + rng.randrange(lateness_ms), len(keyed), event))
        if rng.random() < 0.2:
            keyed.append((event["event_time"] + rng.randrange(lateness_ms), len(keyed), dict(event)))
    return [event for *_, event in sorted(keyed, key=lambda item: item[:2])]


def test_repeats_and_disorder_within_the_lateness_change_nothing(small, tmp_path):
    events = list(merge_files(SMALL))
    shuffled = disordered(events, CONFIG.windows.lateness_ms, random.Random(1))
    assert shuffled != events and len(shuffled) > 1.15 * len(events)
    summary = replay_to(shuffled, CONFIG, tmp_path)
    assert summary["duplicates"] == len(shuffled) - len(events)
    straight = json.loads((small / "summary.json").read_text())
    for name in ("events", "late", "unpriced", "sessions", "cost_nano_usd_by_team", "cost_nano_usd_by_model"):
        assert summary[name] == straight[name]

    def amounts(out: Path) -> dict:
        names = ("scope_kind", "team", "model", "agent", "use_case", "window_start", "window_ms")
        return {tuple(row[name] for name in names): row["cost_nano_usd"] for row in rows(out, "spend.jsonl")}

    assert amounts(tmp_path) == amounts(small)
    runs = ("session_id", "first_event_time", "last_event_time", "events", "cost_nano_usd")
    assert sorted(tuple(run[n] for n in runs) for run in rows(tmp_path, "sessions.jsonl")) == sorted(
        tuple(run[n] for n in runs) for run in rows(small, "sessions.jsonl")
    )


def test_what_people_said_meanwhile_is_taken_when_the_clock_has_come_so_far(tmp_path):
    """A session that people call normal lifts its peers' limits: twelve times their median is no warning then."""

    def event(number, hour, session, usd, **more):
        names = {"source": "t", "team": "t", "agent": "a", "model": "m", "session_id": session}
        at = {"event_id": f"e{number}", "event_time": 1_793_610_000_000 + hour * HOUR_MS}
        return {**at, **names, "cost_nano_usd": round(usd * 10**9), **more}

    peers = [event(n, 0, f"peer{n}", 2.0) for n in range(60)]
    dear = [event(100 + n, 2, f"dear{n}", 60.0) for n in range(10)]
    late = [event(200, 4, "clock", 2.0), event(201, 6, "clock2", 2.0), event(202, 8, "late", 24.0)]
    found: dict[str, list[dict]] = {}
    said: list[dict] = []
    for name in ("without", "with", "too late"):
        found[name] = []
        replay = Replay(EngineConfig(), found[name].append, feedback=said)
        for chunk in chunks([*peers, *dear, *late]):
            replay.feed(chunk)
        replay.finish()
        at_hour = 5 if name == "without" else 9
        path = tmp_path / f"{name}.jsonl"
        ids = sorted({f["id"] for f in found["without"] if f["session_id"].startswith("dear")})
        at_ms = 1_793_610_000_000 + at_hour * HOUR_MS
        path.write_text("".join(json.dumps({"finding_id": i, "verdict": "false", "at_ms": at_ms}) + "\n" for i in ids))
        said = read_feedback(path)
    late_ones = {name: [f for f in findings if f["session_id"] == "late"] for name, findings in found.items()}
    assert len(said) == 10
    assert late_ones["without"] and late_ones["too late"] and not late_ones["with"]


def test_events_that_cannot_be_counted_are_named_and_the_others_count(tmp_path):
    good = list(read_events(DATA / "aider.jsonl.gz"))[:50]
    bad = [
        {**good[0], "event_id": "b1", "source": ""},
        {**good[1], "event_id": "b2", "input_tokens": -1},
        {**good[2], "event_id": "b3", "event_time": 1},
    ]
    mixed = [*good[:20], *bad, *good[20:]]
    summary = replay_to(mixed, EngineConfig(), tmp_path, rejected_lines=iter([{"reason": "bad_json_event"}]))
    rejected = rows(tmp_path, "rejected.jsonl")
    assert summary["events"] == 50 and summary["rejected"] == len(rejected) == 4
    assert [(row["reason"], row.get("offset")) for row in rejected] == [
        ("missing_identity", 20),
        ("out_of_range", 21),
        ("bad_event_time", 22),
        ("bad_json_event", None),
    ]
    assert [row["event"]["event_id"] for row in rejected[:3]] == ["b1", "b2", "b3"]


def test_where_batches_are_cut_decides_no_amount():
    events = list(read_events(DATA / "aider.jsonl.gz"))[:1_500]
    results = []
    for size in (CHUNK_EVENTS, 777):
        runs: dict = defaultdict(int)

        def take(run: dict, runs=runs) -> None:
            runs[run["session_id"], run["first_event_time"]] += run["cost_nano_usd"]

        replay = Replay(EngineConfig(), on_session=take)
        for chunk in chunks(events, size):
            replay.feed(chunk)
        summary = replay.finish()
        spend = {key: row["cost_nano_usd"] for key, row in replay.spend.items()}
        results.append((summary["cost_nano_usd_by_model"], runs, spend))
    assert results[0] == results[1]
