"""``[[budgets]]`` tables: what they become, and what is said of those that are wrong."""

import json
from types import SimpleNamespace

import pytest

from models.config import DAY_MS, BudgetConfig, Enforcement, EngineConfig, Raise
from models.extra_scopes import asked_for
from models.scopes import Scope
from streams.budget_settings import BudgetSettings
from streams.config_sections import WindowSettings
from streams.definitions import Definitions, parse_definition

USD = 10**9


@pytest.mark.parametrize(
    ("table", "budget"),
    [
        ({"team": "a", "monthly_usd": 1}, BudgetConfig("a", Scope("team", "a"), USD)),
        (
            {"team": "a", "model": "m", "tokens": 5, "period": "week", "milestones": [90]},
            BudgetConfig("a × m", Scope("team_model", "a", "m"), 5, "UTC", (90,), "tokens", "week"),
        ),
        ({"user": "ann", "usd": 1}, BudgetConfig("ann", Scope("user", user="ann"), USD)),
        ({"session": "s", "usd": 1}, BudgetConfig("s", Scope.of("session", session="s"), USD)),
        ({"tag": "cc", "value": "b", "usd": 1}, BudgetConfig("cc=b", Scope.of("tag", tag="cc", tag_value="b"), USD)),
        (
            {"default_for": "tag", "tag": "cc", "usd": 1},
            BudgetConfig("default tag cc", Scope("tag", tag="cc"), USD, default=True),
        ),
        (
            {"default_for": "transaction_type", "usd": 1},
            BudgetConfig("default transaction_type", Scope("transaction_type"), USD, default=True),
        ),
        (
            {"organisation": True, "usd": "0.5", "period": "year", "fiscal_start": 7, "name": "x"},
            BudgetConfig("x", Scope("organisation"), USD // 2, period="year", first_month=7),
        ),
        (
            {"business_unit": "u", "teams": ["a", "b"], "usd": 1, "period": "rolling", "window": "7d"},
            BudgetConfig("u", Scope("business_unit", "u"), USD, period="rolling", rolling_ms=7 * DAY_MS,
                         teams=("a", "b")),
        ),
        (
            {"default_for": "agent", "usd": 1, "route_at": 50, "route_to": "m", "block_at": 120, "fail": "closed"},
            BudgetConfig("default agent", Scope("agent"), USD, default=True,
                         enforcement=Enforcement(0, 50, "m", 120, "closed")),
        ),
        (
            {"use_case": "u", "tokens": 1, "raises": [
                {"tokens": 2, "start": "2026-11-20T01:00:00+01:00", "until": "2026-12-01T00:00:00Z"}]},
            BudgetConfig("u", Scope("use_case", use_case="u"), 1, unit="tokens",
                         raises=(Raise(2, 1_795_132_800_000, 1_796_083_200_000),)),
        ),
    ],
)  # fmt: skip
def test_a_table_becomes_a_budget(table, budget):
    assert BudgetSettings(**table).engine() == budget


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"usd": 1}, "it is on nothing; give one of organisation, business_unit"),
        ({"team": "a", "agent": "x", "usd": 1}, "it is on team and agent; give one of"),
        ({"default_for": "team", "team": "a", "usd": 1}, "it is on default_for and team"),
        ({"default_for": "session", "usd": 1}, r"absolute_cap_usd in \[detectors.session_outlier\]"),
        ({"default_for": "tag", "usd": 1}, "tag and value belong together; give both, or tag with default_for"),
        ({"default_for": "tag", "tag": "a", "value": "b", "usd": 1}, "tag and value belong together"),
        ({"default_for": "team", "tag": "a", "usd": 1}, "tag and value belong together"),
        ({"tag": "a", "usd": 1}, "tag and value belong together"),
        ({"value": "a", "usd": 1}, "tag and value belong together"),
        ({"team": "a", "value": "a", "usd": 1}, "tag and value belong together"),
        ({"session": "a", "tag": "a", "value": "a", "usd": 1}, "it is on session and tag; give one of"),
        ({"business_unit": "u", "usd": 1}, "business_unit and teams belong together"),
        ({"team": "a", "teams": ["b"], "usd": 1}, "business_unit and teams belong together"),
        ({"team": "a", "usd": 1, "tokens": 2}, "it has usd and tokens; give one of"),
        ({"team": "a", "monthly_usd": 1, "period": "day"}, 'monthly_usd is by month and period is "day"'),
        ({"team": "a", "usd": 1, "period": "rolling"}, 'period = "rolling" and window belong together'),
        ({"team": "a", "usd": 1, "period": "rolling", "window": "90m"}, "window must be whole hours"),
        ({"team": "a", "usd": 1, "fiscal_start": 4}, 'fiscal_start is for quarters and years, and period is "month"'),
        ({"team": "a", "usd": 1, "raises": [{"tokens": 1, "until": "2026-12-01T00:00:00Z"}]}, "in the budget's unit"),
        ({"team": "a", "usd": 1, "raises": [{"usd": 1, "until": "2026-12-01"}]}, "it has no time zone"),
        ({"team": "a", "usd": 1, "route_at": 50}, "route_at and route_to belong together"),
        ({"team": "a", "usd": 1, "perid": "day"}, "did you mean period?"),
    ],
)
def test_what_is_wrong_is_said_in_words(table, said):
    with pytest.raises(ValueError, match=said.replace("(", r"\(").replace("?", r"\?")):
        parse_definition("b", json.dumps(table).encode())


