"""``tenfold bench``: all of it, or one bench; each is a module with a click command, imported when it is called."""

import json
from importlib import import_module
from pathlib import Path

import click

BENCHES = {
    "accuracy": "loadtest.accuracy.command:accuracy",
    "checkpoints": "loadtest.bench.checkpoints:checkpoints",
    "report": "loadtest.bench.report:report",
    "scaling": "loadtest.bench.scaling:scaling",
    "stages": "loadtest.bench.stages:stages",
    "storm": "loadtest.bench.storm:storm",
}
"""``module:command`` by name."""


class Benches(click.Group):
    """Commands by ``module:command``."""

    def __init__(self, *args, benches: dict[str, str], **options):
        super().__init__(*args, **options)
        self._benches = benches

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._benches)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self._benches:
            return None
        module, command = self._benches[name].split(":")
        return getattr(import_module(module), command)


@click.group(cls=Benches, benches=BENCHES, invoke_without_command=True)
@click.option("--quick", is_flag=True, help="Small numbers and single runs, in two or three minutes: does it work?")
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(("throughput", "latency", "memory", "start")),
    help="Only this part; may be given several times. Latency needs throughput, and measures it.",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File for the result.")
@click.pass_context
def bench(context: click.Context, quick: bool, parts: tuple[str, ...], out: Path | None) -> None:
    """Measure Tenfold on this machine, beside librdkafka, Kafka Streams, bytewax, quixstreams and plain Faust.

    Without a command: throughput of everybody on the same topic, each in a process of its own on one core; latency at
    10, 50 and 90 % of the highest throughput; memory of live sessions; start-up. Some 15 minutes on a machine that
    does nothing else. Needs Java 17 and Maven (a real Apache Kafka is started and deleted); contenders that are not
    installed (pip install 'tenfold[bench]') are passed over. Prints one JSON object.
    """
    if context.invoked_subcommand is not None:
        return
    from loadtest.bench import full

    def write(result: dict) -> None:
        if out:
            out.write_text(json.dumps(result, indent=2) + "\n")

    plan = full.QUICK if quick else full.FULL
    result = full.run(plan, parts or full.PARTS, lambda line: click.echo(line, err=True), write)
    click.echo(json.dumps(result, indent=2))
    write(result)
