"""Block Kit messages of findings, within Slack's limits whatever a finding holds.

Documented limits: 50 blocks, header 150, section 3000, ten fields of 2000, an address 3000, a button's value 2000.
Undocumented, messages past some 13,200 characters in all are refused (slackapi/bolt-js#2509), so all texts together
stay below 12,000. What does not fit is counted, and the link leads to it.
"""

import json
import re
from collections.abc import Sequence

from models.money import format_usd
from streams.notify import text
from streams.notify.links import Links
from streams.notify.receiver import Change, Notification

HEADER = 150
REASON = 2_800
FIELD = 400
CAUSES = 1_500
ID = 300
FALLBACK = 600
LINE = 450
LINES = 20
BUTTON_VALUE = 2_000
_MARKS = {"critical": "\N{LARGE RED CIRCLE}", "warning": "\N{LARGE ORANGE CIRCLE}", "info": "\N{LARGE BLUE CIRCLE}"}
_RESOLVED = "\N{WHITE HEAVY CHECK MARK}"
_BUTTONS = (
    ("acknowledged", "Acknowledge"),
    ("silenced-1h", "Silence 1 h"),
    ("silenced-24h", "Silence 24 h"),
    ("planned-24h", "Planned"),
    ("false", "Not an anomaly"),
)
"""Action and its words; an hour count is how long it holds."""


def posted(notification: Notification, links: Links) -> dict:
    """A message of what has changed: one finding in full, several a line each."""
    if len(notification.changes) == 1:
        return of_finding(notification.changes[0], links, notification.group)
    return _of_lines(
        notification,
        f"{_mark_of(notification)} {_count(len(notification.changes), notification)}",
        sorted(notification.changes, key=_weight),
        links,
    )


def kept(notification: Notification, links: Links) -> dict:
    """A message of how the alert stands, to be changed as it does."""
    if len(notification.changes) == 1 and all(one is notification.findings[0] for one in notification.members):
        return of_finding(notification.changes[0], links, notification.group)
    ended = [change for change in notification.changes if change.kind == "resolved"]
    known = {change.finding["id"]: change for change in notification.changes}
    members = [known.get(finding["id"], Change(finding, "amended")) for finding in notification.members]
    if not members:
        head = f"{_RESOLVED} Resolved: {_about(notification)}"
    else:
        head = f"{_mark_of(notification)} {_count(len(members), notification)} open"
    return _of_lines(notification, head, [*members, *ended], links)


def reply(notification: Notification) -> dict | None:
    """What the thread of a changed message says; None if it is not worth a word."""
    if notification.group.startswith("flood-") and notification.members:
        return None
    told = [change for change in notification.changes if change.kind in ("opened", "escalated", "repeated", "resolved")]
    if not told:
        return None
    words = {"opened": "New", "escalated": "Worse", "repeated": "Still open", "resolved": "Resolved"}
    lines = [f"{words[change.kind]}: {_line(change.finding)}" for change in told[:5]]
    if len(told) > len(lines):
        lines.append(f"and {len(told) - len(lines):,} more")
    worse = any(change.kind in ("escalated", "repeated") for change in told)
    return {"text": text.clip("\n".join(lines), 3_000), **({"reply_broadcast": True} if worse else {})}


def of_finding(change: Change, links: Links, group: str) -> dict:
    """One finding: header, reason, figures, picture, causes, buttons and the id."""
    finding = change.finding
    head = f"{_mark(finding)} {text.title(finding)}"
    reason = _escaped(finding["reason"], REASON) or "No reason given."
    if text.units(finding["reason"]) > REASON and (link := links.to(finding)):
        reason = f"{_escaped(finding['reason'], REASON - len(link) - 20)} <{link}|all of it>"[:3_000]
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
    if (chart := links.chart(finding)) and finding["status"] != "resolved":
        blocks.append({"type": "image", "image_url": chart, "alt_text": "Spend against what was expected"})
    if causes := text.causes(finding):
        lines = "\n".join(f"• {_escaped(cause, CAUSES // 5 - 20)}" for cause in causes)
        blocks.append(_section(f"*Causes*\n{lines}"))
    notes = [f"{_escaped(finding['id'], ID)} · revision {finding['revision']} · {finding['status']}"]
    if "acknowledged_by" in finding:
        notes.append(f"Acknowledged by {_escaped(finding['acknowledged_by'], 100)}")
    if link := links.to(finding):
        notes.append(f"<{link}|Details>")
    blocks += _actions(finding, links, group)
    blocks.append(_context(notes))
    return {"text": _escaped(f"{head}. {finding['reason']}", FALLBACK), "blocks": blocks}


