"""What stands on a tape: one JSON object a line, its first key saying what it is.

{"tape": 1, "model": "embedded"}                              the first line
{"dialect": 1, "is": {…}}                                     how turns are written; the first stands for the model
{"grammar": "3f0c…", "lark": ["start: turn", …]}              a turn grammar, before the first request with it
{"guarantee": "3f0c…", "prove": false, "is": "token"}         what the model promised for it
{"request": 1, "messages": [{"role": "user", …}], …}          what it was asked; fields at their default are left out
{"chunk": 1, "after": 0.041, "text": "<tool", …}              what it wrote, and how many seconds after request 1
{"end": 1, "after": 0.95}                                     it had written everything
{"left": 1, "after": 0.61}                                    or its reader had heard enough
{"error": 1, "after": 0.02, "type": "ModelError", …}          or it raised
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

from hermes_agent import errors
from hermes_agent.errors import ConfigurationError, HermesError, ModelError
from hermes_agent.formats.dialects import Dialect
from hermes_agent.formats.dialects import dialect as named_dialect
from hermes_agent.models.base import Chunk, Request
from hermes_agent.sampling import Sampling

__all__ = [
    "VERSION",
    "dump",
    "error_fields",
    "plain_chunk",
    "plain_dialect",
    "plain_request",
    "raised",
    "read_chunk",
    "read_dialect",
    "read_lines",
]

VERSION = 1

Line = dict[str, Any]


def dump(line: Mapping[str, Any]) -> str:
    """One line of a tape, without its line break."""
    return json.dumps(line, ensure_ascii=False, default=repr)


def read_lines(path: Path) -> list[tuple[int, Line]]:
    """The lines of a tape with their numbers. A last line that was not finished is left out.

    Raises:
        ConfigurationError: There is no tape there, or it is not one.
    """
    try:
        # Not splitlines(): JSON strings may hold what it takes for the end of a line.
        texts = path.read_text(encoding="utf-8", errors="surrogatepass").split("\n")
    except OSError as error:
        raise ConfigurationError(
            f"no tape can be read from {str(path)!r}: {error}", hint="record it with Recorder(model, path)"
        ) from error
    lines: list[tuple[int, Line]] = []
    for number, text in enumerate(texts[:-1], 1):
        try:
            line: object = json.loads(text)
        except ValueError as error:
            raise _no_tape(path, number, str(error)) from error
        if not isinstance(line, dict):
            raise _no_tape(path, number, "it is no object")
        lines.append((number, cast("Line", line)))
    if not lines or lines[0][1].get("tape") != VERSION:
        raise _no_tape(path, 1, f'it should be {{"tape": {VERSION}, …}}')
    return lines


def _no_tape(path: Path, number: int, why: str) -> ConfigurationError:
    return ConfigurationError(f"{path}:{number} is not the line of a tape: {why}", hint="record the tape again")


def plain_request(request: Request, clean: Callable[[str], str], grammar: str | None) -> Line:
    """A request as JSON; the grammar by the name under which it stands on the tape.

    Args:
        request: As the model gets it.
        clean: Takes secrets out of a text.
        grammar: Stands for ``request.grammar``.
    """
    line: Line = {}
    for place in fields(Request):
        value = getattr(request, place.name)
        if place.name == "messages":
            line["messages"] = [_plain(message, clean) for message in request.messages]
        elif place.name == "tools":
            line["tools"] = [
                _plain({"name": t.name, "description": t.description, "parameters": t.parameters}, clean)
                for t in request.tools
            ]
        elif place.name == "grammar":
            line["grammar"] = grammar
        elif place.name == "output" or not _is_default(place, value):
            line[place.name] = _plain(value, clean)
    return {key: value for key, value in line.items() if value not in (None, [], {})}


def plain_chunk(chunk: Chunk, text: str, dialect: int | None) -> Line:
    """A chunk as JSON, with the text as it may be written down."""
    line: Line = {"text": text}
    for place in fields(Chunk):
        value = getattr(chunk, place.name)
        if place.name not in ("text", "dialect") and not _is_default(place, value):
            line[place.name] = value
    return line if dialect is None else {**line, "dialect": dialect}


def read_chunk(line: Line, dialects: Sequence[Dialect]) -> Chunk:
    """What `plain_chunk` wrote."""
    known = {place.name for place in fields(Chunk)}
    values: Line = {key: value for key, value in line.items() if key in known}
    if "dialect" in values:
        values["dialect"] = dialects[values["dialect"] - 1]
    return Chunk(**values)


def plain_dialect(dialect: Dialect) -> Line:
    """A dialect as JSON, with everything that may change from one release to the next."""
    line = {place.name: getattr(dialect, place.name) for place in fields(Dialect)}
    return {**line, "sampling": _plain(dialect.sampling, str)}


def read_dialect(line: Line) -> Dialect:
    """What `plain_dialect` wrote; fields that are not known any more are left out."""
    known = {place.name for place in fields(Dialect)}
    values = {key: value for key, value in line.items() if key in known}
    values["sampling"] = Sampling(**values.get("sampling", {}))
    values["stops"] = tuple(values.get("stops", ()))
    return named_dialect("chatml", **values)


def error_fields(error: Exception, clean: Callable[[str], str]) -> Line:
    """An error as JSON."""
    line = {"type": type(error).__name__, "message": getattr(error, "message", None) or str(error)}
    for name in ("hint", "raw"):
        if value := getattr(error, name, ""):
            line[name] = str(value)
    return {key: clean(value) for key, value in line.items()}


def raised(line: Line) -> Exception:
    """The error that `error_fields` wrote down; a `ModelError` where its class is neither ours nor Python's."""
    name, message = str(line.get("type")), str(line.get("message"))
    kind = getattr(errors, name, None) or getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, HermesError):
        return kind(message, hint=line.get("hint", ""), raw=line.get("raw", ""))
    if isinstance(kind, type) and issubclass(kind, Exception):
        return kind(message)
    return ModelError(f"the recorded model raised {name}: {message}")


def _plain(value: Any, clean: Callable[[str], str]) -> Any:
    """A value as JSON, without secrets; of a dataclass what shows in its ``repr`` and is not the default."""
    if isinstance(value, str):
        return clean(value)
    if is_dataclass(value) and not isinstance(value, type):
        line: Line = {"role": getattr(value, "role")} if hasattr(value, "role") else {}  # noqa: B009  # not of all
        for place in fields(value):
            found = getattr(value, place.name)
            if place.repr and not _is_default(place, found):
                line[place.name] = _plain(found, clean)
        return line
    if isinstance(value, Mapping):
        return {clean(str(key)): _plain(item, clean) for key, item in cast("Mapping[object, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item, clean) for item in cast("Sequence[Any]", value)]
    return value if value is None or isinstance(value, bool | int | float) else clean(repr(value))


def _is_default(place: Field[Any], value: Any) -> bool:
    default = place.default_factory() if place.default_factory is not MISSING else place.default
    return type(default) is type(value) and default == value
