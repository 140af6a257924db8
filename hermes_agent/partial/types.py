"""Partial values of an answer that pydantic reads: objects of its own types, checked as far as they are whole.

pydantic's core schema says what a type is made of. Only what is open needs care: everything in it that is whole
is read by pydantic, by the very validators that will read it at the end.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from typing import TYPE_CHECKING, Any, cast

from hermes_agent.output import strict_json
from hermes_agent.partial.fields import (
    ANY,
    OMITTED,
    Schema,
    absentable,
    extra_behaviour,
    is_as_written,
    json_names,
    looking_back,
)
from hermes_agent.partial.schema import any_value
from hermes_agent.partial.text import GrowingJson, Hidden, Invalid, Level

if TYPE_CHECKING:
    from pydantic import BaseModel, TypeAdapter
    from pydantic_core import SchemaValidator

__all__ = ["TypeGrowth"]

_NO_TEXT = {"model", "dataclass", "typed-dict", "list", "dict", "none"}
"""Types that are never read from a JSON string."""
_NO_BRACKET = {"str", "int", "float", "bool", "none", "literal", "enum", "date", "datetime", "time", "uuid", "decimal"}
"""Types that are never read from a JSON object or array."""
_GROWING_TEXT = {"type", "strict", "min_length", "max_length", "strip_whitespace", "metadata", "ref"}
"""What may be asked of a string that is shown while it grows: its beginning is then the beginning of its end."""


@dataclasses.dataclass(slots=True, eq=False)
class _Known:
    """What came of reading the whole members of an open bracket by one schema.

    Attributes:
        level: The bracket.
        end: Up to where it was read.
        value: What came of it.
        failure: What was raised instead.
    """

    level: Level
    end: int | None = None
    value: Any = None
    failure: type[Hidden | Invalid] | None = None

    def check(self, end: int | None = None) -> None:
        """Raise again what was raised, at ``end`` if that is told."""
        if self.failure is not None and end in (None, self.end):
            raise self.failure
        self.failure = None

    @contextmanager
    def failing(self) -> Generator[None, None, None]:
        """Note what is raised."""
        try:
            yield
        except (Hidden, Invalid) as error:
            self.failure = type(error)
            raise


class TypeGrowth:
    """Reads what a `GrowingJson` holds as a type of pydantic's.

    Models, dataclasses, ``TypedDict``, ``list`` and ``dict`` grow by whole members, and plain ``str`` by
    characters. Whatever else there is appears when it is whole: a field with a validator, a union that
    is not decided, a set, a date.
    """

    def __init__(self, adapter: TypeAdapter[Any]) -> None:
        core: Schema = cast("Any", adapter.core_schema)
        self._definitions: dict[str, Schema] = {}
        if core["type"] == "definitions":
            self._definitions = {one["ref"]: one for one in core["definitions"]}
            core = core["schema"]
        self._root = core
        self._known: dict[tuple[int, int], _Known] = {}
        self._followed: Level | None = None
        self._validators: dict[tuple[int, frozenset[str] | None], tuple[Schema, SchemaValidator]] = {}

    def value(self, text: GrowingJson) -> Any:
        """The partial value.

        Raises:
            Hidden: There is nothing to show yet.
            Invalid: The answer cannot become valid.
        """
        self._followed = None
        return self._value(self._root, {}, text, 0)

    def follows(self, level: Level) -> bool:
        """Whether the last reading read this outermost list item by item, so that another reads only what is new."""
        return level is self._followed

    def _value(self, schema: Schema, config: Schema, text: GrowingJson, depth: int, *, choice: bool = False) -> Any:
        """The value at ``depth``; a ``choice`` of a union may hold no names but its own."""
        schema = self._unwrapped(schema)
        kind: str = schema["type"]
        opened = text.is_open(depth)
        if kind in (_NO_BRACKET if opened else _NO_TEXT if text.string is not None else ()):
            raise Invalid
        if kind in ("union", "tagged-union"):
            return self._union(schema, config, text, depth)
        if kind == "any":
            return any_value(text, depth)
        if not opened:
            return self._string(schema, config, text)
        if kind in ("list", "dict"):
            return self._collection(schema, config, text, depth)
        if kind == "typed-dict":
            return self._typed_dict(schema, text, depth, choice=choice)
        if kind == "model" and schema.get("root_model"):
            root = self._value(schema["schema"], schema.get("config", {}), text, depth)
            return _model(schema["cls"], {"root": root}, None, {"root"})
        if kind == "model" and not schema.get("custom_init") and schema["schema"]["type"] == "model-fields":
            return self._model(schema, text, depth, choice=choice)
        if kind == "dataclass" and schema["schema"]["type"] == "dataclass-args":
            return self._dataclass(schema, text, depth, choice=choice)
        raise Hidden

    def _unwrapped(self, schema: Schema) -> Schema:
        """What stands behind references, defaults and ``None``, and under validators of a whole object."""
        while True:
            kind = schema["type"]
            if kind == "definition-ref":
                schema = self._definitions[schema["schema_ref"]]
            elif kind in ("default", "nullable") or (kind == "function-after" and "ref" in schema):
                schema = schema["schema"]
            else:
                return schema

    def _string(self, schema: Schema, config: Schema, text: GrowingJson) -> str:
        if schema["type"] != "str" or set(schema) - _GROWING_TEXT or {"str_to_lower", "str_to_upper"} & set(config):
            raise Hidden
        grown = json.dumps(text.grown())
        try:
            return cast("str", self._read(schema, schema, config, grown, text))
        except Invalid:  # too short yet, or too long for ever: the end will say
            raise Hidden from None

    def _union(self, schema: Schema, config: Schema, text: GrowingJson, depth: int) -> Any:
        """The value by the one choice that is left; while there are several, nothing is shown."""
        listed = cast("Mapping[str, object] | list[object]", schema["choices"])
        choices = listed.values() if isinstance(listed, Mapping) else listed
        found: list[Any] = []
        possible = 0
        for choice in choices:
            try:
                one = cast("Schema", choice[0] if isinstance(choice, tuple) else choice)
                found.append(self._value(one, config, text, depth, choice=True))
            except Hidden:
                possible += 1
            except Invalid:
                continue
        if not possible and not found:
            raise Invalid
        if possible or len(found) > 1:
            raise Hidden
        return found[0]

    def _collection(self, schema: Schema, config: Schema, text: GrowingJson, depth: int) -> Any:
        value = self._whole_members(schema, config, text, depth)
        with suppress(Hidden):
            if schema["type"] == "list":
                value.append(self._value(schema.get("items_schema", ANY), config, text, depth + 1))
            elif is_as_written(schema.get("keys_schema", ANY), config) and (key := text.key(depth)) not in value:
                value[key] = self._value(schema.get("values_schema", ANY), config, text, depth + 1)
        return value

    def _whole_members(self, schema: Schema, config: Schema, text: GrowingJson, depth: int) -> Any:
        """A list or dict of what is whole, for the caller to add to; items of a list are read once."""
        level = text.levels[depth]
        known = self._known_of(schema, level, depth)
        known.check()
        later = ("min_length", "max_length", "ref") if schema["type"] == "list" else ("min_length", "ref")
        whole = {name: value for name, value in schema.items() if name not in later}
        if schema["type"] == "list" and level is text.outermost_list():
            self._followed = level
        if known.end == level.whole:
            return copy(known.value)
        with known.failing():
            if schema["type"] == "list":
                end = level.start + 1 if known.end is None else known.end
                more = self._read(schema, whole, config, text.members_since(depth, end), text)
                known.value = [*(known.value or []), *more]
                if len(known.value) > (schema.get("max_length") or len(known.value)):
                    raise Invalid
            else:
                known.value = self._read(schema, whole, config, text.members(depth), text)
        known.end = level.whole
        return copy(known.value)

    def _known_of(self, schema: Schema, level: Level, depth: int) -> _Known:
        known = self._known.get((id(schema), depth))
        if known is None or known.level is not level:
            known = self._known[id(schema), depth] = _Known(level)
        return known

    def _typed_dict(self, schema: Schema, text: GrowingJson, depth: int, *, choice: bool) -> Any:
        fields: dict[str, Schema] = schema["fields"]
        config: Schema = schema.get("config", {})
        if choice and extra_behaviour(schema, config) != "allow":
            self._only_own(fields, config, text, depth)

        def whole(early: frozenset[str] | None) -> Schema:
            present = {
                name: {**field, "required": False} | ({"schema": OMITTED} if name in (early or ()) else {})
                for name, field in fields.items()
            }
            return {name: value for name, value in schema.items() if name not in ("cls", "ref")} | {"fields": present}

        value: dict[str, Any] = dict(self._members(schema, whole, fields, config, text, depth)[0])
        value.update(self._growing(fields, config, value, text, depth))
        return {name: value[name] for name in (*fields, *value) if name in value}

    def _model(self, schema: Schema, text: GrowingJson, depth: int, *, choice: bool) -> BaseModel:
        inner: Schema = schema["schema"]
        fields: dict[str, Schema] = inner["fields"]
        config: Schema = schema.get("config", {})
        if choice and extra_behaviour(inner, config) != "allow":
            self._only_own(fields, config, text, depth)

        def whole(early: frozenset[str] | None) -> Schema:
            return {**inner, "fields": {name: absentable(name, field, early) for name, field in fields.items()}}

        (values, extra, given), early = self._members(schema, whole, fields, config, text, depth)
        growing = self._growing(fields, config, given, text, depth)
        values = {name: growing.get(name, values[name]) for name in fields}
        return _model(schema["cls"], values, copy(extra), {*(given - early), *growing})

    def _dataclass(self, schema: Schema, text: GrowingJson, depth: int, *, choice: bool) -> Any:
        inner: Schema = schema["schema"]
        fields: dict[str, Schema] = {field["name"]: field for field in inner["fields"]}
        config: Schema = schema.get("config", {})
        if choice and extra_behaviour(inner, config) != "allow":
            self._only_own(fields, config, text, depth)

        def whole(early: frozenset[str] | None) -> Schema:
            return {**inner, "fields": [absentable(name, field, early) for name, field in fields.items()]}

        values: dict[str, Any] = dict(self._members(schema, whole, fields, config, text, depth)[0][0])
        values.update(self._growing(fields, config, text.plain(depth), text, depth))
        return _data_object(schema["cls"], values)

    def _members(
        self,
        owner: Schema,
        whole: Callable[[frozenset[str] | None], Schema],
        fields: Mapping[str, Schema],
        config: Schema,
        text: GrowingJson,
        depth: int,
    ) -> tuple[Any, frozenset[str]]:
        """Read the whole members of an object with fields.

        If that fails, it may be for want of fields that are not there yet: then once more, leaving out what looks at
        them, with no default validated.

        ``whole`` makes the schema to read by; it is given the names of the fields to leave out if it is the
        second time.

        Returns:
            What pydantic made of it, and the names of the fields that were left out.
        """
        level = text.levels[depth]
        known = self._known_of(owner, level, depth)
        known.check(level.whole)
        if known.end != level.whole:
            json_text = text.members(depth)
            known.end = level.whole
            with known.failing():
                try:
                    known.value = self._read(owner, whole(None), config, json_text, text), frozenset[str]()
                except (Hidden, Invalid):
                    early = looking_back(fields, config, set(text.plain(depth)))
                    known.value = self._read(owner, whole(early), config, json_text, text, early), early
        return cast("tuple[Any, frozenset[str]]", known.value)

    def _growing(
        self, fields: Mapping[str, Schema], config: Schema, given: Any, text: GrowingJson, depth: int
    ) -> dict[str, Any]:
        """The member being written, by its field's name, if it can be shown."""
        try:
            key = text.key(depth)
            for name, field in fields.items():
                if key in json_names(name, field, config) and name not in given:
                    return {name: self._value(field["schema"], config, text, depth + 1)}
        except Hidden:
            pass
        return {}

    def _only_own(self, fields: Mapping[str, Schema], config: Schema, text: GrowingJson, depth: int) -> None:
        """Refuse names that are none of the type's.

        Raises:
            Invalid: There is such a name.
        """
        names = set(text.plain(depth))
        with suppress(Hidden):
            names.add(text.key(depth))
        if names - {key for name, field in fields.items() for key in json_names(name, field, config)}:
            raise Invalid

    def _read(
        self,
        owner: Schema,
        whole: Schema,
        config: Schema,
        json_text: str,
        text: GrowingJson,
        early: frozenset[str] | None = None,
    ) -> Any:
        """Read whole JSON by ``whole``, which is made from ``owner`` and ``early`` always in the same way.

        Raises:
            Hidden: A validator broke, which may be for want of what is not there yet.
            Invalid: It does not fit.
        """
        text.parsed += len(json_text)
        try:
            strict_json(json_text)
            return self._validator(owner, whole, config, early).validate_json(json_text)
        except ValueError as error:  # pydantic's ValidationError and our OutputError
            raise Invalid from error
        except Exception as error:
            raise Hidden from error

    def _validator(self, owner: Schema, whole: Schema, config: Schema, early: frozenset[str] | None) -> SchemaValidator:
        known = self._validators.get((id(owner), early))
        if known is None:
            from pydantic_core import SchemaValidator

            schema = cast("Any", {"type": "definitions", "schema": whole, "definitions": [*self._definitions.values()]})
            known = self._validators[id(owner), early] = (owner, SchemaValidator(schema, cast("Any", config)))
        return known[1]


def _model(cls: type[BaseModel], values: dict[str, Any], extra: dict[str, Any] | None, given: set[str]) -> BaseModel:
    """An instance as ``model_construct`` makes it, but without what the user does with whole ones."""
    model = cls.__new__(cls)
    # None where a required value is not there yet.
    object.__setattr__(model, "__dict__", values)
    object.__setattr__(model, "__pydantic_fields_set__", given)
    object.__setattr__(model, "__pydantic_extra__", extra)
    private = {
        name: attribute.get_default(call_default_factory=True) for name, attribute in cls.__private_attributes__.items()
    }
    object.__setattr__(model, "__pydantic_private__", private or None)
    return model


def _data_object(cls: type[Any], values: Mapping[str, Any]) -> Any:
    """An instance whose ``__init__`` and ``__post_init__`` have not run, as they expect a whole one."""
    made = object.__new__(cls)
    for field in dataclasses.fields(cls):
        value = None
        if field.default is not dataclasses.MISSING:
            value = field.default
        elif field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        object.__setattr__(made, field.name, values.get(field.name, value))
    return made
