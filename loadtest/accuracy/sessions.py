"""How well sessions that cost ten times their peers are told apart: ``tenfold bench accuracy sessions``.

Judging is the production engine's: sessions go through ``UsageEngine.apply``, one of each model at a time in an order
shuffled per seed, are ended, and teach the baselines that the next ones are judged by. Its gate of a dollar is off
here, since most of these sessions cost cents; ``page_worth_a_dollar`` has it on, and asks for a dollar of excess in the
truth as well. A page needs 20 peers. The median of the truth is never seen: the engine knows only the sessions before.

Margins and estimator were set on the tuning part (models with an even number in the alphabet, even seeds); the figures
to believe are those of the test part, which is disjoint in models and seeds. Intervals of 95 % come from resampling
models, since sessions of one model stand or fall together.
"""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np

from loadtest.accuracy import live, session_plot
from loadtest.accuracy.measure import CELLS, measure, point, recall_at
from loadtest.accuracy.session_data import RATIO, SessionCosts, medians_of_others, swebench, totals
from loadtest.accuracy.session_rules import RULES, thresholds
from loadtest.bench import machine
from loadtest.builders import columns_of
from models.baselines import TAIL_MIN_BASELINE, Baselines
from models.config import USD, EngineConfig
from models.engine import UsageEngine
from models.peer_group import bin_edge, quantiles
from models.pricing import PriceTable
from models.session_kernels import LOWEST_COST_NANO_USD

MARGINS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
TAILS = (0.9, 0.95, 0.97, 0.98, 0.99)
"""Quantiles of the peers that a page could be asked to be above."""
MAX_TURNS = 1_000
"""Sessions of one model that a seed judges."""
FEW_TURNS, FEW_TIMES = 20, 8
"""Of few peers there are few judgements in each order: their first sessions are judged in so many times more orders."""
AT_MS = 1_795_460_400_000


@dataclass
class Judged:
    """Arrays of one row per judged session.

    session, seed int64; n, mu, se float64 (peers, ln of the expected cost and its error; NaN without peers); level
    int64 (0 none, 1 warning, 2 critical); rules float64[:, len(RULES)] ln cost over each rule's threshold; tails
    float64[:, len(TAILS)] ln cost over the lower edge of the bin that holds each quantile of the group.
    """

    session: np.ndarray
    seed: np.ndarray
    n: np.ndarray
    mu: np.ndarray
    se: np.ndarray
    level: np.ndarray
    rules: np.ndarray
    tails: np.ndarray


def prequential(
    data: SessionCosts, by_repo: bool, seeds: range, config: EngineConfig, turns: int = MAX_TURNS
) -> Judged:
    """Judge, then learn, every session once per seed."""
    rows: list[tuple] = []
    rules: list[tuple[float, ...]] = []
    tails: list[np.ndarray] = []
    for seed in seeds:
        engine = UsageEngine(config, 0, PriceTable())
        rng = np.random.default_rng(seed)
        queues = [rng.permutation(np.flatnonzero(data.model == model))[:turns] for model in range(len(data.models))]
        earlier: dict[tuple, list[int]] = {}
        for turn in range(max(map(len, queues))):
            sessions = [int(queue[turn]) for queue in queues if turn < len(queue)]
            events = [_event(data, session, by_repo) for session in sessions]
            first = engine.next_offset
            found = engine.apply(columns_of(events, first), first + len(events), AT_MS).findings
            level = {
                f["session_id"]: 1 + (f["severity"] == "critical") for f in found if f["details"].get("rule") == "ratio"
            }
            for session, event in zip(sessions, events, strict=True):
                names = (event["team"], "", event["model"])
                stats = engine.baselines.stats[engine.baselines.register(*names)]
                known = (0.0, np.nan, np.nan) if stats is None else (stats.n, stats.mu, stats.se)
                rows.append((session, seed, *known, level.get(str(session), 0)))
                tails.append(np.log(event["cost_nano_usd"]) - _tails(engine.baselines, names))
                before = earlier.setdefault(names, [])
                rules.append(tuple(np.log(event["cost_nano_usd"]) - t for t in thresholds(before)))
                before.append(event["cost_nano_usd"])
            engine.finish(AT_MS)
            engine.update_baselines(engine.flush()["baselines"])
    session, seed, n, mu, se, level = (np.array(column) for column in zip(*rows, strict=True))
    return Judged(session, seed, n, mu, se, level, np.array(rules), np.array(tails))


def _tails(baselines: Baselines, names: tuple[str, str, str]) -> np.ndarray:
    """float64[len(TAILS)] ln nano-USD; NaN without peers."""
    peers = baselines.peers(*names)
    if peers is None:
        return np.full(len(TAILS), np.nan)
    return np.log([bin_edge(cost) for cost in quantiles(peers.cost_bins, np.array(TAILS), LOWEST_COST_NANO_USD)])


def _event(data: SessionCosts, session: int, by_repo: bool) -> dict:
    return {
        "event_id": str(session),
        "source": "bench",
        "event_time": AT_MS,
        "session_id": str(session),
        "team": data.repos[data.repo[session]] if by_repo else "",
        "model": data.models[data.model[session]],
        "cost_nano_usd": int(data.cost_nano_usd[session]),
    }


