"""Real sessions and what they cost: what the session detectors are measured on.

swebench          13 models x 500 tasks of mini-SWE-agent runs: of a session only its whole cost, since the source
                  gives no steps. CC BY-NC 4.0, which this repository does not pass on: it is read from a folder of
                  originals (``SWEBENCH`` in it; loadtest/data/README.md says where it comes from)
aider, mooncake   event by event, from ``loadtest/data``: costs as recorded, or by the price table

The truth is computed, not judged: a session is an outlier if its final cost is at least ten times the median of all
other sessions of its peers, earlier and later ones.
"""

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loadtest.builders import columns_of
from loadtest.make_data import DATA
from models.money import to_nano_usd
from models.pricing import PriceTable
from streams.files import read_events

SWEBENCH = "swebench-mini-sessions/per_instance.csv.gz"
RATIO = 10.0


@dataclass(frozen=True)
class SessionCosts:
    """n sessions; model and repo int[n] into names, cost int64[n] nano-USD."""

    models: list[str]
    repos: list[str]
    model: np.ndarray
    repo: np.ndarray
    cost_nano_usd: np.ndarray


def swebench(originals: Path) -> SessionCosts:
    """In the order of the file. Raises FileNotFoundError if it is not in ``originals``."""
    with gzip.open(originals / SWEBENCH, "rt", newline="") as file:
        rows = [row for row in csv.DictReader(file) if float(row["cost"]) > 0]
    models, repos = (sorted({row[name] for row in rows}) for name in ("model", "repo"))
    return SessionCosts(
        models,
        repos,
        np.array([models.index(row["model"]) for row in rows]),
        np.array([repos.index(row["repo"]) for row in rows]),
        np.array([to_nano_usd(row["cost"]) for row in rows], np.int64),
    )


def recorded(name: str) -> list[dict]:
    """The events of ``aider`` or ``mooncake`` that cost something, peers by model alone."""
    events = read_events(DATA / f"{name}.jsonl.gz")
    return [
        event | {"agent": "", "use_case": ""} for event in events if event["session_id"] and event["cost_nano_usd"] != 0
    ]


def totals(name: str) -> SessionCosts:
    """What the sessions of ``aider`` or ``mooncake`` cost, under the first model they name."""
    prices = PriceTable()
    model: dict[str, str] = {}
    cost: dict[str, int] = {}
    events = recorded(name)
    for low in range(0, len(events), 5_000):
        batch = events[low : low + 5_000]
        for event, nano_usd in zip(batch, prices.price(columns_of(batch)).cost_nano_usd.tolist(), strict=True):
            session = event["session_id"]
            model.setdefault(session, event["model"])
            cost[session] = cost.get(session, 0) + nano_usd
    sessions = [session for session in cost if cost[session] > 0]
    models = sorted({model[session] for session in sessions})
    number = np.array([models.index(model[session]) for session in sessions])
    return SessionCosts(models, [""], number, np.zeros(len(number), np.int64), np.array([cost[s] for s in sessions]))


def medians_of_others(cost: np.ndarray, group: np.ndarray) -> np.ndarray:
    """float64[n]: the median of the other sessions of each one's group; infinite for the only one.

    >>> medians_of_others(np.array([1, 2, 3, 9]), np.array([0, 0, 0, 1])).tolist()
    [2.5, 2.0, 1.5, inf]
    """
    medians = np.full(len(cost), np.inf)
    for number in np.unique(group):
        members = np.flatnonzero(group == number)
        if len(members) < 2:
            continue
        order = members[np.argsort(cost[members], kind="stable")]
        values = cost[order].astype(np.float64)
        place, n = np.arange(len(order)), len(order) - 1
        low, high = (n - 1) // 2, n // 2
        medians[order] = (values[low + (low >= place)] + values[high + (high >= place)]) / 2
    return medians
