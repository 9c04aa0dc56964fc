"""Alerts as pictures for the README: ``python -m loadtest.alert_pictures docs``.

Draws the very messages that ``streams.notify`` builds, block by block, much as Slack shows them, with the chart that
the web part would serve. ``alert-slack.png`` is one finding, ``alert-group.png`` a group of a bot's channel.
"""

import io
import random
import re
import sys
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from models.findings import make_finding
from streams.notify.destinations.slack.message import kept, posted
from streams.notify.links import Links
from streams.notify.receiver import Change, Notification
from streams.web.chart import Chart, render

WIDTH, MARGIN, LINE = 720, 24, 24
SCALE = 2
_INK, _PALE, _EDGE = "#1d1c1d", "#6a6a6b", "#d0d0d0"
_MARKS = {"\N{LARGE RED CIRCLE}": "#d64545", "\N{LARGE ORANGE CIRCLE}": "#e8912d", "\N{LARGE BLUE CIRCLE}": "#4a90d9",
          "\N{WHITE HEAVY CHECK MARK}": "#3aa757"}  # fmt: skip
START_MS = 1_763_996_400_000


class Page:
    """A white column that grows downwards."""

    def __init__(self) -> None:
        self._image = Image.new("RGB", (WIDTH * SCALE, 4_000), "white")
        self._draw = ImageDraw.Draw(self._image)
        self._fonts = {size: ImageFont.load_default(size * SCALE) for size in (12, 14, 18)}
        self._y = MARGIN

    def words(
        self, text: str, *, size: int = 14, color: str = _INK, left: int = MARGIN, right: int = WIDTH - MARGIN
    ) -> None:
        """Wrapped; ``*bold*`` is drawn bold."""
        for paragraph in _plain(text).split("\n"):
            x = left
            for word in re.findall(r"\S+\s*", paragraph) or [""]:
                width = self._fonts[size].getlength(word.replace("*", "").rstrip()) / SCALE
                if x + width > right and x > left:
                    x, self._y = left, self._y + round(size * 1.5)
                x += self._word(x, word, size, color)
            self._y += round(size * 1.5)

    def _word(self, x: float, word: str, size: int, color: str) -> float:
        if word[0] in _MARKS:
            top = self._y * SCALE + size * 0.4
            self._draw.ellipse([x * SCALE, top, x * SCALE + size * 1.7, top + size * 1.7], _MARKS[word[0]])
            return size + 6
        bold = self._bold
        parts = re.split(r"(\*)", word)
        start = x
        for part in parts:
            if part == "*":
                bold = not bold
                continue
            self._draw.text(
                (x * SCALE, self._y * SCALE),
                part,
                color,
                self._fonts[size],
                stroke_width=1 if bold else 0,
                stroke_fill=color,
            )
            x += self._fonts[size].getlength(part) / SCALE
        self._bold = bold
        return x - start

    _bold = False

    def block(self, block: dict, pictures: dict[str, bytes]) -> None:
        kind = block["type"]
        if kind == "header":
            mark, _, title = block["text"]["text"].partition(" ")
            self.words(f"{mark} *{title}*", size=18)
        elif kind == "section" and "text" in block:
            self.words(block["text"]["text"])
        elif kind == "section":
            self._fields([one["text"] for one in block["fields"]])
        elif kind == "image":
            self._picture(pictures[block["image_url"]])
        elif kind == "actions":
            self._buttons([one["text"]["text"] for one in block["elements"]])
        elif kind == "context":
            self.words("    ".join(one["text"] for one in block["elements"]), size=12, color=_PALE)
        self._y += 8

    def _fields(self, fields: list[str]) -> None:
        for number in range(0, len(fields), 2):
            top, lowest = self._y, self._y
            for column, text in enumerate(fields[number : number + 2]):
                self._y = top
                left = MARGIN + column * (WIDTH - 2 * MARGIN) // 2
                self.words(text, left=left, right=left + WIDTH // 2 - MARGIN - 8)
                lowest = max(lowest, self._y)
            self._y = lowest + 4

    def _picture(self, png: bytes) -> None:
        picture = Image.open(io.BytesIO(png)).convert("RGB")
        width = (WIDTH - 2 * MARGIN) * SCALE
        picture = picture.resize((width, picture.height * width // picture.width))
        self._image.paste(picture, (MARGIN * SCALE, self._y * SCALE))
        self._draw.rectangle(
            [MARGIN * SCALE, self._y * SCALE, MARGIN * SCALE + width, self._y * SCALE + picture.height], outline=_EDGE
        )
        self._y += picture.height // SCALE + 8

    def _buttons(self, texts: list[str]) -> None:
        x = MARGIN
        for text in texts:
            width = self._fonts[12].getlength(text) / SCALE + 24
            box = [x * SCALE, self._y * SCALE, (x + width) * SCALE, (self._y + 28) * SCALE]
            self._draw.rounded_rectangle(box, 8, outline=_PALE)
            self._draw.text(((x + 12) * SCALE, (self._y + 6) * SCALE), text, _INK, self._fonts[12])
            x += width + 8
        self._y += 32

    def png(self) -> bytes:
        out = io.BytesIO()
        self._image.crop((0, 0, WIDTH * SCALE, (self._y + MARGIN // 2) * SCALE)).quantize(64).save(
            out, "PNG", optimize=True
        )
        return out.getvalue()


def _plain(text: str) -> str:
    text = re.sub(r"<[^|>]+\|([^>]+)>", r"\1", text).replace("`", "")
    text = text.replace("\N{BULLET}", "-").replace("\N{MULTIPLICATION SIGN}", "x")  # The font has neither.
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def drawn(message: dict, pictures: dict[str, bytes]) -> bytes:
    """A Block Kit message as PNG; ``pictures`` by their address."""
    page = Page()
    for block in message["blocks"]:
        page.block(block, pictures)
    return page.png()


def rate(n: int = 0, **fields) -> dict:
    """The support team's traffic quadruples, as in the demo."""
    values = {
        "id": f"spend_rate-3f2a91c0de{n:02}", "detector": "spend_rate", "severity": "warning", "scope_kind": "team",
        "scope_name": "support", "team": "support", "window_start": START_MS + 51 * 60_000, "window_ms": 60_000,
        "observed_nano_usd": 4_620_000_000, "expected_nano_usd": 1_150_000_000, "score": 7.4, "confidence": 0.66,
        "baseline_size": 51, "first_event_time": START_MS + 51 * 60_000, "last_event_time": START_MS + 60 * 60_000 - 1,
        "detection_time": START_MS + 60 * 60_000,
        "reason": "Team support spends $4.62 a minute, 4.0x the usual $1.15, for nine minutes; mainly gpt-4o.",
        "cause": [{"dimension": "model", "name": "gpt-4o", "excess_nano_usd": 3_120_000_000},
                  {"dimension": "model", "name": "gpt-4o-mini", "excess_nano_usd": 350_000_000}],
    }  # fmt: skip
    return make_finding(**{**values, **fields})


def main(folder: Path) -> None:
    """Write the pictures to ``folder``."""
    noise = random.Random(7)
    costs = [round(noise.gauss(1_060_000, 90_000)) for _ in range(51)]
    costs += [round(noise.gauss(4_400_000, 150_000)) for _ in range(8)] + [4_620_000]
    picture = render(Chart("Warning: spending faster than usual: support", START_MS, 60_000, costs, 1_150_000))
    links = Links("https://tenfold.example/?finding={id}", lambda finding: "chart", interactive=True)
    one = rate()
    single = Notification(one["id"], (Change(one, "opened"),), (one,))
    (folder / "alert-slack.png").write_bytes(drawn(posted(single, links), {"chart": picture}))
    session = rate(1, id="session_outlier-950b43d551293c5a9446", detector="session_outlier", severity="critical",
                   reason="Session loan-0090 has cost $71.26, 10.3x the median $6.93 of 99 sessions of lending "
                          "× loan-agent; mainly 340 events where 17 are usual.",
                   observed_nano_usd=71_260_000_000)  # fmt: skip
    burn = rate(2, id="budget_burn-5bb0aa41c2", detector="budget_burn", severity="critical",
                reason="Budget lending spent $515.19 in an hour, 14.8x an even pace; it has used 2 % of $25,000.00 for "
                       "2026-11 with 80 % of the month gone.", observed_nano_usd=515_190_000_000)  # fmt: skip
    ended = {
        **rate(3),
        "status": "resolved",
        "reason": "Team chat spends as usual again; the incident cost $12.40 more.",
    }
    changes = (Change(session, "opened"), Change(burn, "opened"), 
               Change({**one, "acknowledged_by": "ann"}, "acknowledged"), Change(ended, "resolved"))  # fmt: skip
    group = Notification("group-1", changes, (session, burn, one), {"use_case": "customer care"}, "C1/1.1")
    (folder / "alert-group.png").write_bytes(drawn(kept(group, links), {"chart": picture}))


if __name__ == "__main__":
    started = time.monotonic()
    main(Path(sys.argv[1]))
    print(f"{time.monotonic() - started:.1f} s")
