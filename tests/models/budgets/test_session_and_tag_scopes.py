"""Budgets on sessions and on the values of tags, through decoder, engine and restore, against plain sums."""

import random
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.config import DAY_MS, HOUR_MS, BudgetConfig, Enforcement, EngineConfig
from models.engine import UsageEngine
from models.rolling import SLICES
from models.rollup import RollupEngine
from models.scopes import Scope
from schemas.formats.canonical import event_from_json
from streams.replay import Replay
from tests.models.economics.test_attribution import DAY0, USD

ODD = 'a|b\\ "ü/?=\n:'
NAMES = ("", "blue", "red", ODD)
session = Scope.of("session", session=ODD)
centre = Scope.of("tag", tag="cost_centre", tag_value="blue")
odd = Scope.of("tag", tag=ODD, tag_value=ODD)
BUDGETS = (
    BudgetConfig("session", session, 300 * USD, enforcement=Enforcement(block_percent=1)),
    BudgetConfig("blue", centre, 300 * USD),
    BudgetConfig("odd", odd, 1000, unit="tokens", enforcement=Enforcement(block_percent=1)),
    BudgetConfig("each", Scope("tag", tag="env"), 300 * USD, default=True),
    BudgetConfig("red env", Scope.of("tag", tag="env", tag_value="red"), 300 * USD),
)


def events(seed: int, hours: int) -> list[list[dict]]:
    """A batch of events an hour."""
    rng = random.Random(seed)
    out = []
    for hour in range(hours):
        out.append([])
        for _ in range(6):
            tags = {name: rng.choice(NAMES) for name in ("cost_centre", "env", ODD, "other") if rng.random() < 0.7}
            time_ms = DAY0 + hour * HOUR_MS + rng.randrange(HOUR_MS)
            out[-1].append({
                "event_id": str(rng.random()), "source": "t", "event_time": time_ms, "session_id": rng.choice(NAMES),
                "cost_nano_usd": rng.randrange(1, USD), "input_tokens": rng.randrange(9), "tags": tags,
            })  # fmt: skip
    return out


def expected(batches: list[list[dict]]) -> dict[str, tuple[int, int]]:
    """(nano-USD, tokens) by budget; tokens are told of budgets in tokens."""
    sums = defaultdict(lambda: [0, 0])
    for event in (event for batch in batches for event in batch):
        tags, counted = event["tags"], []
        counted += ["session"] * (event["session_id"] == ODD) + ["blue"] * (tags.get("cost_centre") == "blue")
        counted += ["odd"] * (tags.get(ODD) == ODD)
        if value := tags.get("env"):
            counted.append("red env" if value == "red" else f"each/env={value}")
        for name in counted:
            sums[name][0] += event["cost_nano_usd"]
            sums[name][1] += event["input_tokens"] if name == "odd" else 0
    return {name: tuple(both) for name, both in sums.items()}


class Run:
    def __init__(self, *budgets, **config):
        self.replay = Replay(EngineConfig(budgets=budgets, **config))
        self.deltas = []

    def feed(self, batch):
        self.replay.feed([event_from_json(event) for event in batch])
        number = len(self.deltas) % SLICES
        self.deltas.append((self.replay._usage.take_delta(number), self.replay._rollup.take_delta(number)))

    def restart(self, config=None):
        """From the rolling deltas of the last sixteen batches."""
        replay = self.replay
        replay.config = config or replay.config
        usage, rollup = zip(*self.deltas[-SLICES:], strict=True)
        replay._usage = UsageEngine.restore(replay.config, replay._usage.prices, list(usage))
        replay._rollup = RollupEngine.restore(replay.config, list(rollup))

    @property
    def spent(self):
        self.replay.finish()
        return {name: (row["spent_nano_usd"], row["spent_tokens"]) for (name, _), row in self.replay.budgets.items()}


@pytest.mark.parametrize("restarts", [(), (20,), (17, 18, 33)])
def test_each_budget_counts_exactly_what_carries_its_session_or_tag(restarts):
    run, batches = Run(*BUDGETS), events(1, 40)
    for number, batch in enumerate(batches):
        run.feed(batch)
        if number in restarts:
            run.restart()
    assert run.spent == expected(batches)
    assert {scope.kind for scope, _, _ in run.replay.spend} == {"team", "model", "team_model", "agent", "use_case"}
    decisions = {key: decision["action"] for key, decision in run.replay.decisions.items()}
    assert decisions == {session.key: "block", odd.key: "block"}


def test_of_sessions_and_tags_that_nobody_asked_for_nothing_is_kept():
    run = Run(*BUDGETS[:3])
    for number in range(3):
        run.feed([
            {"event_id": f"{number}-{i}", "source": "t", "event_time": DAY0, "session_id": f"s{i}", "cost_nano_usd": 1,
             "tags": {"cost_centre": f"c{i}", "env": f"e{i}"}}
            for i in range(500)
        ])  # fmt: skip
    assert run.replay._usage.extra.scopes == [] and len(run.replay._usage.extra.panes) == 0
    assert Run().replay._usage.extra is None


def test_a_tag_that_is_asked_for_as_a_whole_is_there_for_budgets_that_come_later():
    run, batches = Run(extra_scopes=("tag:cost_centre",)), events(2, 20)
    for batch in batches:
        run.feed(batch)
    run.restart(EngineConfig(budgets=BUDGETS[1:2], extra_scopes=("tag:cost_centre",)))
    assert run.spent == {"blue": expected(batches)["blue"]}


def test_what_is_wanted_may_change_at_a_restart():
    """A value that is no longer asked for stops; one that is new counts from then on."""
    red = BudgetConfig("red", Scope.of("tag", tag="cost_centre", tag_value="red"), USD)
    run, batches = Run(BUDGETS[1]), events(3, 40)
    for batch in batches[:20]:
        run.feed(batch)
    run.restart(EngineConfig(budgets=(red,)))
    for batch in batches[20:]:
        run.feed(batch)
    plain = sum(
        event["cost_nano_usd"] for batch in batches[20:] for event in batch if event["tags"].get("cost_centre") == "red"
    )
    assert run.spent["red"][0] == plain
    assert [scope.tag_value for scope in run.replay._usage.extra.scopes] == ["blue", "red"]
    starts = run.replay._rollup.panes.history(BUDGETS[1].scope)
    assert max(start for start, _, _ in starts) < DAY0 + 20 * HOUR_MS < DAY0 + 2 * DAY_MS


names = st.text(alphabet='a|\\:=\n"', max_size=4)


@given(names, names, names, names)
def test_keys_of_tags_and_sessions_are_those_of_no_other_scope(tag, value, other_tag, other_value):
    one, other = (Scope.of("tag", tag=a, tag_value=b) for a, b in ((tag, value), (other_tag, other_value)))
    assert (one.key == other.key) == (one == other)
    assert Scope.parse(one.key) == one
    named = Scope.of("session", session=tag)
    assert Scope.parse(named.key) == named
    assert named.key != one.key
