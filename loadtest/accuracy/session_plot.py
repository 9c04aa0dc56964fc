"""The picture of ``accuracy_sessions.json``: precision against recall, by the number of peers known, as plain SVG."""

from html import escape
from pathlib import Path

from loadtest.accuracy.session_rules import RULES

PANELS = ("5 to 20", "20 to 100", "100 or more")
SIZE, LEFT, TOP, GAP_X, GAP_Y, HEAD = 190, 46, 34, 40, 62, 26
"""Pixels: a panel's side, its margins, the gaps between panels, and the key's height."""
COLORS = dict(zip((*RULES, "warning", "page"), ("#555", "#999", "#8a6d3b", "#7b5ea7", "#e08000", "#c00"), strict=True))


def draw(result: dict, path: Path) -> None:
    """One row of panels for each data set."""
    rows = []
    if "swebench" in result:
        rows.append(("swebench by model, test part", result["swebench"]["by_model"]["test"]))
        rows.append(("swebench by model x repository, test part", result["swebench"]["by_model_and_repo"]["test"]))
    rows += [(name, result[name]["shuffled"]) for name in ("aider", "mooncake")]
    width = LEFT + len(PANELS) * (SIZE + GAP_X)
    height = HEAD + len(rows) * (SIZE + GAP_Y) + TOP
    parts = [_key()]
    for line, (title, cells) in enumerate(rows):
        for column, panel in enumerate(PANELS):
            x, y = LEFT + column * (SIZE + GAP_X), HEAD + TOP + line * (SIZE + GAP_Y)
            parts.append(f'<g transform="translate({x} {y})">{_panel(title, panel, cells.get(panel, {}))}</g>')
    body = "\n".join(parts)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="10">\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _key() -> str:
    words = [f'<tspan dx="9" fill="{color}">● {escape(name)}</tspan>' for name, color in COLORS.items()]
    return f'<text x="{LEFT}" y="16">{"".join(words)}<tspan dx="9" fill="#06c">— by margin</tspan></text>'


def _panel(title: str, panel: str, cell: dict) -> str:
    marks = [f'<rect width="{SIZE}" height="{SIZE}" fill="none" stroke="#bbb"/>']
    for tick in (0, 0.5, 1):
        marks.append(f'<text x="-6" y="{SIZE * (1 - tick) + 3}" text-anchor="end">{tick}</text>')
        marks.append(f'<text x="{SIZE * tick}" y="{SIZE + 12}" text-anchor="middle">{tick}</text>')
    marks.append(f'<text y="-14">{escape(title)}</text><text y="-3">{panel} peers</text>')
    marks.append(f'<text x="{SIZE / 2}" y="{SIZE + 22}" text-anchor="middle">recall (across), precision (up)</text>')
    curve = [found for found in cell.get("margins", {}).values() if _shown(found)]
    points = " ".join(f"{SIZE * found['recall']:.1f},{SIZE * (1 - found['precision']):.1f}" for found in curve)
    marks.append(f'<polyline points="{points}" fill="none" stroke="#06c"/>')
    found_by = {**cell.get("rules", {}), **{name: cell.get(name) or {} for name in ("warning", "page")}}
    for name, found in found_by.items():
        if _shown(found):
            x, y = SIZE * found["recall"], SIZE * (1 - found["precision"])
            marks.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{COLORS[name]}"><title>{name}</title></circle>'
            )
    return "".join(marks)


def _shown(found: dict) -> bool:
    return found.get("recall") is not None and found.get("precision") is not None
