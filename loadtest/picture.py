"""The demo's page as a picture for the README: ``python -m loadtest.picture FOLDER``.

Plays the demo as ``tenfold demo`` does and saves the page as an SVG every few seconds; take the clearest one. The
text is real text without a web font, so it reads the same wherever fonts may not be fetched.
"""

import asyncio
import re
import sys
import time
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from loadtest import demo

WIDTH, HEIGHT = 140, 45
EVERY_SECONDS = 2.0


def svg(page) -> str:
    """One page as SVG."""
    console = Console(record=True, width=WIDTH, height=HEIGHT, file=StringIO(), force_terminal=True, highlight=False)
    console.print(page)
    text = console.export_svg(title="tenfold demo", theme=MONOKAI, unique_id="demo")
    return re.sub(r"@font-face \{.*?\}\s*", "", text, flags=re.DOTALL)


def main(folder: Path) -> None:
    """Save ``SECONDS.svg`` files to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    started = saved = time.monotonic()

    def save(view, console, page) -> None:
        nonlocal saved
        if time.monotonic() - saved >= EVERY_SECONDS:
            saved = time.monotonic()
            (folder / f"{saved - started:03.0f}.svg").write_text(svg(view.render(HEIGHT)))

    demo._draw = save  # In place of drawing on a terminal.
    console = Console(width=WIDTH, height=HEIGHT, file=StringIO(), force_terminal=True)
    asyncio.run(demo._demo(console, 40.0, True, None))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
