"""Who spent it on what: the distinct (team, agent, use_case, model, provider) of one partition.

Every event belongs to one combo. A combo is registered in Python when it is first seen, and that is the only
time its names are read; from then on kernels carry its number. It knows the scopes its spend is added to and
the peer group its sessions are judged by. Registration costs about 20 us, once per combo.
"""

import numpy as np
from numba import njit

from models.hashtable import Index, find, grown, mix, put
from models.rolling import due_of_log
from models.scopes import SCOPE_KINDS, Scope
from schemas.columns import Columns, string_index

NAMES = ("team", "agent", "use_case", "model", "provider")
_COLUMNS = np.array([string_index(name) for name in NAMES])

SKIPPED, MISSING = -2, -1


@njit(cache=True, nogil=True)
def _assign(keep, hashes, columns, keys, rows, combo, missing_rows, missing_keys):
    """Set ``combo`` int32[n] of the rows to keep; returns how many are not registered yet (MISSING).

    missing_rows int64, missing_keys uint64: those rows and their keys, room for n.
    """
    missing = 0
    last_key = np.uint64(0)
    last = np.int32(MISSING)
    for i in range(len(keep)):
        if not keep[i]:
            combo[i] = SKIPPED
            continue
        key = np.uint64(0x5851F42D4C957F2D)
        for c in columns:
            key = mix(key, hashes[i, c])
        if key != last_key:
            last_key = key
            last = find(keys, rows, key)
        combo[i] = last
        if last == MISSING:
            missing_rows[missing] = i
            missing_keys[missing] = key
            missing += 1
    return missing


class Combos:
    """Registered combos, dense from 0.

    names   list of 5-tuples in the order of NAMES
    scope   int32[combos, 5]  scope numbers, in the order of SCOPE_KINDS
    scopes  list of scopes by number, and ``keys`` of their keys
    group   int32[combos]     peer group number (models.baselines)
    has_model  bool[combos]   the others use tools or people
    """

    __slots__ = (
        "_count",
        "_index",
        "_keys",
        "_loaded",
        "_saved",
        "_scope_ids",
        "group",
        "has_model",
        "keys",
        "names",
        "scope",
        "scopes",
    )

    def __init__(self):
        self.names: list[tuple[str, ...]] = []
        self.scopes: list[Scope] = []
        self.keys: list[str] = []
        self.scope = np.zeros((64, len(SCOPE_KINDS)), np.int32)
        self.group = np.zeros(64, np.int32)
        self.has_model = np.zeros(64, np.bool_)
        self._scope_ids: dict[Scope, int] = {}
        self._keys = np.zeros(64, np.uint64)
        self._count = 0
        self._saved = 0
        self._loaded: dict[int, tuple] = {}
        self._index = Index()

    def __len__(self) -> int:
        return self._count

    def assign(self, columns: Columns, keep: np.ndarray, register_group) -> np.ndarray:
        """Combo number int32[n] of each row to keep, SKIPPED for the others; new combos are registered.

        ``register_group(team, agent, model) -> int`` numbers the peer group of a new combo.
        """
        n = len(keep)
        combo, rows, keys = np.empty(n, np.int32), np.empty(n, np.int64), np.empty(n, np.uint64)
        missing = self._run(keep, columns, combo, rows, keys)
        if missing:
            _, first = np.unique(keys[:missing], return_index=True)
            for at in np.sort(first).tolist():
                row = int(rows[at])
                self._register(keys[at], tuple(columns.text(row, name) for name in NAMES), register_group)
            self._run(keep, columns, combo, rows, keys)
        return combo

    def _run(self, keep: np.ndarray, columns: Columns, combo: np.ndarray, rows: np.ndarray, keys: np.ndarray) -> int:
        return _assign(keep, columns.hash, _COLUMNS, self._index.keys, self._index.rows, combo, rows, keys)

    def _register(self, key: np.uint64, names: tuple[str, ...], register_group) -> int:
        number = self._count
        self._count += 1
        self._keys = grown(self._keys, self._count)
        self.scope = grown(self.scope, self._count)
        self.group = grown(self.group, self._count)
        self.has_model = grown(self.has_model, self._count)
        self._keys[number] = key
        self.names.append(names)
        self._index.reserve(self._count, self._keys, self._count)
        put(self._index.keys, self._index.rows, key, np.int32(number))
        team, agent, use_case, model, _ = names
        self.has_model[number] = bool(model)
        for column, kind in enumerate(SCOPE_KINDS):
            scope = Scope.of(kind, team=team, model=model, agent=agent, use_case=use_case)
            if scope not in self._scope_ids:
                self._scope_ids[scope] = len(self.scopes)
                self.scopes.append(scope)
                self.keys.append(scope.key)
            self.scope[number, column] = self._scope_ids[scope]
        self.group[number] = register_group(team, agent, model)
        return number

    def take_delta(self, slice_number: int) -> dict:
        """Names and keys of the combos that are due (models.rolling); scopes and groups follow from the names."""
        rows = due_of_log(self._saved, self._count, slice_number)
        self._saved = self._count
        return {
            "count": self._count,
            "rows": rows,
            "keys": self._keys[rows],
            "names": [self.names[row] for row in rows.tolist()],
        }

    def load_delta(self, delta: dict) -> None:
        """Take one delta over the state so far; ``rebuild`` after the last."""
        for row, key, names in zip(delta["rows"].tolist(), delta["keys"], delta["names"], strict=True):
            self._loaded[row] = (np.uint64(key), tuple(names))

    def rebuild(self, register_group) -> None:
        """Register what the deltas brought, under the same numbers."""
        for row in range(len(self._loaded)):
            self._register(*self._loaded[row], register_group)
        self._loaded = {}
        self._saved = self._count