def report(data: SessionCosts, judged: Judged, gated: Judged | None, by_repo: bool, parts: tuple[str, ...]) -> dict:
    """Everything about one way of grouping, for each part of PARTS asked for."""
    group = data.model * len(data.repos) + data.repo if by_repo else data.model
    median = medians_of_others(data.cost_nano_usd, group)
    outlier = data.cost_nano_usd >= RATIO * median
    worth = outlier & (data.cost_nano_usd - median >= USD)
    tuning = (data.model % 2 == 0)[judged.session] & (judged.seed % 2 == 0)
    testing = (data.model % 2 == 1)[judged.session] & (judged.seed % 2 == 1)
    result = {"outliers": int(outlier.sum()), "sessions": len(outlier)}
    for part, chosen in zip(PARTS, (tuning, testing, np.ones(len(tuning), np.bool_)), strict=True):
        if part not in parts:
            continue
        result[part] = {
            name: _cell(data, judged, gated, outlier, worth, chosen & (judged.n >= low) & (judged.n < high))
            for name, (low, high) in CELLS.items()
        }
    return result


def _cell(
    data: SessionCosts,
    judged: Judged,
    gated: Judged | None,
    outlier: np.ndarray,
    worth: np.ndarray,
    chosen: np.ndarray,
) -> dict:
    rng = np.random.default_rng(0)
    session = judged.session[chosen]
    truth, cluster = outlier[session], data.model[session]
    if not len(session):
        return {}
    above = np.log(data.cost_nano_usd[session]) - judged.mu[chosen] - np.log(RATIO)
    warning = measure(judged.level[chosen] >= 1, truth, cluster, rng)
    page = measure(judged.level[chosen] == 2, truth, cluster, rng)
    cell = {
        "warning": warning,
        "page": page,
        "page_worth_a_dollar": gated and measure(gated.level[chosen] == 2, worth[session], cluster, rng),
        "tails": {str(q): point(_paged(judged, chosen, above, at), truth) for at, q in enumerate(TAILS)},
        "margins": {str(margin): point(above - margin * judged.se[chosen], truth) for margin in MARGINS},
        "rules": {},
    }
    for column, rule in enumerate(RULES):
        score = np.nan_to_num(judged.rules[chosen, column], nan=-np.inf)
        own = measure(score >= 0, truth, cluster, rng)
        cell["rules"][rule] = {
            **own,
            "recall_at_precision_of_warning": recall_at(score, truth, warning["precision"] or 1.0),
            "recall_at_precision_of_page": recall_at(score, truth, page["precision"] or 1.0),
        }
    return cell


def _paged(judged: Judged, chosen: np.ndarray, above: np.ndarray, tail: int) -> np.ndarray:
    """At least 0 where a session would page if it had to be above this quantile of 100 peers or more."""
    config = EngineConfig().session_outlier
    few = judged.n[chosen] < TAIL_MIN_BASELINE
    return np.minimum(above - config.page_margin * judged.se[chosen], np.where(few, 0.0, judged.tails[chosen, tail]))


PARTS = ("tuning", "test", "all")


def shuffled(data: SessionCosts, by_repo: bool, seeds: int, parts: tuple[str, ...], with_gate: bool = False) -> dict:
    """The report of ``seeds`` shuffled orders, without the gate of a dollar and, if asked for, with it as well."""
    config = EngineConfig(dedupe_events=2 * len(data.model))
    free = replace(config.session_outlier, min_excess_nano_usd=0)
    judged = prequential(data, by_repo, range(seeds), replace(config, session_outlier=free))
    gated = prequential(data, by_repo, range(seeds), config) if with_gate else None
    return report(data, judged, gated, by_repo, parts)


def few_peers(data: SessionCosts, seeds: int) -> dict:
    """The report of many more orders of each model's first sessions; only the cell of 5 to 20 peers is whole."""
    config = EngineConfig(dedupe_events=2 * len(data.model))
    free = replace(config.session_outlier, min_excess_nano_usd=0)
    judged = prequential(data, False, range(seeds), replace(config, session_outlier=free), FEW_TURNS)
    found = report(data, judged, None, False, PARTS)
    return {"seeds": seeds} | {part: found[part]["5 to 20"] for part in PARTS}


@click.command()
@click.option(
    "--originals",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Folder with the original data, for swebench-mini-sessions; left out without it (loadtest/data/README.md).",
)
@click.option("--seeds", default=20, show_default=True, type=click.IntRange(1, 1000), help="Shuffled orders.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the result and its plot.")
def sessions(originals: Path | None = None, seeds: int = 20, out: Path | None = None) -> None:
    """Precision and recall of session findings on real session costs. Some fifteen minutes with 20 seeds."""
    started = time.monotonic()
    result: dict = {"machine": machine.describe(), "seeds": seeds}
    if originals is None:
        click.echo("swebench is left out: name its folder with --originals (see loadtest/data/README.md)", err=True)
    else:
        data = swebench(originals)
        result["swebench"] = {"tuning_models": data.models[0::2], "test_models": data.models[1::2]}
        for name, by_repo in (("by_model", False), ("by_model_and_repo", True)):
            result["swebench"][name] = shuffled(data, by_repo, seeds, PARTS, with_gate=not by_repo)
        result["swebench"]["by_model_few_peers"] = few_peers(data, FEW_TIMES * seeds)
    for name in ("aider", "mooncake"):
        result[name] = {"shuffled": shuffled(totals(name), False, seeds, ("all",))["all"]}
    result["aider"]["live"] = live.run("aider", EngineConfig().session_outlier.half_life_days)
    result["aider"]["live_nothing_forgotten"] = live.run("aider", 36_500.0)
    result["mooncake"]["live"] = live.run("mooncake", EngineConfig().session_outlier.half_life_days)
    result["seconds"] = round(time.monotonic() - started)
    text = json.dumps(result, indent=1)
    click.echo(text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "accuracy_sessions.json").write_text(text + "\n")
        session_plot.draw(result, out / "accuracy_sessions.svg")
