"""Imports go one way: schemas -> models -> streams; loadtest and tests may import anything, nothing imports them.

``models`` is pure besides: no I/O, no asyncio, no Kafka, no clock.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "schemas": {"schemas"},
    "models": {"schemas", "models"},
    "streams": {"schemas", "models", "streams"},
    "loadtest": {"schemas", "models", "streams", "loadtest"},
}
IMPURE = {"asyncio", "aiohttp", "aiokafka", "faust", "os", "socket", "sys", "threading", "time", "pathlib", "requests"}


def imported(path: Path) -> set[str]:
    """Top-level names a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"{package} has no files: the walk is broken"
    return found


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_go_one_way(package):
    back = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(package)
        for name in imported(path) & {*ALLOWED, "tests"} - ALLOWED[package]
    }
    assert not back, sorted(back)


@pytest.mark.parametrize("package", ["schemas", "models"])
def test_models_and_schemas_are_pure(package):
    impure = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(package)
        if path.name != "kernel_cache.py"  # tells the compiler where to keep its output
        for name in imported(path) & IMPURE
    }
    assert not impure, sorted(impure)


PRIVATE = ROOT / "streams" / "transport"


def test_private_names_of_faust_and_aiokafka_stay_in_transport():
    """Only streams/transport imports Faust at all: nobody else can touch its private names."""
    users = {
        str(path.relative_to(ROOT))
        for path in files("streams")
        if "faust" in imported(path) and PRIVATE not in path.parents
    }
    assert not users, sorted(users)
