"""Makes ``loadtest/data/*.jsonl.gz`` from the public originals: canonical usage events, one a line, by event time.

    python -m loadtest.make_data ORIGINALS [--out DIR]

The same originals give the same bytes. What is real and what is assigned here stands in ``loadtest/data/README.md``;
times, tokens, recorded costs and the grouping into sessions are the originals', the names that spend is attributed
to are ours. Takes some seconds; needs polars.
"""

import argparse
import csv
import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl

from models.money import to_nano_usd

DATA = Path(__file__).parent / "data"

MOONCAKE_BASE = datetime(2026, 11, 2, 9, tzinfo=UTC)
"""Assigned to the trace's time 0, which has no date; a Monday morning."""
SERVEGEN_BASE = datetime(2026, 10, 5, tzinfo=UTC)
"""Assigned to the trace's time 0, which has no date; a Monday, so that weeks of the trace are calendar weeks."""
WINDOW_SECONDS = 600

STEADY_TENANTS = (("m-large", 78), ("m-small", 36), ("m-mid", 14), ("m-large", 34))
BURSTY_TENANTS = (("m-large", 104), ("m-mid", 22), ("m-small", 16), ("m-large", 114))
"""Clients with token lengths for at least 55 of the 56 six-hour windows.

Steady: active in over 94 % of the windows, standard deviation of the rate below half its mean. Bursty: above 1.9
times its mean.
"""
SERVEGEN_MODELS = {"m-large": "qwen/qwen-max", "m-mid": "qwen/qwen-2-72b-instruct", "m-small": "qwen/qwen-turbo"}
"""Assigned: models without context tiers, since one event adds up thousands of requests."""

WEEKS, WEEK_WINDOWS, TOKEN_WINDOWS = 2, 1008, 36
"""Of ServeGen: weeks, windows of ten minutes a week, and windows that share token lengths."""
MIN_ACTIVE = 0.2
"""Of the windows of week 1: what is idle for longer has no rate to speak of."""

PROVIDER_OF_PREFIX = {
    "bedrock": "aws",
    "cohere_chat": "cohere",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "ollama_chat": "ollama",
    "together_ai": "together",
    "vertex_ai": "google",
    "xai": "x-ai",
}
"""Prefixes of LiteLLM model names whose provider is called otherwise."""
PROVIDER_OF_FAMILY = {"claude-": "anthropic", "gemini-": "google", "gpt-": "openai", "o1": "openai", "o3": "openai"}
PROVIDER_OF_FAMILY["o4"] = "openai"
FREE_MARKS = ("-exp", ":free", "/quasar-alpha")
"""Experimental and free models: what was recorded as 0 was the price."""


def aider(originals: Path) -> Iterator[dict]:
    """One event per recorded call; ``event_id`` is the row number in the original, from 1."""
    for number, row in enumerate(_csv(originals / "aider-usage-events/message_send.csv.gz"), 1):
        model = row["main_model"]
        yield _event(
            event_id=f"aider-{number:05d}",
            source="aider",
            event_time=int(row["time"]) * 1000,
            session_id=f"aider-{int(row['session_by_total_cost']):05d}",
            team="coding",
            agent=row["edit_format"],
            use_case="code-editing",
            provider=provider_of(model),
            model=model,
            input_tokens=int(row["prompt_tokens"]),
            output_tokens=int(row["completion_tokens"]),
            cost_nano_usd=_aider_cost(row),
        )


def _aider_cost(row: dict) -> int | None:
    """A recorded 0 means "free" or "price not known to the tool"; the second is left out, so never counted as 0."""
    cost = to_nano_usd(Decimal(row["cost"]))
    model = row["main_model"]
    no_tokens = row["prompt_tokens"] == row["completion_tokens"] == "0"
    if cost == 0 and (model.endswith("REDACTED") or not (no_tokens or any(mark in model for mark in FREE_MARKS))):
        return None
    return cost


