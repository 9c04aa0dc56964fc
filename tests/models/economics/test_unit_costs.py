"""Unit costs through both engines: a month on two partitions against plain Python, and when a day is too dear."""

import random
import re
from collections import defaultdict
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from statistics import median
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.builders import columns_of
from models.config import DAY_MS, HOUR_MS, AttributionConfig, EngineConfig, UnitCostConfig
from models.economics.transactions import Transactions
from models.engine import UsageEngine
from models.pricing import PriceTable
from models.rolling import SLICES
from models.rollup import RollupEngine
from schemas.codec import decode, encode

ROOT = Path(__file__).parents[3]
USD = 10**9
DAY0 = int(datetime(2026, 10, 20, tzinfo=UTC).timestamp() * 1000)
LOAN = UnitCostConfig("loan", target_nano_usd=7_200_000_000, timezone="America/New_York")
KINDS = ("LLM", "TOOL_CALL", "VECTOR_QUERY", "HUMAN_REVIEW", "COMPLIANCE")


class Job:
    """Two usage engines and a rollup engine; partials go through Avro, and some of them twice or late."""

    def __init__(self, config, seed=0, partitions=2):
        self.config, self.rng = config, random.Random(seed)
        self.usage = [UsageEngine(config, partition, PriceTable()) for partition in range(partitions)]
        self.rollup = RollupEngine(config)
        self.records, self.findings, self.sent, self.now_ms = {}, [], [], 0

    def feed(self, partition, events):
        engine = self.usage[partition]
        first = engine.next_offset
        self.now_ms = max([self.now_ms, *(event["event_time"] for event in events)])
        engine.apply(columns_of(events, first), first + len(events), self.now_ms)
        self.deliver(engine)

    def deliver(self, engine):
        self.sent.append(encode("partials", engine.flush()))
        self.rollup.apply(decode("partials", self.sent[-1]), self.now_ms)
        if self.rng.random() < 0.1:  # As after a restart of its reader.
            for value in self.rng.choices(self.sent, k=3):
                self.rollup.apply(decode("partials", value), self.now_ms)
        self.take(self.rollup.advance(self.now_ms))

    def take(self, out):
        self.findings += [finding for finding in out.findings if finding["detector"] == "unit_cost"]
        for record in out.unit_costs:
            assert decode("unit_cost", encode("unit_cost", record)) == record
            key = record["transaction_type"], record["day"]
            assert record["revision"] > self.records.get(key, {"revision": 0})["revision"]
            self.records[key] = record

    def restart(self):
        """Both from rolling deltas, as a worker does."""
        usage = [[engine.take_delta(number) for number in range(SLICES)] for engine in self.usage]
        rollup = [self.rollup.take_delta(number) for number in range(SLICES)]
        self.usage = [UsageEngine.restore(self.config, PriceTable(), deltas) for deltas in usage]
        self.rollup = RollupEngine.restore(self.config, rollup)

    def finish(self):
        self.take(self.rollup.finish(self.now_ms))


def event(number, time_ms, cost, kind="LLM", transaction="", type="loan", **more):
    return {"event_id": f"e{number}", "source": "t", "event_time": time_ms, "session_id": f"s{number}",
            "team": "lending", "use_case": "loans", "kind": kind, "cost_nano_usd": cost,
            "transaction_id": transaction, "transaction_type": type, **more}  # fmt: skip


