"""What a tool gave back, or raised, as text for the model."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import Any, cast

from hermes_agent.json_text import sound
from hermes_agent.redaction import Redaction

__all__ = ["ToolResultError", "correction", "cut", "error_text", "result_text"]

_ERROR_CHARS = 2000
_READ_CHARS = 20_000
"""Of a message, before secrets are looked for: it may be megabytes."""
_TRACEBACK = "Traceback (most recent call last):"
_BARRED = re.compile(r"[ +]*\| (\S.*)")
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
        return sound(value)
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
    return sound(text)


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


def cut(text: str, limit: int | None) -> str:
    """The head of a text, and a last line that says how many characters were left out.

    Args:
        text: Any text.
        limit: Characters of it to keep; ``None`` keeps all.
    """
    if limit is None or len(text) <= limit:
        return text
    return f"{text[:limit]}\n[… {len(text) - limit} more characters were left out]"


def correction(text: str, limit: int | None) -> str:
    """What a program tells the model of its mistake: `cut`, but never below what is told of an exception.

    Args:
        text: Any text.
        limit: That of results.
    """
    return cut(text, None if limit is None else max(limit, _ERROR_CHARS))


def error_text(error: BaseException) -> str:
    """What a model, or anyone else outside, is told of an exception: its type and message.

    Secrets are taken out as `hermes_agent.redaction.Redaction` finds them, tracebacks inside the message are cut to
    what they end in, and a group is told as what it holds. At most 2000 characters, all of which can be encoded.

    Example:
        >>> error_text(ConnectionError("no answer from amqp://app:hunter2@queue:5672"))
        'ConnectionError: no answer from amqp://app:[removed]@queue:5672'
        >>> error_text(ExceptionGroup("two", [ValueError("x"), KeyError("y")]))
        "ValueError: x; KeyError: 'y'"
    """
    redaction = Redaction()
    told: list[str] = []
    length = 0
    waiting: list[BaseException] = [error]
    while waiting and length <= _ERROR_CHARS:
        first = _as_raised(waiting.pop())
        if isinstance(first, BaseExceptionGroup):
            waiting.extend(reversed(cast("BaseExceptionGroup[BaseException]", first).exceptions))
            continue
        told.append(_error_line(first, redaction))
        length += len(told[-1]) + 2
    text = "; ".join(told)
    return text if len(text) <= _ERROR_CHARS else text[: _ERROR_CHARS - 1] + "…"


def _as_raised(error: BaseException) -> BaseException:
    """The error before Python put another in its place: a StopIteration must not leave a coroutine (PEP 479)."""
    cause = error.__cause__
    if isinstance(error, RuntimeError) and isinstance(cause, StopIteration | StopAsyncIteration):
        return cause if str(error).endswith(("raised StopIteration", "raised StopAsyncIteration")) else error
    return error


def _error_line(error: BaseException, redaction: Redaction) -> str:
    try:
        message = str(error)
    except Exception as broken:  # noqa: BLE001  # the tool's own code, which may do anything
        message = f"its message cannot be read ({type(broken).__name__})"
    message = _without_tracebacks(message)
    if len(message) > _READ_CHARS:
        message = message[:_READ_CHARS]
        message = message[: redaction.settled(message)]  # what is cut in two must not be half a secret
    message = redaction.text(sound(message).strip())
    name = type(error).__name__
    return f"{name}: {message}" if message else name


def _without_tracebacks(text: str) -> str:
    """The text without calls and lines of code, and without errors that others came of."""
    if _TRACEBACK not in text:
        return text
    # In the repr of what a program wrote, line ends are spelled out.
    lines = re.split(r"(?<=\n)|(?<=\\n)", text)
    heads = [at for at, line in enumerate(lines) if _TRACEBACK in line]
    before = "".join(lines[: heads[0]]) + lines[heads[0]].partition(_TRACEBACK)[0]
    end = heads[-1] + 1
    while end < len(lines) and (lines[end][:1] in " \t\r\n" or lines[end] == "\\n"):
        end += 1
    # That of a group is indented all through, behind bars.
    barred = [found[1] for line in lines[heads[-1] + 1 : end] if (found := _BARRED.match(line))]
    return before.removesuffix("  + Exception Group ") + ("".join(lines[end:]) or "".join(barred[-1:]))