def provider_of(model: str) -> str:
    """The provider that a LiteLLM model name tells, or nothing.

    >>> provider_of("gemini/gemini-2.5-pro"), provider_of("o3-mini"), provider_of("")
    ('google', 'openai', '')
    """
    prefix, slash, _ = model.partition("/")
    if slash:
        return PROVIDER_OF_PREFIX.get(prefix, prefix)
    return next((provider for family, provider in PROVIDER_OF_FAMILY.items() if model.startswith(family)), "")


def mooncake(originals: Path) -> Iterator[dict]:
    """One event per request; sessions are chains of prompts of which one extends another."""
    base_ms = _ms(MOONCAKE_BASE)
    for number, row in enumerate(_csv(originals / "mooncake/conversation_sessions.csv.gz"), 1):
        yield _event(
            event_id=f"mooncake-{number:05d}",
            source="mooncake",
            event_time=base_ms + int(row["timestamp"]),
            session_id=f"mooncake-{int(row['session_derived']):05d}",
            team="chat",
            agent="assistant",
            use_case="conversation",
            provider="moonshotai",
            model="kimi-k2",
            input_tokens=int(row["input_length"]),
            output_tokens=int(row["output_length"]),
        )


def azure(originals: Path) -> Iterator[dict]:
    """One event per request of both traces; they tell no sessions, so the events belong to none."""
    traces = (
        ("code", "copilot", "completion", "code-completion"),
        ("conv", "support", "helpdesk", "customer-support"),
    )
    for trace, team, agent, use_case in traces:
        path = originals / f"azure-llm-2023/AzureLLMInferenceTrace_{trace}.csv.gz"
        for number, row in enumerate(_csv(path), 1):
            whole, fraction = row["TIMESTAMP"].split(".")
            second = datetime.fromisoformat(whole).replace(tzinfo=UTC)
            yield _event(
                event_id=f"azure-{trace}-{number:05d}",
                source="azure",
                event_time=_ms(second) + int(fraction[:3]),
                team=team,
                agent=agent,
                use_case=use_case,
                provider="openai",
                model="gpt-4o",
                input_tokens=int(row["ContextTokens"]),
                output_tokens=int(row["GeneratedTokens"]),
            )


def servegen(originals: Path) -> Iterator[dict]:
    """One event per tenant and ten-minute window with traffic: requests x mean tokens of that six-hour window."""
    folder = originals / "servegen-tenants"
    language = pl.col("category").cast(pl.String) == "language"
    trace = pl.read_parquet(folder / "trace.parquet").filter(language).with_columns(pl.col("model").cast(pl.String))
    tokens = pl.read_parquet(folder / "tokens_6h.parquet").filter(language)
    base_ms = _ms(SERVEGEN_BASE)
    for number, (size, client) in enumerate(STEADY_TENANTS + BURSTY_TENANTS, 1):
        is_tenant = (pl.col("model") == size) & (pl.col("chunk") == client)
        windows = trace.filter(is_tenant).sort("timestamp").select("timestamp", "rate")
        lengths = tokens.filter(is_tenant).sort("timestamp")
        # A six-hour window without lengths takes those of the last one before it.
        joined = windows.join_asof(
            lengths.select("timestamp", "input_tokens_mean", "output_tokens_mean"), on="timestamp", strategy="backward"
        )
        for second, rate, input_mean, output_mean in joined.iter_rows():
            requests = round(rate * WINDOW_SECONDS)
            if requests == 0:
                continue
            yield _event(
                event_id=f"servegen-{size}-{client}-{second}",
                source="servegen",
                event_time=base_ms + second * 1000,
                team=f"tenant-{number}",
                agent="service",
                use_case="steady" if number <= len(STEADY_TENANTS) else "bursty",
                provider="openrouter",
                model=SERVEGEN_MODELS[size],
                input_tokens=round(requests * input_mean),
                output_tokens=round(requests * output_mean),
                tags={"requests": str(requests)},
            )