def test_a_month_on_two_partitions_equals_plain_python():
    """Late events, repeats of events and of partials, transactions over days and partitions, DST, restarts."""
    rng = random.Random(8)
    job = Job(EngineConfig(unit_costs=(LOAN, UnitCostConfig("ticket"))), seed=9)
    cost = defaultdict(lambda: defaultdict(int))
    events_of = defaultdict(lambda: defaultdict(int))
    began: dict[tuple[str, str], int] = {}
    number, seen = 0, []
    for hour in range(24 * 30):
        for partition in range(2):
            batch = []
            for _ in range(rng.randrange(4)):
                number += 1
                late = rng.choice([0, 0, 0, 3, 50]) * HOUR_MS
                time_ms = max(DAY0 + hour * HOUR_MS + rng.randrange(HOUR_MS) - late, DAY0)
                kind_of, name = rng.choice(["loan", "ticket", "other", ""]), f"t{rng.randrange(max(hour, 1) + 5) // 2}"
                batch.append(
                    event(number, time_ms, rng.randrange(USD), rng.choice(KINDS), rng.choice([name, name, ""]), kind_of)
                )
            for one in batch:
                if one["transaction_type"] not in ("loan", "ticket"):
                    continue
                begins = one["event_time"] // HOUR_MS * HOUR_MS
                key = one["transaction_type"], day_of(begins, one["transaction_type"])
                cost[key][one["kind"]] += one["cost_nano_usd"]
                events_of[key][one["kind"]] += 1
                if one["transaction_id"]:
                    transaction = one["transaction_type"], one["transaction_id"]
                    began[transaction] = min(began.get(transaction, begins), begins)
            seen.append((partition, batch))
            repeats = [one for where, sent in seen[-3:] if where == partition for one in sent if rng.random() < 0.1]
            job.feed(partition, sorted(batch + repeats, key=lambda one: one["event_time"]))
        if hour in (100, 333, 600):
            job.restart()
    job.finish()
    transactions = defaultdict(int)
    for (kind_of, _), begins in began.items():
        transactions[kind_of, day_of(begins, kind_of)] += 1
    assert set(job.records) == set(cost) | set(transactions)
    for key, record in job.records.items():
        total = sum(cost[key].values())
        assert (record["cost_nano_usd"], record["transactions"]) == (total, transactions[key]), key
        assert {one["kind"]: (one["cost_nano_usd"], one["events"]) for one in record["kinds"]} == {
            kind: (cost[key][kind], events_of[key][kind]) for kind in cost[key]
        }
        assert sum(one["cost_nano_usd"] for one in record["kinds"]) == record["cost_nano_usd"]
        unit = transactions[key] and (Decimal(total) / transactions[key]).to_integral_value(ROUND_HALF_UP)
        assert record["unit_nano_usd"] == (unit or None)
        if key[0] == "loan":
            assert record["variance_nano_usd"] == total - 7_200_000_000 * transactions[key]
        else:
            assert record["target_nano_usd"] is record["variance_nano_usd"] is None
        week = sorted(day for kind_of, day in cost if kind_of == key[0] and days_between(day, key[1]) in range(7))
        assert record["trailing_cost_nano_usd"] == sum(sum(cost[key[0], day].values()) for day in week)
        assert record["trailing_transactions"] == sum(transactions[key[0], day] for day in week)
    assert sum(record["transactions"] for record in job.records.values()) == len(began), "each is counted once"


def day_of(time_ms, kind):
    zone = ZoneInfo(LOAN.timezone) if kind == "loan" else UTC
    return datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(zone).date().isoformat()


def days_between(early, late):
    return (datetime.fromisoformat(late) - datetime.fromisoformat(early)).days


def test_checkpoints_taken_piece_by_piece_between_events_bring_everything_back():
    """The last SLICES deltas of each engine, taken while it went on, at a moment when little was due."""
    config = EngineConfig(unit_costs=(LOAN,), extra_scopes=("user",), attribution=AttributionConfig(min_percent=95))

    def run(restarts_at):
        rng, job, usage, rollup = random.Random(5), Job(config, partitions=1), [], []
        for step in range(150):
            at = DAY0 + step * 20 * 60_000
            batch = []
            for i in range(3):
                names = {"user": f"u{rng.randrange(9)}", "use_case": rng.choice(["", "loans"])}
                cost, kind, loan = rng.randrange(USD), rng.choice(KINDS), f"t{rng.randrange(40)}"
                batch.append(event(3 * step + i, at + i, cost, kind, loan, **names))
            job.feed(0, batch)
            usage.append(job.usage[0].take_delta(step % SLICES))
            rollup.append(job.rollup.take_delta(step % SLICES))
            if step == restarts_at:
                job.usage = [UsageEngine.restore(config, PriceTable(), usage[-SLICES:])]
                job.rollup = RollupEngine.restore(config, rollup[-SLICES:])
        job.finish()
        windows = {(scope, start): totals for scope in job.rollup.panes.scopes
                   for start, _, totals in job.rollup.panes.history(scope)}  # fmt: skip
        return job.records, windows

    assert run(77) == run(None)


