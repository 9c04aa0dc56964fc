"""Label matchers, written as in Alertmanager: ``team=payments``, ``model=~gpt-.*``, ``severity!=info``, ``agent!~x|y``.

The labels of a finding are its texts (detector, severity, scope, names) and its details; one it lacks is empty.
Regular expressions match the whole value. Source: Alertmanager's ``matchers``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

LABELS = (
    "detector", "severity", "scope_kind", "scope_name", "team", "model", "agent", "use_case", "session_id",
)  # fmt: skip
_FORM = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*(=~|!~|!=|=)\s*(.*?)\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label.

    >>> Matcher.parse("team=~pay.*").matches({"team": "payments"}), Matcher.parse("team!=").matches({})
    (True, False)
    """

    label: str
    operator: str
    value: str

    @classmethod
    def parse(cls, text: str) -> "Matcher":
        """Raises ValueError for anything but ``label=value``, ``!=``, ``=~`` or ``!~``."""
        found = _FORM.fullmatch(text)
        if not found:
            raise ValueError("a matcher is label=value, label!=value, label=~regex or label!~regex")
        label, operator, value = found.groups()
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        if "~" in operator:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"{value!r} is not a regular expression: {error}") from None
        return cls(label, operator, value)

    def matches(self, labels: Mapping[str, str]) -> bool:
        found = labels.get(self.label, "")
        if self.operator == "=":
            return found == self.value
        same = re.fullmatch(self.value, found, re.DOTALL) if "~" in self.operator else found == self.value
        return bool(same) == (self.operator[0] == "=")


def _valid(text: str) -> str:
    Matcher.parse(text)
    return text


MatcherText = Annotated[str, AfterValidator(_valid)]
"""A matcher in the settings."""


def parse(texts: Sequence[str]) -> tuple[Matcher, ...]:
    return tuple(Matcher.parse(text) for text in texts)


def labels(finding: Mapping) -> dict[str, str]:
    """What matchers, grouping and inhibition see of a finding; a detail never hides a field."""
    return {**finding["details"], **{name: finding[name] for name in LABELS}}


def all_match(matchers: Sequence[Matcher], labels: Mapping[str, str]) -> bool:
    """True if every one does; no matchers match everything."""
    return all(matcher.matches(labels) for matcher in matchers)
