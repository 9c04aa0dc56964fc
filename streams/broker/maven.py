"""Jars that Maven fetches or builds, kept in the user's cache for as long as their sources are the same."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.resources.abc import Traversable
from pathlib import Path

from streams.errors import ConfigError

_SECONDS = 600.0


def cache_folder(name: str, sources: Sequence[Traversable]) -> Path:
    """Where the jars of ``sources`` are kept, whether or not they are there yet."""
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "tenfold" / f"{name}-{digest[:12]}"


def make_jars(what: str, sources: Sequence[Traversable], folder: Path, *, build: bool = False) -> None:
    """Fill ``folder`` with the dependencies of the POM in ``sources``, and with its own jar if ``build``.

    ``what`` is named in errors. Raises ConfigError without Maven or network.
    """
    if shutil.which("mvn") is None:
        raise ConfigError(f"Maven (mvn) is not installed, which fetches the jars of {what}; install it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Made beside and renamed: an interrupted run leaves no half-filled folder behind.
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        for source in sources:
            (Path(work) / source.name).write_bytes(source.read_bytes())
        goals = [*(["package"] if build else []), "dependency:copy-dependencies", f"-DoutputDirectory={work}/jars"]
        done = subprocess.run(
            ["mvn", "-q", "-B", *goals], cwd=work, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
        if done.returncode:
            raise ConfigError(f"Maven could not fetch the jars of {what}: {(done.stdout or done.stderr)[-1500:]}")
        for jar in Path(work).glob("target/*.jar"):
            shutil.move(jar, Path(work) / "jars")
        with contextlib.suppress(OSError):  # Another process was faster.
            os.rename(Path(work) / "jars", folder)
