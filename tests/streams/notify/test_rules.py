"""Matchers, routes, inhibition and silences: what is told to whom, and when not."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.scopes import Scope
from streams.notify.config import InhibitSettings, RouteSettings, SilenceSettings
from streams.notify.inhibit_stage import Inhibitor
from streams.notify.matchers import Matcher, all_match, labels, parse
from streams.notify.route_stage import Router
from streams.notify.silence_stage import Silences, end

HOUR_NANO = 1_000_000_000
HOUR_MS = 3_600_000


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "value", "matches"),
    [
        ("team=payments", "payments", True), ("team=payments", "payments2", False), ("team=", "", True),
        ("team!=payments", "", True), ("team=~pay.*", "payments", True), ("team=~pay", "payments", False),
        ("team!~a|b", "c", True), ("team!~a|b", "b", False), ('team = "a b"', "a b", True), ("team=a=b", "a=b", True),
    ],
)  # fmt: skip
def test_matchers(text, value, matches):
    assert Matcher.parse(text).matches({"team": value}) is matches


@pytest.mark.parametrize("text", ["", "team", "=x", "team=~(", "1team=x", "team~x"])
def test_what_is_no_matcher(text):
    with pytest.raises(ValueError):
        Matcher.parse(text)


def test_findings_are_routed_by_any_of_their_labels(finding):
    """opencost#737 in lesson 21: alert by label."""
    known = labels(finding(1, details={"period": "2026-11", "team": "not this"}))
    assert known["team"] == "payments"
    assert all_match(parse(["team=payments", "period=2026-11", "detector=~session.*", "tag="]), known)
    assert not all_match(parse(["team=payments", "period=2026-12"]), known)


def routed(router, finding, knowing=()):
    return [receiver.name for receiver in router.route(finding, knowing)]


def test_first_route_counts_and_the_rest_goes_to_those_without_one(receiver, finding):
    three = [receiver("webhook", "http://h", name=name, min_severity="info") for name in ("a", "b", "c")]
    routes = [
        RouteSettings(match=["team=payments"], receivers=["a"]),
        RouteSettings(match=["severity=critical"], receivers=["b"]),
    ]
    router = Router(three, routes)
    assert routed(router, finding(1)) == ["a"]
    assert routed(router, finding(1, team="x")) == ["b"]
    assert routed(router, finding(1, team="x", severity="info")) == ["c"]
    both = Router(three, [routes[0].model_copy(update={"go_on": True}), routes[1]])
    assert routed(both, finding(1)) == ["a", "b"]
    named = Router(three[:2], routes)
    assert routed(named, finding(1, team="x", severity="info")) == ["a", "b"]


def test_who_was_told_hears_the_end_wherever_it_is_routed(receiver, finding):
    two = [receiver("webhook", "http://h", name=name, min_severity="warning") for name in ("a", "b")]
    router = Router(two, [RouteSettings(match=["severity=critical"], receivers=["a"])])
    assert routed(router, finding(1, 2, "resolved", "info"), {"a"}) == ["a"]


@pytest.mark.parametrize("kind", ["team", "model", "team_model", "agent", "use_case", "session", "budget", "user"])
@pytest.mark.parametrize("severity", ["info", "warning", "critical"])
def test_every_scope_and_severity_reaches_a_receiver(receiver, finding, kind, severity):
    """Lesson 17: a soft budget never alerted for a stand-alone key (litellm#35800)."""
    one = receiver("webhook", "http://h", min_severity="info")
    alone = finding(1, severity=severity, scope_kind=kind, team="", agent="", model="", session_id="")
    assert routed(Router([one]), alone) == ["webhook"]


SCOPES = {"team": Scope("team", team="payments"), "organisation": Scope("organisation")}


def burn(finding, n, kind, severity="critical"):
    details = {"budget": kind, "scope": SCOPES[kind].key}
    return finding(n, severity=severity, id=f"burn-{n}", detector="budget_burn", scope_kind="budget", details=details)


def test_an_organisations_burn_mutes_its_teams(finding):
    inhibitor = Inhibitor()
    team, organisation = burn(finding, 1, "team"), burn(finding, 2, "organisation")
    assert inhibitor.by(team) == ""
    assert inhibitor.update(organisation) and inhibitor.by(team) == "burn-2"
    assert inhibitor.by(organisation) == ""
    assert inhibitor.update({**organisation, "status": "resolved"}) and inhibitor.by(team) == ""


def test_a_mild_source_never_mutes_a_severe_target(finding):
    inhibitor = Inhibitor(findings=[burn(finding, 2, "organisation", "warning")])
    assert inhibitor.by(burn(finding, 1, "team")) == ""
    assert inhibitor.by(burn(finding, 1, "team", "warning")) == "burn-2"


def rate(finding, excess, **fields):
    values = {
        "id": "rate", "detector": "spend_rate", "scope_kind": "team", "scope_name": "payments", "window_ms": 60_000,
        "window_start": 1_700_000_300_000, "observed_nano_usd": excess, "expected_nano_usd": 0, **fields,
    }  # fmt: skip
    return finding(9, **values)


def outlier(finding, n, excess, **fields):
    """Over the six minutes before the rate's."""
    return finding(n, observed_nano_usd=excess, expected_nano_usd=0, **fields)


def test_an_outlier_mutes_the_rate_that_it_explains(finding):
    """Half of the excess per hour: 6 minutes at $1 a minute against $1 or $3 in a minute."""
    inhibitor = Inhibitor(findings=[outlier(finding, 1, 6 * HOUR_NANO)])
    assert inhibitor.by(rate(finding, HOUR_NANO)) == finding(1)["id"]
    assert inhibitor.by(rate(finding, 3 * HOUR_NANO)) == ""
    assert inhibitor.by(rate(finding, HOUR_NANO, team="support")) == ""
    assert inhibitor.by(rate(finding, HOUR_NANO, scope_kind="model")) == ""
    late = rate(finding, HOUR_NANO, window_start=1_700_000_400_000, last_event_time=1_700_000_460_000)
    assert inhibitor.by(late) == ""


