"""What the replay of the same records comes to, and how the topics differ from it.

Compared exactly: every counter of every window of every scope; every ended run of a session; the records that were
rejected, by their bytes; the events per session of every peer group; money and milestone of every budget; and every
finding by id, with its status, severity and money. Two things may differ without being wrong, since they depend on
how much is read at once:

- A budget that passes several milestones in one step says so in one finding. So a milestone counts as found if it is
  the level of a finding or is named in one as passed in the same step.
- Between an outlier's first finding and its resolution there may be more or fewer updates. Its last one must agree.

Of a window, the record with the highest revision counts, as for every reader of that topic.

An alert is missing if a receiver was not told of a finding's last state that concerns it. It is sent twice if it took
the same revision again although the sender had its answer: not if it left the sender without one, or the sender or
the broker was killed or frozen within ``NOTING_SECONDS`` of it, before the answer could be noted.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from loadtest.faults.destination import Accepted
from loadtest.faults.stream import Record
from loadtest.faults.topics import Outputs
from models.budgets.findings import MILESTONE
from models.config import HOUR_MS, EngineConfig
from models.counters import COUNTERS
from models.detectors.session_outlier import NAME as SESSION_OUTLIER
from models.detectors.unit_price import NAME as UNIT_PRICE
from models.findings import finding_id
from streams.replay import Replay, chunks

CHUNK_EVENTS = 500
MAX_SHOWN = 5
NOTING_SECONDS = 1.0
FLIGHT_SECONDS = 0.5
"""A request that is on its way when its sender's broker goes away may be answered this much later."""


@dataclass(slots=True)
class Expected:
    """The replay's results."""

    events: int = 0
    spend: dict[tuple, tuple] = field(default_factory=dict)
    sessions: dict[tuple, dict] = field(default_factory=dict)
    budgets: dict[tuple, dict] = field(default_factory=dict)
    findings: dict[str, dict] = field(default_factory=dict)
    """The last record of each id."""
    all_findings: dict[str, list[dict]] = field(default_factory=dict)
    milestones: set[tuple] = field(default_factory=set)
    rejected: set[bytes] = field(default_factory=set)
    peers: dict[tuple, list] = field(default_factory=dict)


def replay(config: EngineConfig, records: list[Record]) -> Expected:
    """Run the engine over the records in their order; what lives on at the end stays open, as it does in a worker."""
    expected = Expected(rejected={record.value for record in records if record.event is None})
    findings: dict[str, list[dict]] = defaultdict(list)

    def take_session(row: dict) -> None:
        expected.sessions[(row["session_id"], row["first_event_time"])] = _run(row)

    engine = Replay(config, lambda finding: findings[finding["id"]].append(finding), take_session)
    for chunk in chunks((record.event for record in records if record.event is not None), CHUNK_EVENTS):
        engine.feed(chunk)
    expected.events = engine.counts["events"]
    expected.spend = {key: _counters(row) for key, row in engine.spend.items()}
    expected.budgets = dict(engine.budgets)
    expected.all_findings = dict(findings)
    expected.findings = {id: rows[-1] for id, rows in findings.items()}
    expected.milestones = _milestones(findings)
    expected.peers = {key: merged.event_bins.tolist() for key, merged in engine._usage.baselines._merged.items()}
    return expected


@dataclass(slots=True)
class Difference:
    """Counts for the JSON line, and words for whoever looks into it."""

    lost: int = 0
    counted_twice: int = 0
    windows_wrong: int = 0
    sessions_missing: int = 0
    sessions_extra: int = 0
    sessions_wrong: int = 0
    rejected_missing: int = 0
    rejected_extra: int = 0
    budgets_wrong: int = 0
    baselines_wrong: int = 0
    findings_missing: int = 0
    findings_extra: int = 0
    findings_wrong: int = 0
    alerts_missing: int = 0
    alerts_twice: int = 0
    alerts_unknown: int = 0
    said: list[str] = field(default_factory=list)

    def note(self, name: str, items) -> int:
        """Count ``items`` under ``name`` and keep the first few for people."""
        items = list(items)
        setattr(self, name, len(items))
        self.said += [f"{name}: {item}" for item in items[:MAX_SHOWN]]
        return len(items)

    def counts(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__ if name != "said"}

    @property
    def clean(self) -> bool:
        return not any(self.counts().values())


def compare(expected: Expected, outputs: Outputs, accepted: list[Accepted], cuts: list[float]) -> Difference:
    """How ``outputs`` and the accepted alerts differ from what is expected; ``cuts``: when workers were cut off."""
    difference = Difference()
    _compare_spend(difference, expected, outputs)
    got = {key: _run(row) for key, row in outputs.sessions.items()}
    difference.note("sessions_missing", sorted(expected.sessions.keys() - got.keys()))
    difference.note("sessions_extra", sorted(got.keys() - expected.sessions.keys()))
    wrong = {key for key in got.keys() & expected.sessions.keys() if got[key] != expected.sessions[key]}
    difference.note("sessions_wrong", sorted(wrong | outputs.session_conflicts))
    rejected = {row["value"] for row in outputs.rejected.values()}
    difference.note("rejected_missing", expected.rejected - rejected)
    difference.note(
        "rejected_extra", [row for row in outputs.rejected.values() if row["value"] not in expected.rejected]
    )
    _compare_budgets(difference, expected, outputs)
    peers = {key: row["event_bins"] for key, row in outputs.baselines.items()}
    difference.note(
        "baselines_wrong",
        sorted(key for key in peers.keys() | expected.peers.keys() if peers.get(key) != expected.peers.get(key)),
    )
    _compare_findings(difference, expected, outputs)
    _compare_alerts(difference, outputs, accepted, cuts)
    return difference


