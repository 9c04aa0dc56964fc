"""Whatever a finding holds, its messages stay within the destinations' limits and say what matters."""

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.findings import make_finding
from streams.notify import text
from streams.notify.destinations.pagerduty import dedup_key
from streams.notify.destinations.slack.message import LINES, kept, posted, reply
from streams.notify.links import Links
from streams.notify.receiver import Delivered, Failed, Retry, classify_http

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(max_size=30) | st.builds(
    lambda part, times: part * times,
    st.text(min_size=1, max_size=4) | st.sampled_from(["&", "<!here>", "\N{LARGE RED CIRCLE}", "&amp;", "\n", "*`_"]),
    st.integers(1, 6_000),
)
FINDINGS = st.builds(
    make_finding,
    id=TEXT.filter(bool),
    detector=st.sampled_from(["session_outlier", "unit_price", "spend_rate", "budget_burn"]) | TEXT,
    severity=st.sampled_from(["info", "warning", "critical"]),
    status=st.sampled_from(["open", "updated", "resolved"]),
    scope_kind=TEXT,
    scope_name=TEXT,
    window_start=INT64,
    window_ms=INT64,
    observed_nano_usd=INT64,
    expected_nano_usd=INT64,
    score=st.floats(),
    confidence=st.floats(),
    baseline_size=INT64,
    first_event_time=INT64,
    last_event_time=INT64,
    detection_time=INT64,
    reason=TEXT,
    team=TEXT,
    model=TEXT,
    agent=TEXT,
    use_case=TEXT,
    session_id=TEXT,
    cause=st.lists(st.fixed_dictionaries({"dimension": TEXT, "name": TEXT, "excess_nano_usd": INT64}), max_size=12),
    example_event_ids=st.lists(TEXT, max_size=12),
    details=st.dictionaries(TEXT, TEXT, max_size=40),
)


def units(value: str) -> int:
    return len(value.encode("utf-16-le")) // 2


def texts_of(node):
    if isinstance(node, dict):
        if isinstance(node.get("text"), str):
            yield node["text"]
        for value in node.values():
            yield from texts_of(value)
    elif isinstance(node, list):
        for value in node:
            yield from texts_of(value)


def check_slack(content: dict) -> None:
    assert 1 <= len(content["blocks"]) <= 50
    assert units(content["text"]) <= 4_000
    for block in content["blocks"]:
        if block["type"] == "header":
            assert 1 <= units(block["text"]["text"]) <= 150
        elif block["type"] == "section":
            if "text" in block:
                assert 1 <= units(block["text"]["text"]) <= 3_000
            assert len(block.get("fields", ())) <= 10
            assert all(1 <= units(part["text"]) <= 2_000 for part in block.get("fields", ()))
        elif block["type"] == "image":
            assert len(block["image_url"]) <= 3_000 and len(block["alt_text"]) <= 2_000
        elif block["type"] == "actions":
            assert len(block["elements"]) <= 25
            assert all(1 <= units(button["value"]) <= 2_000 for button in block["elements"])
        else:
            assert len(block["elements"]) <= 10
    assert sum(units(part) for part in texts_of(content)) <= 12_000
    assert sum(units(part) for part in texts_of(content)) > 20
    for block in content["blocks"]:
        for part in texts_of(block):
            if block["type"] != "header":
                part = re.sub(r"<https://dash/[^ <>|]*\|[A-Za-z ]+>", "", part)
                if block["type"] != "actions":
                    assert "<" not in part and ">" not in part
                assert all(entity.split(";")[0] in ("amp", "lt", "gt") for entity in part.split("&")[1:])


LINKS = Links("https://dash/?id={id}&team={team}", lambda finding: "https://t/charts/x.png?s=1", interactive=True)


