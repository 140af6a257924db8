"""What of a schema is enforced token by token, and what only the validation afterwards holds."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from hermes_agent.formats.schema import Placed

__all__ = ["Coverage", "Left", "coverage"]

_ASSERTIONS = frozenset((
    "type", "enum", "const", "$ref", "$recursiveRef", "$dynamicRef", "allOf", "anyOf", "oneOf", "not", "if",
    "then", "else", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength",
    "maxLength", "pattern", "format", "items", "prefixItems", "additionalItems", "minItems", "maxItems",
    "uniqueItems", "contains", "minContains", "maxContains", "unevaluatedItems", "properties",
    "patternProperties", "additionalProperties", "required", "propertyNames", "minProperties", "maxProperties",
    "dependencies", "dependentRequired", "dependentSchemas", "unevaluatedProperties",
))  # fmt: skip
"""Keywords that forbid something; the others are for readers."""

_NAMED = frozenset(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"))
_MANY = frozenset(("allOf", "anyOf", "oneOf", "prefixItems", "items"))
_ONE = frozenset((
    "items", "additionalItems", "contains", "not", "if", "then", "else", "additionalProperties",
    "propertyNames", "unevaluatedItems", "unevaluatedProperties",
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Left:
    """One keyword that is left to the validation, wholly or in part.

    Attributes:
        pointer: JSON pointer of the schema object it stands in; empty for the schema itself.
        keyword: The keyword; empty if it is about all of that object.
        reason: Why, as a sentence.
    """

    pointer: str
    keyword: str
    reason: str

    def __str__(self) -> str:
        return f"{self.pointer or '(whole schema)'} {self.keyword or '(all keywords)'}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a schema a mask enforces. ``print`` it for a report; what is left is always validated.

    Attributes:
        enforced: JSON pointers of the keywords that are enforced token by token.
        left: The keywords that are not, each with the reason.
    """

    enforced: tuple[str, ...]
    left: tuple[Left, ...]

    @property
    def complete(self) -> bool:
        """Whether nothing is left."""
        return not self.left

    def __str__(self) -> str:
        kinds = Counter(pointer.rpartition("/")[2] for pointer in self.enforced)
        named = ", ".join(f"{keyword} ({count})" for keyword, count in sorted(kinds.items())) or "nothing"
        lines = [f"enforced token by token: {named}"]
        lines += [f"left to validation: {left}" for left in self.left] or ["left to validation: nothing"]
        return "\n".join(lines)


def coverage(schema: Mapping[str, Any]) -> Coverage:
    """What of a schema the grammar of this package enforces where a mask is laid on every token.

    Args:
        schema: A JSON schema of any draft.

    Raises:
        GrammarError: Nothing satisfies the schema.

    Example:
        >>> from hermes_agent.extract.coverage import coverage
        >>> print(coverage({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}))
        enforced token by token: items (1), type (2)
        left to validation: (whole schema) uniqueItems: uniqueItems is checked only afterwards
    """
    from hermes_agent.formats.engine import engine_warnings
    from hermes_agent.formats.schema import Placed, prepare

    prepared = prepare(schema)
    places = dict(_schemas(json.loads(json.dumps(schema)), ""))
    notes = [*prepared.notes, *(Placed(text, None, _named_in(text)) for text in engine_warnings(prepared.text))]
    found = dict.fromkeys(left for note in notes for left in _left(note, places))
    whole = any(not left.keyword and not left.pointer for left in found)
    lost = {(left.pointer, left.keyword) for left in found}
    enforced = [
        f"{pointer}/{keyword}"
        for pointer, part in places.items()
        for keyword in part
        if keyword in _ASSERTIONS and (pointer, keyword) not in lost and (pointer, "") not in lost
    ]
    return Coverage(() if whole else tuple(enforced), tuple(found))


def _left(note: Placed, places: Mapping[str, Mapping[str, Any]]) -> Iterator[Left]:
    """A note as what it says of the schema: where it cannot be placed, it is about the whole."""
    parts = places.items() if note.pointer is None else [(note.pointer, places.get(note.pointer, {}))]
    at = [
        (pointer, keyword)
        for pointer, part in parts
        for keyword in note.keywords
        if keyword in part and keyword in _ASSERTIONS and (note.value is None or part[keyword] == note.value)
    ]
    if not at and note.keywords and note.pointer is None and note.value is not None:
        at = [(p, k) for p, part in places.items() for k in note.keywords if k in part and k in _ASSERTIONS]
    for pointer, keyword in at:
        yield Left(pointer, keyword, note.warning)
    if not at:
        yield Left(note.pointer or "", "", note.warning)


def _named_in(text: str) -> tuple[str, ...]:
    """The keywords that a warning of the engine names."""
    words: list[str] = re.findall(r"[$A-Za-z]+", text)
    return tuple(dict.fromkeys(word for word in words if word in _ASSERTIONS))


def _schemas(schema: object, pointer: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema object within a schema, by JSON pointer."""
    if not isinstance(schema, Mapping):
        return
    known = cast("Mapping[str, Any]", schema)
    yield pointer, known
    for keyword, value in known.items():
        at = f"{pointer}/{_token(keyword)}"
        if keyword in _NAMED and isinstance(value, Mapping):
            for name, part in cast("Mapping[str, Any]", value).items():
                yield from _schemas(part, f"{at}/{_token(name)}")
        elif keyword in _MANY and isinstance(value, list):
            for index, part in enumerate(cast("list[object]", value)):
                yield from _schemas(part, f"{at}/{index}")
        elif keyword in _ONE:
            yield from _schemas(value, at)


def _token(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