def test_a_restart_before_the_first_transaction_loses_nothing():
    job = Job(EngineConfig(unit_costs=(LOAN,)))
    job.feed(0, [event(1, DAY0, USD, type="")])
    job.restart()
    job.feed(1, [event(2, DAY0 + 1, USD, transaction="t")])
    job.finish()
    (record,) = job.records.values()
    assert (record["transactions"], record["cost_nano_usd"]) == (1, USD)


class Loans:
    """Days of loans, each $7.20 as in the seed case: 22 % tokens, the rest tools, searches, people and compliance."""

    PARTS = (("LLM", 1_575), ("TOOL_CALL", 1_600), ("VECTOR_QUERY", 20), ("COMPLIANCE", 855), ("HUMAN_REVIEW", 3_150))

    def __init__(self, config=LOAN):
        self.job = Job(EngineConfig(unit_costs=(config,)), partitions=1)
        self.number = 0

    def day(self, day, loans=48, **factors):
        """``factors`` multiply a kind's cost."""
        for hour in range(24):
            batch = []
            for loan in range(loans // 24):
                start = DAY0 + day * DAY_MS + hour * HOUR_MS + 60_000 * loan
                for step, (kind, milli_usd) in enumerate(self.PARTS):
                    self.number += 1
                    amount = int(milli_usd * 1_000_000 * factors.get(kind, 1))
                    batch.append(event(self.number, start + step * 1000, amount, kind, f"loan-{day}-{hour}-{loan}"))
            self.job.feed(0, sorted(batch, key=lambda one: one["event_time"]))

    @property
    def found(self):
        return self.job.findings


UTC_LOAN = UnitCostConfig("loan", target_nano_usd=7_200_000_000)


def test_the_seed_case_is_within_its_target_and_tokens_are_22_percent():
    loans = Loans(UTC_LOAN)
    loans.day(0)
    loans.day(1, loans=24)
    loans.job.finish()
    record = loans.job.records["loan", "2026-10-20"]
    assert record["final"] and record["unit_nano_usd"] == 7_200_000_000 and record["variance_ratio"] == 0
    assert record["kinds"][0]["kind"] == "HUMAN_REVIEW"
    (tokens,) = [one["share"] for one in record["kinds"] if one["kind"] == "LLM"]
    assert round(100 * tokens) == 22 and loans.found == []


def test_a_day_above_the_target_is_one_finding_that_names_the_kind_and_ends():
    loans = Loans(UTC_LOAN)
    for day in range(8):
        loans.day(day)
    loans.day(8, HUMAN_REVIEW=2)  # $10.35 a loan
    loans.day(9, HUMAN_REVIEW=2)
    loans.day(10)
    loans.day(11)
    assert len({finding["id"] for finding in loans.found}) == 1, "its own past says nothing more"
    assert [loans.found[0]["status"], loans.found[-1]["status"]] == ["open", "resolved"]
    closed = next(one for one in loans.found if one["details"]["day"] == "2026-10-28" and one["confidence"] == 1)
    assert closed["observed_nano_usd"] == 48 * 10_350_000_000 and closed["expected_nano_usd"] == 48 * 7_200_000_000
    assert closed["cause"][0] == {
        "dimension": "kind", "name": "HUMAN_REVIEW", "excess_nano_usd": 48 * 3_150_000_000,
    }  # fmt: skip
    section = (ROOT / "docs" / "findings.md").read_text().split("## unit_cost\n")[1]
    assert closed["reason"] == " ".join(re.findall(r"^> (.*)$", section.split("\n## ")[0], re.M))
    for finding in loans.found:
        assert decode("finding", encode("finding", finding)) == finding
        assert sum(part["excess_nano_usd"] for part in finding["cause"]) == finding["excess_nano_usd"]


def test_a_jump_below_the_target_is_told_against_its_own_past():
    loans = Loans(UnitCostConfig("loan", target_nano_usd=20 * USD))
    for day in range(8):
        loans.day(day, HUMAN_REVIEW=1 + day % 2 / 50)
    assert loans.found == []
    loans.day(8, LLM=3)
    loans.day(9)
    loans.day(10)
    opened, resolved = loans.found[0], loans.found[-1]
    usual = median(7_200_000_000 + 63_000_000 * (day % 2) for day in range(8))
    assert opened["details"]["rule"] == "own_history" and resolved["status"] == "resolved"
    assert opened["details"]["expected_unit_nano_usd"] == str(round(usual)) and opened["baseline_size"] == 8
    assert opened["cause"][0]["name"] == "LLM"


def test_too_few_transactions_or_too_little_money_say_nothing():
    few = Loans(UnitCostConfig("loan", target_nano_usd=USD, min_transactions=50))
    few.day(0)
    few.day(1)
    cheap = Loans(UnitCostConfig("loan", target_nano_usd=7_000_000_000, tolerance=0.001))
    cheap.day(0)
    cheap.day(1)
    assert few.found == [] and cheap.found == []


def test_the_evening_of_yesterdays_loans_does_not_make_todays_dear():
    """Cost of loans that began yesterday comes while few of today's have begun."""
    loans = Loans(UnitCostConfig("loan", target_nano_usd=7_200_000_000, min_transactions=1))
    for day in range(3):
        loans.day(day)
    at = DAY0 + 3 * DAY_MS
    loans.job.feed(0, [event("late", at, 40 * USD, "HUMAN_REVIEW", "loan-2-1-0"), event("new", at, USD, "LLM", "n")])
    loans.job.feed(0, [event("tick", at + 3 * HOUR_MS, 1, "LLM", "n")])
    assert loans.found == []


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 200), st.integers(0, 30)), max_size=60),
    st.integers(0, 3),
    st.randoms(),
)
def test_transactions_are_counted_in_their_first_hour_whatever_the_order(reports, restarts, rng):
    first = {}
    for kind, hour, name in reports:
        first[kind, name] = min(first.get((kind, name), hour), hour)
    table = Transactions()
    sent = reports + rng.choices(reports, k=10) if reports else []
    rng.shuffle(sent)
    for piece in np.array_split(np.array(sent, np.int64).reshape(-1, 3), 4):
        table.merge(["a", "b"], piece[:, 0], piece[:, 1].astype(np.int32), piece[:, 2].astype(np.uint64) + np.uint64(1))
        if restarts:
            restarts -= 1
            deltas = [table.take_delta(number) for number in range(SLICES)]
            table = Transactions()
            for delta in deltas:
                table.load_delta(delta)
            table.rebuild()
    for number, name in enumerate("ab"):
        for hour in range(201):
            expected = sum(1 for (kind, _), began in first.items() if kind == number and began == hour)
            assert table.began(name, [hour * HOUR_MS]) == expected
    assert len(table) == len(first)


