"""How often a period's total falls into the bands that models.budgets.forecast gave for it, and how wide they are.

    tenfold bench accuracy forecast [--out DIR]

The period is the two weeks of each tenant; at days 5, 7 and 10 the total is forecast from what is known then (pooled:
at days 4 to 12). Spread and quantiles of the bands were set on half of the tenants; the figures are those of the other
half. Beside them: bands of one width for all tenants (plain split conformal prediction), and each tenth of all tenants
held against the quantiles of the others.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from loadtest.accuracy import tenants as data
from loadtest.accuracy.rates_plot import draw_forecast
from loadtest.accuracy.tenants import Tenants
from models.budgets.forecast import expected, forecast

RESULTS = Path(__file__).parent.parent / "results"
DAYS = (5, 7, 10)
ALL_DAYS = range(4, 13)
LEVELS = (0.025, 0.1, 0.9, 0.975)
FOLDS = 10
HOURS = 14 * 24
MIN_ACTIVE = 0.2


def measure(tenants: Tenants, day: int) -> dict:
    """Figures of one day; widths are high / low."""
    hours = np.rint(tenants.spend.reshape(len(tenants), HOURS, 6).sum(axis=2)).astype(np.int64)
    total = hours.sum(axis=1)
    spent = hours[:, : day * 24].sum(axis=1)
    said = [forecast(hours[i, : day * 24], 0, HOURS, int(spent[i])) for i in range(len(hours))]
    figures = {"day": day, "tenants": len(hours)}
    for level in (80, 95):
        low, high = (np.array([getattr(one, f"{side}{level}") for one in said]) for side in ("low", "high"))
        figures[f"coverage_{level}"] = round(float(((low <= total) & (total <= high)).mean()), 3)
        width = high / low
        figures[f"width_{level}_median"], figures[f"width_{level}_p90"] = (
            np.percentile(width, [50, 90]).round(2).tolist()
        )
        rest = (high - spent) / np.maximum(low - spent, 1)
        figures[f"width_of_rest_{level}_median"] = round(float(np.median(rest)), 2)
    run_rate = spent / day * 14
    for name, guess in (("tenfold", np.array([one.total for one in said])), ("run_rate", run_rate)):
        error = np.abs(np.log(guess / total))
        figures[f"median_log_error_{name}"], figures[f"p90_log_error_{name}"] = (
            np.percentile(error, [50, 90]).round(3).tolist()
        )
    return figures


def errors(tenants: Tenants, days: Sequence[int]) -> tuple[np.ndarray, ...]:
    """ln(actual / expected rest), spread, expected rest, spent and total, float64[n] of all tenants and days."""
    hours = np.rint(tenants.spend.reshape(len(tenants), HOURS, 6).sum(axis=2)).astype(np.int64)
    rows = []
    for day in days:
        for one in hours:
            rest, spread = expected(one[: day * 24], 0, HOURS)
            actual = float(one[day * 24 :].sum())
            error = np.log(max(actual, 1e-4 * rest, 1.0) / max(rest, 1.0))
            rows.append((error, spread, rest, float(one[: day * 24].sum()), float(one.sum())))
    return tuple(np.array(rows).T)


def conformal(settle: Tenants, test: Tenants, days: Sequence[int], constant: bool) -> dict:
    """Quantiles of one half's errors, and what their bands do on the other: by spread, or the same for all."""
    error, spread, *_ = errors(settle, days)
    score = error if constant else error / spread
    low95, low80, high80, high95 = np.quantile(score, LEVELS)
    _, spread, rest, spent, total = errors(test, days)
    scale = np.ones(len(spread)) if constant else spread
    figures = {"quantiles": [round(float(q), 2) for q in (low95, low80, high80, high95)]}
    for level, low, high in ((80, low80, high80), (95, low95, high95)):
        bottom, top = (spent + rest * np.exp(np.clip(q * scale, -6, 6)) for q in (low, high))
        figures[f"coverage_{level}"] = round(float(((bottom <= total) & (total <= top)).mean()), 3)
        figures[f"width_{level}_median"] = round(float(np.median(top / bottom)), 2)
        figures[f"ln_width_{level}_mean"] = round(float(np.log(top / bottom).mean()), 3)
    return figures


def crossed(tenants: Tenants, days: Sequence[int]) -> dict:
    """Coverage where each tenth of all tenants is held against the quantiles of the other nine."""
    fold = np.arange(len(tenants)) % FOLDS
    rows = [conformal(tenants.only(fold != k), tenants.only(fold == k), days, False) for k in range(FOLDS)]
    share = np.bincount(fold) / len(tenants)
    return {name: round(float(share @ [row[name] for row in rows]), 3) for name in ("coverage_80", "coverage_95")}


def run() -> dict:
    tenants = data.load(MIN_ACTIVE)
    tenants = tenants.only(tenants.spend[:, : 5 * 144].sum(axis=1) > 0)
    halves = {"test_half": tenants.only(tenants.testing), "setup_half": tenants.only(~tenants.testing)}
    groups = {
        "steady_and_rhythmic_test_half": halves["test_half"].only(
            halves["test_half"].steady | halves["test_half"].rhythmic
        )
    }
    result = {
        name: {"days": [measure(half, day) for day in DAYS], "pooled": pooled(half)}
        for name, half in {**halves, **groups}.items()
    }
    ways = (halves["setup_half"], halves["test_half"], ALL_DAYS)
    result["quantiles_of_the_setup_half_on_the_test_half"] = conformal(*ways, constant=False)
    result["one_width_for_all_on_the_test_half"] = conformal(*ways, constant=True)
    result["crossed_over_all_tenants"] = crossed(tenants, ALL_DAYS)
    return result


def pooled(tenants: Tenants) -> dict:
    """Mean over all days of the coverage and of the widths."""
    rows = [measure(tenants, day) for day in ALL_DAYS]
    names = [f"{name}_{level}" for name in ("coverage", "width") for level in (80, 95)]
    keys = [name if name.startswith("coverage") else f"{name}_median" for name in names]
    return {key: round(float(np.mean([row[key] for row in rows])), 3) for key in keys}


@click.command("forecast")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the results.")
def forecast_part(out: Path | None) -> None:
    """Coverage and width of the bands that a period total is forecast with."""
    out = out or RESULTS
    out.mkdir(parents=True, exist_ok=True)
    result = run()
    (out / "accuracy_forecast.json").write_text(json.dumps(result, indent=1) + "\n")
    draw_forecast(result, out / "accuracy_forecast.svg")
    click.echo(json.dumps(result["test_half"]))


if __name__ == "__main__":
    forecast_part()
