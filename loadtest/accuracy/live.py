"""What an early flag is worth: Aider's and Mooncake's sessions, replayed event by event.

The replay is ``streams.replay``, which is the worker's engines; peers are the sessions of the same model. For every
session: what it had cost when it was first said to be on course, a warning, a page, or a runaway agent, and what it
cost in the end. The gate of a dollar is off, since these sessions cost cents.

The truth is taken over the whole time. Aider's ten months see prices and habits change: what is ten times the median
of two weeks need not be so for the ten months, so its figures are given for the default half-life of baselines and for
one that forgets nothing.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from loadtest.accuracy.measure import CELLS, measure
from loadtest.accuracy.session_data import RATIO, medians_of_others, recorded
from models.config import EngineConfig
from streams.replay import Replay, chunks

SIGNS = ("on_course", "warning", "page", "runaway")


@dataclass
class Run:
    """One run of a session and the cost it had at each first flag."""

    model: str
    first_ms: int
    last_ms: int
    cost: int
    at: dict[str, int] = field(default_factory=dict)


def replayed(name: str, half_life_days: float) -> list[Run]:
    """All runs with a cost, in the order they ended."""
    config = EngineConfig()
    free = replace(config.session_outlier, min_excess_nano_usd=0, half_life_days=half_life_days)
    config = replace(config, session_outlier=free, runaway=replace(config.runaway, min_cost_nano_usd=0))
    flags: dict[tuple[str, int], dict[str, int]] = {}
    runs: list[Run] = []

    def on_finding(finding: dict) -> None:
        if finding["status"] == "resolved" or finding["detector"] not in ("session_outlier", "runaway_agent"):
            return
        at = flags.setdefault((finding["session_id"], finding["first_event_time"]), {})
        if finding["detector"] == "runaway_agent":
            sign = "runaway"
        elif finding["details"]["rule"] == "ratio":
            sign = "page" if finding["severity"] == "critical" else "warning"
        else:
            sign = finding["details"]["rule"]
        at.setdefault(sign, finding["observed_nano_usd"])
        if sign == "page":
            at.setdefault("warning", finding["observed_nano_usd"])

    def on_session(row: dict) -> None:
        if row["cost_nano_usd"] > 0:
            first, last = row["first_event_time"], row["last_event_time"]
            at = flags.get((row["session_id"], first), {})
            runs.append(Run(row["model"], first, last, row["cost_nano_usd"], at))

    replay = Replay(config, on_finding, on_session)
    for chunk in chunks(recorded(name)):
        replay.feed(chunk)
    replay.finish()
    return runs


def known_peers(runs: list[Run], idle_ms: int) -> np.ndarray:
    """float64[n]: runs of the same model that had ended when the last event of each one came."""
    last = np.array([run.last_ms for run in runs])
    model = np.array([run.model for run in runs])
    peers = np.zeros(len(runs))
    for name in np.unique(model):
        members = np.flatnonzero(model == name)
        ends = np.sort(last[members] + idle_ms)
        peers[members] = np.searchsorted(ends, last[members])
    return peers


def run(name: str, half_life_days: float) -> dict:
    """Precision and recall by known peers, and what was left to spend at the flags of true outliers."""
    runs = replayed(name, half_life_days)
    cost = np.array([run.cost for run in runs], np.int64)
    _, model = np.unique([run.model for run in runs], return_inverse=True)
    truth = cost >= RATIO * medians_of_others(cost, model)
    peers = known_peers(runs, EngineConfig().sessions.idle_ms)
    rng = np.random.default_rng(0)
    flagged = {sign: np.array([sign in run.at for run in runs]) for sign in SIGNS}
    result = {"sessions": len(runs), "models": int(model.max()) + 1, "outliers": int(truth.sum())}
    each = np.arange(len(runs))
    for cell, (low, high) in CELLS.items():
        chosen = (peers >= low) & (peers < high)
        result[cell] = {
            sign: measure(flagged[sign][chosen], truth[chosen], each[chosen], rng) for sign in SIGNS if chosen.any()
        }
    result["at_the_flag"] = {sign: _worth(runs, flagged[sign], truth, sign) for sign in SIGNS}
    return result


def _worth(runs: list[Run], flagged: np.ndarray, truth: np.ndarray, sign: str) -> dict:
    """Of the true outliers that were flagged: share of the final cost not yet spent, and dollars."""
    hits = [runs[at] for at in np.flatnonzero(flagged & truth)]
    false = [runs[at] for at in np.flatnonzero(flagged & ~truth)]
    unspent = [1 - run.at[sign] / run.cost for run in hits]
    shares = np.quantile(unspent, (0.5, 0.75, 0.9)) if unspent else []
    return {
        "true_flags": len(hits),
        "false_flags": len(false),
        "unspent_share_p50_p75_p90": [round(float(share), 3) for share in shares],
        "avoidable_usd": round(sum(run.cost - run.at[sign] for run in hits) / 1e9, 4),
        "outliers_cost_usd": round(sum(run.cost for run, true in zip(runs, truth, strict=True) if true) / 1e9, 4),
        "false_flags_cost_usd": round(sum(run.cost for run in false) / 1e9, 4),
    }
