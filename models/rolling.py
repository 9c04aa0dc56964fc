"""Rolling deltas: how a table is saved piece by piece, without ever being copied whole.

A delta of a table holds the rows changed since the delta before, and one of SLICES slices of all rows whether changed
or not. So the last SLICES deltas together hold every row, and where a row is in several of them, the latest is its
present content: no base snapshot is ever needed, and every delta is about as much work as the one before.

It takes two things of a table: a row keeps its number for as long as it lives, and freeing a row is a change like any
other. Used by every table of models.engine and models.rollup, whose deltas are what streams.state stores.
"""

import numpy as np

SLICES = 16
"""Deltas that together hold everything. More make each of them smaller and a restore read more changed rows."""

EVERYTHING = -1
"""Slice number of a delta that holds every row, so that it needs none before it."""


def due(changed: np.ndarray, used: int, slice_number: int) -> np.ndarray:
    """Rows int64[k], ascending, that belong in the delta; they count as unchanged from now on.

    changed: bool[>= used], set by whoever changes a row.
    """
    if slice_number == EVERYTHING:
        changed[:used] = False
        return np.arange(used)
    flags = changed[:used]
    flags[slice_number::SLICES] = True
    rows = np.flatnonzero(flags)
    flags[:] = False
    return rows


def due_of_log(saved: int, count: int, slice_number: int) -> np.ndarray:
    """Like ``due`` for a table that only grows, of which ``saved`` rows were in an earlier delta: int64[k]."""
    if slice_number == EVERYTHING:
        return np.arange(count)
    return np.concatenate([np.arange(slice_number, saved, SLICES), np.arange(saved, count)])
