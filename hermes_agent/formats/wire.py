"""How values are spelled on the wire: one JSON style, one call style, everywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, cast

__all__ = ["call_json", "dump_json", "serialise_call", "serialise_calls"]


_AWKWARD = re.compile("[\x7f\ud800-\udfff]")
_EXPONENT = re.compile("[0-9]e[-+]?[0-9]")


def dump_json(value: Any) -> str:
    """JSON as the models were trained on it: one line, ``", "`` and ``": "``, no needless escapes.

    Two spellings differ from ``json.dumps``, for the sake of grammars and tokenizers: numbers have no exponent
    (``0.0000001`` for 1e-07), since a grammar for a bounded number cannot have one, and DEL and lone surrogates are
    escaped. ``json.loads`` gives the value back exactly.

    Raises:
        ValueError: The value holds NaN or an infinity.
        TypeError: The value is not JSON.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if _EXPONENT.search(text):
        text = _without_exponents(value)
    return _AWKWARD.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _without_exponents(value: Any) -> str:
    if isinstance(value, float):
        text = format(Decimal(repr(value)), "f")
        return text if "." in text else f"{text}.0"
    if isinstance(value, (list, tuple)):
        items = cast("Sequence[Any]", value)
        return f"[{', '.join(map(_without_exponents, items))}]"
    if isinstance(value, dict):
        parts = cast("dict[str, Any]", value).items()
        written = (json.dumps({key: 0}, ensure_ascii=False)[1:-2] + _without_exponents(at) for key, at in parts)
        return f"{{{', '.join(written)}}}"
    return json.dumps(value, ensure_ascii=False)


def call_json(name: str, arguments: Mapping[str, Any]) -> str:
    """What stands between the tags of a call."""
    return f'{{"name": {dump_json(name)}, "arguments": {dump_json(arguments)}}}'


def serialise_call(name: str, arguments: Mapping[str, Any]) -> str:
    """One call with its tags."""
    return f"<tool_call>\n{call_json(name, arguments)}\n</tool_call>"


def serialise_calls(calls: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Several calls of one turn, in order."""
    return "\n".join(serialise_call(name, arguments) for name, arguments in calls)
