"""One value out of those of many pieces, by a rule for each field.

A piece of a long text rarely says everything, and a model that must fill a field makes something up. So pieces are
asked by a weaker schema: no field is required there, each may be null, lists may be empty. Only what was merged has
to be of the full type. What a rule takes as one value, and what stands in a list, is asked for whole.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from hermes_agent.errors import ConfigurationError
from hermes_agent.json_text import path_parts
from hermes_agent.output import JsonSchema, Output, OutputError

__all__ = ["Merging", "Rule", "RuleName", "check_rules", "spelled"]

RuleName = Literal["first", "last", "union", "longest", "vote"]
"""The first or last value that is not empty; the items of all lists, in order, each once; the longest text; the
most frequent value, the first of those if there are several."""

Rule = RuleName | Callable[[list[Any]], Any]
"""A rule by its name, or a function from the values of the pieces that have one, as JSON gives them, in the order
of the text, to the value."""

_PLAIN = {"$schema", "$defs", "definitions", "$comment", "title", "description", "default", "examples", "deprecated"}
_RECORD = _PLAIN | {"type", "properties", "required", "additionalProperties", "propertyNames", "maxProperties"}
_LIST = _PLAIN | {"type", "items", "minItems", "maxItems", "uniqueItems"}
_SHARED = ("$schema", "$defs", "definitions")


class _Nothing:
    """Stands for what no piece says."""


_NOTHING = _Nothing()


def check_rules(rules: Mapping[str, Rule]) -> None:
    """Whether these are rules.

    Raises:
        ConfigurationError: One is not.
    """
    for path, rule in rules.items():
        if not callable(rule) and rule not in get_args(RuleName):
            known = ", ".join(map(repr, get_args(RuleName)))
            raise ConfigurationError(
                f"Chunking(merge={{{path!r}: {rule!r}}}) is no rule", hint=f"use {known}, or a function of the values"
            )


def spelled(rule: object) -> str:
    """A rule or function, the same in every process."""
    if isinstance(rule, str):
        return repr(rule)
    module, name = getattr(rule, "__module__", None), getattr(rule, "__qualname__", None)
    return f"{module}.{name}" if module and name else type(rule).__qualname__


@dataclass(frozen=True, slots=True)
class _Node:
    """How the values at one place are merged."""

    kind: Literal["record", "list", "value"]
    rule: Rule
    required: bool = False
    nullable: bool = False
    fields: Mapping[str, _Node] = field(default_factory=dict[str, "_Node"])


@dataclass(frozen=True, slots=True)
class Merging:
    """How the pieces of a text are asked, and what they say is merged. Made by `Merging.of`.

    Attributes:
        output: What is asked of a piece.
    """

    output: Output[Any]
    _root: _Node

    @staticmethod
    def of(output: Output[Any], rules: Mapping[str, Rule]) -> Merging:
        """Read a type.

        Raises:
            ConfigurationError: A rule names a field that the type does not have, or is not for such a field.
        """
        schema = output.schema or {}
        reading = _Reading(schema, {path_parts(path): rule for path, rule in rules.items()})
        weak, root = reading.read(schema, (), frozenset(), required=True)
        reading.check(rules)
        weak = {key: value for key, value in weak.items() if key not in _SHARED}
        weak = _or_null(weak) if root.kind == "value" else weak  # which may be said by one piece alone
        weak = {**{name: schema[name] for name in _SHARED if name in schema}, **weak}
        return Merging(Output.of(JsonSchema(weak, output.name)), root)

    def merged(self, values: Sequence[Any]) -> Any:
        """One value, as JSON, of those of the pieces.

        Raises:
            OutputError: No piece says anything of a value that is no object; or a function of the user raised.
        """
        value = _merge(self._root, values, "")
        if isinstance(value, _Nothing):
            if self._root.kind == "record":
                return {}
            raise OutputError(["- no piece of the text says it"])
        return value


class _Reading:
    """Goes through a schema once: what is asked of pieces, and how each place of it is merged."""

    def __init__(self, schema: Mapping[str, Any], rules: Mapping[tuple[str, ...], Rule]) -> None:
        self._whole = schema
        self._rules = rules
        self._seen: set[tuple[str, ...]] = set()

    def check(self, rules: Iterable[str]) -> None:
        """Whether there was a place for each rule.

        Raises:
            ConfigurationError: For one there was none.
        """
        for path in rules:
            if path_parts(path) not in self._seen:
                known = ", ".join(repr(".".join(parts)) for parts in sorted(self._seen) if parts) or "none but ''"
                raise ConfigurationError(
                    f"Chunking(merge=…) has a rule for {path!r}, which is no field that is merged by itself",
                    hint=f"there are {known}; what stands in a list, or is merged as one value, has no rules",
                )

    def read(
        self, schema: Any, path: tuple[str, ...], within: frozenset[str], *, required: bool
    ) -> tuple[dict[str, Any], _Node]:
        """What is asked of pieces at ``path``, and how it is merged.

        Args:
            schema: What the type asks for there.
            path: The names of the fields that lead there.
            within: The references that were followed to come here.
            required: Whether the type requires it.
        """
        self._seen.add(path)
        rule = self._rules.get(path)
        inner, nullable, within = self._inner(schema, within)
        asked = cast("dict[str, Any]", schema if isinstance(schema, dict) else {})
        if rule is None and _is(inner, "object", _RECORD):
            weak, fields = self._record(inner, path, within)
            return weak, _Node("record", "first", required, nullable, fields)
        if _is(inner, "array", _LIST):
            weak = {key: value for key, value in inner.items() if key != "minItems"}
            return (weak if not nullable else asked), _Node("list", rule or "union", required, nullable)
        if rule == "union":
            raise ConfigurationError(
                f"Chunking(merge={{{'.'.join(path)!r}: 'union'}}): there is no list there",
                hint="'union' puts lists together; use 'first', 'last', 'longest', 'vote' or a function",
            )
        return asked, _Node("value", rule or "first", required, nullable)

    def _record(
        self, schema: Mapping[str, Any], path: tuple[str, ...], within: frozenset[str]
    ) -> tuple[dict[str, Any], dict[str, _Node]]:
        required: list[str] = schema.get("required", [])
        properties: dict[str, Any] = {}
        fields: dict[str, _Node] = {}
        for name, inner in schema.get("properties", {}).items():
            weak, node = self.read(inner, (*path, name), within, required=name in required)
            fields[name] = node
            properties[name] = weak if node.kind == "list" else _or_null(weak)
        made = {key: value for key, value in schema.items() if key not in ("required", "default")}
        if "properties" in schema:
            made["properties"] = properties
        if lists := [name for name in required if name in fields and fields[name].kind == "list"]:
            made["required"] = lists
        return made, fields

    def _inner(self, schema: Any, within: frozenset[str]) -> tuple[Any, bool, frozenset[str]]:
        """What stands behind references and beside ``null``, and whether it may be null."""
        nullable = False
        while isinstance(schema, dict):
            asked = cast("dict[str, Any]", schema)
            reference = asked.get("$ref")
            if isinstance(reference, str):
                target = self._target(reference)
                if target is None or reference in within or set(asked) - _PLAIN - {"$ref"}:
                    break
                within |= {reference}
                shared = {name: asked[name] for name in _SHARED if name in asked}
                schema = {**target, **shared}
                continue
            kinds = asked.get("type")
            if isinstance(kinds, list) and "null" in kinds and len(cast("list[str]", kinds)) == 2:
                (kind,) = (kind for kind in cast("list[str]", kinds) if kind != "null")
                return {**asked, "type": kind}, True, within
            options = asked.get("anyOf")
            if not isinstance(options, list) or set(asked) - _PLAIN - {"anyOf"}:
                break
            others = [option for option in cast("list[object]", options) if not _is_null(option)]
            if len(others) != 1:
                break
            nullable = nullable or len(others) < len(cast("list[object]", options))
            schema = others[0]
        return cast("object", schema), nullable, within

    def _target(self, reference: str) -> dict[str, Any] | None:
        for place in ("$defs", "definitions"):
            if reference.startswith(f"#/{place}/"):
                name = reference.removeprefix(f"#/{place}/").replace("~1", "/").replace("~0", "~")
                found = self._whole.get(place, {}).get(name)
                return cast("dict[str, Any]", found) if isinstance(found, dict) else None
        return None


def _is(schema: Any, kind: str, keywords: set[str]) -> bool:
    """Whether a schema asks for this kind of value, in no other words than these."""
    if not isinstance(schema, dict):
        return False
    asked = cast("dict[str, Any]", schema)
    return asked.get("type") == kind and not set(asked) - keywords and not isinstance(asked.get("items"), list)


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and cast("dict[str, Any]", schema).get("type") == "null"


def _or_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema, and null."""
    bare = {key: value for key, value in schema.items() if key != "default"}
    options = bare.get("anyOf")
    if isinstance(options, list) and any(_is_null(option) for option in cast("list[object]", options)):
        return bare
    return {"anyOf": [bare, {"type": "null"}]}


