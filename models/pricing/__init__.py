"""Effective-dated prices: events in, nano-USD and how sure we are of them out."""

from models.pricing.kernel import ESTIMATED, FINAL, FREE, PROVIDER_REPORTED, UNPRICED
from models.pricing.table import Priced, PriceTable

__all__ = ["ESTIMATED", "FINAL", "FREE", "PROVIDER_REPORTED", "UNPRICED", "PriceTable", "Priced"]
