"""Contracts: the Avro schemas, and the decoder that turns events of any writer's schema into columns."""

from schemas import kernel_cache

kernel_cache.use()
