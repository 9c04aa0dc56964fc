"""Batch delivery over Faust: the only package that knows private names of Faust and aiokafka."""

from faust.types import TP

from streams.transport.app import Delivery, EngineApp, Hooks, build_app, deliveries
from streams.transport.assemble import Limits
from streams.transport.batch import NO_HIGHWATER, PartitionBatch, RejectedRange
from streams.transport.lease import Lease
from streams.transport.run import run_app
from streams.transport.settings import Connection, TransportSettings

__all__ = [
    "NO_HIGHWATER",
    "TP",
    "Connection",
    "Delivery",
    "EngineApp",
    "Hooks",
    "Lease",
    "Limits",
    "PartitionBatch",
    "RejectedRange",
    "TransportSettings",
    "build_app",
    "deliveries",
    "run_app",
]
