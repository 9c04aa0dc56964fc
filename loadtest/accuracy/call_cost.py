"""Whether ADWIN on cost per call earns its place; and what a learner costs per pane.

Real costs of calls, in their order: Azure's two services, Mooncake, and Aider's models with MIN_CALLS; PANE_CALLS
calls are a pane, whose mean is all that a worker could give a learner. The first half of a stream settles. In copies of
it, all calls from a random pane of the second half on cost FACTORS times as much (a dearer model, longer prompts, lost
caches). A rise is found if the first alarm after it comes within WITHIN panes; alarms in the untouched second half are
false. Beside ADWIN: Page-Hinkley, and a mean of the last eight panes above 1.5 times a slow mean.
"""

import time

import numpy as np
from river.drift import ADWIN, PageHinkley

from loadtest.accuracy.session_data import recorded
from loadtest.builders import columns_of
from models.config import LearnerConfig
from models.learners.team_vector import TeamVectors
from models.pricing import PriceTable
from streams.files import read_events

MIN_CALLS = 400
PANE_CALLS = 10
FACTORS = (1.5, 2.0, 3.0)
SEEDS = 10
WITHIN = 30
REFRACTORY = 6


def streams() -> dict[str, np.ndarray]:
    """ln of the mean cost of a call in each pane, by stream."""
    from loadtest.make_data import DATA

    prices, costs = PriceTable(), {}
    sources = [*read_events(DATA / "azure.jsonl.gz"), *recorded("mooncake"), *recorded("aider")]
    for low in range(0, len(sources), 5_000):
        batch = sources[low : low + 5_000]
        for event, nano_usd in zip(batch, prices.price(columns_of(batch)).cost_nano_usd.tolist(), strict=True):
            if nano_usd > 0:
                costs.setdefault(f"{event['team']} {event['model']}", []).append(nano_usd)
    panes = {}
    for name, each in sorted(costs.items()):
        if len(each) >= MIN_CALLS:
            whole = len(each) // PANE_CALLS * PANE_CALLS
            panes[name] = np.log(np.array(each[:whole], np.float64).reshape(-1, PANE_CALLS).mean(axis=1))
    return panes


def adwin(series: np.ndarray) -> np.ndarray:
    detector, out = ADWIN(clock=1), np.zeros(len(series), np.bool_)
    for at, value in enumerate(series.tolist()):
        before = detector.estimation
        detector.update(value)
        out[at] = detector.drift_detected and detector.estimation > before
    return out


def page_hinkley(series: np.ndarray) -> np.ndarray:
    """Threshold of the notes: eight standard deviations of the settled half."""
    detector = PageHinkley(delta=0.05, threshold=8 * float(series[: len(series) // 2].std()), mode="up")
    out = np.zeros(len(series), np.bool_)
    for at, value in enumerate(series.tolist()):
        detector.update(value)
        out[at] = detector.drift_detected
    return out


def two_means(series: np.ndarray) -> np.ndarray:
    slow = fast = float(series[:8].mean())
    out = np.zeros(len(series), np.bool_)
    for at, value in enumerate(series.tolist()):
        slow, fast = slow + 0.01 * (value - slow), fast + (value - fast) / 8
        out[at] = fast - slow > np.log(1.5)
    return out


def alarms(said: np.ndarray) -> list[int]:
    """Panes of alarms, of which one silences the next REFRACTORY."""
    found: list[int] = []
    for at in np.flatnonzero(said).tolist():
        if not found or at - found[-1] > REFRACTORY:
            found.append(at)
    return found


def run() -> dict:
    panes = streams()
    result: dict = {"streams": {name: len(series) * PANE_CALLS for name, series in panes.items()}, "pane": PANE_CALLS}
    for detector in (adwin, page_hinkley, two_means):
        false = sum(sum(at >= len(s) // 2 for at in alarms(detector(s))) for s in panes.values())
        calls = sum(len(series) // 2 for series in panes.values()) * PANE_CALLS
        figures = {"false_per_1000_calls": round(1000 * false / calls, 2)}
        for factor in FACTORS:
            delays, events = [], 0
            for number, series in enumerate(panes.values()):
                for seed in range(SEEDS):
                    rng = np.random.default_rng((number, seed))
                    at = int(rng.integers(len(series) // 2, len(series) - min(WITHIN, len(series) // 4)))
                    risen = series.copy()
                    risen[at:] += np.log(factor)
                    later = [alarm - at for alarm in alarms(detector(risen)) if at <= alarm < at + WITHIN]
                    events += 1
                    delays += later[:1]
            figures[f"{factor:g}x"] = {
                "found": round(len(delays) / events, 3),
                "calls_until_found_median": int(np.median(delays) + 1) * PANE_CALLS if delays else None,
            }
        result[detector.__name__] = figures
    return result


def microseconds(panes: int = 3_000) -> dict:
    """CPU time of one pane, median and p99: scoring and learning it."""
    teams, rng, taken = TeamVectors(LearnerConfig()), np.random.default_rng(0), []
    for at in range(panes):
        row = [int(10**9 * rng.lognormal()), 0, 10, 0, *rng.integers(0, 1_000, 2).tolist(), 0, 200]
        started = time.thread_time_ns()
        teams.observe("t", row, at * 60_000, 60_000)
        taken.append((time.thread_time_ns() - started) / 1_000)
    median, high = np.percentile(taken[panes // 10 :], [50, 99])
    return {"half_space_trees_median": round(float(median), 1), "half_space_trees_p99": round(float(high), 1)}
