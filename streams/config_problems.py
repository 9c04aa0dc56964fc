"""What is wrong with the settings, in words: file or variable, key, value given, values accepted.

The accepted values are each field's ``description``, so that a field cannot be added without saying them. No
text holds a secret: secret fields, unknown keys (perhaps a secret's, misspelt) and addresses show no value.
"""

import difflib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo


def problems(error: ValidationError, settings: type[BaseModel], environ: Mapping[str, str], prefix: str) -> list[str]:
    """One line for each error, in the order of the fields."""
    variables = {name.upper() for name in environ}
    lines = []
    for found in error.errors(include_url=False, include_context=True):
        keys, field, models = _walk(settings, found["loc"])
        line = _line(found, ".".join(keys).replace(".[", "["), field, models)
        variable = prefix + "__".join(keys).upper()
        lines.append(f"{line} (from the environment variable {variable})" if variable in variables else line)
    return lines


def _line(found: Mapping[str, Any], key: str, field: FieldInfo | None, models: list[type[BaseModel]]) -> str:
    accepted = f"; give {field.description}" if field is not None and field.description else ""
    kind, value = found["type"], found["input"]
    if kind == "extra_forbidden":
        known = sorted({name for model in models for name in model.model_fields})
        close = difflib.get_close_matches(key.rpartition(".")[2], known, n=1)
        guess = f"did you mean {close[0]}? " if close else ""
        return f"{key} is not a known key; {guess}known here: {', '.join(known)}"
    if kind == "missing":
        return f"{key} is missing{accepted}"
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        given = found["ctx"].get("tag")
        state = f"= {given!r} is not accepted" if given is not None else "is missing"
        tags = sorted(tag for model in models for tag in _tags(model))
        return f"{key}.type {state}; give one of {', '.join(repr(tag) for tag in tags)}"
    if kind == "value_error" and isinstance(value, (dict, BaseModel)):
        return f"{key}: {found['ctx']['error']}" if key else str(found["ctx"]["error"])
    if field is None or not accepted:
        return f"{key} must be a table, [{key}]"
    reason = f": {found['ctx']['error']}" if kind == "value_error" else ""
    shown = "" if _is_secret(field.annotation) else f" = {_show(value)}"
    return f"{key}{shown} is not accepted{reason}{accepted}"


def _walk(settings: type[BaseModel], loc: tuple[str | int, ...]) -> tuple[list[str], FieldInfo | None, list[type]]:
    """The path of keys, the field it ends at (None for an unknown key or a section) and the models there."""
    keys: list[str] = []
    field: FieldInfo | None = None
    models: list[type[BaseModel]] = [settings]
    for part in loc:
        if isinstance(part, int):
            keys.append(f"[{part}]")
            continue
        holder = next((model for model in models if part in model.model_fields), None)
        tagged = [model for model in models if part in _tags(model)]
        if holder is not None:
            field = holder.model_fields[part]
            models = list(_models_in(field.annotation))
            keys.append(part)
        elif tagged:
            models = tagged
        else:
            # A key of a mapping keeps its field; an unknown key of a section has none.
            field = None if models else field
            keys.append(part)
    return keys, field, models


def _tags(model: type[BaseModel]) -> tuple[str, ...]:
    return get_args(model.model_fields["type"].annotation) if "type" in model.model_fields else ()


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(_is_secret(part) for part in get_args(annotation))


def _show(value: Any) -> str:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_show(part) for part in value)}]"
    if isinstance(value, str) and "://" in value:
        # Addresses may carry a password or be one.
        return repr(value[: value.index("://") + 3] + "...")
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
