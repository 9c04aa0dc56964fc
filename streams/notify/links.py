"""Where an alert leads: a page about the finding, and a picture of its spend.

Both are addresses and nothing more: nothing is fetched here. Cost: some microseconds a finding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from streams.notify.matchers import LABELS

MAX_URL = 2_900
"""Slack takes 3,000 characters of a link or of an image's address."""


@dataclass(frozen=True, slots=True)
class Links:
    page: str = ""
    """A template with ``{id}``, ``{team}`` and other labels; empty for no link."""
    chart: Callable[[dict], str] = lambda finding: ""
    """The address of a picture, or nothing."""
    interactive: bool = False
    """Whether buttons lead back to us."""

    def to(self, finding: dict | None = None) -> str:
        """The page of a finding, or of all without one; nothing if there is no template or the link is too long.

        >>> Links("https://dash/{team}?finding={id}").to({"id": "a b", "team": "x/y"})
        'https://dash/x%2Fy?finding=a%20b'
        """
        link = self.page
        for label in ("id", *LABELS):
            link = link.replace(f"{{{label}}}", quote((finding or {}).get(label, ""), safe=""))
        return link if len(link) <= MAX_URL else ""
