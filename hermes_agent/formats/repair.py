"""The listed repairs, and how the JSON of a call becomes a `ToolCall`.

A repair is used only where what the model meant is beyond doubt; everything else is a fault that goes back
to the model. Each has a name in `REPAIRS`, can be switched off, and is recorded on the call it was used for.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections import Counter
from collections.abc import Collection
from typing import Any, NoReturn, cast

from hermes_agent.errors import ConfigurationError
from hermes_agent.formats.scan import within_depth
from hermes_agent.messages import ToolCall

__all__ = ["ALL_REPAIRS", "DEFAULT_REPAIRS", "REPAIRS", "UnreadableCallError", "decode", "read_call", "repair_names"]

REPAIRS: dict[str, str] = {
    "control_characters": "raw newlines, tabs and the like inside a JSON string",
    "python_literal": "a Python literal: single quotes, True, False, None",
    "trailing_comma": "a comma behind the last item",
    "missing_brace": "brackets never closed before </tool_call>; they are closed innermost first",
    "extra_brace": "closing brackets behind the object",
    "missing_close": "the turn ends without </tool_call>, behind a complete object",
    "missing_closer_between": "the next <tool_call> comes without a </tool_call> before it",
    "several_calls": "several objects in one pair of tags",
    "call_array": "a JSON array of calls in one pair of tags",
    "code_fence": "a Markdown code fence inside the tags",
    "openai_envelope": 'the OpenAI form, {"type": "function", "function": {...}}, or its extra keys',
    "parameters_key": '"parameters" in place of "arguments"',
    "args_key": '"args" in place of "arguments"',
    "arguments_as_string": "the arguments are JSON inside a string",
    "null_arguments": "the arguments are null or an empty string",
    "missing_arguments": "a name and nothing else; the tool's schema decides whether that is enough",
    "orphan_close": "an object naming a known tool, closed by </tool_call>, never opened",
    "bare_json": "the whole turn is objects naming known tools, without tags",
    "function_tag": "<function=NAME><parameter=KEY>value</parameter></function>",
    "repeated_delta": "a server's stream of calls says a name, or the arguments, twice over",
}
"""What each repair accepts, by its name."""

ALL_REPAIRS: frozenset[str] = frozenset(REPAIRS)

DEFAULT_REPAIRS: frozenset[str] = ALL_REPAIRS - {"bare_json", "function_tag"}
"""Everything where the tags or the shape leave no doubt that a call was meant, and which."""

_ARGUMENT_KEYS = {"arguments": "", "parameters": "parameters_key", "args": "args_key"}
_ENVELOPE_KEYS = frozenset({"id", "type", "index"})


class UnreadableCallError(ValueError):
    """A call cannot be read; the text says why, for the model to read.

    Attributes:
        name: The tool that was meant, where that much is clear.
    """

    def __init__(self, detail: str, name: str | None = None) -> None:
        super().__init__(detail)
        self.name = name


def repair_names(names: Collection[str]) -> frozenset[str]:
    """Check names of repairs.

    Raises:
        ConfigurationError: A name is not one of `REPAIRS`.
    """
    if names is DEFAULT_REPAIRS:
        return DEFAULT_REPAIRS
    wrong = names if isinstance(names, str) else sorted(set(names) - ALL_REPAIRS)
    if wrong:
        raise ConfigurationError(
            f"repairs={wrong!r} are no repairs", hint=f"a set of these names: {', '.join(sorted(REPAIRS))}"
        )
    return frozenset(names)


# Decoding: standard JSON first; then a respelling of what the switched-on repairs cover.


def decode(text: str, repairs: Collection[str] = DEFAULT_REPAIRS) -> tuple[Any, tuple[str, ...]]:
    r"""Read one JSON value.

    Args:
        text: The value and nothing else.
        repairs: Which of ``control_characters``, ``python_literal`` and ``trailing_comma`` may be used.

    Returns:
        The value, and the repairs that were needed.

    Raises:
        UnreadableCallError: It is no such value: wrong syntax, a name twice in one object, NaN or an
            infinity, half a surrogate pair, too deep, or a number with too many digits.

    Example:
        >>> decode("{'q': \"it's sunny\", 'n': None}")
        ({'q': "it's sunny", 'n': None}, ('python_literal',))
    """
    if not within_depth(text):
        raise UnreadableCallError("the JSON is nested too deeply")
    try:
        return _strict(text), ()
    except (ValueError, RecursionError) as error:
        problem = error
    plain, needed = _respell(text)
    if needed and repairs and needed.issubset(repairs):
        try:
            return _strict(plain), tuple(name for name in REPAIRS if name in needed)
        except (ValueError, RecursionError) as error:
            problem = error
    raise UnreadableCallError(_explain(problem))


def _strict(text: str) -> Any:
    value = DECODER.decode(text)
    if "\\u" in text:
        check_surrogates(value)
    return value


def check_surrogates(value: object) -> None:
    """Refuse strings that no encoding can write.

    Raises:
        ValueError: There is half a surrogate pair in it.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("half a surrogate pair") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the name {twice!r} stands twice in one object")
    return value


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"the number {number[:40]} is too large")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant)
"""JSON as its standard defines it."""