def _compare_spend(difference: Difference, expected: Expected, outputs: Outputs) -> None:
    got = {key: _counters(row) for key, row in outputs.spend.items()}
    nothing = (0,) * len(COUNTERS)
    events = COUNTERS.index("events")
    wrong = []
    for key in sorted(expected.spend.keys() | got.keys()):
        scope, _, window_ms = key
        want, have = expected.spend.get(key, nothing), got.get(key, nothing)
        if want == have:
            continue
        wrong.append(f"{key} want {want} have {have}")
        if scope.kind == "team" and window_ms == HOUR_MS:
            difference.lost += max(want[events] - have[events], 0)
            difference.counted_twice += max(have[events] - want[events], 0)
    difference.note("windows_wrong", wrong)


def _compare_budgets(difference: Difference, expected: Expected, outputs: Outputs) -> None:
    def facts(row: dict | None) -> tuple | None:
        return row and (row["spent_nano_usd"], row["milestone_percent"], [rate["firing"] for rate in row["burn"]])

    keys = expected.budgets.keys() | outputs.budgets.keys()
    pairs = {key: (facts(expected.budgets.get(key)), facts(outputs.budgets.get(key))) for key in keys}
    difference.note("budgets_wrong", [f"{key} want {a} have {b}" for key, (a, b) in pairs.items() if a != b])


def _compare_findings(difference: Difference, expected: Expected, outputs: Outputs) -> None:
    milestones = _milestones(outputs.findings)
    want = {id for id, row in expected.findings.items() if row["detector"] != MILESTONE}
    got = {id for id, rows in outputs.findings.items() if rows[-1]["detector"] != MILESTONE}
    difference.note("findings_missing", [_shown(expected.findings[id]) for id in want - got])
    difference.findings_missing += len(expected.milestones - milestones)
    difference.said += [f"findings_missing: {item}" for item in expected.milestones - milestones]
    difference.note("findings_extra", [_shown(outputs.findings[id][-1]) for id in got - want])
    difference.findings_extra += len(milestones - expected.milestones)
    difference.said += [f"findings_extra: {item}" for item in milestones - expected.milestones]
    wrong = []
    for id in want & got:
        a, b = _facts(expected.findings[id]), _facts(max(outputs.findings[id], key=lambda row: row["revision"]))
        if a != b:
            wrong.append(f"want {a} have {b}: {_shown(expected.findings[id])}")
    difference.note("findings_wrong", wrong)


def _compare_alerts(difference: Difference, outputs: Outputs, accepted: list[Accepted], cuts: list[float]) -> None:
    told: dict[tuple, list[Accepted]] = defaultdict(list)
    for alert in accepted:
        told[alert.receiver, alert.finding].append(alert)
    missing = []
    for id, rows in outputs.findings.items():
        last = max(rows, key=lambda row: row["revision"])
        if max((alert.revision for alert in told["webhook", id]), default=0) < last["revision"]:
            missing.append(f"webhook revision {last['revision']} of {_shown(last)}")
        paged = any(row["severity"] == "critical" for row in rows)
        pages = told["pagerduty", id]
        if paged and not any(not alert.resolved for alert in pages):
            missing.append(f"page of {_shown(last)}")
        if paged and last["status"] == "resolved" and not any(alert.resolved for alert in pages):
            missing.append(f"resolution of {_shown(last)}")
    difference.note("alerts_missing", missing)
    twice = []
    for (receiver, id), alerts in told.items():
        for (revision, resolved), count in Counter((alert.revision, alert.resolved) for alert in alerts).items():
            same = [alert for alert in alerts if (alert.revision, alert.resolved) == (revision, resolved)]
            excused = sum(not alert.answered or _cut_off(alert.at, cuts) for alert in same)
            if count - excused > 1:
                twice.append(f"{receiver} took revision {revision} of {id} {count} times, {excused} unanswered")
    difference.note("alerts_twice", twice)
    difference.note("alerts_unknown", sorted({id for _, id in told} - outputs.findings.keys()))


def _cut_off(at: float, cuts: list[float]) -> bool:
    return any(-FLIGHT_SECONDS <= cut - at <= NOTING_SECONDS for cut in cuts)


def repeats_without_answer(accepted: list[Accepted]) -> int:
    """Messages that a receiver took again, with the same dedup key."""
    counts = Counter((alert.receiver, alert.finding, alert.revision, alert.resolved) for alert in accepted)
    return sum(count - 1 for count in counts.values())


def _counters(row: dict) -> tuple:
    return tuple(row[name] for name in COUNTERS)


def _run(row: dict) -> dict:
    return {name: value for name, value in row.items() if name != "source_partition"}


def _milestones(findings: dict[str, list[dict]]) -> set[tuple]:
    """(finding id, level) that were passed."""
    passed = set()
    for rows in findings.values():
        for row in rows:
            if row["detector"] == MILESTONE:
                details = row["details"]
                levels = [details["level_percent"], *details.get("also_passed_percent", "").split(",")]
                budget, period = details["budget"], details["period"]
                passed |= {(finding_id(MILESTONE, budget, period, int(level)), level) for level in levels if level}
    return passed


def _facts(row: dict) -> tuple:
    facts = row["status"], row["severity"], row["observed_nano_usd"]
    if row["detector"] == SESSION_OUTLIER:
        return facts
    if row["detector"] == UNIT_PRICE:  # Its revision is an offset, which the replay has others of.
        return *facts, row["expected_nano_usd"]
    return *facts, row["expected_nano_usd"], row["revision"]


def _shown(row: dict) -> str:
    return f"{row['id']} r{row['revision']} {row['status']} {row['severity']}: {row['reason']}"
