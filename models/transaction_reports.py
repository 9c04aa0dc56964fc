"""Which transactions an input partition has seen in which hour, for rollup to count (models.economics.transactions).

Each (transaction type, id, hour) is reported once and, when it has been forgotten here or after a restart, again:
rollup does not mind. Only types that unit costs are asked for are looked at; events without a type or id cost nothing
more than that look. What is reported stays pending until it is taken and is part of the state; what was reported is
not.
Called by models.engine only.
"""

import numpy as np

from models.config import HOUR_MS
from models.dedupe import DedupeSet
from models.partials import PartialsError
from schemas.columns import Columns, string_index

REMEMBERED = 1 << 17
"""Reports of each of two generations: some 6 MB."""
_TYPE, _ID = string_index("transaction_type"), string_index("transaction_id")
_UNKNOWN = -1


class TransactionReports:
    """Reports of one input partition."""

    def __init__(self, types: tuple[str, ...], remembered: int = REMEMBERED):
        self.types = types
        self._seen = DedupeSet(remembered)
        self._type_of: dict[int, int] = {}
        """Hash of a type's name -> its place in ``types``."""
        self._pending: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, columns: Columns, keep: np.ndarray) -> None:
        """Look at the rows to ``keep`` bool[n] of one batch."""
        type_hash, id_hash = columns.hash[:, _TYPE], columns.hash[:, _ID]
        rows = np.flatnonzero(keep & (type_hash != 0) & (id_hash != 0))
        if not len(rows):
            return
        hashes, first, at = np.unique(type_hash[rows], return_index=True, return_inverse=True)
        names = zip(hashes.tolist(), rows[first].tolist(), strict=True)
        numbers = np.array([self._number(columns, row, name_hash) for name_hash, row in names])
        type_of = numbers[at]
        rows, type_of = rows[type_of != _UNKNOWN], type_of[type_of != _UNKNOWN]
        hours = columns.event_time_ms[rows] // HOUR_MS
        place = type_of.astype(np.uint64) << np.uint64(40) | hours.astype(np.uint64)
        new, _ = self._seen.mark(np.zeros(len(rows), np.int8), place, id_hash[rows])
        if new.any():
            self._pending.append((type_of[new].astype(np.int32), hours[new].astype(np.int32), id_hash[rows][new]))

    def _number(self, columns: Columns, row: int, name_hash: int) -> int:
        number = self._type_of.get(name_hash)
        if number is None:
            name = columns.text(row, "transaction_type")
            number = self.types.index(name) if name in self.types else _UNKNOWN
            if len(self._type_of) < REMEMBERED:
                self._type_of[name_hash] = number
        return number

    def take(self) -> dict | None:
        """What is new since the last call, as the ``transactions`` of a Partials record; None if nothing is."""
        pending, self._pending = self._pending, []
        if not pending:
            return None
        type_of, hours, ids = _joined(pending)
        return {
            "types": list(self.types),
            "type": type_of.astype("<i4").tobytes(),
            "hour": hours.astype("<i4").tobytes(),
            "id": ids.astype("<u8").tobytes(),
        }

    def take_delta(self) -> dict:
        """What has not been taken."""
        types, hours, ids = _joined(self._pending)
        return {"types": list(self.types), "type_of": types, "hours": hours, "ids": ids}

    def load_delta(self, delta: dict) -> None:
        """As it was; of types that are no longer asked for, nothing."""
        places = np.array([self.types.index(name) if name in self.types else _UNKNOWN for name in delta["types"]])
        type_of = places[delta["type_of"]] if len(delta["type_of"]) else np.empty(0, np.int32)
        kept = type_of != _UNKNOWN
        self._pending = [(type_of[kept].astype(np.int32), delta["hours"][kept], delta["ids"][kept])]


def reports(record: dict) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """(types, place in them int32[n], hour int32[n], hash of the id uint64[n]) of ``take``.

    Raises PartialsError if they do not fit together.
    """
    types, type_of = record["types"], np.frombuffer(record["type"], "<i4")
    hours, ids = np.frombuffer(record["hour"], "<i4"), np.frombuffer(record["id"], "<u8")
    if not len(type_of) == len(hours) == len(ids):
        raise PartialsError("the columns of the transactions differ in length")
    if len(type_of) and not 0 <= type_of.min() <= type_of.max() < len(types):
        raise PartialsError("a transaction is of a type that is not there")
    return types, type_of, hours, ids


def halves(record: dict) -> tuple[dict, dict]:
    """The reports of ``take`` in two records."""
    _, type_of, hours, ids = reports(record)
    cut = len(ids) // 2
    parts = {"type": type_of, "hour": hours, "id": ids}
    first = {**record, **{name: column[:cut].tobytes() for name, column in parts.items()}}
    return first, {**record, **{name: column[cut:].tobytes() for name, column in parts.items()}}


def _joined(pending: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not pending:
        return np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.uint64)
    return tuple(np.concatenate(column) for column in zip(*pending, strict=True))