def _merge(node: _Node, values: Sequence[Any], name: str) -> Any:
    """What pieces say at one place, or that they say nothing."""
    told = [value for value in values if value is not None]
    if node.kind == "record":
        return _fields(node, [cast("dict[str, Any]", value) for value in told if isinstance(value, dict)])
    full = [value for value in told if not _is_empty(value)]
    if not full:
        return told[0] if told else _NOTHING
    if callable(node.rule):
        try:
            return node.rule(full)
        except Exception as error:
            raise OutputError([f"- {name or 'the value'}: the function that merges it raised {error!r}"]) from error
    return _BY_NAME[node.rule](full)


def _fields(node: _Node, objects: Sequence[Mapping[str, Any]]) -> Any:
    merged: dict[str, Any] = {}
    says = False
    names = dict.fromkeys([*node.fields, *(name for one in objects for name in one)])
    for name in names:
        inner = node.fields.get(name, _ANY)
        value = _merge(inner, [one[name] for one in objects if name in one], name)
        if not isinstance(value, _Nothing):
            says = says or not _is_empty(value)
            merged[name] = value
        elif inner.required and inner.nullable:
            merged[name] = None
        elif inner.required and inner.kind == "list":
            merged[name] = []
    return merged if says or (objects and not node.fields) else _NOTHING


_ANY = _Node("value", "first")


def _is_empty(value: Any) -> bool:
    return value is None or value in ({}, []) or (isinstance(value, str) and not value.strip())


def _union(lists: list[Any]) -> Any:
    found: dict[str, Any] = {}
    for item in (item for one in lists for item in one):
        found.setdefault(_key(item), item)
    return list(found.values())


def _longest(values: list[Any]) -> Any:
    return max(values, key=lambda value: len(value) if isinstance(value, str) else len(_key(value)))


def _vote(values: list[Any]) -> Any:
    keys = [_key(value) for value in values]
    return values[keys.index(Counter(keys).most_common(1)[0][0])]


def _key(value: Any) -> str:
    """The same text for equal values, and for no others."""
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    """1 for 1.0, which is the same number in JSON."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in cast("dict[str, Any]", value).items()}
    return value


_BY_NAME: Mapping[str, Callable[[list[Any]], Any]] = {
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "union": _union,
    "longest": _longest,
    "vote": _vote,
}
