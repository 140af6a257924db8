"""Calls as ``<function=NAME><parameter=KEY>value</parameter></function>``, read only when asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import cast

from hermes_agent.formats.repair import UnreadableCallError
from hermes_agent.messages import JsonValue, ToolCall

__all__ = ["read_function"]

_FUNCTION = re.compile(r"\s*<function=([^<>\s]{1,200})>(.*)</function>\s*\Z", re.DOTALL)
_PARAMETER = re.compile(r"\s*<parameter=([^<>\s]{1,200})>((?:(?>(?!</parameter>).))*+)</parameter>", re.DOTALL)


def read_function(raw: str, schemas: Mapping[str, Mapping[str, JsonValue]]) -> ToolCall:
    r"""Read one call in this spelling.

    Values are strings, less one newline at each end. Where the tool's schema is known and a parameter cannot
    be a string, its value is read as JSON.

    Args:
        raw: From ``<function=`` to ``</function>``.
        schemas: The ``properties`` of each known tool's parameters, by tool name.

    Raises:
        UnreadableCallError: The text is not of that form, or gives a parameter twice.

    Example:
        >>> read_function("<function=f><parameter=x>\n1\n</parameter></function>", {}).arguments
        {'x': '1'}
    """
    match = _FUNCTION.match(raw)
    if match is None:
        raise UnreadableCallError("the <function=...> block is not complete")
    name, body = match.groups()
    properties = schemas.get(name, {})
    arguments: dict[str, object] = {}
    pos = 0
    while found := _PARAMETER.match(body, pos):
        key, value = found.groups()
        if key in arguments:
            raise UnreadableCallError(f"the parameter {key!r} stands twice", name)
        arguments[key] = _value(value.removeprefix("\n").removesuffix("\n"), properties.get(key))
        pos = found.end()
    if body[pos:].strip():
        raise UnreadableCallError("there is text between the parameters", name)
    return ToolCall(name, arguments, raw=raw.strip(), repairs=("function_tag",))


def _value(text: str, schema: object) -> object:
    kind = cast("Mapping[str, object]", schema).get("type") if isinstance(schema, Mapping) else None
    if not isinstance(kind, str) or kind == "string":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
