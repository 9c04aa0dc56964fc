"""The forecast bench: the constants in production are those that half of the tenants gives."""

from loadtest.accuracy import tenants as data
from loadtest.accuracy.forecast import ALL_DAYS, MIN_ACTIVE, conformal
from models.budgets.forecast import QUANTILES


def test_the_bands_quantiles_are_those_of_the_setup_half():
    tenants = data.load(MIN_ACTIVE)
    tenants = tenants.only(tenants.spend[:, : 5 * 144].sum(axis=1) > 0)
    setup = tenants.only(~tenants.testing)
    assert len(setup) == 41
    found = conformal(setup, setup, ALL_DAYS, constant=False)
    assert tuple(found["quantiles"]) == QUANTILES
    assert 0.77 <= found["coverage_80"] <= 0.83 and 0.92 <= found["coverage_95"] <= 0.98