def _explain(error: BaseException) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg.lower()} at character {error.pos}"
    if isinstance(error, RecursionError):
        return "the JSON is nested too deeply"
    text = str(error)
    return "a number has too many digits" if "digits" in text else text


# Atomic inside of possessive, as in scan.py.
_TOKEN = re.compile(
    r""" "(?:(?>[^"\\]++|\\.))*+" | '(?:(?>[^'\\]++|\\.))*+' | ,(?=\s*+[}\]]) | [^\W\d]\w*+ """, re.DOTALL | re.VERBOSE
)
_JSON_STRING = re.compile(r""" "(?:(?>[^"\\]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})))*+"\Z """, re.DOTALL | re.VERBOSE)
_PYTHON_STRING = re.compile(
    r"""["'](?:(?>[^\\]|\\(?:["'\\abfnrtv]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U000[0-9a-fA-F]{5}|U0010[0-9a-fA-F]{4})))*+\Z""",
    re.DOTALL,
)
_PLAIN_STRING = re.compile(r"'[^\\\"\x00-\x1f]*+\Z")
_CONTROL = re.compile(r"[\x00-\x1f]")
_WORDS = {"True": "true", "False": "false", "None": "null"}


def _respell(text: str) -> tuple[str, set[str]]:
    """``text`` as standard JSON, as far as the repairs go, and the repairs that this took."""
    needed: set[str] = set()

    def token(match: re.Match[str]) -> str:
        found = match[0]
        if found == ",":
            before = match.start() - 1
            while before > 0 and text[before].isspace():
                before -= 1
            if before < 0 or text[before] in "{[,:":
                return found
            needed.add("trailing_comma")
            return ""
        if found[0] in "\"'":
            return _string(found, needed)
        if found in _WORDS:
            needed.add("python_literal")
        return _WORDS.get(found, found)

    return _TOKEN.sub(token, text), needed


def _string(token: str, needed: set[str]) -> str:
    if _CONTROL.search(token):
        needed.add("control_characters")
    if token[0] == '"' and _JSON_STRING.match(token):
        return _CONTROL.sub(lambda m: f"\\u{ord(m[0]):04x}", token)
    if _PLAIN_STRING.match(token):
        needed.add("python_literal")
        return f'"{token[1:-1]}"'
    if not _PYTHON_STRING.match(token):
        return token
    try:
        value = ast.literal_eval(_CONTROL.sub(lambda m: f"\\x{ord(m[0]):02x}", token))
    except (ValueError, SyntaxError):
        return token
    needed.add("python_literal")
    return json.dumps(value)


# From a decoded value to a call.


def read_call(
    raw: str, repairs: Collection[str] = DEFAULT_REPAIRS, *, text: str | None = None, used: tuple[str, ...] = ()
) -> ToolCall:
    """Read one call.

    Args:
        raw: What the model wrote, kept on the call.
        repairs: The repairs that may be used.
        text: The call's JSON, where it is not all of ``raw``.
        used: Repairs that were already needed to come this far.

    Raises:
        UnreadableCallError: It is not a call, or would be one only by guessing.

    Example:
        >>> call = read_call('{"name": "f", "parameters": {"x": 1}}')
        >>> call.name, call.arguments, call.repairs
        ('f', {'x': 1}, ('parameters_key',))
    """
    source = raw if text is None else text
    try:
        value, respelled = decode(source, repairs)
    except UnreadableCallError as error:
        raise UnreadableCallError(str(error), guess_name(source)) from error
    return call_of(value, raw, repairs, (*used, *respelled))


