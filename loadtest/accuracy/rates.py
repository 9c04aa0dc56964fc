"""How well spend rates are watched: injected events on real tenants, and false findings on the untouched ones.

    tenfold bench accuracy rates [--out DIR]

Week 1 settles the detectors, week 2 is the test: an event multiplies a tenant's spend from a random window on, and
counts as found if an incident opens in it. It begins in a window with at least a tenth of the usual spend. Margins were
set on half of the tenants (``Tenants.testing`` is False there); the figures are those of the other half. Seeds are
published in the result. False findings are incidents on the untouched week 2: whatever a tenant really did counts as
false, since nobody labelled it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from loadtest.accuracy import tenants as data
from loadtest.accuracy.rates_plot import draw_rates
from loadtest.accuracy.tenants import USD, WEEK, Tenants
from loadtest.accuracy.watchers import Production, Watcher, at_random, ewma_z, static, trailing_days
from models.config import SpendRateConfig

RESULTS = Path(__file__).parent.parent / "results"
SEED = 20_260_105
EVENTS_PER_KIND = 8
"""Start windows a tenant, kind of event and run."""
FACTORS = (2.0, 3.0, 5.0, 10.0)
DURATIONS = {"20m": 2, "1h": 6, "6h": 36, "permanent": 144}
"""Windows in which an event may be found; a permanent one goes on, but counts as missed after a day."""
DROP = ("drop", "6h")
MIN_WORTH = data.USUAL / 10
"""Spend of the window that an event begins in: ten times next to nothing is next to nothing."""
BOOTSTRAPS = 1_000
MARGINS = (0.5, 0.7, 0.85, 1.0, 1.25, 1.6, 2.0, 3.0)


@dataclass(frozen=True, slots=True)
class Event:
    factor: float
    length: str
    start: int
    """Window of week 2"""

    @property
    def windows(self) -> int:
        return DURATIONS[self.length]

    def inject(self, week: np.ndarray) -> np.ndarray:
        """A copy of week 2 with the event in it."""
        week = week.copy()
        end = WEEK if self.length == "permanent" else self.start + self.windows
        week[self.start : end] *= self.factor
        return week


def kinds() -> list[tuple[float, str]]:
    return [(factor, length) for factor in FACTORS for length in DURATIONS] + [(0.0, "6h")]


def draw(week: np.ndarray, rng: np.random.Generator, per_kind: int, of: list[tuple[float, str]]) -> list[Event]:
    """Events for one tenant's week 2; a tenant may have too few windows that are worth one."""
    events = []
    for factor, length in of:
        starts = np.flatnonzero(week[: WEEK - DURATIONS["permanent"]] >= MIN_WORTH)
        if len(starts):
            events += [Event(factor, length, int(start)) for start in rng.choice(starts, per_kind)]
    return events


def measure(
    tenants: Tenants, watcher: Watcher, seed: int = SEED, per_kind: int = EVENTS_PER_KIND, of: list | None = None
) -> dict:
    """Raw outcomes: ``false`` int[n] and, for each event, its tenant, kind, delay in windows (-1: missed), dollars."""
    rng = np.random.default_rng(seed)
    settle, weeks = tenants.spend[:, :WEEK], tenants.spend[:, WEEK:]
    events = [draw(week, rng, per_kind, of or kinds()) for week in weeks]
    copies = max(map(len, events)) + 1
    test = np.repeat(weeks, copies, axis=0)
    for i, of_tenant in enumerate(events):
        for k, event in enumerate(of_tenant):
            test[i * copies + 1 + k] = event.inject(weeks[i])
    opens = watcher(settle, test)
    stops = watcher.stops if isinstance(watcher, Production) else np.zeros_like(opens)
    outcomes = []
    for i, of_tenant in enumerate(events):
        for k, event in enumerate(of_tenant):
            row = i * copies + 1 + k
            found = (stops if event.factor == 0 else opens)[row, event.start : event.start + event.windows]
            delay = int(found.argmax()) + 1 if found.any() else -1
            extra = np.abs(test[row] - weeks[i])[event.start : event.start + event.windows] / USD
            lost = float(extra[: delay if delay > 0 else None].sum())
            outcomes.append((i, event.factor, event.length, delay, lost, float(extra.sum())))
    untouched = np.arange(len(tenants)) * copies
    return {"false": opens[untouched].sum(axis=1), "false_silence": stops[untouched].sum(axis=1), "events": outcomes}


