"""What a tool gave back, as text for the model."""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["ToolResultError", "cut", "result_text"]


class ToolResultError(TypeError):
    """A tool returned something that cannot be shown to a model as text."""


def result_text(value: object) -> str:
    """The text a model reads as a tool's result.

    A string stands as it is; everything else is JSON, as compact as the Hermes wire writes it. ``None`` is
    ``null``. NaN and infinities are the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, since JSON
    has no such numbers. Sets are lists, in their own order.

    Raises:
        ToolResultError: The value is, or holds, bytes or something else without a JSON form.
    """
    if isinstance(value, str) and type(value) is str:
        return value
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    try:
        plain = to_jsonable_python(value, fallback=_refuse, inf_nan_mode="constants")
        return json.dumps(_finite(plain), ensure_ascii=False)
    except ToolResultError:
        raise
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise ToolResultError(f"a result of type {type(value).__name__!r} cannot be shown: {error}") from error


def _refuse(value: Any) -> Any:
    raise ToolResultError(f"cannot show {value!r}")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value


def cut(text: str, limit: int | None) -> str:
    """The head of a text, with a line that says how many characters were left out.

    Args:
        text: Any text.
        limit: Characters of it to keep; ``None`` keeps all.
    """
    if limit is None or len(text) <= limit:
        return text
    return f"{text[:limit]}\n[… {len(text) - limit} more characters were cut]"