def call_of(value: object, raw: str, repairs: Collection[str], used: tuple[str, ...] = ()) -> ToolCall:
    """The call that a decoded value stands for; see `read_call`."""
    applied = list(used)
    if not isinstance(value, dict):
        raise UnreadableCallError("a call is a JSON object with a name and arguments")
    fields = _unwrap(cast("dict[str, Any]", value), repairs, applied)
    name = fields.get("name")
    if not isinstance(name, str) or not name:
        raise UnreadableCallError('the call has no "name"')
    given = [key for key in _ARGUMENT_KEYS if key in fields]
    extra = [key for key in fields if key != "name" and key not in _ARGUMENT_KEYS]
    if extra or len(given) > 1:
        strange = extra[0] if extra else given[1]
        raise UnreadableCallError(f'beside "name" and "arguments" the call has {strange!r}', name)
    if not given:
        _apply("missing_arguments", repairs, applied, 'the call has no "arguments"', name)
        return ToolCall(name, {}, raw=raw, repairs=tuple(applied))
    if spelling := _ARGUMENT_KEYS[given[0]]:
        _apply(spelling, repairs, applied, f'the arguments are under {given[0]!r}, not under "arguments"', name)
    arguments = arguments_of(fields[given[0]], repairs, applied, name)
    return ToolCall(name, arguments, raw=raw, repairs=tuple(applied))


def _unwrap(value: dict[str, Any], repairs: Collection[str], applied: list[str]) -> dict[str, Any]:
    """Take the call out of an OpenAI envelope, if it is in one."""
    extra = _ENVELOPE_KEYS.intersection(value)
    inner = value.get("function")
    wrapped = isinstance(inner, dict) and set(value) <= _ENVELOPE_KEYS | {"function"}
    if not wrapped and not extra:
        return value
    if value.get("type", "function") != "function":
        raise UnreadableCallError(f"the call is of type {value['type']!r}, not a function")
    _apply("openai_envelope", repairs, applied, 'the call is not of the form {"name": ..., "arguments": ...}', None)
    if wrapped:
        return cast("dict[str, Any]", inner)
    return {key: item for key, item in value.items() if key not in extra}


def arguments_of(value: object, repairs: Collection[str], applied: list[str], name: str) -> dict[str, Any]:
    """The arguments that a decoded value stands for; repairs that this took are added to ``applied``.

    Raises:
        UnreadableCallError: It is no object, nor what a repair that may be used makes one of.
    """
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    if value is None or (isinstance(value, str) and not value.strip()):
        _apply("null_arguments", repairs, applied, "the arguments are empty, not an object", name)
        return {}
    if isinstance(value, str):
        _apply("arguments_as_string", repairs, applied, "the arguments are a string, not an object", name)
        try:
            inner, respelled = decode(value, repairs)
        except UnreadableCallError as error:
            raise UnreadableCallError(f"the arguments are a string that is no object: {error}", name) from error
        if isinstance(inner, dict):
            applied.extend(name for name in respelled if name not in applied)
            return cast("dict[str, Any]", inner)
    raise UnreadableCallError("the arguments are not a JSON object", name)


def _apply(repair: str, repairs: Collection[str], applied: list[str], problem: str, name: str | None) -> None:
    if repair not in repairs:
        raise UnreadableCallError(problem, name)
    applied.append(repair)


_NAME = re.compile(r"""\s*[\[{]?\s*\{?\s*["']name["']\s*:\s*(["'])((?:(?!\1)[^\\\n]){1,200})\1""")


def guess_name(raw: str) -> str | None:
    """The tool's name where a broken call begins with it; for messages, never for running."""
    match = _NAME.match(raw) if "name" in raw[:40] else None
    return match[2] if match else None
