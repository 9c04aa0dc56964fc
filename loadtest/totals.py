"""Totals of event files by another road than the engine's: polars sums and genai-prices' own Decimal prices.

    python -m loadtest.totals FILE...

An oracle for tests and for a person who doubts a number: it shares no code with the engine (nothing of
``models.pricing``), only the written rules. Those are: an event counts once by (source, event_id), the first one
read wins; a cost that the provider reported is the cost, 0 included; else the price table decides by provider,
model, tier and time, rounded to the nearest nano-dollar per event, ties to even; what has no price costs 0 here
and is counted as unpriced. Some 100 us for each distinct usage; the whole sample data takes about 5 s.
"""

import argparse
import gzip
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache
from importlib.metadata import version
from pathlib import Path

import polars as pl
from genai_prices import Usage, calc_price

TOKEN_COLUMNS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
    "input_image_tokens",
    "output_image_tokens",
)
_TEXT_COLUMNS = ("event_id", "source", "session_id", "team", "agent", "use_case", "provider", "model", "service_tier")
_SCHEMA = {
    "event_time": pl.Int64,
    **dict.fromkeys(_TEXT_COLUMNS, pl.String),
    "kind": pl.String,
    **dict.fromkeys(TOKEN_COLUMNS, pl.Int64),
    "cost_nano_usd": pl.Int64,
}
HOUR_MS = 3_600_000
TOKEN_KINDS = ("LLM", "EMBEDDING", "RERANK", "IMAGE", "AUDIO")
"""Kinds that a token price applies to."""


def read(paths: Iterable[str | Path]) -> pl.DataFrame:
    """All distinct events of JSONL and JSONL.gz files with ``event_time`` in ms; absent fields hold their defaults."""
    rows = []
    for path in map(Path, paths):
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as file:
            for line in file:
                if line.strip():
                    event = json.loads(line)
                    rows.append([event.get(column) for column in _SCHEMA])
    frame = pl.DataFrame(rows, schema=_SCHEMA, orient="row")
    return frame.with_columns(
        pl.col(_TEXT_COLUMNS).fill_null(""),
        pl.col(TOKEN_COLUMNS).fill_null(0),
        pl.col("kind").fill_null("LLM"),
    ).unique(["source", "event_id"], keep="first", maintain_order=True)


def priced(events: pl.DataFrame) -> pl.DataFrame:
    """``events`` with ``cost`` in nano-USD (0 if unknown) and ``unpriced``."""
    usages = events.select("kind", "provider", "model", "service_tier", "event_time", *TOKEN_COLUMNS)
    costs = [
        reported if reported is not None else _table_cost(*usage)
        for reported, usage in zip(events["cost_nano_usd"], usages.iter_rows(), strict=True)
    ]
    return events.with_columns(
        pl.Series("cost", [cost or 0 for cost in costs], pl.Int64),
        pl.Series("unpriced", [cost is None for cost in costs], pl.Boolean),
    )


def _table_cost(kind: str, provider: str, model: str, tier: str, event_time: int, *tokens: int) -> int | None:
    """Prices change at full minutes at the soonest, so usages of one minute share an answer."""
    if kind not in TOKEN_KINDS:
        return None
    return _price(provider, model, tier, event_time // 60_000, tokens)


@cache
def _price(provider: str, model: str, tier: str, minute: int, tokens: tuple[int, ...]) -> int | None:
    fresh, cache_read, write_5m, write_1h, output, reasoning, audio_in, audio_out, image_in, image_out = tokens
    counts = {
        # The catalogue's input and output are inclusive, our ten buckets are disjoint.
        "input_tokens": fresh + cache_read + write_5m + write_1h + audio_in + image_in,
        "cache_read_tokens": cache_read,
        "cache_write_tokens": write_5m + write_1h,
        "cache_write_5m_tokens": write_5m,
        "cache_write_1h_tokens": write_1h,
        "output_tokens": output + reasoning + audio_out + image_out,
        "output_reasoning_tokens": reasoning,
        "input_audio_tokens": audio_in,
        "output_audio_tokens": audio_out,
        "input_image_tokens": image_in,
        "output_image_tokens": image_out,
    }
    # The catalogue takes "batch" by one key, the other tiers by two; a key it does not know changes nothing.
    context = {"processing": tier} if tier == "batch" else {"service_tier": tier, "speed": tier}
    try:
        price = calc_price(
            Usage(**{name: count for name, count in counts.items() if count or name == "input_tokens"}),
            model,
            provider_id=provider or None,
            genai_request_timestamp=datetime.fromtimestamp(minute * 60, UTC),
            price_context=context if tier else None,
        )
    except LookupError:
        return None
    return int((Decimal(price.total_price) * 10**9).to_integral_value(ROUND_HALF_EVEN))


def totals(paths: Iterable[str | Path]) -> dict:
    """Everything as plain JSON values: money in nano-USD, hours as ms since 1970, keys as names."""
    events = priced(read(paths))
    hours = events.with_columns(hour=pl.col("event_time") // HOUR_MS * HOUR_MS)
    by_hour = hours.group_by("team", "hour").agg(pl.col("cost").sum()).sort("team", "hour")
    team_hours: dict[str, dict[str, int]] = {}
    for team, hour, cost in by_hour.iter_rows():
        team_hours.setdefault(team, {})[str(hour)] = cost
    return {
        "events": events.height,
        "reported": events["cost_nano_usd"].is_not_null().sum(),
        "unpriced": events["unpriced"].sum(),
        "cost_nano_usd": events["cost"].sum(),
        "tokens": sum(events[column].sum() for column in TOKEN_COLUMNS),
        "sessions": events.filter(pl.col("session_id") != "")["session_id"].n_unique(),
        "by_team": _by(events, "team"),
        "by_model": _by(events, "model"),
        "by_session": _by(events.filter(pl.col("session_id") != ""), "session_id"),
        "by_team_hour": team_hours,
        "prices": f"genai-prices {version('genai-prices')}",
    }


def _by(events: pl.DataFrame, column: str) -> dict[str, int]:
    sums = events.group_by(column).agg(pl.col("cost").sum()).sort(column)
    return dict(sums.iter_rows())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.totals",
        description="Prints the totals of event files as JSON, worked out without Tenfold's engine.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="JSONL or JSONL.gz of canonical usage events")
    print(json.dumps(totals(parser.parse_args(arguments).files), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
