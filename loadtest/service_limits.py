"""What Slack and PagerDuty refuse, by their documentation: the rules of the stand-ins in this folder.

Sources: Slack, Block Kit reference and ``chat.postMessage``; slackapi/bolt-js#2509 for the limit of all texts together;
PagerDuty, Events API v2. Lengths are in UTF-16 units.
"""

from collections.abc import Iterator

SLACK_BLOCKS, SLACK_TEXT, SLACK_ALL_TEXTS = 50, 40_000, 13_200
SLACK_SECTION, SLACK_HEADER, SLACK_FIELDS, SLACK_FIELD = 3_000, 150, 10, 2_000
SLACK_CONTEXT, SLACK_ACTIONS, SLACK_URL, SLACK_ALT, SLACK_ID, SLACK_BUTTON, SLACK_VALUE = (
    10, 25, 3_000, 2_000, 255, 75, 2_000,
)  # fmt: skip
PAGERDUTY_BYTES, PAGERDUTY_SUMMARY, PAGERDUTY_KEY, PAGERDUTY_ROUTING_KEY = 512 * 1024, 1_024, 255, 32


def problem(service: str, body: dict, size: int) -> str | None:
    """The service's word for what is wrong with a request; None if nothing is."""
    if service == "slack":
        return slack_problem(body)
    return pagerduty_problem(body, size) if service == "pagerduty" else None


def slack_problem(body: dict) -> str | None:
    if not body.get("text") and not body.get("blocks"):
        return "no_text"
    blocks = body.get("blocks", [])
    if len(blocks) > SLACK_BLOCKS or any(not _block_is_good(block) for block in blocks):
        return "invalid_blocks"
    if _units(body.get("text", "")) > SLACK_TEXT:
        return "msg_too_long"
    if sum(_units(text) for text in _texts(blocks)) > SLACK_ALL_TEXTS:
        return "msg_blocks_too_long"
    return None


def _block_is_good(block: dict) -> bool:
    kind = block.get("type")
    if _units(block.get("block_id", "")) > SLACK_ID:
        return False
    if kind == "header":
        return block["text"]["type"] == "plain_text" and 0 < _units(block["text"]["text"]) <= SLACK_HEADER
    if kind == "section":
        fields = block.get("fields", [])
        texts_fit = "text" not in block or 0 < _units(block["text"]["text"]) <= SLACK_SECTION
        fields_fit = len(fields) <= SLACK_FIELDS and all(0 < _units(one["text"]) <= SLACK_FIELD for one in fields)
        return texts_fit and fields_fit and ("text" in block or bool(fields))
    if kind == "context":
        return 0 < len(block["elements"]) <= SLACK_CONTEXT
    if kind == "image":
        return 0 < _units(block["image_url"]) <= SLACK_URL and 0 < _units(block["alt_text"]) <= SLACK_ALT
    if kind == "actions":
        return 0 < len(block["elements"]) <= SLACK_ACTIONS and all(map(_button_is_good, block["elements"]))
    return kind == "divider"


def _button_is_good(button: dict) -> bool:
    return (
        button["type"] == "button"
        and 0 < _units(button["text"]["text"]) <= SLACK_BUTTON
        and _units(button["action_id"]) <= SLACK_ID
        and _units(button.get("value", "")) <= SLACK_VALUE
    )


def _texts(node) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("text"), str):
            yield node["text"]
        for value in node.values():
            yield from _texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)


def pagerduty_problem(body: dict, size: int) -> str | None:
    if size > PAGERDUTY_BYTES:
        return "event too large"
    if len(body.get("routing_key") or "") != PAGERDUTY_ROUTING_KEY:
        return "invalid routing_key"
    action = body.get("event_action")
    if action not in ("trigger", "acknowledge", "resolve"):
        return "invalid event_action"
    if len(body.get("dedup_key", "")) > PAGERDUTY_KEY or (action != "trigger" and not body.get("dedup_key")):
        return "invalid dedup_key"
    payload = body.get("payload", {})
    if action == "trigger" and not (
        0 < len(payload.get("summary", "")) <= PAGERDUTY_SUMMARY
        and payload.get("source")
        and payload.get("severity") in ("critical", "error", "warning", "info")
    ):
        return "invalid payload"
    return None


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
