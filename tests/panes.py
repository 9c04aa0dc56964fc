"""Panes of a Partials record as dicts, one a pane, and back: what tests write and compare."""

from collections.abc import Iterable

from models.counters import COUNTERS
from models.partials import columns, packed, unpacked
from models.scopes import Scope

NAMES = ("scope_kind", "team", "model", "agent", "use_case")


def pane_columns(rows: Iterable[dict]) -> dict:
    """The ``panes`` of a Partials record."""
    return packed(
        columns(
            (
                Scope(*(row[name] for name in NAMES)),
                row["window_start"],
                row["window_ms"],
                [row[name] for name in COUNTERS],
            )
            for row in rows
        )
    )


def pane_rows(partials: dict) -> list[dict]:
    """The panes of a Partials record, in its order."""
    panes = unpacked(partials["panes"])
    lists = zip(
        panes.scope.tolist(), panes.start_ms.tolist(), panes.size_ms.tolist(), panes.counters.tolist(), strict=True
    )
    return [
        {
            **dict(zip(NAMES, Scope.parse(panes.scopes[place])[: len(NAMES)], strict=True)),
            "window_start": start,
            "window_ms": size,
            **dict(zip(COUNTERS, counters, strict=True)),
        }
        for place, start, size, counters in lists
    ]
