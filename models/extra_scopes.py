"""Scopes that are kept only if a setting asks for them, and their panes, of one input partition.

``transaction_type`` and ``user`` are for budgets, ``transaction_kind`` (what a transaction type spends on which kind of
usage) for unit costs, ``unattributed`` (the team or use case of what lacks the other) for attribution. What a kind
leaves out has no pane: events without a transaction type or user, and those with both a team and a use case.

Guarantee: as models.windows, for these kinds. Cost: some 50 ns an event and kind; nothing if none is asked for. Names
are read once, when they are first seen. Called by models.engine only.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numba import njit

from models.combos import MISSING, SKIPPED
from models.config import BudgetConfig, EngineConfig, WindowConfig
from models.hashtable import Index, find, grown, mix, put
from models.rolling import due_of_log
from models.scopes import EXTRA_KINDS, Scope
from models.windows import Panes
from schemas.columns import KINDS, Columns, string_index

_FIELDS = {
    "transaction_type": ("transaction_type",),
    "user": ("user",),
    "transaction_kind": ("transaction_type",),
    "unattributed": ("team", "use_case"),
}


def asked_for(config: EngineConfig) -> list[tuple[str, frozenset[str] | None]]:
    """The kinds that settings ask for, each with the names that it is asked for, None for all."""
    wanted: dict[str, set[str] | None] = dict.fromkeys(config.extra_scopes)
    for budget in config.budgets:
        if budget.scope.kind in EXTRA_KINDS:
            if budget.default:
                wanted[budget.scope.kind] = None
            elif wanted.setdefault(budget.scope.kind, set()) is not None:
                wanted[budget.scope.kind].add(budget.scope.names[0])
    if config.attribution.min_percent:
        wanted["unattributed"] = None
    if config.unit_costs:
        wanted["transaction_kind"] = {one.transaction_type for one in config.unit_costs}
    return [(kind, None if names is None else frozenset(names)) for kind, names in sorted(wanted.items())]


def missing_for(asked: Iterable[tuple[str, frozenset[str] | None]], budget: BudgetConfig) -> str:
    """The kind that a budget needs and that is not kept for it, or ""."""
    kind = budget.scope.kind
    if kind not in EXTRA_KINDS:
        return ""
    kept = any(name == kind and (names is None or (not budget.default and budget.scope.names[0] in names))
               for name, names in asked)  # fmt: skip
    return "" if kept else kind


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    number: int
    columns: np.ndarray
    wanted: frozenset[str] | None
    """First names that are asked for; None for all."""


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


class ExtraScopes:
    """Names are numbered from 0, over all kinds.

    scopes, keys   of each number; those that nobody asked for have a number, so that they are read once, but no panes
    """

    def __init__(self, kinds: Iterable[tuple[str, frozenset[str] | None]], windows: WindowConfig):
        """``kinds``: those of EXTRA_KINDS that are asked for, each with the names wanted, None for all."""
        self._kinds = [
            _Kind(name, EXTRA_KINDS.index(name), np.array([string_index(field) for field in _FIELDS[name]]), wanted)
            for name, wanted in kinds
        ]
        self.panes = Panes(windows)
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
        missing = self._run(kind, columns, keep, number, rows, keys)
        if missing:
            _, first = np.unique(keys[:missing], return_index=True)
            for at in np.sort(first).tolist():
                row = int(rows[at])
                names = [columns.text(row, field) for field in _FIELDS[kind.name]]
                if kind.name == "transaction_kind":
                    names.append(KINDS[columns.kind[row]])
                self._register(keys[at], kind.name, names)
            self._run(kind, columns, keep, number, rows, keys)
        return number

    def _run(self, kind: _Kind, columns: Columns, keep, number, rows, keys) -> int:
        return _assign(
            keep,
            columns.hash,
            kind.columns,
            columns.kind if kind.name == "transaction_kind" else np.empty(0, np.int8),
            np.uint64(1 + kind.number),
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
        wanted = next((asked.wanted for asked in self._kinds if asked.name == kind), frozenset())
        self._skipped[number] = wanted is not None and names[0] not in wanted
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