def test_definitions_lie_over_the_settings_and_can_be_taken_back():
    def record(name, value):
        return SimpleNamespace(key=name.encode(), value=value, offset=0)

    own = BudgetConfig("a", Scope("team", "a"), USD)
    definitions = Definitions([own])
    assert definitions.take([record("a", b'{"team": "a", "usd": 2}'), record("n", b'{"model": "m", "usd": 3}')])
    assert [(budget.name, budget.limit) for budget in definitions.budgets] == [("a", 2 * USD), ("n", 3 * USD)]
    assert not definitions.take([record("n", b'{"model": "m", "usd": 3}'), record("", b"{}"), record("x", b"[1]")])
    assert definitions.take([record("a", None), record("n", None)])
    assert definitions.budgets == (own,)


def test_a_definition_on_a_scope_without_windows_is_refused_rather_than_never_spent():
    def names(kept, *tables):
        definitions = Definitions([], kept)
        definitions.take(
            SimpleNamespace(key=f"b{number}".encode(), value=json.dumps(table).encode(), offset=number)
            for number, table in enumerate(tables)
        )
        return [budget.name for budget in definitions.budgets]

    tables = {"user": "ann", "usd": 1}, {"default_for": "user", "usd": 1}, {"transaction_type": "loan", "usd": 1}
    assert names((), *tables, {"team": "a", "usd": 1}) == ["b3"]
    assert names([("user", "", None)], *tables) == ["b0", "b1"]
    assert names([("user", "", frozenset({"ann"}))], *tables, {"user": "bob", "usd": 1}) == ["b0"]

    tags = {"tag": "cc", "value": "blue", "usd": 1}, {"default_for": "tag", "tag": "cc", "usd": 1}
    tags += {"tag": "env", "value": "blue", "usd": 1}, {"session": "s", "usd": 1}
    assert names((), *tags) == []
    assert names([("tag", "cc", None)], *tags) == ["b0", "b1"]
    assert names([("tag", "cc", frozenset({"blue"})), ("session", "", frozenset({"s"}))], *tags) == ["b0", "b3"]


def test_what_is_to_be_set_for_a_live_budget_is_what_the_settings_take():
    tag = 'c"c'
    record = SimpleNamespace(key=b"b", value=json.dumps({"tag": tag, "value": "x", "usd": 1}).encode(), offset=0)
    definitions = Definitions([])
    assert not definitions.take([record])
    config = EngineConfig(extra_scopes=WindowSettings(extra_scopes=[f"tag:{tag}"]).extra_scopes)
    assert Definitions([], asked_for(config)).take([record])
    for wrong in ("tag:", "tag", "session", "tags:a", "user:a"):
        with pytest.raises(ValueError, match="extra_scopes"):
            WindowSettings(extra_scopes=[wrong])
