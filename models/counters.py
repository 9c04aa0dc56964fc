"""What is added up for every session and pane: eight int64 counters, one cache line.

One kernel turns a batch into a row of counters per event, and sessions and panes only add rows, so a
counter is defined in one place. Counters only grow, which is what makes partials idempotent.
"""

import numpy as np
from numba import njit

COUNTERS = (
    "cost_nano_usd",
    "estimated_nano_usd",
    "events",
    "unpriced_events",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
)
COST, ESTIMATED, EVENTS, UNPRICED, INPUT, CACHE_READ, CACHE_WRITE, OUTPUT = range(8)


@njit(cache=True, nogil=True)
def event_counters(keep, tokens, cost, estimate, unpriced, out):
    """Fill ``out`` int64[n, 8] for the rows to ``keep`` (bool[n]); other rows are left alone.

    tokens int64[n, 10] in the order of schemas.columns.TOKENS; cost, estimate int64[n]; unpriced bool[n].
    """
    for i in range(len(keep)):
        if not keep[i]:
            continue
        out[i, COST] = cost[i]
        out[i, ESTIMATED] = estimate[i]
        out[i, EVENTS] = 1
        out[i, UNPRICED] = 1 if unpriced[i] else 0
        out[i, INPUT] = tokens[i, 0] + tokens[i, 6] + tokens[i, 8]
        out[i, CACHE_READ] = tokens[i, 1]
        out[i, CACHE_WRITE] = tokens[i, 2] + tokens[i, 3]
        out[i, OUTPUT] = tokens[i, 4] + tokens[i, 5] + tokens[i, 7] + tokens[i, 9]


def as_dict(row: np.ndarray) -> dict[str, int]:
    """Counters by name, as plain integers."""
    return dict(zip(COUNTERS, row.tolist(), strict=True))
