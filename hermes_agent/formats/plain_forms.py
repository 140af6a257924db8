"""A turn's grammar as one JSON schema or one regular expression, for servers that take no more than that.

Neither can say a thought or free text besides calls: what a turn must be for it to be said is decided here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hermes_agent.formats.automata import TooLargeError
from hermes_agent.formats.lark import Parts
from hermes_agent.formats.shapes.nodes import Literal, Nothing, Number, Union, is_list, is_object
from hermes_agent.formats.wire import dump_json, serialise_call
from hermes_agent.python_regex import PatternError, spell_for_engine

if TYPE_CHECKING:
    from hermes_agent.formats.schema import Prepared

__all__ = ["json_schema", "pattern", "wire_text"]

_LONGEST = 20_000
_DATA = frozenset(("const", "enum", "default", "examples"))
_MOVABLE = ("$defs", "definitions")
_UNMOVABLE = frozenset(("$id", "id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef"))

Call = tuple[str, Mapping[str, Any]]
"""Name and parameters of a tool."""


def json_schema(
    turn: Parts, answer: Mapping[str, Any] | None, calls: Sequence[Call]
) -> tuple[dict[str, Any] | None, str]:
    """The schema of a turn that is always one JSON value, or why there is none.

    A call is ``{"name": …, "arguments": {…}}``, one a turn, whatever number the grammar allows.

    Args:
        turn: What the turn is composed of.
        answer: The schema of its answer, as declared.
        calls: The tools that may be called, with their parameters as declared.
    """
    if turn.thinks:
        return None, "a thought is no JSON: let the server think by itself, and describe what follows"
    if turn.final and not isinstance(answer, Mapping):
        return None, "an answer in words is no JSON" if turn.answer is None else "an answer to a pattern is no JSON"
    if not calls:
        return dict(answer or {}), ""
    schemas = [*([answer] if answer is not None and turn.final else []), *(parameters for _, parameters in calls)]
    if found := sorted(_UNMOVABLE & {keyword for schema in schemas for keyword in _keywords(schema)}):
        return None, f"a schema with {found[0]!r} cannot be part of another"
    whole = _Joined(answer if turn.final else None, calls)
    if answer is not None and turn.final and not _apart(whole.answers[0], whole.calls, whole.definitions):
        return None, "an answer could be taken for a call"
    return whole.schema(), ""


def wire_text(text: str, names: Collection[str]) -> str:
    r"""A reply under `json_schema` as the Hermes wire has it: a bare call between its tags, an answer as it is.

    Args:
        text: The whole reply.
        names: Names of the tools.

    Example:
        >>> wire_text('{"name": "now", "arguments": {}}', ["now"])
        '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
        >>> wire_text("true", ["now"])
        'true'
    """
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not is_object(value) or value.keys() != {"name", "arguments"} or value["name"] not in names:
        return text
    arguments = value["arguments"]
    return serialise_call(value["name"], arguments) if is_object(arguments) else text


class _Joined:
    """Schemas that become one: their definitions stand side by side, under names of their own."""

    def __init__(self, answer: Mapping[str, Any] | None, calls: Sequence[Call]) -> None:
        self.definitions: dict[str, Any] = {}
        self.answers: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []
        alone = len(calls) + (answer is not None) == 1
        if answer is not None:
            self.answers.append(self._take(answer, "/anyOf/0", "0-"))
        for number, (name, parameters) in enumerate(calls, len(self.answers)):
            at = "" if alone else f"/anyOf/{number}"
            arguments = self._take(parameters, f"{at}/properties/arguments", "" if alone else f"{number}-")
            self.calls.append(_call(name, arguments))

    def schema(self) -> dict[str, Any]:
        options = [*self.answers, *self.calls]
        whole = options[0] if len(options) == 1 else {"anyOf": options}
        return {**whole, **({"$defs": self.definitions} if self.definitions else {})}

    def _take(self, schema: Mapping[str, Any], at: str, mark: str) -> dict[str, Any]:
        """A schema without its definitions, and its references led to where they will stand."""
        moved: dict[str, Any] = _led({k: v for k, v in schema.items() if k not in _MOVABLE}, at, mark)
        for keyword in _MOVABLE:
            for name, definition in schema.get(keyword, {}).items():
                self.definitions[mark + name] = _led(definition, at, mark)
        moved.pop("$schema", None)
        return moved


def _led(schema: Any, at: str, mark: str) -> Any:
    if is_list(schema):
        return [_led(item, at, mark) for item in schema]
    if not is_object(schema):
        return schema
    led: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword == "$ref" and isinstance(value, str) and value.startswith("#"):
            led[keyword] = _reference(value, at, mark)
        else:
            led[keyword] = value if keyword in _DATA else _led(value, at, mark)
    return led


def _reference(reference: str, at: str, mark: str) -> str:
    for keyword in _MOVABLE:
        if reference.startswith(f"#/{keyword}/"):
            return f"#/$defs/{mark}{reference.removeprefix(f'#/{keyword}/')}"
    return f"#{at}{reference[1:]}"


def _keywords(schema: Any) -> set[str]:
    """Every key of a schema that may be a keyword."""
    if is_list(schema):
        return {keyword for item in schema for keyword in _keywords(item)}
    if not is_object(schema):
        return set()
    below = {found for keyword, value in schema.items() if keyword not in _DATA for found in _keywords(value)}
    return below | {keyword for keyword, value in schema.items() if not isinstance(value, Mapping)}


def _call(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": {"type": "object", **arguments}},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _apart(answer: Mapping[str, Any], calls: Sequence[Mapping[str, Any]], definitions: Mapping[str, Any]) -> bool:
    """Whether no answer is a call as well: only if the shapes themselves say so.

    That an engine refuses the two together proves nothing, since it may refuse for other reasons.
    """
    from hermes_agent.formats.shapes.algebra import Algebra, TooComplexError
    from hermes_agent.formats.shapes.from_schema import read

    algebra = Algebra()
    try:
        both = read({"allOf": [answer, {"anyOf": calls}], "anyOf": [answer, *calls], "$defs": definitions}, algebra)
    except (TooComplexError, RecursionError):
        return False
    return isinstance(algebra.resolve(both), Nothing)


# Regular expressions.


def pattern(turn: Parts) -> tuple[str | None, str]:
    """The regular expression of a turn's whole text, or why there is none.

    It is spelled with plain classes, groups and repeats only, which all engines read alike.
    """
    if turn.thinks:
        return None, "a regular expression cannot say where a thought ends"
    if turn.calls:
        return None, "calls are no regular texts"
    if turn.answer is None:
        return None, "an answer in words needs no regular expression"
    if isinstance(turn.answer, str):
        try:
            return portable(spell_for_engine(turn.answer)), ""
        except PatternError as error:
            return None, f"the pattern has {error}"
    return _values(turn.answer)


_CODE = re.compile(r"\\x\{([0-9a-f]+)\}")
_ANY_CHARACTER = r"(?:.|\n)"


def portable(pattern: str) -> str:
    """A pattern as `hermes_agent.python_regex.spell_for_engine` spells it, for engines other than Rust's."""
    spelled = _CODE.sub(lambda found: _character(int(found[1], 16)), pattern)
    return spelled.replace("(?s:.)", _ANY_CHARACTER)


