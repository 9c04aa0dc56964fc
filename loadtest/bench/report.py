"""A result of ``tenfold bench`` for people: the README's table, and a picture with bars on a logarithmic scale."""

import json
import math
from pathlib import Path
from xml.sax.saxutils import escape

import click

WIDTH, ROW, LEFT, RIGHT, TOP = 860, 34, 270, 150, 64
COLOURS = {"tenfold": "#0b7a5c", "ceiling": "#8a8f98"}
PEER_COLOUR = "#c4c8cf"


def ranked(result: dict) -> list[tuple[str, dict]]:
    """(name, figures) of the first race, fastest per CPU second first; those that did not run are left out."""
    contenders = result["throughput"][0]["contenders"]
    able = [(name, found) for name, found in contenders.items() if "events_per_cpu_second" in found]
    return sorted(able, key=lambda item: -item[1]["events_per_cpu_second"])


def table(result: dict) -> str:
    """Markdown."""
    lines = [
        "| | events per CPU second | events per second | peak memory | Tenfold is |",
        "|---|---:|---:|---:|---:|",
    ]
    own = result["throughput"][0]["contenders"]["tenfold"]["events_per_cpu_second"]
    for name, found in ranked(result):
        times = own / found["events_per_cpu_second"]
        lines.append(
            f"| {found['title']} | {found['events_per_cpu_second']:,} | {found['events_per_second']:,} "
            f"| {found['peak_rss_mb']:,} MB | {'' if name == 'tenfold' else f'{times:.3g} x'} |"
        )
    return "\n".join(lines)


def picture(result: dict) -> str:
    """SVG."""
    rows = ranked(result)
    machine, first = result["machine"], result["throughput"][0]
    rates = [found["events_per_cpu_second"] for _, found in rows]
    low = 10 ** math.floor(math.log10(min(rates)))
    span = WIDTH - LEFT - RIGHT

    def length(rate: float) -> float:
        return span * math.log10(rate / low) / math.log10(max(rates) / low)

    height = TOP + ROW * len(rows) + 44
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(20, 28, "Events per second of CPU time", 18, weight="bold"),
        _text(20, 48, "one core each, same topic, logarithmic scale", 13, "#555b66"),
    ]
    power = low
    while power <= max(rates):
        x = LEFT + length(power)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{TOP + ROW * len(rows)}" stroke="#e4e6ea"/>'
            + _text(x, TOP + ROW * len(rows) + 16, f"{power:,}", 11, "#555b66", "middle")
        )
        power *= 10
    for position, (name, found) in enumerate(rows):
        y = TOP + ROW * position
        rate = found["events_per_cpu_second"]
        weight = "bold" if name == "tenfold" else "normal"
        parts += [
            _text(LEFT - 10, y + 22, found["title"], 13, anchor="end", weight=weight),
            f'<rect x="{LEFT}" y="{y + 6}" width="{max(length(rate), 2):.1f}" height="{ROW - 12}" '
            f'fill="{COLOURS.get(name, PEER_COLOUR)}"/>',
            _text(LEFT + length(rate) + 8, y + 22, f"{rate:,}", 13, weight=weight),
        ]
    said = (
        f"{first['events']:,} events of about 200 bytes, lz4, {first['partitions']} partitions; Apache Kafka on the "
        f"same machine, {machine['cores']} cores, {machine['memory_gb']} GB; median of {rows[0][1]['runs']} runs"
    )
    parts += [_text(20, height - 10, said, 11, "#555b66"), "</svg>"]
    return "\n".join(parts) + "\n"


def _text(
    x: float, y: float, text: str, size: int, colour: str = "#1b1f24", anchor: str = "start", weight: str = "normal"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
        f'font-weight="{weight}">{escape(text)}</text>'
    )


@click.command()
@click.argument("result", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="SVG file for the picture.")
def report(result: Path, out: Path | None) -> None:
    """The table of a RESULT of `tenfold bench --out RESULT`, and its picture."""
    found = json.loads(result.read_text())
    click.echo(table(found))
    if out:
        out.write_text(picture(found))
