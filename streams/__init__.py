"""The running system: all contact with Kafka, Faust, the network, disks and clocks."""

import schemas  # noqa: F401  points Numba at the kernel cache before any kernel is imported
