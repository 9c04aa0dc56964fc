"""What the output topics hold, followed while a run goes on.

One consumer without a group reads all of them from the start; a broker that goes away is asked again, from where
reading stopped. Keyed as a reader of the topic would key it: the last record of a key counts.
"""

import asyncio
import contextlib
from collections import Counter, defaultdict

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from models.scopes import Scope
from schemas.codec import decode
from streams.topics import Topics


class Outputs:
    """``async with``; the attributes grow as records arrive."""

    def __init__(self, client_settings: dict, topics: Topics):
        self.spend: dict[tuple, dict] = {}
        """By the highest revision."""
        self.windows_stale: set[tuple] = set()
        """Windows whose last record is not the one with the highest revision."""
        self.budgets: dict[tuple, dict] = {}
        self.sessions: dict[tuple, dict] = {}
        self.session_conflicts: set[tuple] = set()
        """Runs that were published with two different results."""
        self.findings: dict[str, list[dict]] = defaultdict(list)
        """Every record of each id, in order."""
        self.rejected: dict[tuple, dict] = {}
        self.baselines: dict[tuple, dict] = {}
        self.progress: dict[int, list[int]] = defaultdict(list)
        """When each source partition said how far it is: broker's record times, ms."""
        self.records: Counter = Counter()
        self._client_settings = client_settings
        self._take = {
            topics.spend.name: self._spend,
            topics.budgets.name: self._budget,
            topics.sessions.name: self._session,
            topics.anomalies.name: self._finding,
            topics.rejected.name: self._rejected,
            topics.baselines.name: self._baseline,
            topics.partials.name: self._partials,
        }
        self._next = {
            TopicPartition(topic.name, partition): 0
            for topic in topics
            if topic.name in self._take
            for partition in range(topic.partitions)
        }
        self._task: asyncio.Task | None = None

    async def __aenter__(self) -> "Outputs":
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def check(self) -> None:
        """Raise what ended the reading, if anything did."""
        if self._task.done():
            self._task.result()

    async def _follow(self) -> None:
        while True:
            consumer = AIOKafkaConsumer(
                **self._client_settings, enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=100
            )
            try:
                await consumer.start()
                consumer.assign(list(self._next))
                for tp, offset in self._next.items():
                    consumer.seek(tp, offset)
                while True:
                    for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                        for record in records:
                            self._take[tp.topic](record)
                        self._next[tp] = records[-1].offset + 1
                        self.records[tp.topic] += len(records)
            except KafkaError:
                await asyncio.sleep(0.3)
            finally:
                await consumer.stop()

    def _spend(self, record) -> None:
        row = decode("window_spend", record.value)
        scope = Scope(row["scope_kind"], row["team"], row["model"], row["agent"], row["use_case"])
        key = (scope, row["window_start"], row["window_ms"])
        if key not in self.spend or row["revision"] >= self.spend[key]["revision"]:
            self.spend[key] = row
            self.windows_stale.discard(key)
        else:
            self.windows_stale.add(key)

    def _budget(self, record) -> None:
        row = decode("budget_status", record.value)
        self.budgets[(row["budget"], row["period"])] = row

    def _session(self, record) -> None:
        row = decode("session_summary", record.value)
        key = (row["session_id"], row["first_event_time"])
        if self.sessions.setdefault(key, row) != row:
            self.session_conflicts.add(key)
        self.sessions[key] = row

    def _finding(self, record) -> None:
        row = decode("finding", record.value)
        self.findings[row["id"]].append(row)

    def _rejected(self, record) -> None:
        row = decode("rejected", record.value)
        self.rejected[(row["topic"], row["partition"], row["offset"])] = row

    def _baseline(self, record) -> None:
        row = decode("baseline", record.value)
        self.baselines[(row["level"], row["team"], row["agent"], row["model"])] = row

    def _partials(self, record) -> None:
        self.progress[int(record.key)].append(record.timestamp)
