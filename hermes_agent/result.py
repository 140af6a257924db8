"""What a tool gave back, as text for the model."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import Any, cast

__all__ = ["ToolResultError", "cut", "result_text"]

_HINT = "return text, numbers, lists, dicts, a dataclass or a pydantic model"


class ToolResultError(TypeError):
    """A tool returned something that cannot be shown to a model as text; the message names its type."""


def result_text(value: object) -> str:
    """The text a model reads as a tool's result.

    A string stands as it is, and so does a value whose JSON form is a string (a date, an enum member, a
    Decimal, a path). Everything else is JSON as the Hermes wire writes it, and ``None`` is ``null``. NaN
    and the infinities are the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, since JSON has no such
    numbers. A set is a list in its own order. Lone surrogates become U+FFFD: no text may hold them.

    Args:
        value: What the tool returned. Pydantic models, dataclasses, TypedDicts, NamedTuples, enums, dates,
            UUIDs, Decimals, paths and containers of them have a text.

    Raises:
        ToolResultError: The value is or holds bytes, or something else without a JSON form.
    """
    if type(value) is str:
        return _sound(value)
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    try:
        _refuse_bytes(value)
        plain = to_jsonable_python(
            value,
            fallback=_last_form,
        )
        text = plain if isinstance(plain, str) else json.dumps(_finite(plain), ensure_ascii=False)
    except ToolResultError:
        raise
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        what = str(error) or type(error).__name__
        raise ToolResultError(
            f"a result of type {type(value).__name__!r} has no JSON form ({what}): {_HINT}"
        ) from error
    return _sound(text)


def _last_form(value: object) -> str:
    if isinstance(value, PurePath):
        return str(value)
    raise ToolResultError(f"a result that is or holds a {type(value).__name__!r} has no JSON form: {_HINT}")


def _refuse_bytes(value: object) -> None:
    """Bytes may be anything: to show them as text is the tool's decision. Pydantic would try UTF-8."""
    match value:
        case bytes() | bytearray() | memoryview():
            name = type(cast("object", value)).__name__
            raise ToolResultError(
                f"a result that is or holds {name!r} is not text: decode it, such as value.decode(), "
                "or return what it says about it"
            )
        case str():
            return
        case Mapping():
            for key, item in cast("Mapping[object, object]", value).items():
                _refuse_bytes(key)
                _refuse_bytes(item)
        case Collection():
            for item in cast("Collection[object]", value):
                _refuse_bytes(item)
        case _:
            return


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [_finite(item) for item in cast("list[object]", value)]
    return value


def _sound(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def cut(text: str, limit: int | None) -> str:
    """The head of a text, and a last line that says how many characters were left out.

    Args:
        text: Any text.
        limit: Characters of it to keep; ``None`` keeps all.
    """
    if limit is None or len(text) <= limit:
        return text
    return f"{text[:limit]}\n[… {len(text) - limit} more characters were left out]"
