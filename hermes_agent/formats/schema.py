"""JSON schemas made ready for the engine that masks tokens.

llguidance reads JSON schemas itself, but takes some keywords for less than they say, and refuses some. So a schema
is first read as a shape (`hermes_agent.formats.shapes`), where ``allOf``, references, conditions, exclusions and
dependencies are worked out exactly, and then written again in the few keywords that the engine enforces in full.
What even that cannot express is left to the validation, and said in the warnings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple

from hermes_agent.errors import GrammarError
from hermes_agent.formats.engine import refusal
from hermes_agent.formats.shapes.algebra import Algebra, Note, TooComplexError
from hermes_agent.formats.shapes.from_schema import read
from hermes_agent.formats.shapes.nodes import Nothing, Shape, is_list, is_object
from hermes_agent.formats.shapes.to_schema import Bounds, keeps_numbers, write
from hermes_agent.formats.shapes.trim import ROOMY, TIGHT, trimmed

__all__ = ["Bounds", "Placed", "Prepared", "in_schema_order", "prepare"]

ENGINE_OPTIONS: Final[Mapping[str, Any]] = {
    "lenient": True,
    "coerce_one_of": True,
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}
"""One line of JSON as `hermes_agent.formats.wire.dump_json` writes it; white space without bound would let a
small model run to its token limit. Lenient: what cannot be enforced is left to the validation."""


class Placed(NamedTuple):
    """A warning about some keywords.

    Attributes:
        pointer: The JSON pointer of the schema object; ``None`` where it may be any that has such a keyword.
        keywords: The keywords; none where it is about all of it.
        value: What the keyword says, where only that is known; ``None`` says nothing.
    """

    warning: str
    pointer: str | None
    keywords: tuple[str, ...] = ()
    value: Any = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A schema as the engine gets it.

    Attributes:
        text: The schema as JSON, with the engine's options.
        warnings: What the mask does not enforce and the validation must.
        shape, algebra: What the schema was read as; no shape where it was too complex.
        notes: The warnings, with the places in the schema they are about where those are known.
        unread: The part of the warnings that is about the reading, and so true of every form of the grammar.
        bounds: How long an answer may grow where the schema does not say.
    """

    text: str
    warnings: tuple[str, ...] = ()
    shape: Shape | None = field(default=None, repr=False, compare=False)
    algebra: Algebra = field(default_factory=Algebra, repr=False, compare=False)
    unread: tuple[str, ...] = field(default=(), repr=False, compare=False)
    notes: tuple[Placed, ...] = field(default=(), repr=False, compare=False)
    bounds: Bounds = field(default_factory=Bounds, repr=False, compare=False)

    def arrange(self, value: Any) -> Any:
        """See `in_schema_order`."""
        return value if self.shape is None else self.algebra.arrange(self.shape, value, value)


def prepare(schema: Mapping[str, Any] | bool, *, what: str = "the schema", bounds: Bounds | None = None) -> Prepared:
    """Make a JSON schema ready for the engine.

    Args:
        schema: The schema; its properties are written in the order it declares them.
        what: How an error names it.
        bounds: How long an answer may grow where the schema does not say.

    Raises:
        GrammarError: The schema is not JSON, or nothing satisfies it.
    """
    try:
        text = json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise GrammarError(
            f"{what} is not JSON: {error}", hint="a JSON schema holds None, bool, int, float, str, list and dict"
        ) from error
    prepared = _prepared(text, Bounds() if bounds is None else bounds)
    if isinstance(prepared, Nothing):
        raise GrammarError(
            f"nothing satisfies {what}: {prepared.reason or 'its parts contradict each other'}",
            hint="change the schema so that at least one value is valid",
            raw=text,
        )
    return prepared


def in_schema_order(value: Any, schema: Mapping[str, Any] | bool) -> Any:
    """A value as a model under the grammar would write it.

    Properties stand in the order the schema declares them, additional ones behind; where the schema wants an
    integer, ``2.0`` becomes ``2``. Serialised by `hermes_agent.formats.wire.dump_json`, every value that the
    schema allows is then accepted by the grammar.

    Args:
        value: A JSON value; one that the schema does not allow is returned as it is.
        schema: The schema.

    Example:
        >>> in_schema_order({"b": 1.0, "a": 2}, {"properties": {"a": {}, "b": {"type": "integer"}}})
        {'a': 2, 'b': 1}
    """
    return prepare(schema).arrange(value)


@lru_cache(maxsize=2048)
def _prepared(text: str, bounds: Bounds) -> Prepared | Nothing:
    schema = json.loads(text)
    algebra = Algebra()
    if text.count("{") > _MOST_WORKED_OUT:
        return _outermost(schema, "it is too large")
    try:
        shape = read(schema, algebra)
        if isinstance(behind := algebra.resolve(shape), Nothing):
            return behind
        unread = tuple(algebra.warnings)
        why = ""
        for caps in (ROOMY, TIGHT):
            small, work = trimmed(shape, algebra, caps)
            if why:
                work.warn(f"the schema as a whole costs too much, so its largest parts are widened: {why}")
            ready = _ready(write(small, work, bounds))
            if not (why := refusal(ready)):
                notes = tuple(_placed(work.notes, schema))
                return Prepared(ready, tuple(work.warnings), shape, algebra, unread, notes, bounds)
            if "Unsatisfiable" in why:
                return Nothing(why)
    except (TooComplexError, RecursionError, OverflowError):
        return _as_it_is(schema)
    return _outermost(schema, why, shape, algebra)


def _ready(schema: Mapping[str, Any]) -> str:
    return json.dumps({"x-guidance": ENGINE_OPTIONS, **schema})


def _as_it_is(schema: Any) -> Prepared | Nothing:
    """The schema as the engine reads it by itself; if it refuses that too, only the outermost type."""
    warning = "the schema is too complex to be worked out; the engine's own reading of it is used"
    whole: dict[str, Any] = schema if is_object(schema) else {}
    if not keeps_numbers(whole):  # such numbers may crash the engine
        whole = {"type": whole["type"]} if "type" in whole else {}
    ready = _ready(whole)
    error = refusal(ready) if len(ready) < _LONGEST_AS_IT_IS else "it is too long"
    return _outermost(schema, error) if error else Prepared(ready, (warning,), notes=(Placed(warning, ""),))


_MOST_WORKED_OUT = 40_000
"""Objects in a schema that is worked out: about a second's work."""

_LONGEST_AS_IT_IS = 50_000
"""Characters of a schema that the engine is given as it is, where nothing is known of what it would cost."""


def _outermost(schema: Any, why: str, shape: Shape | None = None, algebra: Algebra | None = None) -> Prepared:
    """Only the outermost type of a schema."""
    kind = schema.get("type") if is_object(schema) else None
    warning = f"the engine refuses the schema, which is checked only afterwards: {why}"
    ready, notes = _ready({"type": kind} if kind else {}), (Placed(warning, ""),)
    return Prepared(ready, (warning,), shape, algebra or Algebra(), notes=notes)


def _placed(notes: Iterable[Note], schema: Any) -> Iterator[Placed]:
    """Notes with JSON pointers for places."""
    if not notes:
        return
    pointers: dict[int, str] = {}
    todo: list[tuple[Any, str]] = [(schema, "")]
    for part, pointer in todo:
        if is_object(part):
            pointers[id(part)] = pointer
            todo += ((sub, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}") for key, sub in part.items())
        elif is_list(part):
            todo += ((sub, f"{pointer}/{at}") for at, sub in enumerate(part))
    for note in notes:
        at = None if note.place is None else pointers.get(note.place)
        yield Placed(note.warning, at, note.keywords, note.value)
