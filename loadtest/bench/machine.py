"""On what a bench ran, for its result: in general terms, with the load average before it began."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("numba", "numpy", "aiokafka", "faust-streaming", "confluent-kafka", "quixstreams", "bytewax")


def describe() -> dict:
    """Cores, memory, processor, versions of what is installed, load average of the last minute."""
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "load_average_at_start": round(os.getloadavg()[0], 2),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
