"""Looks for a tag in maps that lie right behind or right before pages which must not be touched.

Reads pickled ``[map bytes, ...]`` from stdin, writes the values found the same way. Run by test_tags.py in a process of
its own, since a stray read is a segmentation fault.
"""

import pickle
import sys

import numpy as np

from schemas.tags import tag_values
from tests.schemas.guarded_decode import guarded_pages


def main() -> None:
    memory = guarded_pages(4)
    name = np.frombuffer(bytearray(b"tag"), np.uint8)
    out = []
    for data in pickle.load(sys.stdin.buffer):
        seen = set()
        for start in (0, len(memory) - len(data)):
            memory[start : start + len(data)] = np.frombuffer(data, np.uint8)
            span, keep = (np.array([start], np.int32), np.array([len(data)], np.int32)), np.ones(1, np.bool_)
            at, length = np.empty(1, np.int32), np.empty(1, np.int32)
            tag_values(memory.ctypes.data, len(memory), keep, *span, name, at, length)
            seen.add(memory[int(at[0]) : int(at[0]) + int(length[0])].tobytes())
        (value,) = seen
        out.append(value)
    sys.stdout.buffer.write(pickle.dumps(out))


if __name__ == "__main__":
    main()
