"""Who gets which partition: even per topic, and sticky."""

import types
from collections import Counter

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streams.transport.assignor import EvenAssignor, spread

TOPICS = {"usage": [*range(4)], "foreign": [*range(4)], "partials": [0], "anomalies": [0]}


def plain(partitions, members, before=None):
    return spread(partitions, dict.fromkeys(partitions, sorted(members)), before or {})


def test_two_workers_share_the_busy_topic_and_the_single_partitions():
    after = plain(TOPICS, ["a", "b"])
    for topic in ("usage", "foreign"):
        assert Counter(after[topic, partition] for partition in range(4)) == {"a": 2, "b": 2}
    assert after["partials", 0] != after["anomalies", 0]


def test_a_third_worker_takes_only_what_it_must():
    before = plain(TOPICS, ["a", "b"])
    after = plain(TOPICS, ["a", "b", "c"], before)
    moved = {tp for tp in after if after[tp] != before[tp]}
    assert all(after[tp] == "c" for tp in moved)
    assert Counter(tp[0] for tp in moved)["usage"] == 1


@given(
    partitions=st.dictionaries(st.sampled_from("tuvwxyz"), st.integers(0, 9).map(lambda n: [*range(n)]), min_size=1),
    old=st.integers(0, 5),
    new=st.integers(1, 5),
    data=st.data(),
)
def test_it_is_whole_even_and_stays_put(partitions, old, new, data):
    before = plain(partitions, [f"m{i}" for i in range(old)]) if old else {}
    members = data.draw(st.permutations([f"m{i}" for i in range(max(old, new))]))[:new]
    after = plain(partitions, members, before)
    assert after.keys() == {(topic, p) for topic, numbers in partitions.items() for p in numbers}
    for topic, numbers in partitions.items():
        counts = Counter(dict.fromkeys(members, 0))
        counts.update(after[topic, p] for p in numbers)
        assert max(counts.values()) - min(counts.values()) <= 1
    assert plain(partitions, members, after) == after
    again = plain(partitions, members, before)
    assert again == after


def test_it_speaks_aiokafkas_protocol():
    cluster = types.SimpleNamespace(partitions_for_topic=lambda topic: set(TOPICS[topic]))
    members = {m: EvenAssignor._metadata(list(TOPICS), None) for m in ("a", "b")}
    first = EvenAssignor.assign(cluster, members)
    had = {m: ConsumerProtocolMemberAssignment.decode(a.encode()).partitions() for m, a in first.items()}
    assert sorted(had["a"] + had["b"]) == sorted(TopicPartition(t, p) for t, n in TOPICS.items() for p in n)
    members = {m: EvenAssignor._metadata(list(TOPICS), tps, 1) for m, tps in had.items()}
    again = EvenAssignor.assign(cluster, members)
    assert {m: a.partitions() for m, a in again.items()} == had
