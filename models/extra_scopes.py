"""Scopes that are kept only if a setting asks for them, and their panes, of one input partition.

``transaction_type``, ``user``, ``session`` and ``tag`` (one value of one tag) are for budgets, ``transaction_kind``
(what a transaction type spends on which kind of usage) for unit costs, ``unattributed`` (the team or use case of what
lacks the other) for attribution. What a kind leaves out has no pane: events without a transaction type, user, session
or value of the tag, and those with both a team and a use case.

Guarantee: as models.windows, for these kinds. Cost: some 50 ns an event and kind; nothing if none is asked for. Names
are read once, when they are first seen. Of sessions and tags, of which there may be no end, names that nobody asked
for are not even numbered. Called by models.engine only.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numba import njit

from models.combos import MISSING, SKIPPED
from models.config import BudgetConfig, EngineConfig
from models.hashtable import Index, find, grown, mix, put
from models.rolling import due_of_log
from models.scopes import EXTRA_KINDS, Scope
from models.windows import Panes
from schemas.columns import KINDS, Columns, string_index
from schemas.hashing import hash_text, secrets
from schemas.tags import span_hashes, tag_values

_FIELDS = {
    "transaction_type": ("transaction_type",),
    "user": ("user",),
    "transaction_kind": ("transaction_type",),
    "unattributed": ("team", "use_case"),
}


_BY_TEXT = ("session", "tag")
"""Kinds whose wanted names are told by a hash of their text, made here; a tag has no column of its own."""


Asked = tuple[str, str, frozenset[str] | None]
"""A kind that is asked for, the tag if it is that, and the names: of a tag values, None for all."""


def asked_for(config: EngineConfig) -> list[Asked]:
    """What settings ask for: each kind once, and each tag."""
    wanted: dict[tuple[str, str], set[str] | None] = {}
    for extra in config.extra_scopes:
        kind, _, tag = extra.partition(":")
        wanted[kind, tag] = None
    for budget in config.budgets:
        if budget.scope.kind in EXTRA_KINDS:
            key = budget.scope.kind, budget.scope.tag
            if budget.default:
                wanted[key] = None
            elif wanted.setdefault(key, set()) is not None:
                wanted[key].add(budget.scope.names[-1])
    if config.attribution.min_percent:
        wanted["unattributed", ""] = None
    if config.unit_costs:
        wanted["transaction_kind", ""] = {one.transaction_type for one in config.unit_costs}
    return [(*key, None if names is None else frozenset(names)) for key, names in sorted(wanted.items())]


def missing_for(asked: Iterable[Asked], budget: BudgetConfig) -> str:
    """The kind, of tags with its tag, that a budget needs and that is not kept for it, or ""."""
    kind, tag = budget.scope.kind, budget.scope.tag
    if kind not in EXTRA_KINDS:
        return ""
    for name, name_tag, names in asked:
        if (name, name_tag) == (kind, tag) and (
            names is None or (not budget.default and budget.scope.names[-1] in names)
        ):
            return ""
    return f"{kind}:{tag}" if tag else kind


class _Kind:
    """One kind that is asked for; of tags, one tag."""

    def __init__(self, name: str, tag: str, wanted: frozenset[str] | None, hash_key: int):
        self.name = name
        self.tag = tag
        self.wanted = wanted
        """First names that are asked for, of a tag values; None for all."""
        self.salt = np.uint64(1 + EXTRA_KINDS.index(name))
        if tag:
            self.salt = np.uint64(mix(self.salt, np.uint64(hash_text(tag, hash_key))))
        self.fields = _FIELDS.get(name, ())
        self.columns = np.array([0] if name in _BY_TEXT else [string_index(field) for field in self.fields])
        self.tag_bytes = np.frombuffer(bytearray(tag.encode()), np.uint8)
        self.hashes: Index | None = None
        """Of the names wanted, for kinds by text."""
        if name in _BY_TEXT and wanted is not None:
            keys = np.array([hash_text(text, hash_key) for text in sorted(wanted)], np.uint64)
            self.hashes = Index()
            self.hashes.reserve(len(keys), keys, 0)
            self.hashes.reset(len(self.hashes.keys), keys, len(keys))


@njit(cache=True, nogil=True)
def _assign(keep, hashes, columns, usage_kind, salt, lacking, keys, rows, skipped, number, missing_rows, missing_keys):
    """Set ``number`` int32[n] to the scope of each row to keep, SKIPPED for those without one of this kind.

    usage_kind int8[n] is part of the name, or empty. lacking: keep what lacks one of the names, instead of what has
    them all. Returns how many are not registered yet (MISSING); missing_rows int64, missing_keys uint64: room for n.
    """
    missing = 0
    for i in range(len(keep)):
        number[i] = SKIPPED
        if not keep[i]:
            continue
        has_all = True
        key = salt
        for c in columns:
            has_all = has_all and hashes[i, c] != 0
            key = mix(key, hashes[i, c])
        if has_all == lacking:
            continue
        if len(usage_kind):
            key = mix(key, np.uint64(usage_kind[i]))
        row = find(keys, rows, key)
        if row < 0:
            number[i] = MISSING
            missing_rows[missing] = i
            missing_keys[missing] = key
            missing += 1
        elif not skipped[row]:
            number[i] = row
    return missing


@njit(cache=True, nogil=True)
def _leave(hashes, keys, rows):
    """Set to 0 the ``hashes`` uint64[n, 1] that are not in an index."""
    for i in range(len(hashes)):
        if hashes[i, 0] != 0 and find(keys, rows, hashes[i, 0]) < 0:
            hashes[i, 0] = np.uint64(0)


@dataclass(slots=True)
class _Names:
    """The names of one kind of a batch."""

    hashes: np.ndarray
    """uint64[n, c], of which ``_Kind.columns`` are looked at; 0 for none."""
    start: np.ndarray | None = None
    length: np.ndarray | None = None
    """int32[n], spans of the name in the payload; of kinds by text."""


class ExtraScopes:
    """Names are numbered from 0, over all kinds.

    scopes, keys   of each number; those that nobody asked for have a number, so that they are read once, but no panes
    """

    def __init__(self, config: EngineConfig):
        self._kinds = [_Kind(*asked, config.hash_key) for asked in asked_for(config)]
        self._secrets = secrets(config.hash_key)
        self.panes = Panes(config.windows)
        self.scopes: list[Scope] = []
        self.keys: list[str] = []
        self.scope = np.zeros((64, 1), np.int32)
        """Each its own and only scope: what models.windows takes for combos."""
        self._skipped = np.zeros(64, np.bool_)
        self._keys = np.zeros(64, np.uint64)
        self._index = Index()
        self._saved = 0
        self._loaded: dict[int, tuple] = {}

    def add(self, columns: Columns, keep: np.ndarray, counters: np.ndarray, watermark_ms: int) -> None:
        """Count the rows to ``keep`` bool[n] of one batch; counters int64[n, 8]."""
        same = np.zeros(len(keep), np.int8)
        for kind in self._kinds:
            number = self._numbers(kind, columns, keep)
            self.panes.add(self, number, same, columns.event_time_ms, counters, watermark_ms)

    def _numbers(self, kind: _Kind, columns: Columns, keep: np.ndarray) -> np.ndarray:
        n = len(keep)
        number, rows, keys = np.empty(n, np.int32), np.empty(n, np.int64), np.empty(n, np.uint64)
        names = self._names(kind, columns, keep)
        missing = self._run(kind, columns, names, keep, number, rows, keys)
        if missing:
            _, first = np.unique(keys[:missing], return_index=True)
            for at in np.sort(first).tolist():
                self._register(keys[at], kind.name, self._read(kind, columns, names, int(rows[at])))
            self._run(kind, columns, names, keep, number, rows, keys)
        return number

    def _names(self, kind: _Kind, columns: Columns, keep: np.ndarray) -> _Names:
        if kind.name not in _BY_TEXT:
            return _Names(columns.hash)
        n, payload = len(keep), (columns.payload.ctypes.data, len(columns.payload))
        if kind.name == "session":
            column = string_index("session_id")
            start = np.ascontiguousarray(columns.start[:, column])
            length = np.ascontiguousarray(columns.length[:, column])
        else:
            start, length = np.empty(n, np.int32), np.empty(n, np.int32)
            tag_values(*payload, keep, columns.tags_start, columns.tags_length, kind.tag_bytes, start, length)
        names = _Names(np.empty((n, 1), np.uint64), start, length)
        span_hashes(*payload, keep, start, length, *self._secrets, names.hashes)
        if kind.hashes is not None:
            _leave(names.hashes, kind.hashes.keys, kind.hashes.rows)
        return names

    def _read(self, kind: _Kind, columns: Columns, names: _Names, row: int) -> list[str]:
        """The names of one row's scope."""
        if kind.name in _BY_TEXT:
            start = int(names.start[row])
            text = bytes(columns.payload[start : start + int(names.length[row])]).decode()
            return [kind.tag, text] if kind.tag else [text]
        texts = [columns.text(row, field) for field in kind.fields]
        return [*texts, KINDS[columns.kind[row]]] if kind.name == "transaction_kind" else texts

    def _run(self, kind: _Kind, columns: Columns, names: _Names, keep, number, rows, keys) -> int:
        return _assign(
            keep,
            names.hashes,
            kind.columns,
            columns.kind if kind.name == "transaction_kind" else np.empty(0, np.int8),
            kind.salt,
            kind.name == "unattributed",
            self._index.keys,
            self._index.rows,
            self._skipped,
            number,
            rows,
            keys,
        )

    def _register(self, key: np.uint64, kind: str, names: list[str]) -> None:
        number = len(self.scopes)
        scope = Scope.named(kind, *names)
        self.scopes.append(scope)
        self.keys.append(scope.key)
        self.scope = grown(self.scope, number + 1)
        self._skipped = grown(self._skipped, number + 1)
        self._keys = grown(self._keys, number + 1)
        self.scope[number, 0] = number
        asked = next((asked for asked in self._kinds if asked.name == kind and asked.tag == scope.tag), None)
        name = names[1 if kind == "tag" else 0]
        self._skipped[number] = asked is None or (asked.wanted is not None and name not in asked.wanted)
        self._keys[number] = key
        self._index.reserve(number + 1, self._keys, number + 1)
        put(self._index.keys, self._index.rows, key, np.int32(number))

    def take_delta(self, slice_number: int) -> dict:
        """Names and panes that are due (models.rolling)."""
        count = len(self.scopes)
        rows = due_of_log(self._saved, count, slice_number)
        self._saved = count
        return {
            "rows": rows,
            "keys": self._keys[rows],
            "scopes": [[self.scopes[row].kind, *self.scopes[row].names] for row in rows.tolist()],
            "panes": self.panes.take_delta(slice_number),
        }

    def load_delta(self, delta: dict) -> None:
        """Take one delta over the state so far; ``rebuild`` after the last."""
        for row, key, (kind, *names) in zip(delta["rows"].tolist(), delta["keys"], delta["scopes"], strict=True):
            self._loaded[row] = (np.uint64(key), kind, names)
        self.panes.load_delta(delta["panes"])

    def rebuild(self) -> None:
        """Number what the deltas brought, as before."""
        for row in range(len(self._loaded)):
            self._register(*self._loaded[row])
        self._loaded = {}
        self._saved = len(self.scopes)
        self.panes.rebuild()
