"""What people and models wrote, taken out of a foreign record: prompts, answers, tool arguments.

A record that could not be counted is kept to be repaired, and for that its numbers, ids and names are enough. Every
text under a name of TEXTS becomes REMOVED; numbers stay, and so do the texts of fields that say what was used, such as
``response.usage`` and ``response.model``. OpenTelemetry's lists of attributes ({"key": ..., "value": ...}) likewise.
Called by streams.agents.adapt.
"""

import json
import re

REMOVED = "(removed)"
TEXTS = re.compile(
    r"(messages|choices|content|contents|parts|prompts?|inputs?|outputs?|text|completions?|system|system_instructions?"
    r"|instructions|candidates|reasoning_content|arguments|tools|tool_calls|functions|body)"
    r"|gen_ai\.(prompt|completion)s?(\..*)?|gen_ai\.(input|output)\.messages|gen_ai\.system_instructions"
    r"|gen_ai\.tool\.(definitions|call\.arguments|call\.result)|(input|output)\.value|llm\.(input|output)_messages(\..*)?"
)
"""Names whose texts go, whole names only."""


def without_texts(value: bytes) -> bytes | None:
    """The same JSON without what was written; None if it is no JSON, and so nothing of it can be told apart."""
    try:
        return json.dumps(_walk(json.loads(value), False), ensure_ascii=False).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return None


def _walk(node, hidden: bool):
    if isinstance(node, str):
        return REMOVED if hidden else node
    if isinstance(node, list):
        return [_walk(one, hidden) for one in node]
    if not isinstance(node, dict):
        return node
    attribute = node.get("key")
    if isinstance(attribute, str) and TEXTS.fullmatch(attribute) and "value" in node:
        return {**node, "value": _walk(node["value"], True)}
    return {name: _walk(one, hidden or TEXTS.fullmatch(name) is not None) for name, one in node.items()}
