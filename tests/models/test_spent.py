"""What was spent since the last call equals plain sums, by whatever the names count as."""

from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import spent as module
from models.counters import COUNTERS
from models.spent import Spent
from schemas.columns import KINDS

NAMES = [(f"team-{n % 5}", "agent", "case", f"model-{n % 3}", f"provider-{n % 2}") for n in range(20)]
row = st.tuples(st.integers(0, 19), st.integers(0, len(KINDS) - 1), st.integers(0, 2**40))


def few(team: str, model: str, provider: str) -> tuple[str, str, str]:
    return (team if team < "team-2" else "other"), model, provider


class KnownCombos:
    """As models.combos.Combos, as far as it is asked."""

    def __init__(self):
        self.names = []

    def __len__(self):
        return len(self.names)


def leaves(rows):
    """What is behind ``count`` must not be looked at."""
    pad = [*rows, (0, 0, 77)]
    return SimpleNamespace(
        count=len(rows),
        combo=np.array([combo for combo, _, _ in pad], np.int32),
        kind=np.array([kind for _, kind, _ in pad], np.int8),
        sums=np.array([[cost + place for place in range(len(COUNTERS))] for _, _, cost in pad], np.int64),
    )


@pytest.mark.parametrize("bounded", [few, lambda *names: names])
@given(st.lists(st.lists(st.lists(row, max_size=12), max_size=4), max_size=4), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_spent_equals_plain_sums(bounded, takes, most):
    spent = Spent()
    combos = KnownCombos()
    module_max, module.MAX_ROWS = module.MAX_ROWS, most
    try:
        for batches in takes:
            expected = defaultdict(lambda: [0] * len(COUNTERS))
            for rows in batches:
                spent.add(leaves(rows))
                combos.names = NAMES[: max([len(combos.names), *(combo + 1 for combo, _, _ in rows)])]
                for combo, kind, cost in rows:
                    team, _, _, model, provider = NAMES[combo]
                    sums = expected[(*bounded(team, model, provider), KINDS[kind])]
                    for place in range(len(COUNTERS)):
                        sums[place] += cost + place
            taken = spent.take(combos, bounded)
            assert {(*key, kind): counters for *key, kind, counters in taken} == expected
            assert len(taken) == len(expected)
        assert spent.take(combos, bounded) == []
    finally:
        module.MAX_ROWS = module_max