def _character(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x80 else chr(code)


def _values(prepared: Prepared) -> tuple[str | None, str]:
    """The JSON texts of fixed values, booleans and numbers."""
    shape = None if prepared.shape is None else prepared.algebra.resolve(prepared.shape)
    options = shape.options if isinstance(shape, Union) else (shape,)
    texts: list[str] = []
    for option in options:
        if isinstance(option, Literal):
            texts.append(_quoted(dump_json(option.value)))
        elif isinstance(option, Number):
            texts += _numbers(option, prepared.bounds.number)
        else:
            return None, "only fixed values, booleans and numbers are said by a regular expression"
    if not all(texts):
        return None, "the numbers allowed are too many to be spelled out"
    return "|".join(texts), ""


def _quoted(text: str) -> str:
    return "".join(
        char if char.isalnum() or char in ' "_-,:' or ord(char) > 0x7F else f"\\x{ord(char):02x}" for char in text
    )


def _numbers(shape: Number, most: float | None) -> list[str]:
    """The numbers of a shape; an empty text stands for what cannot be said."""
    from hermes_agent.formats.shapes.numbers import bounded, divisible, magnitudes

    texts: list[str] = []
    for negative in (False, True):
        try:
            found = magnitudes(bounded(shape, most), negative=negative)
        except TooLargeError:
            return [""]
        for factor in shape.multiples if found is not None else ():
            divides = divisible(factor)
            found = None if divides is None or found is None else found & divides
            if divides is None:
                texts.append("")
        if found is not None and found.moves[0]:
            spelled = found.pattern(_LONGEST)
            texts.append(f"-(?:{spelled})" if negative and spelled else spelled)
    return texts