@given(FINDINGS, st.booleans())
def test_slack_message_stays_within_the_limits(notification, finding, linked):
    content = posted(notification(finding), LINKS if linked else Links())
    check_slack(content)
    assert kept(notification(finding), LINKS if linked else Links()) == content


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(FINDINGS, min_size=2, max_size=LINES + 5))
def test_slack_digest_stays_within_the_limits(notification, findings):
    told = notification(*findings, group="g" * 300, labels={"team": "t" * 900})
    for content in (posted(told, LINKS), kept(told, LINKS)):
        check_slack(content)
        lines = [block for block in content["blocks"] if block["type"] == "section"]
        assert len(lines) == min(len(findings), LINES)
    note = reply(told)
    assert note is not None and units(note["text"]) <= 3_000


def test_largest_slack_digest_counts_what_it_leaves_out_and_links_to_it(notification, finding):
    """Lesson 23: too many alerts in one message were refused with 400 (prometheus/alertmanager#2769)."""
    many = [finding(n, reason="&" * 9_000, detector="x" * 9_000) for n in range(2_000)]
    content = posted(notification(*many, group="g"), LINKS)
    check_slack(content)
    notes = [element["text"] for element in content["blocks"][-1]["elements"]]
    assert "and 1,980 more: `tenfold alerts` lists all" in notes
    assert "<https://dash/?id=g&team=|Details>" in notes


def test_a_reason_that_is_cut_leads_to_all_of_it(notification, finding):
    """Lesson 23: truncate and link."""
    content = posted(notification(finding(1, reason="word " * 2_000)), LINKS)
    check_slack(content)
    cut = content["blocks"][1]["text"]["text"]
    assert cut.endswith("… <https://dash/?id=session_outlier-0001&team=payments|all of it>")


@given(FINDINGS)
def test_pagerduty_event_stays_within_the_limits(receiver, notification, finding):
    body = receiver("pagerduty", "http://h").build(notification(finding))[0].body
    event = json.loads(body)
    assert len(body) <= 512_000
    assert 1 <= len(event["dedup_key"]) <= 255
    if finding["status"] == "resolved":
        assert set(event) == {"routing_key", "event_action", "dedup_key"}
    else:
        payload = event["payload"]
        assert 1 <= units(payload["summary"]) <= 1_024 and payload["source"]
        assert payload["severity"] in ("info", "warning", "critical")


def test_pagerduty_event_that_is_too_large_loses_details_first(receiver, notification, finding):
    # Three bytes each in UTF-8 ...
    wide = {f"{n}": "\N{EURO SIGN}" * 9_000 for n in range(60)}
    small = receiver("pagerduty", "http://h").build(notification(finding(details=wide)))[0].body
    assert len(small) <= 512_000
    # ... six as escaped control characters.
    worst = {f"{n}": "\x00" * 9_000 for n in range(60)}
    many = [{"dimension": "\x00" * 9_000, "name": "", "excess_nano_usd": 1}] * 12
    (event,) = receiver("pagerduty", "http://h").build(
        notification(finding(details=worst, cause=many, example_event_ids=["\x00" * 9_000] * 12))
    )
    assert len(event.body) <= 512_000 and json.loads(event.body)["payload"]["summary"] == finding()["reason"]


