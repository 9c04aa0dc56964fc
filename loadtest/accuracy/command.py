"""``tenfold bench accuracy``: how much the detectors' findings are worth, each part a module of its own."""

from pathlib import Path

import click

from loadtest.bench.command import Benches

PARTS = {
    "caches": "loadtest.accuracy.caches:caches",
    "forecast": "loadtest.accuracy.forecast:forecast_part",
    "learners": "loadtest.accuracy.learners:learners",
    "rates": "loadtest.accuracy.rates:rates",
    "sessions": "loadtest.accuracy.sessions:sessions",
}
"""``module:command`` by name."""


@click.group(cls=Benches, benches=PARTS, invoke_without_command=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the results of all parts.")
@click.pass_context
def accuracy(ctx: click.Context, out: Path | None) -> None:
    """Measure what findings are worth on real costs; without a COMMAND all parts, as each does by default."""
    if ctx.invoked_subcommand is None:
        for name in sorted(PARTS):
            ctx.invoke(accuracy.get_command(ctx, name), out=out)
    elif out is not None:
        raise click.UsageError(f"say it to the part: accuracy {ctx.invoked_subcommand} --out {out}")