def servegen_rates(originals: Path) -> dict[str, np.ndarray]:
    """Spend of every tenant that is active in a fifth of week 1, in ten-minute windows over two weeks.

    Spend is tokens, output at four times the price of input: requests x (input + 4 output), with the mean lengths of
    that six-hour window, of the next known one, or of all tenants of that model.
    """
    folder = originals / "servegen-tenants"
    language = pl.col("category").cast(pl.String) == "language"
    trace = pl.read_parquet(folder / "trace.parquet").filter(language).with_columns(pl.col("model").cast(pl.String))
    tokens = pl.read_parquet(folder / "tokens_6h.parquet").filter(language)
    priced = pl.col("input_tokens_mean") + 4 * pl.col("output_tokens_mean")
    usual = dict(tokens.group_by("model").agg(priced.mean()).iter_rows())
    tenants, rows = [], []
    for (size, client), windows in sorted(trace.group_by("model", "chunk")):
        requests = np.zeros(WEEKS * WEEK_WINDOWS)
        requests[windows["timestamp"].to_numpy() // WINDOW_SECONDS] = windows["rate"].to_numpy() * WINDOW_SECONDS
        if (requests[:WEEK_WINDOWS] > 0).mean() < MIN_ACTIVE:
            continue
        known = tokens.filter((pl.col("model") == size) & (pl.col("chunk") == client)).select("timestamp", priced)
        length = np.full(len(requests) // TOKEN_WINDOWS, np.nan)
        length[known["timestamp"].to_numpy() // (TOKEN_WINDOWS * WINDOW_SECONDS)] = known[
            "input_tokens_mean"
        ].to_numpy()
        length = pl.Series(length).fill_nan(None).fill_null(strategy="forward").fill_null(strategy="backward")
        length = length.fill_null(usual[size]).to_numpy()
        tenants.append(f"{size}/{client}")
        rows.append(np.rint(np.rint(requests) * np.repeat(length, TOKEN_WINDOWS)).astype(np.int64))
    return {"tenants": np.array(tenants), "tokens": np.array(rows)}


def write_rates(originals: Path, path: Path) -> None:
    """An ``.npz`` without time stamps: the same originals give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in servegen_rates(originals).items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, buffer.getvalue())


SETS = {"aider": aider, "mooncake": mooncake, "azure": azure, "servegen": servegen}


def _csv(path: Path) -> Iterator[dict]:
    with gzip.open(path, "rt", newline="") as file:
        yield from csv.DictReader(file)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000


def _event(**fields) -> dict:
    """Without the fields that hold their default."""
    return {
        name: value
        for name, value in fields.items()
        if value not in ("", None) and (value != 0 or name in ("event_time", "cost_nano_usd"))
    }


def write(events: Iterator[dict], path: Path) -> int:
    """Writes events by event time (equal times keep their order), gzipped without a time stamp; returns how many."""
    ordered = sorted(events, key=lambda event: event["event_time"])
    lines = "".join(json.dumps(event, separators=(",", ":"), ensure_ascii=False) + "\n" for event in ordered)
    path.write_bytes(gzip.compress(lines.encode(), compresslevel=9, mtime=0))
    return len(ordered)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.make_data",
        description="Makes the sample data (JSONL.gz of canonical usage events) from the public originals.",
        epilog="ORIGINALS holds aider-usage-events/message_send.csv.gz, mooncake/conversation_sessions.csv.gz, "
        "azure-llm-2023/AzureLLMInferenceTrace_{code,conv}.csv.gz and servegen-tenants/{trace,tokens_6h}.parquet; "
        "loadtest/data/README.md tells where each comes from. The same originals give the same bytes.",
    )
    parser.add_argument("originals", type=Path, metavar="ORIGINALS", help="folder with the original data")
    parser.add_argument("--out", type=Path, default=DATA, metavar="DIR", help="where to write (default: %(default)s)")
    parser.add_argument("--only", choices=SETS, action="append", help="make this file only; may be repeated")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.only:
        write_rates(options.originals, options.out / "servegen_rates.npz")
    for name in options.only or SETS:
        path = options.out / f"{name}.jsonl.gz"
        events = write(SETS[name](options.originals), path)
        print(f"{path}: {events:,} events, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
