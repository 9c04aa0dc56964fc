"""Which worker gets which partition: every topic is spread evenly by itself, and what can stay where it is stays.

aiokafka's sticky assignor counts partitions and does not look at their topics: of eight partitions of two topics it
gives one member all of the busy topic and the other all of the idle one. Here no member has more than one partition
of a topic more than another has, the partitions that are over (of all topics together) are spread evenly too, and
within that every member keeps what it had.

Each member sends what it had with its request to join, in the sticky assignor's format, whose parsing is used.
Called by aiokafka in the group's leader.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping

from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

Owned = dict[tuple[str, int], str]
"""(topic, partition) -> member"""


class EvenAssignor(StickyPartitionAssignor):
    """The strategy of our consumers; all members of a group must use it."""

    name = "tenfold-even"

    @classmethod
    def assign(cls, cluster, members: Mapping) -> dict[str, ConsumerProtocolMemberAssignment]:
        parsed = {member: cls.parse_member_metadata(metadata) for member, metadata in members.items()}
        before: Owned = {}
        for member, metadata in sorted(parsed.items()):
            for tp in metadata.partitions:
                before.setdefault((tp.topic, tp.partition), member)
        topics = sorted({topic for metadata in parsed.values() for topic in metadata.subscription})
        partitions = {topic: sorted(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        eligible = {
            topic: sorted(m for m, metadata in parsed.items() if topic in metadata.subscription) for topic in topics
        }
        owned: dict[str, dict[str, list[int]]] = {member: defaultdict(list) for member in members}
        for (topic, partition), member in sorted(spread(partitions, eligible, before).items()):
            owned[member][topic].append(partition)
        return {
            member: ConsumerProtocolMemberAssignment(cls.version, sorted(by_topic.items()), b"")
            for member, by_topic in owned.items()
        }


def spread(partitions: Mapping[str, list[int]], eligible: Mapping[str, list[str]], before: Owned) -> Owned:
    """The new owner of each partition; ``eligible`` members of each topic, ``before`` the old owners."""
    over = {topic: len(numbers) % len(eligible[topic]) for topic, numbers in partitions.items()}
    members = {member for names in eligible.values() for member in names}
    most_over = math.ceil(sum(over.values()) / len(members))
    extras: Counter[str] = Counter()
    total: Counter[str] = Counter()
    after: Owned = {}
    # Topics with more partitions first: they have the least choice of where to be even.
    for topic in sorted(partitions, key=lambda topic: (-len(partitions[topic]), topic)):
        names, base, rest = eligible[topic], len(partitions[topic]) // len(eligible[topic]), over[topic]
        count: Counter[str] = Counter()

        def give(partition: int, member: str, topic: str = topic, base: int = base, count: Counter = count) -> None:
            after[topic, partition] = member
            extras[member] += count[member] == base
            count[member] += 1
            total[member] += 1

        open_ones = list(partitions[topic])
        for limit in (base, base + 1):
            for partition in sorted(open_ones, key=lambda p: extras[before.get((topic, p), "")]):
                owner = before.get((topic, partition))
                if owner not in names or count[owner] >= limit:
                    continue
                if count[owner] == base and (rest == 0 or extras[owner] >= most_over):
                    continue
                rest -= count[owner] == base
                give(partition, owner)
                open_ones.remove(partition)
        for partition in open_ones:
            give(partition, min(names, key=lambda m: (count[m] >= base, count[m] > base, extras[m], total[m], m)))
    return after