@given(FINDINGS)
def test_webhook_body_is_the_finding(receiver, notification, finding):
    (request,) = receiver("webhook", "http://h").build(notification(finding))
    body = json.loads(request.body, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert {name: value for name, value in body.items() if not isinstance(finding[name], float)} == {
        name: value for name, value in finding.items() if not isinstance(value, float)
    }
    assert all(char.isprintable() and char.isascii() for char in request.headers["Idempotency-Key"])


def test_slack_message_in_full(notification, finding):
    """Lesson 26: what it costs, against what, and who is responsible, all in the message."""
    cause = [
        {"dimension": "model", "name": "gpt-5.4", "excess_nano_usd": 30_000_000_000},
        {"dimension": "model", "name": "<b&w>", "excess_nano_usd": 7_600_000_000},
    ]
    content = posted(notification(finding(1, cause=cause, reason="Session <s-1> cost 10 & more.")), Links())
    head, reason, fields, causes, note = content["blocks"]
    assert head["text"]["text"] == "\N{LARGE RED CIRCLE} Critical: session costs far more than its peers"
    assert reason["text"]["text"] == "Session &lt;s-1&gt; cost 10 &amp; more."
    assert [field["text"] for field in fields["fields"]] == [
        "*Cost*\n$41.60",
        "*Expected*\n$4.00",
        "*Ratio*\n10.4x",
        "*Excess*\n$37.60",
        "*When*\n2023-11-14 22:13:20 to 22:19:20 UTC",
        "*Team*\npayments",
        "*Model*\ngpt-5.4",
        "*Agent*\nloan-agent",
        "*Session*\ns-1",
        "*Baseline*\n412 sessions",
    ]
    assert causes["text"]["text"] == "*Causes*\n• $30.00 model: gpt-5.4\n• $7.60 model: &lt;b&amp;w&gt;"
    assert note["elements"][0]["text"] == "session_outlier-0001 · revision 1 · open"
    assert content["text"] == f"{head['text']['text']}. Session &lt;s-1&gt; cost 10 &amp; more."
    resolved = posted(notification(finding(1, 2, "resolved")), Links())
    assert resolved["blocks"][0]["text"]["text"].startswith("\N{WHITE HEAVY CHECK MARK} Resolved: ")


def test_a_budget_s_alert_names_budget_and_period(receiver, notification, finding):
    """Lesson 8: daily and monthly budgets were mixed up (maximhq/bifrost#5770)."""
    details = {"budget": "payments day", "period": "2026-11-25", "scope": "team:payments"}
    told = notification(finding(1, detector="budget_burn", scope_kind="budget", details=details))
    (event,) = receiver("pagerduty", "http://h").build(told)
    assert json.loads(event.body)["payload"]["custom_details"]["Period"] == "payments day 2026-11-25"
    fields = next(block["fields"] for block in posted(told, Links())["blocks"] if "fields" in block)
    assert "*Period*\npayments day 2026-11-25" in [field["text"] for field in fields]


def test_pagerduty_event_in_full(receiver, notification, finding):
    (request,) = receiver("pagerduty", "http://h").build(notification(finding(1, details={"level": "80"})))
    event = json.loads(request.body)
    assert (event["event_action"], event["dedup_key"]) == ("trigger", "session_outlier-0001")
    payload = event["payload"]
    assert payload["summary"] == finding(1)["reason"]
    assert (payload["component"], payload["group"], payload["class"]) == ("loan-agent", "payments", "session_outlier")
    assert payload["timestamp"] == "2023-11-14T22:19:20.100+00:00"
    assert payload["custom_details"]["Cost"] == "$41.60" and payload["custom_details"]["level"] == "80"
    assert "rrrr" not in repr(request) and "http" not in repr(request)


def test_long_ids_keep_apart():
    first, second = dedup_key("x" * 300 + "1"), dedup_key("x" * 300 + "2")
    assert first != second and max(len(first), len(second)) <= 255
    assert dedup_key("short") == "short"


def test_slack_refusal_with_status_200(receiver):
    slack = receiver("slack", "http://h")
    assert slack.classify(200, '{"ok": false, "error": "channel_not_found"}') == Failed(
        "Slack answered channel_not_found"
    )
    assert slack.classify(200, "ok") == slack.classify(200, '{"ok": true}') == slack.classify(200, "{") == Delivered()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, Delivered), (202, Delivered), (204, Delivered), (302, Failed), (400, Failed), (401, Failed),
        (404, Failed), (408, Retry), (413, Failed), (425, Retry), (429, Retry), (500, Retry), (503, Retry),
    ],
)  # fmt: skip
def test_verdicts(status, expected):
    assert isinstance(classify_http(status, ""), expected)


@given(st.text(), st.integers(1, 50))
def test_clip(value, limit):
    clipped = text.clip(value, limit)
    assert units(clipped) <= limit
    assert clipped == value or (clipped.endswith("…") and value.startswith(clipped[:-1]))