def test_outliers_explain_together(finding):
    inhibitor = Inhibitor(findings=[outlier(finding, n, 6 * HOUR_NANO) for n in (1, 2)])
    assert inhibitor.by(rate(finding, 3 * HOUR_NANO)) in {finding(1)["id"], finding(2)["id"]}


@given(st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=30))
def test_inhibition_is_a_function_of_what_is_open(finding, steps):
    inhibitor, alive = Inhibitor(), {}
    for n, resolved in steps:
        one = {**burn(finding, n, "organisation"), "status": "resolved" if resolved else "open"}
        inhibitor.update(one)
        alive.pop(n, None)
        if not resolved:
            alive[n] = one
        fresh = Inhibitor(findings=alive.values())
        target = burn(finding, 9, "team")
        assert bool(inhibitor.by(target)) == bool(fresh.by(target)) == bool(alive)


def test_rules_of_ones_own_replace_the_default_ones(finding):
    rule = InhibitSettings(source=["detector=unit_price"], target=["detector=session_outlier"], equal=["model"])
    inhibitor = Inhibitor([rule], [finding(1, id="price", detector="unit_price")])
    assert inhibitor.by(finding(2)) == "price"
    assert inhibitor.by(finding(2, model="other")) == ""
    assert Inhibitor([], [burn(finding, 2, "organisation")]).by(burn(finding, 1, "team")) == ""


def said(verdict="silenced", finding_id="", until_ms=0, **fields):
    return {
        "finding_id": finding_id, "scope_kind": "", "scope_name": "", "detector": "", "verdict": verdict,
        "until_ms": until_ms, "user": "ann", "source": "slack", "at_ms": 1, **fields,
    }  # fmt: skip


def test_what_people_silence(finding):
    silences = Silences()
    assert silences.take(said(finding_id=finding(1)["id"], until_ms=100))
    assert silences.reason(finding(1), 99) == "silenced by ann"
    assert silences.reason(finding(1), 100) == "" and silences.reason(finding(2), 99) == ""
    silences.take(said("planned", scope_kind="session", scope_name="s-2", until_ms=100))
    assert silences.reason(finding(2), 99) == "planned by ann"
    silences.take(said("false", scope_kind="session", scope_name="s-3", detector="spend_rate"))
    assert silences.reason(finding(3), 99) == ""
    silences.take(said("false", finding_id=finding(3)["id"], at_ms=2**50))
    assert silences.reason(finding(3), 2**61) == "not an anomaly by ann"
    # To take it back, an end in the past.
    silences.take(said(finding_id=finding(1)["id"], until_ms=1))
    assert silences.reason(finding(1), 99) == ""
    assert {row[0] for row in silences.active(99)} == {"session s-2", "session s-3 spend_rate", finding(3)["id"]}
    assert not silences.take(said("true", finding_id=finding(1)["id"]))


def weekly(**fields):
    values = {
        "name": "batch",
        "match": ["team=payments"],
        "weekdays": ["sat"],
        "timezone": "America/New_York",
        **fields,
    }
    return SilenceSettings(**values | fields)


def test_a_planned_event_of_the_calendar(finding):
    once = SilenceSettings(
        name="migration", match=["team=payments"], starts="2026-12-01T18:00:00", ends="2026-12-02T06:00:00",
        timezone="Europe/Berlin",
    )  # fmt: skip
    silences = Silences([once])
    assert silences.reason(finding(1), ms("2026-12-01T16:59:59")) == ""
    assert silences.reason(finding(1), ms("2026-12-01T17:00:00")) == "planned: migration"
    assert silences.reason(finding(1, team="x"), ms("2026-12-01T17:00:00")) == ""
    assert silences.reason(finding(1), ms("2026-12-02T05:00:00")) == ""
    assert silences.active(ms("2026-12-01T17:00:00")) == [
        ("team=payments", "planned: migration", ms("2026-12-02T05:00:00"))
    ]


@pytest.mark.parametrize(
    ("night", "hours"),
    [("2026-11-07", 8.0), ("2026-10-31", 9.0), ("2026-03-07", 7.0)],
)
def test_a_weekly_night_is_as_long_as_it_really_is(night, hours):
    """Saturday 22:00 to 06:00 in New York; in autumn clocks go back that night, in spring forward."""
    silence = weekly(start_time="22:00", end_time="06:00")
    start = ms(f"{night}T22:00:00") + (5 if night == "2026-03-07" or night == "2026-11-07" else 4) * HOUR_MS
    assert end(silence, start - 1) == 0
    stop = end(silence, start)
    assert (stop - start) / HOUR_MS == hours
    assert end(silence, stop - 1) == stop and end(silence, stop) == 0


def test_a_whole_day():
    day = weekly()
    start = ms("2026-11-07T05:00:00")
    assert end(day, start) == start + 24 * HOUR_MS and end(day, start - 1) == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"weekdays": []},
        {"starts": "2026-12-01T18:00:00"},
        {"weekdays": [], "starts": "2026-12-02T18:00:00", "ends": "2026-12-01T18:00:00"},
        {"starts": "2026-12-01T18:00:00", "ends": "2026-12-02T18:00:00"},
        {"match": ["team"]},
        {"match": []},
    ],
)
def test_silences_that_make_no_sense(fields):
    with pytest.raises(ValueError):
        weekly(**fields)