def test_the_longest_silent_transactions_are_forgotten_and_counts_stay():
    table = Transactions(limit=100)
    ids = np.arange(1, 201, dtype=np.uint64)
    for start in range(0, 200, 50):
        hours = np.full(50, 1000 + start, np.int32)
        table.merge(["loan"], np.zeros(50, np.int32), hours, ids[start : start + 50])
    assert len(table) <= 100
    assert table.began("loan", [(1000 + start) * HOUR_MS for start in range(0, 200, 50)]) == 200
    table.merge(["loan"], np.zeros(50, np.int32), np.full(50, 1150, np.int32), ids[150:])
    assert table.began("loan", [1150 * HOUR_MS]) == 50, "the latest are remembered"
    table.expire(10_000 * HOUR_MS, 1100 * HOUR_MS)
    assert len(table) == 0 and table.began("loan", [1000 * HOUR_MS]) == 0
    assert table.began("loan", [1150 * HOUR_MS]) == 50


@pytest.mark.parametrize("record", [
    {"types": ["a"], "type": b"\0" * 4, "hour": b"", "id": b"\0" * 8},
    {"types": [], "type": b"\0" * 4, "hour": b"\0" * 4, "id": b"\0" * 8},
])  # fmt: skip
def test_what_cannot_be_reports_is_refused_with_nothing_taken(record):
    job = Job(EngineConfig(unit_costs=(LOAN,)))
    job.feed(0, [event(1, DAY0, USD, transaction="t")])
    bad = {**job.usage[0].flush(), "transactions": record}
    with pytest.raises(ValueError, match="transaction"):
        job.rollup.apply(bad, job.now_ms)
