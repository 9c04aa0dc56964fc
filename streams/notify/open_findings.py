"""The findings that are open now: what inhibition, groups, repeats and ``tenfold alerts`` look at.

Kept in the notification log under a name of its own, one entry per finding, recorded with the deliveries of the same
revision and after them: so it survives what they survive, and is never ahead of them. An entry's ``detail`` says why
the finding is not told, if it is muted, or was to its end. Some 3 KB a finding; at most ``MAX_OPEN``, the oldest go
first.
"""

from collections.abc import Iterator

from streams.notify.notification_log import Entry, NotificationLog

OPEN = "@open"
"""No receiver has such a name."""
MAX_OPEN = 50_000
FORGET_MS = 7 * 86_400_000
"""What nobody will resolve any more, since state was reset, is dropped after a week without a change."""


class OpenFindings:
    """A view of the log; ``entry`` makes what is to be recorded."""

    def __init__(self, log: NotificationLog) -> None:
        self._log = log

    def __iter__(self) -> Iterator[dict]:
        return (entry.pending[0] for entry in self._log.pending(OPEN))

    def __contains__(self, finding_id: str) -> bool:
        return self.get(finding_id) is not None

    def get(self, finding_id: str) -> dict | None:
        entry = self._log.get(OPEN, finding_id)
        return entry.pending[0] if entry is not None and entry.pending else None

    def muted(self) -> list[tuple[dict, str]]:
        """Findings that nobody is told of, each with the reason."""
        return [(entry.pending[0], entry.detail) for entry in self._log.pending(OPEN) if entry.detail]

    def entry(self, finding: dict, now_ms: int, muted: str = "", before: Entry | None = None) -> Entry | None:
        """What to record of a revision; None if this or a later one is known, with the same reason.

        ``before``: what is known if the log does not hold it yet.
        """
        before = before or self._log.get(OPEN, finding["id"])
        if before is not None:
            known = before.pending[0]["revision"] if before.pending else before.settled_revision
            if known > finding["revision"] or (
                known == finding["revision"] and (before.detail == muted or not before.pending)
            ):
                return None
        if finding["status"] == "resolved":
            return Entry(OPEN, finding["id"], "sent", finding["revision"], now_ms, muted)
        return Entry(OPEN, finding["id"], "pending", 0, now_ms, muted, (finding,))

    def expired(self, now_ms: int) -> list[Entry]:
        """What to record to forget findings that are old, or too many."""
        entries = self._log.pending(OPEN)
        old = {entry.finding_id for entry in entries if now_ms - entry.at_ms >= FORGET_MS}
        old |= {entry.finding_id for entry in entries[: max(0, len(entries) - MAX_OPEN)]}
        return [
            Entry(OPEN, entry.finding_id, "sent", entry.pending[0]["revision"], now_ms)
            for entry in entries
            if entry.finding_id in old
        ]
