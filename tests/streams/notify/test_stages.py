"""The stages by themselves: log, outbox, rate and back-off."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.notify.batch_stage import Batcher
from streams.notify.group_stage import Groups, group_key
from streams.notify.hold_stage import hold_ms
from streams.notify.notification_log import Entry, MemoryNotificationLog
from streams.notify.outbox import Outbox
from streams.notify.rate_limit_stage import TokenBucket
from streams.notify.receiver import Rate
from streams.notify.retry_stage import MAX_RETRY_AFTER_SECONDS, Backoff, parse_retry_after


@given(st.text(), st.integers(0, 2**31), st.lists(st.dictionaries(st.text(), st.integers() | st.text())))
def test_entries_survive_their_encoding(text, revision, pending):
    entry = Entry("slack", f"id-{text}", "pending", revision, 1, text, tuple(pending))
    assert Entry.decode(entry.encode()) == entry
    assert entry.key == f"slack/id-{text}"


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b'{"pending": []}', b"\xff"])
def test_what_is_no_entry(value):
    with pytest.raises((ValueError, KeyError, TypeError)):
        Entry.decode(value)


def test_memory_log_forgets_the_oldest_settled_and_nothing_pending(finding):
    log = MemoryNotificationLog(max_settled=3)
    log.apply(Entry("r", f"p{n}", "pending", 0, n, pending=(finding(n),)) for n in range(10))
    log.apply(Entry("r", f"s{n}", "sent", 1, n) for n in range(10))
    assert len(log) == 13 and len(log.pending("r")) == 10 and log.pending("other") == []
    assert [log.sent("r", f"s{n}", 1) for n in range(10)] == [False] * 7 + [True] * 3
    log.apply([Entry("r", "p0", "sent", 1, 0), Entry("r", "s9", "pending", 1, 0, pending=(finding(9, 2),))])
    assert log.get("r", "p0").state == "sent" and log.get("r", "s9").state == "pending"
    assert log.sent("r", "s9", 1) and not log.sent("r", "s9", 2)


def test_outbox_calls_waiters_of_what_is_settled_only(finding):
    outbox, called = Outbox(), []
    alert, end = finding(1, 2, "updated"), finding(1, 3, "resolved")
    item = outbox.put("f", (alert, end), "f", 0.0)
    item.waiters += [(revision, lambda revision=revision: called.append(revision)) for revision in (1, 2, 3)]
    for waiter in outbox.settle(item, alert):
        waiter()
    assert called == [1, 2] and len(outbox) == 1 and item.head is end
    for waiter in outbox.settle(item, end):
        waiter()
    assert called == [1, 2, 3] and len(outbox) == 0


def test_outbox_keeps_what_came_while_another_revision_was_sent(finding):
    outbox, first, second = Outbox(), finding(1), finding(1, 2, "updated")
    item = outbox.put("f", (first,), "f", 0.0)
    assert outbox.put("f", (second,), "f", 0.0) is item and outbox.get("f") is item
    outbox.settle(item, first)
    assert item.findings == (second,) and outbox.holds("f")


def batcher_of(receiver, clock, *findings, kind="slack", entries=(), **fields):
    outbox, groups = Outbox(), Groups(entries)
    one = receiver(kind, "http://h", **fields)
    items = [outbox.put(f["id"], (f,), group_key(f, one), clock.monotonic()) for f in findings]
    return Batcher(one, outbox, groups, clock), outbox, groups, items


def test_what_is_ready_goes_alone_or_all_at_once_in_a_flood(receiver, finding, clock):
    batcher, outbox, _, items = batcher_of(receiver, clock, *[finding(n) for n in range(8)], digest_above=5)
    outbox.postpone(items[0], 1_010.0)
    items[2].alone = True
    assert batcher.choose(single=False).items == [items[1], *items[3:]]
    assert batcher.choose(single=True).items == [items[1]]
    assert batcher.due() == 7
    for item in (items[1], *items[3:]):
        outbox.settle(item, item.head)
    assert batcher.choose(single=False).items == [items[2]]
    outbox.settle(items[2], items[2].head)
    empty = batcher.choose(single=False)
    assert not empty.items and empty.wait_until == 1_010.0


def test_a_group_opens_at_once_and_its_followers_wait(receiver, finding, clock):
    told = Entry("r", "f", "sent", 1, 0, told_severity="warning", told_ms=995_000, told_open=True, ref="C/1")
    group = group_key(finding(1), receiver("slack", "http://h", group_by=["team"]))
    entries = [replace(told, group=group)]
    calm, worse = finding(1, severity="warning"), finding(2)
    settings = {"group_by": ["team"], "group_interval": "10s"}
    batcher, *_ = batcher_of(receiver, clock, calm, **settings)
    assert batcher.choose(single=False).items
    batcher, *_ = batcher_of(receiver, clock, calm, entries=entries, **settings)
    assert not batcher.choose(single=False).items
    assert batcher.choose(single=False).wait_until == pytest.approx(1_005.0)
    batcher, _, _, items = batcher_of(receiver, clock, calm, worse, entries=entries, **settings)
    assert batcher.choose(single=False).items == items


def test_followers_wait_from_when_the_last_message_set_out_not_from_its_answer(receiver, finding, clock):
    """A slow destination does not add its time to theirs twice."""
    group = group_key(finding(1), receiver("slack", "http://h", group_by=["team"]))
    told = Entry("r", "f", "sent", 1, 0, told_severity="critical", told_ms=998_000, told_open=True, group=group)
    settings = {"group_by": ["team"], "group_interval": "10s"}
    batcher, _, groups, _ = batcher_of(receiver, clock, finding(1), entries=[told], **settings)
    assert batcher.choose(single=False).wait_until == pytest.approx(1_008.0), (
        "of another owner only the answer is known"
    )
    groups.get(group).asked = 994.0
    assert batcher.choose(single=False).wait_until == pytest.approx(1_004.0)


def test_group_wait_gathers_what_comes_with_the_first(receiver, finding, clock):
    batcher, *_ = batcher_of(receiver, clock, finding(1), finding(2), group_by=["team"], group_wait="30s")
    assert batcher.choose(single=False).wait_until == pytest.approx(1_030.0)
    clock.now += 30
    assert len(batcher.choose(single=False).items) == 2


def test_a_flood_is_one_alert_that_takes_more_for_a_while(receiver, finding, clock):
    batcher, outbox, groups, items = batcher_of(
        receiver, clock, *[finding(n) for n in range(9)], kind="pagerduty", digest_above=5
    )
    flood = batcher.choose(single=False)
    assert flood.items == items and flood.group.startswith("flood-") and not flood.update
    for item in items:
        groups.told(
            Entry("r", item.finding_id, "sent", 1, 0, told_severity="critical", told_ms=clock.now_ms(),
                  told_open=True, group=flood.group)
        )  # fmt: skip
        outbox.settle(item, item.head)
    more = [outbox.put(f["id"], (f,), f["id"], clock.now) for f in (finding(n) for n in range(20, 29))]
    again = batcher.choose(single=False)
    assert again.items == more and again.group == flood.group and again.update
    for item in more:
        outbox.settle(item, item.head)
    clock.now += 61
    for n in range(30, 39):
        outbox.put(f"f{n}", (finding(n),), f"f{n}", clock.now)
    late = batcher.choose(single=False)
    assert late.group.startswith("flood-") and late.group != flood.group and not late.update


def test_groups_end_with_their_last_finding():
    groups = Groups()
    told = Entry("r", "a", "sent", 1, 0, told_severity="info", told_ms=5, told_open=True, group="g", ref="C/1")
    groups.told(told)
    groups.told(replace(told, finding_id="b", told_severity="critical", told_ms=7, ref=""))
    assert (groups.get("g").ref, groups.get("g").told_severity) == ("C/1", "critical")
    groups.told(replace(told, told_open=False, told_ms=9))
    assert groups.get("g").open_ids == {"b"} and groups.get("g").told_ms == 9
    groups.told(replace(told, finding_id="b", told_open=False))
    assert groups.get("g") is None


@pytest.mark.parametrize(
    ("status", "severity", "told", "held"),
    [
        ("updated", "warning", "warning", 70),
        ("updated", "info", "critical", 70),
        ("updated", "critical", "warning", 0),
        ("updated", "warning", "", 0),
        ("resolved", "info", "critical", 0),
        ("open", "warning", "warning", 0),
    ],
)
def test_only_minor_updates_are_held(finding, status, severity, told, held):
    entry = Entry("r", "f", "sent", 1, 0, told_severity=told, told_ms=50)
    assert hold_ms(finding(1, 2, status, severity), entry, 100, 80) == held
    assert hold_ms(finding(1, 2, status, severity), entry, 100, 151) == 0
    assert hold_ms(finding(1, 2, status, severity), None, 100, 80) == 0


@given(st.integers(1, 20), st.integers(1, 60))
def test_no_window_holds_more_than_rate_and_burst(burst, takes):
    from unittest.mock import Mock

    now, taken = [0.0], []

    bucket = TokenBucket(Rate(2.0, burst), Mock(monotonic=lambda: now[0]))
    for _ in range(takes):
        now[0] += bucket.wait_seconds()
        bucket.take()
        taken.append(now[0])
    for first in range(takes):
        for last in range(first, takes):
            assert last - first + 1 <= burst + 2.0 * (taken[last] - taken[first]) + 1e-6
    assert taken[-1] == pytest.approx(max(0.0, (takes - burst) / 2.0))


@given(st.integers(1, 10**6), st.none() | st.floats(0, MAX_RETRY_AFTER_SECONDS))
def test_backoff_is_bounded_and_honours_retry_after(failures, after):
    wait = Backoff(1.0, 60.0).wait_seconds(failures, after)
    assert 0.5 <= wait <= max(60.0, after or 0.0)
    assert wait >= (after or 0.0)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("", None), ("soon", None), ("nan", None), ("0", 0.0), ("-5", 0.0), ("1.5", 1.5), ("1e9", 3600.0),
     ("inf", 3600.0), ("Thu, 01 Jan 1970 00:00:05 GMT", 3.0), ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0)],
)  # fmt: skip
def test_retry_after(header, seconds):
    assert parse_retry_after(header, 2_000) == seconds


def test_entries_are_plain_json(finding):
    entry = Entry("r", "i", "pending", 0, 1, pending=(finding(1),))
    assert json.loads(entry.encode())["pending"] == [finding(1)]
