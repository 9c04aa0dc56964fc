"""Where compiled kernels are kept, and when they are compiled anew.

Numba's own cache notices a change in the file of a kernel, not in files of kernels that it inlines or calls: after a
change of ``hashing.py`` the cached decoder would go on hashing in the old way. So the directory's name carries a
digest of every source file that holds kernels, and a change anywhere compiles all of them, once. Numba keeps
machines with different CPUs apart inside it, and writes files whole, so several workers may start at once.

Imported by the packages' ``__init__`` before any kernel is; costs about a millisecond. NUMBA_CACHE_DIR wins.
"""

import os
from hashlib import blake2b
from pathlib import Path

import numba

ROOT = Path(__file__).parent.parent
KERNEL_FOLDERS = ("schemas", "models", "streams/transport")


def digest() -> str:
    """Hex digest of the sources that hold kernels, and of Numba's version."""
    state = blake2b(numba.__version__.encode(), digest_size=8)
    for folder in KERNEL_FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            source = path.read_bytes()
            if b"njit" in source:
                state.update(path.name.encode() + source)
    return state.hexdigest()


def use() -> None:
    """Point Numba at the directory for these sources."""
    if not os.environ.get("NUMBA_CACHE_DIR"):
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        numba.config.CACHE_DIR = str(base / "tenfold" / "kernels" / digest())
