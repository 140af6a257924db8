"""What a run's answer must be: text, a typed value, a JSON schema or a regular expression."""

from __future__ import annotations

import inspect
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, cast, overload

from typing_extensions import TypeForm, TypeVar

from hermes_agent.errors import OutputTypeError
from hermes_agent.json_schema import compile_schema
from hermes_agent.json_text import dump_json
from hermes_agent.python_regex import compile_quietly
from hermes_agent.schema import PatternMeaningError, describe, first_line, problem, pydantic_problems, python_schema

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["JsonSchema", "Output", "OutputError", "Regex"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True, default=Any)


class OutputError(ValueError):
    """An answer is not what was asked for; the text is written for the model to read.

    Attributes:
        problems: One line for each thing that is wrong: path, problem, value.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(["The answer does not fit:", *problems]))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """An answer described by a JSON schema, of the draft its ``$schema`` names, else 2020-12.

    It means exactly what it says: further properties are allowed unless it forbids them.

    Attributes:
        schema: The schema, an object. Read only.
        name: How messages call it.
    """

    schema: Mapping[str, Any]
    name: str = "JsonSchema"


@dataclass(frozen=True, slots=True)
class Regex:
    r"""An answer whose whole text matches a regular expression of Python's ``re``.

    It means what ``re.fullmatch`` makes of it, ``\d`` and ``\w`` of all of Unicode included. A model that is held to it
    by a mask needs one without lookaround, backreferences, atomic groups, possessive repeats and ``\b``: the grammar
    refuses those, and names them. Tags that are markup, such as ``<tool_call>``, are never part of such an answer.
    """

    pattern: str


@dataclass(frozen=True, slots=True)
class Output(Generic[T_co]):
    """What a run's answer must be. Made by `Output.of`.

    Attributes:
        kind: Free text, a JSON value, or text that matches a pattern.
        name: Name of the type, for messages.
        schema: JSON schema of the answer where it is JSON. Read only.
        pattern: Regular expression where it is one.
        source: What it was made of where it is JSON: pydantic's adapter, or the JSON schema.
    """

    kind: Literal["text", "json", "regex"]
    name: str
    schema: dict[str, Any] | None = None
    pattern: str | None = None
    source: object = field(default=None, repr=False, compare=False, kw_only=True)
    _read: Callable[[str], T_co] = field(repr=False, compare=False, kw_only=True)
    _plain: Callable[[Any], Any] = field(repr=False, compare=False, kw_only=True)
    _written: Callable[[Any], Any] = field(repr=False, compare=False, kw_only=True)

    def __hash__(self) -> int:
        return hash((self.kind, self.name, self.pattern))

    @staticmethod
    def text() -> Output[str]:
        """Free text, which must not be blank; white space around it is dropped."""
        return _TEXT

    @overload
    @staticmethod
    def of(spec: Output[T]) -> Output[T]: ...
    @overload
    @staticmethod
    def of(spec: JsonSchema) -> Output[Any]: ...
    @overload
    @staticmethod
    def of(spec: Regex | re.Pattern[str]) -> Output[str]: ...
    @overload
    @staticmethod
    def of(spec: TypeForm[T]) -> Output[T]: ...
    @staticmethod
    def of(spec: object) -> Output[Any]:
        """Read what a user may give as ``output=``.

        Args:
            spec: ``str`` for free text, a `Regex` or a compiled pattern, a `JsonSchema`, or any type that
                pydantic reads from JSON. ``Any`` and ``object`` are any JSON.

        Raises:
            OutputTypeError: It cannot be an output; the message says why and what to do.
        """
        if isinstance(spec, Output):
            return spec  # pyright: ignore[reportUnknownVariableType]  # of whatever type it is
        if spec is str:
            return _TEXT
        if isinstance(spec, JsonSchema):
            return _json_schema(spec)
        if isinstance(spec, Regex):
            return _regex(spec.pattern)
        if isinstance(spec, re.Pattern):
            return _regex(cast("re.Pattern[str]", spec))
        return _typed(spec)

    def validate(self, text: str) -> T_co:
        """The answer's value.

        Args:
            text: The whole answer as the model wrote it, without thinking and calls. Typed answers are
                bare JSON, a ``Literal`` of strings with its quotes.

        Raises:
            OutputError: The text is not such an answer; the message lists every problem.
        """
        return self._read(text)

    def dump(self, value: object) -> str:
        """The text a model would have to write for a value; ``validate`` reads it back.

        Raises:
            OutputError: There is no such text, as for a value of another type, or for a pydantic field that
                is read under one alias and written under another.
        """
        return self._text(self._plain(value), value)

    def serialise(self, value: object) -> str:
        """A validated value as text: what pydantic writes of it, under its aliases, whether or not it can be read back.

        Raises:
            OutputError: It cannot be written, or not as JSON.
        """
        return self._text(self._written(value), value)

    def _text(self, plain: Any, value: object) -> str:
        if self.kind != "json":
            return str(plain)
        try:
            return dump_json(plain)
        except (TypeError, ValueError, RecursionError) as error:
            raise OutputError([problem((), f"{describe(value)} is not JSON: {error}")]) from error


def _read_text(text: str) -> str:
    if not (stripped := text.strip()):
        raise OutputError([problem((), f"an answer in words is missing, got {describe(text)}")])
    return stripped


def _same(value: Any) -> Any:
    return value


_TEXT: Output[str] = Output("text", "str", _read=_read_text, _plain=_same, _written=_same)


def _refuse(spec: object, why: str, hint: str) -> NoReturn:
    raise OutputTypeError(f"{spec!r} cannot be an output: {why}", hint=hint)


def _regex(pattern: str | re.Pattern[str]) -> Output[str]:
    """Flags are written into the pattern, where every engine sees them."""
    text = cast("object", pattern if isinstance(pattern, str) else pattern.pattern)
    if not isinstance(text, str):
        _refuse(pattern, "it is no text", "give a pattern as str")
    try:
        compiled = compile_quietly(pattern)
    except (re.error, TypeError, OverflowError, RecursionError) as error:
        _refuse(pattern, f"it is no regular expression: {error}", "correct the pattern")
    flags = "" if isinstance(pattern, str) else "".join(f for f in "aimsx" if compiled.flags & re.RegexFlag[f.upper()])

    def read(text: str) -> str:
        # White space around an answer is not part of it, unless it must be; a grammar lets line breaks stand before.
        for candidate in (text, text.lstrip("\n"), text.strip()):
            if compiled.fullmatch(candidate):
                return candidate
        raise OutputError([problem((), f"the whole answer must match {compiled.pattern!r}, got {describe(text)}")])

    def plain(value: object) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise OutputError([problem((), f"{describe(value)} does not match {compiled.pattern!r}")])
        return value

    written = f"(?{flags}){compiled.pattern}" if flags else compiled.pattern
    return Output("regex", "Regex", pattern=written, _read=read, _plain=plain, _written=plain)


def _json_schema(spec: JsonSchema) -> Output[Any]:
    schema = dict(spec.schema)
    try:
        problems = compile_schema(schema)
    except ValueError as error:
        _refuse(spec, f"it is no JSON schema: {error}", "correct the schema")

    def read(text: str) -> Any:
        value = strict_json(text)
        if lines := problems(value):
            raise OutputError(lines)
        return value

    return Output("json", spec.name, schema=schema, source=schema, _read=read, _plain=_same, _written=_same)


def _adapter(spec: Any) -> tuple[TypeAdapter[Any], dict[str, Any]]:
    """What reads a type from JSON, and its schema."""
    from pydantic import PydanticUserError, TypeAdapter
    from pydantic_core import SchemaError

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(spec)
        return adapter, python_schema(adapter)
    except PatternMeaningError as error:
        why, _, hint = str(error).partition("; ")
        _refuse(spec, why, hint)
    except SchemaError as error:
        _refuse(spec, f"pydantic says: {' '.join(str(error).split())}", "correct the constraint, such as the pattern")
    except (PydanticUserError, TypeError, NameError, AttributeError) as error:
        _refuse(spec, f"pydantic says: {first_line(error)}", "use a type that JSON can carry, such as a pydantic model")


def _typed(spec: Any) -> Output[Any]:
    if inspect.isroutine(spec):
        _refuse(spec, "it is a function", "give the type it returns")
    if isinstance(spec, Mapping):
        _refuse(cast("object", spec), "it is a dict", "wrap a JSON schema in JsonSchema(...)")
    if isinstance(spec, str):
        _refuse(spec, "it is a string", "give the type itself, or Regex(...) for a pattern")
    adapter, schema = _adapter(spec)
    name = spec.__name__ if inspect.isclass(spec) else repr(spec).replace("typing.", "")
    made = _Typed(name, adapter, sets='"uniqueItems": true' in json.dumps(schema))
    return Output(
        "json", name, schema=schema, source=adapter, _read=made.read, _plain=made.plain, _written=made.written
    )


@dataclass(frozen=True, slots=True)
class _Typed:
    """A type that pydantic reads and writes.

    Attributes:
        name: What it is called in errors.
        adapter: What reads and writes it.
        sets: There may be sets in its values.
    """

    name: str
    adapter: TypeAdapter[Any]
    sets: bool

    def read(self, text: str) -> Any:
        from pydantic import ValidationError

        value = strict_json(text)
        try:
            return self.adapter.validator.validate_json(text)
        except ValidationError as error:
            raise OutputError(pydantic_problems(error, value)) from error

    def plain(self, value: Any) -> Any:
        """As JSON, if it can be read back."""
        from pydantic import ValidationError
        from pydantic_core import PydanticSerializationError

        try:
            text = self.adapter.dump_json(value, by_alias=True, round_trip=True, warnings="error")
            read_back = self.adapter.validator.validate_json(text)
        except ValidationError as error:
            lines = pydantic_problems(error, value)
            raise OutputError([problem((), f"{describe(value)} cannot be read back:"), *lines]) from error
        except PydanticSerializationError as error:
            raise OutputError([problem((), f"{describe(value)} is not of type {self.name}{_unfit(error)}")]) from error
        first, second = self.written(value), self.written(read_back)
        # Reading puts the keys of a TypedDict in order, but may change a value, where a validator does so each time.
        return second if first == second else first

    def written(self, value: Any) -> Any:
        """As JSON."""
        from pydantic_core import PydanticSerializationError

        write = partial(self.adapter.dump_python, value, by_alias=True, round_trip=True, warnings=False)
        try:
            found = write(mode="json")
            return _in_order(write(), found) if self.sets else found
        except PydanticSerializationError as error:
            raise OutputError([problem((), f"{describe(value)} cannot be written as JSON: {error}")]) from error


def _in_order(value: Any, plain: Any) -> Any:
    """A value as JSON, with its sets sorted: their own order is another in each process."""
    kind: Any = value.__class__
    written: Any = plain.__class__
    if written is list and issubclass(kind, set | frozenset):
        return sorted(plain, key=dump_json)
    if written is list and issubclass(kind, list | tuple) and len(plain) == len(value):
        return [_in_order(a, b) for a, b in zip(value, plain, strict=True)]
    if written is dict and issubclass(kind, dict) and len(plain) == len(value):
        return {name: _in_order(a, b) for a, (name, b) in zip(value.values(), plain.items(), strict=True)}
    return plain


def _unfit(error: Exception) -> str:
    """Why pydantic cannot write a value, without the heading and the class names of its warnings."""
    if not (expected := re.findall(r"Expected `([^`]*)`[^\n\[]*(?:\[field_name='([^']*)')?", str(error))):
        return f": {error}"
    return ": " + "; ".join(f"{field or 'it'} must be of type {kind}" for kind, field in expected)


def strict_json(text: str) -> Any:
    """Read JSON as its standard defines it: no NaN, no name twice in one object.

    Raises:
        OutputError: The text is not JSON; the message says where it breaks.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
        if "\\u" in text:  # the only way to write a lone surrogate, which no text may hold
            json.dumps(value, ensure_ascii=False).encode()
    except OutputError:
        raise
    except RecursionError as error:
        raise OutputError([problem((), "the JSON is nested too deeply")]) from error
    except UnicodeEncodeError as error:
        raise OutputError([problem((), "a string holds half of a surrogate pair")]) from error
    except ValueError as error:
        raise OutputError([problem((), f"not JSON: {error}; the answer begins {text[:60]!r}")]) from error
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise OutputError([problem((), f"the name {describe(twice)} stands twice in one object")])
    return value


def _no_constant(name: str) -> NoReturn:
    raise OutputError([problem((), f"{name} is not JSON")])


def _finite(digits: str) -> float:
    if math.isinf(value := float(digits)):
        raise OutputError([problem((), f"{digits} is too large for a number")])
    return value
