"""Block Kit messages of findings, within Slack's limits whatever a finding holds.

Documented limits: 50 blocks, header 150, section 3000, ten fields of 2000. Undocumented, messages past some
13,200 characters in all are refused (slackapi/bolt-js#2509), so all texts together stay below 12,000.
"""

import re
from collections.abc import Sequence

from streams.notify import text

HEADER = 150
REASON = 2_800
FIELD = 400
CAUSES = 1_500
ID = 300
FALLBACK = 600
DIGEST_LINE = 450
DIGEST_MAX = 20
_MARKS = {"critical": "\N{LARGE RED CIRCLE}", "warning": "\N{LARGE ORANGE CIRCLE}", "info": "\N{LARGE BLUE CIRCLE}"}
_RESOLVED = "\N{WHITE HEAVY CHECK MARK}"


def message(finding: dict) -> dict:
    """One finding: header, reason, figures, causes and the id."""
    head = f"{_mark(finding)} {text.title(finding)}"
    reason = _escaped(finding["reason"], REASON) or "No reason given."
    blocks = [
        {"type": "header", "text": {"type": "plain_text", "text": text.clip(head, HEADER), "emoji": False}},
        _section(reason),
        {
            "type": "section",
            "fields": [
                {"type": "mrkdwn", "text": f"*{label}*\n{_escaped(value, FIELD - 40) or '-'}", "verbatim": True}
                for label, value in ((_escaped(label, 30), value) for label, value in text.facts(finding))
            ],
        },
    ]
    if causes := text.causes(finding):
        lines = "\n".join(f"• {_escaped(cause, CAUSES // 5 - 20)}" for cause in causes)
        blocks.append(_section(f"*Causes*\n{lines}"))
    note = f"{_escaped(finding['id'], ID)} · revision {finding['revision']} · {finding['status']}"
    blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": note, "verbatim": True}]})
    return {"text": _escaped(f"{head}. {finding['reason']}", FALLBACK), "blocks": blocks}


def digest(findings: Sequence[dict]) -> dict:
    """Up to ``DIGEST_MAX`` findings, a line each."""
    worst = next((name for name in _MARKS if any(finding["severity"] == name for finding in findings)), "info")
    head = f"{_MARKS[worst]} {len(findings)} findings"
    blocks = [{"type": "header", "text": {"type": "plain_text", "text": head, "emoji": False}}]
    for finding in findings:
        line = f"{_mark(finding)} *{_escaped(text.title(finding), 100)}*\n"
        blocks.append(_section(line + (_escaped(finding["reason"], DIGEST_LINE - 130) or _escaped(finding["id"], 200))))
    return {"text": head, "blocks": blocks}


def _section(mrkdwn: str) -> dict:
    return {"type": "section", "text": {"type": "mrkdwn", "text": mrkdwn, "verbatim": True}}


def _mark(finding: dict) -> str:
    return _RESOLVED if finding["status"] == "resolved" else _MARKS[finding["severity"]]


def _escaped(value: str, limit: int) -> str:
    """Text in mrkdwn, at most ``limit`` long: its ``&``, ``<`` and ``>`` are escaped, so it links and calls nobody."""
    value = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    clipped = text.clip(value, limit)
    if clipped is not value:
        # Not half an entity at the cut.
        clipped = re.sub(r"&[a-z]{0,3}…$", "…", clipped)
    return clipped
