"""The stages by themselves: log, outbox, rate and back-off."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.notify.hold_stage import hold_ms
from streams.notify.notification_log import Entry, MemoryNotificationLog
from streams.notify.outbox import Outbox
from streams.notify.rate_limit_stage import TokenBucket
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
    item = outbox.put("f", (alert, end))
    item.waiters += [(revision, lambda revision=revision: called.append(revision)) for revision in (1, 2, 3)]
    for waiter in outbox.settle(item, alert):
        waiter()
    assert called == [1, 2] and len(outbox) == 1 and item.head is end
    for waiter in outbox.settle(item, end):
        waiter()
    assert called == [1, 2, 3] and len(outbox) == 0


def test_outbox_keeps_what_came_while_another_revision_was_sent(finding):
    outbox, first, second = Outbox(), finding(1), finding(1, 2, "updated")
    item = outbox.put("f", (first,))
    assert outbox.put("f", (second,)) is item
    outbox.settle(item, first)
    assert item.findings == (second,) and outbox.holds("f")


def test_outbox_hands_out_what_is_ready_in_order(finding):
    outbox = Outbox()
    items = [outbox.put(f"f{n}", (finding(n),)) for n in range(4)]
    outbox.postpone(items[0], 10.0)
    items[2].alone = True
    assert list(outbox.ready(0.0, 20)) == [items[1], items[3]]
    assert list(outbox.ready(10.0, 2)) == [items[1], items[3]]
    assert (outbox.ready_count(0.0), outbox.ready_count(10.0)) == (3, 4)
    outbox.settle(items[1], items[1].head)
    assert list(outbox.ready(0.0, 20)) == [items[2]]
    assert outbox.ready_at() == 0.0 and Outbox().ready_at() is None


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
async def test_no_window_holds_more_than_rate_and_burst(burst, takes):
    from unittest.mock import Mock

    now, taken = [0.0], []

    async def sleep(seconds):
        now[0] += seconds

    bucket = TokenBucket(2.0, burst, Mock(monotonic=lambda: now[0], sleep=sleep))
    for _ in range(takes):
        await bucket.take()
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