def summary(raw: dict, rows: np.ndarray) -> dict:
    """Figures of the tenants in ``rows`` bool[n], with 95 % intervals over tenants."""
    chosen = np.flatnonzero(rows)
    rng = np.random.default_rng(SEED)
    samples = [rng.choice(chosen, len(chosen)) for _ in range(BOOTSTRAPS)]
    out = {
        "tenants": len(chosen),
        "false_per_tenant_week": round(float(raw["false"][chosen].mean()), 3),
        "false_interval": _interval([raw["false"][sample].mean() for sample in samples]),
        "tenants_without_false": int((raw["false"][chosen] == 0).sum()),
        "false_silence_per_tenant_week": round(float(raw["false_silence"][chosen].mean()), 3),
        "events": {},
    }
    for factor, length in kinds():
        of_kind = [event for event in raw["events"] if (event[1], event[2]) == (factor, length) and rows[event[0]]]
        if not of_kind:
            continue
        delays = np.array([event[3] for event in of_kind])
        found = np.zeros(len(rows))
        count = np.zeros(len(rows))
        np.add.at(found, [event[0] for event in of_kind], delays > 0)
        np.add.at(count, [event[0] for event in of_kind], 1)
        name = "drop to zero" if factor == 0 else f"{factor:g}x"
        lost, extra = sum(event[4] for event in of_kind), sum(event[5] for event in of_kind)
        out["events"][f"{name} for {length}" if length != "permanent" else f"{name} permanent"] = {
            "events": len(of_kind),
            "recall": round(float((delays > 0).mean()), 3),
            "recall_interval": _interval([found[s].sum() / max(count[s].sum(), 1) for s in samples]),
            "delay_minutes_p50": _delay(delays, 50),
            "delay_minutes_p90": _delay(delays, 90),
            "usd_before_detection_mean": round(lost / len(of_kind), 2),
            "share_before_detection": round(lost / extra, 3),
        }
    return out


def _delay(delays: np.ndarray, percent: int) -> int | None:
    """From the event's start to the end of the window that finds it, over those found."""
    found = delays[delays > 0]
    return int(np.percentile(found, percent, method="higher")) * 10 if len(found) else None


def _interval(values: list) -> list[float]:
    return [round(float(value), 3) for value in np.percentile(values, [2.5, 97.5])]


def groups(tenants: Tenants) -> dict[str, np.ndarray]:
    """Steady, rhythmic and bursty tenants, each in one group."""
    steady, rhythmic = tenants.steady, tenants.rhythmic
    return {"steady": steady, "rhythmic": rhythmic, "bursty": ~(steady | rhythmic)}


def compare(tenants: Tenants, watchers: dict[str, Watcher], **options) -> dict:
    """Figures by detector and group of tenants."""
    result = {}
    for name, watcher in watchers.items():
        raw = measure(tenants, watcher, **options)
        result[name] = {group: summary(raw, rows) for group, rows in groups(tenants).items() if rows.any()}
    return result


def production(margin: float = 1.0) -> Production:
    return Production(SpendRateConfig(margin=margin))


def curve(tenants: Tenants, margins: Iterable[float] = MARGINS) -> dict:
    """Recall against false findings of ours as the margin moves, and of the others as their limits move."""
    ways = {
        "tenfold": [(margin, production(margin)) for margin in margins],
        "ewma_z": [(z, ewma_z(z)) for z in (2.0, 3.0, 5.0, 8.0, 12.0)],
        "static": [(factor, static(factor)) for factor in (1.5, 2.0, 3.0, 5.0, 8.0)],
        "trailing_7_days": [(factor, trailing_days(factor)) for factor in (1.2, 1.5, 2.0, 3.0)],
    }
    points = {}
    for name, way in ways.items():
        for setting, watcher in way:
            raw = measure(tenants, watcher, per_kind=4)
            for group, rows in groups(tenants).items():
                said = summary(raw, rows)
                recall = {kind: said["events"][f"{kind} for 1h"]["recall"] for kind in ("2x", "3x", "5x", "10x")}
                point = {"setting": setting, "false_per_tenant_week": said["false_per_tenant_week"], **recall}
                points.setdefault(group, {}).setdefault(name, []).append(point)
    return points


def run() -> dict:
    tenants = data.load()
    test, setup = tenants.only(tenants.testing), tenants.only(~tenants.testing)
    ours = production()
    others = {"ewma_z_3": ewma_z(), "static_3x": static(), "trailing_7_days_3x": trailing_days()}
    measured = compare(test, {"tenfold": ours, **others, "random_0.2_a_week": at_random(0.2)})
    return {
        "seed": SEED,
        "window_minutes": 10,
        "usual_usd_per_window": data.USUAL / USD,
        "test_half": measured,
        "setup_half": compare(setup, {"tenfold": production()}),
        "curve_test_half": curve(test),
    }


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the results.")
def rates(out: Path | None) -> None:
    """Injected events found, false findings and dollars lost, on real tenants."""
    out = out or RESULTS
    out.mkdir(parents=True, exist_ok=True)
    result = run()
    (out / "accuracy_rates.json").write_text(json.dumps(result, indent=1) + "\n")
    draw_rates(result, out / "accuracy_rates.svg")
    click.echo(json.dumps(result["test_half"]["tenfold"]))


if __name__ == "__main__":
    rates()
