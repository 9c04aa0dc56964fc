"""Whether River's learners earn their place: the same events on the steady tenants, for each model on its own.

Each model's limit is its highest score in the second half of week 1, times a factor; two windows in a row above it
open, as for everybody else. Half-space trees are those of models.learners, on spend alone (the rest of the vector is
constant here). ADWIN watches ln spend; Holt-Winters predicts it, with a season of a day. ``call_cost`` asks the same of
ADWIN on cost per call.
"""

import json
import math

import click
import numpy as np
from river.drift import ADWIN
from river.time_series import HoltWinters

from loadtest.accuracy import call_cost
from loadtest.accuracy import rates as bench
from loadtest.accuracy import tenants as data
from loadtest.accuracy.tenants import WEEK, WINDOW_MS
from loadtest.accuracy.watchers import Watcher, incidents
from models.config import LearnerConfig
from models.learners.team_vector import TeamVectors

DAY = 144
KINDS = [(3.0, "1h"), (5.0, "1h"), (10.0, "1h")]
EVENTS = 2
FACTORS = (1.0, 1.25, 1.5, 2.0)


def half_space_trees(series: np.ndarray) -> np.ndarray:
    """Scores of one series of spend, as production gives them."""
    teams, out = TeamVectors(LearnerConfig(window_size=DAY)), np.zeros(len(series))
    for i, spend in enumerate(series.tolist()):
        out[i] = teams.observe("t", [int(spend), 0, 10, 0, 600, 200, 0, 200], i * WINDOW_MS, WINDOW_MS) or 0.0
    return out


def holt_winters(series: np.ndarray) -> np.ndarray:
    """How far ln spend is above the prediction."""
    model, out = HoltWinters(alpha=0.1, beta=0.01, gamma=0.1, seasonality=DAY), np.zeros(len(series))
    floor = 0.1 * series[:DAY].mean() + 1.0
    for i, spend in enumerate(series.tolist()):
        y = math.log(spend + floor)
        if i > 2 * DAY:
            out[i] = max(y - model.forecast(1)[0], 0.0)
        model.learn_one(y)
    return out


def adwin(series: np.ndarray) -> np.ndarray:
    """1 in the windows where it sees a drift upwards."""
    detector, out = ADWIN(), np.zeros(len(series))
    floor = 0.1 * series[:DAY].mean() + 1.0
    for i, spend in enumerate(series.tolist()):
        before = detector.estimation
        detector.update(math.log(spend + floor))
        out[i] = float(detector.drift_detected and detector.estimation > before)
    return out


def watcher(score, factor: float, known: dict) -> Watcher:
    """``known`` keeps scores between factors: each series is learnt once."""

    def watch(settle: np.ndarray, test: np.ndarray) -> np.ndarray:
        copies = len(test) // len(settle)
        opens = np.zeros(test.shape, np.bool_)
        for row in range(len(test)):
            if row not in known:
                known[row] = score(np.concatenate([settle[row // copies], test[row]]))
            said = known[row]
            if score is adwin:
                opens[row] = said[WEEK:] > 0
            else:
                opens[row] = incidents(said[None, WEEK:] > factor * said[WEEK // 2 : WEEK].max())[0]
        return opens

    return watch


def run() -> dict:
    tenants = data.load()
    tenants = tenants.only(tenants.testing & tenants.steady)
    ways = {"tenfold": [(1.0, bench.production())], "adwin": [(1.0, watcher(adwin, 1.0, {}))]}
    for score in (half_space_trees, holt_winters):
        known: dict = {}
        ways[score.__name__] = [(factor, watcher(score, factor, known)) for factor in FACTORS]
    result = {}
    for name, way in ways.items():
        for factor, watch in way:
            raw = bench.measure(tenants, watch, per_kind=EVENTS, of=KINDS)
            figures = {"factor": factor, "false_per_tenant_week": round(float(raw["false"].mean()), 3)}
            for kind in KINDS:
                found = [event[3] > 0 for event in raw["events"] if event[1] == kind[0]]
                figures[f"recall_{kind[0]:g}x_1h"] = round(float(np.mean(found)), 3)
            result.setdefault(name, []).append(figures)
    result["cost_per_call"] = call_cost.run()
    result["microseconds_a_pane"] = call_cost.microseconds()
    return result


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=bench.Path), help="Folder for the results.")
def learners(out) -> None:
    """River's learners on the same events as the rate detector, steady tenants."""
    out = out or bench.RESULTS
    out.mkdir(parents=True, exist_ok=True)
    result = run()
    (out / "accuracy_learners.json").write_text(json.dumps(result, indent=1) + "\n")
    click.echo(json.dumps(result))


if __name__ == "__main__":
    learners()
