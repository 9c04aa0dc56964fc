"""A file system of its own that can be filled up: a tmpfs. Needs Linux and root."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

SIZE_MB = 256
CHUNK = bytes(64 * 1024)


class SmallDisk:
    """``with``; ``folder`` is its root."""

    folder: Path

    @staticmethod
    def missing() -> str:
        """Why there can be none, as a sentence; "" if there can."""
        if not sys.platform.startswith("linux") or os.geteuid() != 0:
            return "a file system can only be mounted by root on Linux"
        return ""

    def __enter__(self) -> "SmallDisk":
        self.folder = Path(tempfile.mkdtemp(prefix="tenfold-disk-"))
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(self.folder)], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=False)
        self.folder.rmdir()

    def fill(self) -> None:
        """Leave no byte free."""
        with (self.folder / "ballast").open("wb", buffering=0) as ballast:
            for chunk in (CHUNK, bytes(512), bytes(1)):
                try:
                    while ballast.write(chunk) == len(chunk):
                        pass
                except OSError:
                    continue

    def free(self) -> None:
        """Make room again."""
        (self.folder / "ballast").unlink()
