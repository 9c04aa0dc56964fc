"""``tenfold bench``: the group; each bench is one module with a click command, imported when it is called."""

from importlib import import_module

import click

BENCHES = {
    "checkpoints": "loadtest.bench.checkpoints:checkpoints",
    "stages": "loadtest.bench.stages:stages",
    "storm": "loadtest.bench.storm:storm",
}
"""``module:command`` by name."""


class Benches(click.Group):
    """Commands of BENCHES."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(BENCHES)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in BENCHES:
            return None
        module, command = BENCHES[name].split(":")
        return getattr(import_module(module), command)


@click.group(cls=Benches)
def bench() -> None:
    """Measure Tenfold on this machine; every bench prints one JSON object."""
