"""The engines: pure functions of state, columns and settings; no I/O, no asyncio, no Kafka, no clock."""

import schemas  # noqa: F401  points Numba at the kernel cache before any kernel is imported
