"""What spend is added up by: a scope is a kind and the names that kind uses.

The key of a scope is text that cannot be ambiguous, since names may hold any character: it keys Kafka
records, ids of findings and partitioning, so it must never change.
"""

import re
from functools import lru_cache
from typing import NamedTuple

SCOPE_KINDS = ("team", "model", "team_model", "agent", "use_case")
"""Of every event."""
EXTRA_KINDS = ("transaction_type", "user", "transaction_kind", "unattributed", "session", "tag")
"""Kept only if a setting asks for them (models.extra_scopes), and not published on tenfold.spend. Add at the end only:
their places are in keys of saved state."""
BUDGET_WINDOW_KINDS = (*SCOPE_KINDS, "transaction_type", "user", "session", "tag")
"""What a budget may be on, for which windows are kept."""
BUDGET_SCOPE_KINDS = ("organisation", "business_unit", *BUDGET_WINDOW_KINDS)
"""Budgets also know sums of team windows: of all teams, or of the teams of a business unit."""
_FIELDS = {
    "organisation": (),
    "business_unit": ("team",),  # Its own name stands there.
    "team": ("team",),
    "model": ("model",),
    "team_model": ("team", "model"),
    "agent": ("agent",),
    "use_case": ("use_case",),
    "transaction_type": ("transaction_type",),
    "user": ("user",),
    "transaction_kind": ("transaction_type", "usage_kind"),
    "unattributed": ("team", "use_case"),
    "session": ("session",),
    "tag": ("tag", "tag_value"),
}

_NAME = re.compile(r"((?:[^\\|]|\\.)*)\|", re.DOTALL)
_UNESCAPED = re.compile(r"\\(.)", re.DOTALL)


class Scope(NamedTuple):
    """One scope; names that its kind does not use are empty.

    >>> Scope.of("team_model", team="payments", model="gpt-5.4").key
    'team_model:payments|gpt-5.4'
    >>> Scope.of("team", team="a|b").key
    'team:a\\\\|b'
    """

    kind: str
    team: str = ""
    model: str = ""
    agent: str = ""
    use_case: str = ""
    transaction_type: str = ""
    user: str = ""
    usage_kind: str = ""
    session: str = ""
    tag: str = ""
    tag_value: str = ""

    @classmethod
    def of(
        cls,
        kind: str,
        *,
        team: str = "",
        model: str = "",
        agent: str = "",
        use_case: str = "",
        transaction_type: str = "",
        user: str = "",
        session: str = "",
        tag: str = "",
        tag_value: str = "",
    ) -> "Scope":
        """The scope of ``kind`` that an event with these names falls in."""
        names = {
            "team": team,
            "model": model,
            "agent": agent,
            "use_case": use_case,
            "transaction_type": transaction_type,
            "user": user,
            "session": session,
            "tag": tag,
            "tag_value": tag_value,
        }
        return cls.named(kind, *(names[name] for name in _FIELDS[kind]))

    @classmethod
    def named(cls, kind: str, *names: str) -> "Scope":
        """The scope of ``kind`` with the names that it uses, in their order."""
        return cls(kind, **dict(zip(_FIELDS[kind], names, strict=True)))

    @classmethod
    def parse(cls, key: str) -> "Scope":
        """The scope whose ``key`` this is; raises ValueError if it is none.

        >>> Scope.parse('team_model:a\\\\|b|gpt-5.4').names
        ('a|b', 'gpt-5.4')
        """
        kind, colon, text = key.partition(":")
        fields = _FIELDS.get(kind)
        names = [_UNESCAPED.sub(r"\1", name) for name in _NAME.findall(text + "|")] if fields else []
        if colon and fields is not None and len(names) == len(fields):
            scope = cls.named(kind, *names)
            if scope.key == key:
                return scope
        raise ValueError(f"{key!r} is not the key of a scope")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(getattr(self, name) for name in _FIELDS[self.kind])

    @property
    def key(self) -> str:
        return _key(self)

    @property
    def label(self) -> str:
        """For people: ``payments × gpt-5.4``, ``cost_centre=blue``; an empty name reads ``(unknown)``."""
        if self.kind == "organisation":
            return self.kind
        if self.kind == "tag":
            return f"{self.tag}={self.tag_value}"
        return " × ".join(name or "(unknown)" for name in self.names)


@lru_cache(maxsize=1 << 16)  # Every window that changes is published under it, several times a second.
def _key(scope: Scope) -> str:
    escaped = (name.replace("\\", "\\\\").replace("|", "\\|") for name in scope.names)
    return f"{scope.kind}:{'|'.join(escaped)}"
