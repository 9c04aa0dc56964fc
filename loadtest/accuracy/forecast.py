"""How often a period's total falls into the bands that models.budgets.forecast gave for it, and how wide they are.

    tenfold bench accuracy forecast [--out DIR]

The period is the two weeks of each tenant; at days 5, 7 and 10 the total is forecast from what is known then. The
quantiles of the bands were set on half of the tenants; the figures are those of the other half.
"""

import json
from pathlib import Path

import click
import numpy as np

from loadtest.accuracy import tenants as data
from loadtest.accuracy.rates_plot import draw_forecast
from loadtest.accuracy.tenants import Tenants
from models.budgets.forecast import forecast

RESULTS = Path(__file__).parent.parent / "results"
DAYS = (5, 7, 10)
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


def run() -> dict:
    tenants = data.load(MIN_ACTIVE)
    tenants = tenants.only(tenants.spend[:, : 5 * 144].sum(axis=1) > 0)
    halves = {"test_half": tenants.only(tenants.testing), "setup_half": tenants.only(~tenants.testing)}
    groups = {
        "steady_and_rhythmic_test_half": halves["test_half"].only(
            halves["test_half"].steady | halves["test_half"].rhythmic
        )
    }
    return {
        name: {"days": [measure(half, day) for day in DAYS], "pooled": pooled(half)}
        for name, half in {**halves, **groups}.items()
    }


def pooled(tenants: Tenants) -> dict:
    """Coverage over all days."""
    rows = [measure(tenants, day) for day in DAYS]
    return {key: round(float(np.mean([row[key] for row in rows])), 3) for key in ("coverage_80", "coverage_95")}


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
