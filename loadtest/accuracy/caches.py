"""How well a cache hit rate that collapses is told: ``tenfold bench accuracy caches``.

No public trace says which tokens came from a cache. So Mooncake's real hour of conversations is given one: a turn reads
from the cache what the turn before it sent and got (up to its own prompt), as providers' prefix caches do, and writes
nothing; its model is MODEL, since the one that the source is given has one price for all input. Its sessions are shared
out over TEAMS teams. In one copy nothing happens; in the others the cache of one team is lost at a minute that the
seed says, from then on, wholly or for half of the prompts. All goes through the worker's
engines (streams.replay), with the dollar floor off.

The prices are the table's, so the excess that a finding states can be compared with what the lost reads really cost.
"""

import json
import time
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from loadtest.accuracy.session_data import recorded
from loadtest.bench import machine
from loadtest.builders import columns_of
from models.config import MINUTE_MS, CacheShareConfig, EngineConfig
from models.detectors.cache_share import CacheShare
from models.pricing import PriceTable
from streams.replay import Replay, chunks

RESULTS = Path(__file__).parent.parent / "results"
PROVIDER, MODEL = "anthropic", "claude-sonnet-4-5"
TEAMS = 6
SEEDS = 12
FIRST_MINUTE, LAST_MINUTE = 33, 50
"""Of a loss: the detector needs half an hour, and what is lost must show before the hour ends."""
KINDS = {"all prompts": 1.0, "half of the prompts": 0.5}


def cached(events: list[dict]) -> list[dict]:
    """The events with what each turn finds in the cache, and the teams they are shared out to."""
    known: dict[str, int] = {}
    out = []
    for event in events:
        prompt, session = event["input_tokens"], event["session_id"]
        read = min(known.get(session, 0), prompt)
        known[session] = prompt + event["output_tokens"]
        team = f"team-{int(session.rsplit('-', 1)[1]) % TEAMS}"
        named = {"provider": PROVIDER, "model": MODEL, "team": team}
        out.append(event | named | {"input_tokens": prompt - read, "cache_read_tokens": read})
    return out


def lost(events: list[dict], team: str, from_ms: int, share: float, rng: np.random.Generator) -> list[dict]:
    """The events of a team whose cache is gone for this share of its prompts."""
    out = []
    for event in events:
        if event["team"] == team and event["event_time"] >= from_ms and rng.random() < share:
            event = event | {
                "input_tokens": event["input_tokens"] + event["cache_read_tokens"],
                "cache_read_tokens": 0,
            }
        out.append(event)
    return out


def found(events: list[dict], config: EngineConfig) -> list[dict]:
    findings: list[dict] = []
    replay = Replay(config, findings.append)
    for chunk in chunks(events):
        replay.feed(chunk)
    replay.finish()
    return [finding for finding in findings if finding["detector"] == "cache_share"]


def run(seeds: int) -> dict:
    events = cached(recorded("mooncake"))
    start_ms = events[0]["event_time"] // MINUTE_MS * MINUTE_MS
    config = EngineConfig()
    config = replace(config, cache_share=replace(config.cache_share, min_excess_nano_usd=0))
    prices = PriceTable()
    hours = TEAMS * (LAST_MINUTE - FIRST_MINUTE) / 60
    quiet = [finding for finding in found(events, config) if finding["status"] == "open"]
    result = {
        "machine": machine.describe(),
        "teams": TEAMS,
        "usual_share": round(
            sum(event["cache_read_tokens"] for event in events) / sum(_prompt(event) for event in events), 3
        ),
        "least_and_most_share_in_a_minute": _extremes(events),
        "ns_a_key_and_window": nanoseconds(),
        "false_on_the_untouched_hour": len(quiet),
        "judged_team_hours": round(hours, 2),
    }
    for kind, share in KINDS.items():
        delays, ratios, others = [], [], 0
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            team, minute = f"team-{rng.integers(TEAMS)}", int(rng.integers(FIRST_MINUTE, LAST_MINUTE))
            from_ms = start_ms + minute * MINUTE_MS
            spoilt = lost(events, team, from_ms, share, rng)
            findings = found(spoilt, config)
            others += sum(f["status"] == "open" and f["team"] != team for f in findings)
            own = [f for f in findings if f["team"] == team and f["first_event_time"] >= from_ms - MINUTE_MS]
            if own:
                delays.append((own[0]["last_event_time"] + 1 - from_ms) / MINUTE_MS)
                ratios.append(own[-1]["excess_nano_usd"] / _really(events, spoilt, own[-1], prices))
        result[kind] = {
            "events": seeds,
            "found": round(len(delays) / seeds, 3),
            "delay_minutes_p50_p90": np.percentile(delays, [50, 90]).round(1).tolist() if delays else None,
            "stated_excess_over_true_p10_p50_p90": np.percentile(ratios, [10, 50, 90]).round(2).tolist()
            if ratios
            else None,
            "false_of_other_teams": others,
        }
    return result


def nanoseconds(keys: int = 10_000, windows: int = 40) -> int:
    """CPU time of the detector for one key and window, median."""
    shares, rng, taken = CacheShare(CacheShareConfig(), MINUTE_MS), np.random.default_rng(0), []
    shares.add(keys)
    for window in range(windows):
        totals = rng.integers(0, 100_000, (keys, 8))
        started = time.thread_time_ns()
        shares.judge(totals, window * MINUTE_MS)
        taken.append((time.thread_time_ns() - started) / keys)
    return round(float(np.median(taken)))


def _extremes(events: list[dict]) -> list[float]:
    """Share of reads in the prompts of a team and minute, without the ten first minutes and the last."""
    first, last = (events[at]["event_time"] // MINUTE_MS for at in (0, -1))
    sums: dict[tuple, list[int]] = {}
    for event in events:
        minute = event["event_time"] // MINUTE_MS
        if first + 10 <= minute < last:
            row = sums.setdefault((event["team"], minute), [0, 0])
            row[0] += event["cache_read_tokens"]
            row[1] += _prompt(event)
    shares = [read / prompt for read, prompt in sums.values()]
    return [round(min(shares), 2), round(max(shares), 2)]


def _prompt(event: dict) -> int:
    return event["input_tokens"] + event["cache_read_tokens"]


def _really(events: list[dict], spoilt: list[dict], finding: dict, prices: PriceTable) -> float:
    """What the prompts of the finding's windows cost more than with their cache, nano-USD."""
    first, last = finding["first_event_time"], finding["last_event_time"]
    chosen = [
        (good, bad)
        for good, bad in zip(events, spoilt, strict=True)
        if good["team"] == finding["team"] and first <= good["event_time"] <= last
    ]
    good, bad = (prices.price(columns_of(list(side))).cost_nano_usd.sum() for side in zip(*chosen, strict=True))
    return max(float(bad - good), 1.0)


@click.command()
@click.option("--seeds", default=SEEDS, show_default=True, type=click.IntRange(1, 1000), help="Losses of each kind.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the results.")
def caches(seeds: int = SEEDS, out: Path | None = None) -> None:
    """Whether a team's lost prompt cache is found, when, and whether its price is right. Some minutes."""
    out = out or RESULTS
    out.mkdir(parents=True, exist_ok=True)
    result = run(seeds)
    (out / "accuracy_caches.json").write_text(json.dumps(result, indent=1) + "\n")
    click.echo(json.dumps(result))


if __name__ == "__main__":
    caches()
