"""The command line: what it says, where, and with which exit code."""

import sys

import pytest

from streams import cli


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["tenfold", *arguments])
    try:
        cli.main()
    except SystemExit as end:
        return end.code or 0
    return 0


def test_without_a_broker_it_says_what_to_do_on_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, tmp_path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "topics") == 2
    said = capfd.readouterr().err
    assert said.startswith("tenfold: no broker is configured: give --servers host:port")
    assert said.count("\n") == 1


def test_now_refuses_standard_input(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    assert run(monkeypatch, "produce", "-", "--now", "-s", "localhost:1") == 2
    assert "give a file" in capfd.readouterr().err


@pytest.mark.broker
def test_a_bad_line_is_named_whatever_it_holds(
    embedded_broker: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, tmp_path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TENFOLD_TOPICS__PREFIX", "cli.")
    assert run(monkeypatch, "topics", "--create", "-s", embedded_broker) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]].count("cli.notifications") == 1
    (tmp_path / "events.jsonl").write_text(
        '{"event_id": "1", "source": "a", "event_time": 1793610000000}\n{"event_id": "2", "[/b]": 1}\n'
    )
    assert run(monkeypatch, "produce", "events.jsonl", "-s", embedded_broker) == 1
    said = capfd.readouterr()
    assert said.out == "1 events sent, 1 lines skipped\n"
    assert 'skipped: events.jsonl:2: unknown field "[/b]"' in said.err


def test_a_team_is_named_whatever_it_is_called(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, tmp_path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "events.jsonl").write_text(
        '{"event_id": "1", "source": "a", "event_time": 1793610000000, "team": "[/b]:red_circle:", "cost_nano_usd": 5}'
    )
    assert run(monkeypatch, "replay", "events.jsonl", "--out", "result") == 0
    assert "[/b]:red_circle:" in capfd.readouterr().out
