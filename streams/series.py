"""``tenfold score-series``: a CSV of timestamp,value in, the same with anomaly_score out, line by line.

What is read is written at once, so a pipe works; a line that cannot be read ends with its number and what is accepted.
"""

import csv
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from models.series import SeriesScorer
from streams.errors import ConfigError


def score_file(path: Path, out: TextIO) -> None:
    """Score ``path`` to ``out``. Raises ConfigError for a file that is no such CSV."""
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        if not {"timestamp", "value"} <= set(rows.fieldnames or ()):
            raise ConfigError([f"{path} needs a header with the columns timestamp and value"])
        scorer, last_ms = SeriesScorer(), None
        print("timestamp,value,anomaly_score", file=out)
        for row in rows:
            try:
                time_ms, value = time_of(row["timestamp"]), float(row["value"] or math.nan)
            except (TypeError, ValueError, OverflowError) as error:
                raise ConfigError(
                    [f"{path}, line {rows.line_num}: {error}; accepted: a time in ISO 8601 or seconds, and a number"]
                ) from error
            if last_ms is not None and time_ms < last_ms:
                raise ConfigError([f"{path}, line {rows.line_num}: earlier than the line before; sort it by time"])
            last_ms = time_ms
            print(f"{row['timestamp']},{row['value']},{scorer.score(time_ms, value):.6f}", file=out)


def time_of(text: str) -> int:
    """Milliseconds since 1970 of ISO 8601 or seconds. Raises ValueError for anything else.

    >>> time_of("2014-02-14 14:30:00"), time_of("1392388200.5")
    (1392388200000, 1392388200500)
    """
    try:
        return round(float(text) * 1000)
    except ValueError:
        moment = datetime.fromisoformat(text.strip())
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
