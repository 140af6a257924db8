"""How JSON is spelled: one style for all that a model reads, writes or could have written."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, cast

__all__ = ["dump_json", "path_parts", "pointer", "sound"]


_AWKWARD = re.compile("[\x7f\ud800-\udfff]")
_EXPONENT = re.compile(r"[0-9]e[-+]?[0-9]|-0\.0(?![0-9])")


def dump_json(value: Any) -> str:
    """JSON as the models were trained on it: one line, ``", "`` and ``": "``, no needless escapes.

    Three spellings differ from ``json.dumps``, for the sake of grammars and tokenizers: numbers have no exponent
    (``0.0000001`` for 1e-07), since a grammar for a bounded number cannot have one, nor does zero have a sign, and DEL
    and lone surrogates are escaped. ``json.loads`` gives an equal value back.

    Raises:
        ValueError: The value holds NaN or an infinity.
        TypeError: The value is not JSON.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if _EXPONENT.search(text):
        text = _plain_numbers(value)
    return _AWKWARD.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _plain_numbers(value: Any) -> str:
    if isinstance(value, float):
        text = format(Decimal(repr(value or 0.0)), "f")
        return text if "." in text else f"{text}.0"
    if isinstance(value, (list, tuple)):
        items = cast("Sequence[Any]", value)
        return f"[{', '.join(map(_plain_numbers, items))}]"
    if isinstance(value, dict):
        parts = cast("dict[str, Any]", value).items()
        written = (json.dumps({key: 0}, ensure_ascii=False)[1:-2] + _plain_numbers(at) for key, at in parts)
        return f"{{{', '.join(written)}}}"
    return json.dumps(value, ensure_ascii=False)


def sound(text: str) -> str:
    """The text with U+FFFD for lone surrogates, which no UTF-8 can hold; two that belong together are joined."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def pointer(parts: Sequence[str | int]) -> str:
    """The JSON pointer (RFC 6901) to a value, by the names and indexes that lead to it.

    Example:
        >>> pointer(["items", 0, "a/b"])
        '/items/0/a~1b'
    """
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)


def path_parts(path: str) -> tuple[str, ...]:
    """The names and indexes of a JSON pointer, or of a dotted path; the empty one is the whole value.

    Example:
        >>> path_parts("/buyer/name"), path_parts("buyer.name"), path_parts("")
        (('buyer', 'name'), ('buyer', 'name'), ())
    """
    if not path.startswith("/"):
        return tuple(path.split(".")) if path else ()
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in path[1:].split("/"))
