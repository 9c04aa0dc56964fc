"""The command over files: what is read, what is written, and what it says of files it cannot read."""

import csv

import pytest
from click.testing import CliRunner

from streams.cli import cli


def run(tmp_path, text, *more):
    path = tmp_path / "series.csv"
    path.write_text(text)
    return CliRunner().invoke(cli, ["score-series", str(path), *more])


def test_rows_come_back_with_scores(tmp_path):
    rows = [f"2026-01-0{1 + i // 288} {i // 12 % 24:02d}:{i % 12 * 5:02d}:00,{100 + i % 7}" for i in range(600)]
    rows[590] = rows[590].rpartition(",")[0] + ",900"
    out = tmp_path / "scored.csv"
    answer = run(tmp_path, "timestamp,value\n" + "\n".join(rows) + "\n", "--out", str(out))
    assert answer.exit_code == 0, answer.output
    scored = list(csv.DictReader(out.open()))
    assert [f"{row['timestamp']},{row['value']}" for row in scored] == rows
    assert max(range(600), key=lambda i: float(scored[i]["anomaly_score"])) == 590


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time,value\n1,2\n", "timestamp and value"),
        ("timestamp,value\nyesterday,2\n", "line 2"),
        ("timestamp,value\n10,2\n5,2\n", "sort it"),
        ("timestamp,value\n10,many\n", "line 2"),
    ],
)
def test_a_file_that_is_no_series_is_one_clear_error(tmp_path, text, said):
    answer = run(tmp_path, text)
    assert answer.exit_code != 0
    assert said in str(answer.exception)
