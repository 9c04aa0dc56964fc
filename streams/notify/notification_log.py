"""What has become of each finding at each receiver: the memory that makes retries and restarts harmless.

One entry per (receiver, finding id): the highest revision that is settled (delivered or refused for good) and
the revisions still to be delivered, as whole findings. Stored before a finding is accepted and after it is
settled, so a log that is durable is an outbox: what it holds as pending survives a crash, and what it holds as
settled is not sent again. A crash between a destination's answer and its record repeats that one request, with
the same dedup key.

``MemoryNotificationLog`` forgets with the process. It is the log of tests and replays, and the cache to put in
front of a durable one: ``apply`` its entries when they are read back. Some 400 bytes an entry, bounded.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

_json = json.JSONEncoder(separators=(",", ":")).encode
"""``json.dumps`` with separators makes an encoder for every call."""
State = Literal["pending", "sent", "failed", "dropped"]


@dataclass(frozen=True, slots=True)
class Entry:
    """The delivery state of one finding at one receiver; the latest entry of a key counts."""

    receiver: str
    finding_id: str
    state: State
    """``pending`` while anything is to be delivered, else how the settled revision ended: ``dropped`` was over before
    its time to be told."""
    settled_revision: int
    """0 before the first."""
    at_ms: int
    detail: str = ""
    """Why it failed."""
    pending: tuple[dict, ...] = ()
    """An alert and the resolution that follows it, or one of the two."""
    told_severity: str = ""
    """Of the revision delivered last; empty before the first."""
    told_ms: int = 0
    told_open: bool = False
    """The receiver was told of it, and not yet of its end."""
    group: str = ""
    """Key of the alert it is part of at the receiver."""
    ref: str = ""
    """What the destination called that alert's message."""
    acknowledged_ms: int = 0
    """Of the latest acknowledgement that was passed on."""

    @property
    def key(self) -> str:
        """Key for a compacted topic; receivers' names hold no slash."""
        return f"{self.receiver}/{self.finding_id}"

    def encode(self, written: dict[int, str] | None = None) -> bytes:
        """``written``: the findings of entries that are encoded together, by identity, so that each is written once.

        It must not outlive the entries.
        """
        written = {} if written is None else written
        # Not dataclasses.asdict, which copies the findings first and takes longer than writing them.
        fields = {name: getattr(self, name) for name in self.__slots__ if name != "pending"}
        findings = []
        for finding in self.pending:
            if (text := written.get(id(finding))) is None:
                text = written[id(finding)] = _json(finding)
            findings.append(text)
        return f'{_json(fields)[:-1]},"pending":[{",".join(findings)}]}}'.encode()

    @classmethod
    def decode(cls, value: bytes) -> "Entry":
        """Inverse of ``encode``; raises ValueError, KeyError or TypeError for anything else."""
        fields = json.loads(value)
        return cls(**{**fields, "pending": tuple(fields["pending"])})


class NotificationLog(Protocol):
    durable: bool
    """True if what is ``stored`` survives the process."""

    def get(self, receiver: str, finding_id: str) -> Entry | None: ...

    def sent(self, receiver: str, finding_id: str, revision: int) -> bool:
        """True if this revision or a later one is settled: there is nothing left to do."""

    def pending(self, receiver: str) -> list[Entry]:
        """What a start has to take up again, oldest first."""

    def entries(self, receiver: str) -> list[Entry]:
        """All that is known of one receiver."""

    def knowing(self, finding_id: str) -> Iterable[str]:
        """Names of the receivers that there is an entry of this finding for."""

    async def write(self, entries: Sequence[Entry]) -> None:
        """Keep these, after all that was written before; known to ``get`` at once, certain once ``stored``.

        Raises RetryableError if they are not taken; then call again.
        """

    async def stored(self) -> None:
        """Return once all that was written survives the process (at once, if nothing does)."""

    async def probe(self) -> None:
        """Return once the log has shown that it takes records. Raises RetryableError if it does not."""


class MemoryNotificationLog:
    durable = False

    def __init__(self, max_settled: int = 200_000) -> None:
        """Keep the latest ``max_settled`` settled entries, and every pending one."""
        self._max_settled = max_settled
        self._settled: dict[tuple[str, str], Entry] = {}
        self._pending: dict[str, dict[str, Entry]] = defaultdict(dict)
        self._knowing: dict[str, set[str]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._settled) + sum(map(len, self._pending.values()))

    def get(self, receiver: str, finding_id: str) -> Entry | None:
        return self._pending[receiver].get(finding_id) or self._settled.get((receiver, finding_id))

    def sent(self, receiver: str, finding_id: str, revision: int) -> bool:
        entry = self.get(receiver, finding_id)
        return entry is not None and entry.settled_revision >= revision

    def pending(self, receiver: str) -> list[Entry]:
        return list(self._pending[receiver].values())

    def entries(self, receiver: str) -> list[Entry]:
        settled = (entry for entry in self._settled.values() if entry.receiver == receiver)
        return [*settled, *self._pending[receiver].values()]

    def knowing(self, finding_id: str) -> Iterable[str]:
        return self._knowing.get(finding_id, ())

    def receivers(self) -> list[str]:
        """Names that there are entries of."""
        names = {receiver for receiver, pending in self._pending.items() if pending}
        return sorted(names | {receiver for receiver, _ in self._settled})

    def apply(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            key = (entry.receiver, entry.finding_id)
            self._settled.pop(key, None)
            self._knowing[entry.finding_id].add(entry.receiver)
            if entry.state == "pending":
                self._pending[entry.receiver][entry.finding_id] = entry
                continue
            self._pending[entry.receiver].pop(entry.finding_id, None)
            self._settled[key] = entry
            if len(self._settled) > self._max_settled:
                receiver, finding_id = next(iter(self._settled))
                del self._settled[receiver, finding_id]
                self._knowing[finding_id].discard(receiver)
                if not self._knowing[finding_id]:
                    del self._knowing[finding_id]

    async def write(self, entries: Sequence[Entry]) -> None:
        self.apply(entries)

    async def stored(self) -> None:
        return

    async def probe(self) -> None:
        return