def _of_lines(notification: Notification, head: str, changes: Sequence[Change], links: Links) -> dict:
    """Several findings: the dearest a line each, the others counted."""
    worth = sum(change.finding["excess_nano_usd"] for change in changes if change.kind != "resolved")
    blocks = [{"type": "header", "text": {"type": "plain_text", "text": text.clip(head, HEADER), "emoji": False}}]
    for change in changes[:LINES]:
        finding = change.finding
        line = f"{_mark(finding)} *{_escaped(text.title(finding), 100)}*\n"
        blocks.append(_section(line + (_escaped(finding["reason"], LINE - 130) or _escaped(finding["id"], 200))))
    notes = [f"{format_usd(worth)} above what was expected"] if worth > 0 else []
    if len(changes) > LINES:
        notes.append(f"and {len(changes) - LINES:,} more: `tenfold alerts` lists all")
    acknowledged = sorted({c.finding["acknowledged_by"] for c in changes if "acknowledged_by" in c.finding})
    notes += [f"Acknowledged by {_escaped(name, 100)}" for name in acknowledged[:3]]
    if link := links.to({**notification.labels, "id": notification.group}):
        notes.append(f"<{link}|Details>")
    if notification.group and notification.members:
        blocks += _actions({**notification.members[0], **notification.labels}, links, notification.group)
    if notes:
        blocks.append(_context(notes))
    return {"text": _escaped(head, FALLBACK), "blocks": blocks}


def _actions(finding: dict, links: Links, group: str) -> list[dict]:
    """Buttons that lead back to us; the value says what they are about."""
    if not links.interactive or finding["status"] == "resolved":
        return []
    about = [group or finding["id"], finding["scope_kind"], finding["scope_name"], finding["detector"]]
    value = json.dumps(about, ensure_ascii=False)
    if text.units(value) > BUTTON_VALUE:
        value = json.dumps([about[0], "", "", finding["detector"]], ensure_ascii=False)
    if text.units(value) > BUTTON_VALUE:
        return []
    buttons = [
        {"type": "button", "action_id": action, "text": {"type": "plain_text", "text": words}, "value": value}
        for action, words in _BUTTONS
    ]
    return [{"type": "actions", "block_id": "tenfold", "elements": buttons}]


def _context(notes: Sequence[str]) -> dict:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": note, "verbatim": True} for note in notes[:10]]}


def _section(mrkdwn: str) -> dict:
    return {"type": "section", "text": {"type": "mrkdwn", "text": mrkdwn, "verbatim": True}}


def _line(finding: dict) -> str:
    return _escaped(finding["reason"], LINE) or _escaped(finding["id"], 200)


def _weight(change: Change) -> tuple:
    """Open before resolved, severe before mild, dear before cheap."""
    finding = change.finding
    return change.kind == "resolved", list(_MARKS).index(finding["severity"]), -finding["excess_nano_usd"]


def _count(number: int, notification: Notification) -> str:
    return f"{number:,} finding{'' if number == 1 else 's'}{_of(notification)}"


def _of(notification: Notification) -> str:
    names = ", ".join(value or "(unknown)" for value in notification.labels.values())
    return f" of {names}" if names else ""


def _about(notification: Notification) -> str:
    return ", ".join(filter(None, notification.labels.values())) or "all findings"


def _mark_of(notification: Notification) -> str:
    return _MARKS[notification.severity] if notification.members else _RESOLVED


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
