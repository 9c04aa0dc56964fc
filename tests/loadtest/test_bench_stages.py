"""`tenfold bench stages`: a short run counts every event, and no stage is forgotten."""

import json

from click.testing import CliRunner

from loadtest.bench.stages import BUDGET_NS, ELSE, Timer, stages


def test_every_stage_is_timed():
    done = CliRunner().invoke(
        stages, ["--events", "60000", "--sessions", "300", "--batch", "3000", "--warm-up", "9000"]
    )
    assert done.exit_code == 0, done.output
    result = json.loads(done.output)
    assert result["live_sessions"] == 300 and result["events"] == 60_000
    timed = result["ns_per_event"]
    assert set(timed) == {*BUDGET_NS, *ELSE} - {"else"}
    assert all(timed[name] > 0 for name in timed if name != "checkpoint")  # too short for one


def test_a_stage_within_another_is_counted_once(monkeypatch):
    clock = iter([0.0, 1.0, 3.0, 10.0])
    monkeypatch.setattr("time.thread_time", lambda: next(clock))
    timer = Timer()
    with timer.stage("outer"), timer.stage("inner"):
        pass
    assert timer.seconds == {"inner": 2.0, "outer": 8.0}
