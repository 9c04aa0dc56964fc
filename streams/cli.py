"""The ``tenfold`` command.

Exit codes: 0 done, 1 done but something was rejected (with --strict), 2 wrong usage, settings or file name, 65 a file
that cannot be read to its end, 70 a fatal error (a restart continues from the last checkpoint), 75 try again later,
130 interrupted. Commands that live in other
packages (``demo``) join through the entry point group ``tenfold.commands``, so that nothing here imports them.
"""

import asyncio
import getpass
import sys
from importlib.metadata import entry_points
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from schemas.codec import EventError
from streams.config import Settings
from streams.errors import ConfigError, TenfoldError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
# Without markup and emoji codes: what is printed holds names and errors out of other people's events.
PLAIN = {"highlight": False, "markup": False, "emoji": False}
stderr = Console(stderr=True, **PLAIN)
PIPE_COLUMNS = 120
"""Width of tables that go to a file or a program, which has none: rich would cut names at 80."""

config_option = click.option(
    "--config",
    "-c",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Settings file. Default: TENFOLD_CONFIG, else ./tenfold.toml if there is one.",
)
servers_option = click.option(
    "--servers", "-s", metavar="HOST:PORT,...", help="Kafka brokers; overrides [broker] servers of the settings."
)


class Commands(click.Group):
    """Own commands and those that installed packages add."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *(point.name for point in _plugins())})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        own = super().get_command(ctx, name)
        if own is not None:
            return own
        return next((point.load() for point in _plugins() if point.name == name), None)


def _plugins():
    return entry_points(group="tenfold.commands")


@click.group(cls=Commands, context_settings=CONTEXT)
@click.version_option(package_name="tenfold", prog_name="tenfold")
def cli() -> None:
    """Real-time cost anomalies in AI usage: events on Kafka in, 10x sessions and burning budgets out.

    \b
    See it work:              tenfold demo
    Run it on your Kafka:     tenfold topics --create -s kafka:9092
                              tenfold worker -s kafka:9092
    Send your first event:    tenfold produce events.jsonl -s kafka:9092
    Try it on recorded usage: tenfold replay events.jsonl --out result
    What 90 days would cost:  tenfold project events.jsonl --limit-usd 50000
    """


@cli.command()
@config_option
@servers_option
@click.option("--web-port", type=click.IntRange(0, 65535), help="Port of health and metrics; 0 takes a free one.")
def worker(config: Path | None, servers: str | None, web_port: int | None) -> None:
    """Run one worker: aggregate, detect, alert. Start more of them to share the load.

    Without a broker configured it starts an embedded one, which is good for a first look and forgets everything
    when it ends. Health is on http://127.0.0.1:PORT/healthz and /readyz, metrics on /metrics.

    SIGTERM or Ctrl-C checkpoints and leaves the group.
    """
    from streams.worker import run_worker

    settings = _settings(config, servers=servers, web_port=web_port)
    asyncio.run(run_worker(settings))


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--out", "-o", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to."
)
@click.option("--strict", is_flag=True, help="Exit with 1 if any event was rejected.")
@click.option(
    "--feedback",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSONL of what people said meanwhile: finding_id, verdict and at_ms (ms) of each.",
)
@config_option
def replay(files: tuple[str, ...], out: Path, strict: bool, feedback: Path | None, config: Path | None) -> None:
    """Run the whole engine over event files, without a broker.

    FILE is .jsonl, .jsonl.gz, .avro or .parquet, each sorted by time within the lateness; - is JSONL on standard
    input. It holds usage events (docs/events.md); JSONL may hold the other formats named there, too. Several files
    are merged by event time.

    Writes findings.jsonl, sessions.jsonl, spend.jsonl, budgets.jsonl, decisions.jsonl, shares.jsonl,
    unit_costs.jsonl, rejected.jsonl and summary.json to --out.
    """
    from streams.feedback_command import read_feedback
    from streams.files import merge_files
    from streams.replay import replay_to

    settings = _settings(config)
    said = [] if feedback is None else read_feedback(feedback)
    rejected: list[dict] = []
    with _progress("replayed") as advance:
        events = merge_files(files, on_error=lambda error: rejected.append(_bad_line(error)))
        summary = replay_to(events, settings.engine(), out, advance, rejected, said)
    table = Table("team", "cost", box=None, pad_edge=False)
    for team, cost in sorted(summary["cost_nano_usd_by_team"].items(), key=lambda item: -item[1]):
        table.add_row(team or "(unknown)", _usd(cost))
    console = _stdout()
    console.print(table)
    findings = ", ".join(f"{count} {name}" for name, count in summary["findings"].items()) or "none"
    console.print(
        f"{summary['events']:,} events, {summary['duplicates']:,} duplicates, {summary['rejected']:,} rejected, "
        f"{summary['unpriced']:,} unpriced; {summary['sessions']:,} sessions; {_usd(summary['cost_nano_usd'])}"
    )
    console.print(f"findings: {findings}\nwritten to {out}/", soft_wrap=True)
    if strict and summary["rejected"]:
        sys.exit(1)


@cli.command(name="feedback")
@click.argument("finding_id", metavar="FINDING_ID")
@click.argument("verdict", type=click.Choice(("true", "false", "planned", "acknowledged", "silenced")))
@click.option("--note", default="", help="Why; kept with the verdict.")
@click.option("--hours", type=click.FloatRange(min=0, max=24 * 366), default=0.0, help="How long planned or silenced.")
@click.option("--user", default=lambda: _who(), help="Who says so; default: the user who runs this.")
@config_option
@servers_option
def give_feedback(
    finding_id: str, verdict: str, note: str, hours: float, user: str, config: Path | None, servers: str | None
) -> None:
    """Say what a finding was: a true anomaly, a false one, or planned. Learners and thresholds go by it.

    FINDING_ID is in `tenfold alerts`, in every alert and on the topic of anomalies. The latest verdict on a finding
    stands; what each of them changes is in docs/detectors.md.
    """
    from streams import feedback_command

    settings = _settings(config, servers=servers, needs_broker=True)
    if verdict in ("planned", "silenced") and not hours:
        hours = 24.0
    record = feedback_command.verdict(finding_id, verdict, hours=hours, user=user, note=note)
    asyncio.run(feedback_command.send(settings, record))
    click.echo(f"{finding_id}: {verdict}")


@cli.command(name="score-series")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE.csv")
@click.option("--out", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Where to write; default: stdout.")
def score_series(file: Path, out: Path | None) -> None:
    """Score any series of timestamp,value with the rate detector, point by point.

    FILE has a header with the columns timestamp and value, in order of time, at any spacing. Times are ISO 8601
    (without a zone: UTC) or seconds since 1970. Writes timestamp,value,anomaly_score; scores are in [0, 1], a point
    above 0.5 stands out. A score depends on the points before it alone.
    """
    from streams.series import score_file

    with click.open_file(str(out) if out else "-", "w") as target:
        score_file(file, target)


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--days", type=click.IntRange(1, 366), default=90, show_default=True, help="How far to look ahead.")
@click.option("--limit-usd", type=click.FloatRange(min=0, min_open=True), help="Exit with 1 if it costs more.")
@click.option(
    "--at",
    type=click.Choice(("total", "high80", "high95")),
    default="high80",
    show_default=True,
    help="What is held against the limit: the expected cost, or the upper end of a band.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, amounts in nano-USD.")
@config_option
def project(
    files: tuple[str, ...], days: int, limit_usd: float | None, at: str, as_json: bool, config: Path | None
) -> None:
    """Say what recorded usage would cost if it went on for 90 days, with a band; a gate for CI.

    FILE as for replay, of at least three whole days. Exits with 1 if --limit-usd is exceeded.
    """
    import json

    from streams.files import merge_files
    from streams.project import project as run

    settings = _settings(config)
    with _progress("read") as advance:
        made = run(merge_files(files), settings.engine(), days, advance)
    values = made.as_dict()
    if as_json:
        click.echo(json.dumps(values))
    else:
        low80, high80, low95, high95 = (
            _usd(values[f"{name}_nano_usd"]) for name in ("low80", "high80", "low95", "high95")
        )
        click.echo(
            f"{_usd(made.sample_nano_usd)} in {made.sample_days:.1f} days of {made.events:,} events\n"
            f"{_usd(made.forecast.total)} in the next {days} days; in 80 of 100 cases {low80} to {high80}, in 95 "
            f"{low95} to {high95}"
        )
        if made.unpriced_events:
            click.echo(
                f"not counting about {_usd(made.estimated_nano_usd)} of {made.unpriced_events:,} events without a "
                "known price"
            )
    observed = values[f"{at}_nano_usd"]
    if limit_usd is not None and observed > limit_usd * 1e9:
        stderr.print(f"over the limit of ${limit_usd:,.2f}: {at} is {_usd(observed)}", soft_wrap=True)
        sys.exit(1)


@cli.command()
@click.option("--create", is_flag=True, help="Create the topics that are missing.")
@config_option
@servers_option
def topics(create: bool, config: Path | None, servers: str | None) -> None:
    """List Tenfold's topics, or create them.

    Says whether the broker has them; with --create, makes those that are missing and changes nothing else.
    Exits with 1 if a topic is missing, with 2 if one has other partitions than configured.
    """
    from streams.topics import ensure_topics

    settings = _settings(config, servers=servers, needs_broker=True)
    wanted = settings.topic_names()
    report = asyncio.run(
        ensure_topics(settings.connection(), wanted, replication=settings.topics.replication, create=create)
    )
    states = {
        **dict.fromkeys(report.existing, "there"),
        **dict.fromkeys(report.created, "created"),
        **dict.fromkeys(report.missing, "missing"),
    }
    table = Table("topic", "key", "value", "partitions", "cleanup", "", box=None, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    for topic in wanted:
        value = (
            f"{topic.schema}.avsc"
            if topic.schema
            else "JSON"
            if topic in (wanted.foreign, wanted.budget_definitions)
            else "internal"
        )
        table.add_row(topic.name, topic.key, value, str(topic.partitions), topic.cleanup, states[topic.name])
    _stdout().print(table)
    for warning in report.warnings:
        stderr.print(f"warning: {warning}", soft_wrap=True)
    if report.missing:
        stderr.print("`tenfold topics --create` makes those that are missing.")
        sys.exit(1)


@cli.command()
@click.option("--reset", is_flag=True, help="Delete all of it: the next workers count the input anew.")
@click.option("--yes", is_flag=True, help="Do not ask before deleting.")
@config_option
@servers_option
def state(reset: bool, yes: bool, config: Path | None, servers: str | None) -> None:
    """Show the checkpoints of each partition: what a worker that got it would restore.

    The state topics are read whole, which takes a second for some 100 MB. --reset asks before it deletes, and refuses
    while the group has members.

    Exits with 1 if there is state that this version cannot read.
    """
    from streams.state import admin

    settings = _settings(config, servers=servers, needs_broker=True)
    if reset:
        if not yes:
            click.confirm(
                "Delete the state of all partitions? Usage is then counted anew from the oldest record that is still "
                "there; what is older than that is gone from sums, baselines and budgets",
                abort=True,
            )
        click.echo(f"{asyncio.run(admin.reset(settings)):,} records deleted")
        return
    rows = asyncio.run(admin.describe(settings))
    table = Table("state", "partition", "epoch", "seq", "next_offset", "lag_records", "rows", "bytes", "age", "",
                  box=None, pad_edge=False)  # fmt: skip
    for row in rows:
        if not row.epoch:
            said = "cannot be read, see below" if row.problem else "no checkpoint"
            table.add_row(row.kind, str(row.partition), *[""] * 7, said)
            continue
        lag = "" if row.lag_records is None else f"{row.lag_records:,}"
        torn = f"{row.torn} newer not whole" if row.torn else ""
        table.add_row(row.kind, str(row.partition), row.epoch, str(row.seq), f"{row.next_offset:,}", lag,
                      f"{row.rows:,}", f"{row.size_bytes:,}", _age(row.age_seconds), torn)  # fmt: skip
    _stdout().print(table)
    problems = [row.problem for row in rows if row.problem]
    for problem in problems:
        stderr.print(problem)
    if problems:
        sys.exit(1)


@cli.command()
@click.argument("file", metavar="FILE")
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="Events per second; default: as fast as it goes."
)
@click.option("--now", is_flag=True, help="Shift all event times so that the last one is now.")
@config_option
@servers_option
def produce(file: str, rate: float | None, now: bool, config: Path | None, servers: str | None) -> None:
    """Send events from a file, or standard input, to Kafka.

    FILE is as for `replay`; - is JSONL on standard input. Events are keyed by session, so that a session's events
    meet in one partition. Bad lines are named and skipped; exits with 1
    if there were any.
    """
    from streams.produce import produce_file

    if now and file == "-":
        raise click.UsageError("--now reads the file twice, which standard input cannot be: give a file")
    settings = _settings(config, servers=servers, needs_broker=True)
    bad = 0

    def complain(error: Exception) -> None:
        nonlocal bad
        bad += 1
        stderr.print(f"skipped: {error}", soft_wrap=True)

    with _progress("sent") as advance:
        sent = asyncio.run(
            produce_file(settings, file, rate=rate, shift_to_now=now, on_error=complain, on_sent=advance)
        )
    click.echo(f"{sent:,} events sent, {bad:,} lines skipped")
    if bad:
        sys.exit(1)


@cli.group(invoke_without_command=True)
@config_option
@servers_option
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=20, show_default=True, help="Rows of each table.")
@click.pass_context
def alerts(context: click.Context, config: Path | None, servers: str | None, limit: int) -> None:
    """Show open findings, silences and deliveries; `test` sends a sample through each receiver.

    Reads the notification log whole, which takes a second for some 100 MB, and changes nothing.
    """
    if context.invoked_subcommand is not None:
        return
    from streams.alerts_command import overview
    from streams.notify.silence_stage import FOREVER_MS
    from streams.notify.text import utc

    seen = asyncio.run(overview(_settings(config, servers=servers, needs_broker=True)))
    console = _stdout()

    def show(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
        console.print(f"{title}: {len(rows):,}" + (f", the latest {limit:,} are" if len(rows) > limit else ""))
        if rows:
            table = Table(*columns, box=None, pad_edge=False)
            for row in rows[:limit]:
                table.add_row(*row)
            console.print(table)
        console.print()

    found = [
        (utc(one["last_event_time"]), one["severity"], one["detector"], one["scope_name"],
         _usd(one["excess_nano_usd"]), reason, one["id"])
        for one, reason in seen.open
    ]  # fmt: skip
    show("open findings", ("last event (UTC)", "severity", "detector", "scope", "excess", "muted", "id"), found)
    silent = [(what, why, "" if end >= FOREVER_MS else utc(end)) for what, why, end in seen.silences]
    show("silences", ("of", "why", "until (UTC)"), silent)
    sent = [
        (utc(one.at_ms), one.receiver, one.state, one.finding_id, str(one.settled_revision), one.detail)
        for one in seen.deliveries
    ]
    show("deliveries", ("at (UTC)", "receiver", "state", "finding", "revision", ""), sent)


@alerts.command("test")
@click.argument("receivers", nargs=-1, metavar="[RECEIVER]...")
@config_option
def alerts_test(receivers: tuple[str, ...], config: Path | None) -> None:
    """Send a sample through each receiver, or through those named: it opens and ends.

    Exits with 1 if one does not take it.
    """
    from streams.alerts_command import send_samples
    from streams.notify.receiver import Delivered

    settings = _settings(config)
    known = [receiver.name or receiver.type for receiver in settings.receivers]
    if unknown := sorted(set(receivers) - set(known)):
        raise click.UsageError(f"there is no receiver {unknown[0]}; there are {', '.join(known) or 'none'}")
    if not known:
        raise ConfigError("there are no receivers: add [[receivers]] to the settings (docs/alerts.md)")
    rows = asyncio.run(send_samples(settings, receivers))
    table = Table("receiver", "step", "answer", box=None, pad_edge=False)
    for name, step, outcome in rows:
        table.add_row(name, step, "taken" if isinstance(outcome, Delivered) else outcome.reason)
    _stdout().print(table)
    if not all(isinstance(outcome, Delivered) for _, _, outcome in rows):
        sys.exit(1)


def main() -> None:
    """Entry point: errors become one readable message and an exit code."""
    try:
        cli(prog_name="tenfold", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except TenfoldError as error:
        stderr.print(f"tenfold: {error}", soft_wrap=True)
        sys.exit(error.exit_code)
    except EventError as error:
        stderr.print(f"tenfold: {error}", soft_wrap=True)
        sys.exit(65)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        if error.filename is None:
            raise
        stderr.print(f"tenfold: {error.filename}: {error.strerror}", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # A container's user may have no name.
        return ""


def _settings(
    config: Path | None, *, servers: str | None = None, web_port: int | None = None, needs_broker: bool = False
) -> Settings:
    """Settings with the command line's on top; also sets up logging."""
    from streams import log

    settings = Settings.load(config)
    if servers:
        settings = settings.with_servers(servers)
    if web_port is not None:
        settings = settings.model_copy(update={"web": settings.web.model_copy(update={"port": web_port})})
    if needs_broker and settings.broker.embedded:
        raise ConfigError(
            "no broker is configured: give --servers host:port, or set [broker] servers in tenfold.toml. "
            "(A worker started without one prints the address of its embedded broker.)"
        )
    log.configure(settings.log.level, settings.log.format, secrets=settings.secrets())
    return settings


def _stdout() -> Console:
    console = Console(**PLAIN)
    return console if console.is_terminal else Console(width=PIPE_COLUMNS, **PLAIN)


class _progress:
    """Counts on standard error, on a terminal only."""

    def __init__(self, verb: str):
        self._verb = verb
        self._count = 0

    def __enter__(self):
        self._status = stderr.status("starting ...") if stderr.is_terminal else None
        if self._status:
            self._status.start()
        return self

    def __call__(self, count: int) -> None:
        self._count += count
        if self._status:
            self._status.update(f"{self._count:,} events {self._verb}")

    def __exit__(self, *exc) -> None:
        if self._status:
            self._status.stop()


def _age(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _bad_line(error: Exception) -> dict:
    return {"reason": "bad_json_event", "detail": str(error)}


def _usd(nano_usd: int) -> str:
    from models.money import format_usd

    return format_usd(nano_usd)
