"""Decodes values that lie right behind or right before pages which must not be touched; a stray read ends it.

Reads pickled ``[(schema, values), ...]`` from stdin, writes the statuses the same way. Run by test_decode.py in a
process of its own, since a stray read is a segmentation fault.
"""

import ctypes
import mmap
import pickle
import sys

import numpy as np

from schemas.decode import Decoder

PROT_NONE = 0


def guarded_pages(pages: int) -> np.ndarray:
    """uint8[pages * PAGESIZE] with an unreadable page on each side."""
    size = (pages + 2) * mmap.PAGESIZE
    memory = np.frombuffer(mmap.mmap(-1, size), np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    for guard in (0, size - mmap.PAGESIZE):
        if libc.mprotect(ctypes.c_void_p(memory.ctypes.data + guard), ctypes.c_size_t(mmap.PAGESIZE), PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")
    return memory[mmap.PAGESIZE : size - mmap.PAGESIZE]


def main() -> None:
    memory = guarded_pages(4)
    out = []
    for schema, values in pickle.load(sys.stdin.buffer):
        decoder = Decoder(1, schemas={1: schema})
        statuses = []
        for value in values:
            data = np.frombuffer(value, np.uint8)
            seen = set()
            for start in (0, len(memory) - len(data)):
                memory[start : start + len(data)] = data
                spans = np.array([start]), np.array([start + len(data)])
                seen.add(int(decoder.decode(memory, *spans, np.array([0])).status[0]))
            (status,) = seen
            statuses.append(status)
        out.append(statuses)
    sys.stdout.buffer.write(pickle.dumps(out))


if __name__ == "__main__":
    main()
