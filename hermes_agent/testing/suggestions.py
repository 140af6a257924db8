"""What a JSON schema tells of its own values beyond what it demands: examples and defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias, cast

from hermes_agent.formats.shapes.nodes import is_list

__all__ = ["Path", "narrowed", "suggestions"]

Path: TypeAlias = tuple[str, ...]
"""Names of properties, and ``"*"`` for the items of an array."""

_DEEP: Final = 8
_MANY: Final = 5_000
_DATA = ("enum", "const", "default", "examples", "example")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
_OLD = ("draft-03", "draft-04", "draft-06", "draft-07")


def suggestions(schema: Mapping[str, Any]) -> dict[Path, list[Any]]:
    """The examples and defaults of a schema, by where in a value they would stand.

    Example:
        >>> suggestions({"properties": {"city": {"examples": ["Paris"], "default": ""}}})
        {('city',): ['Paris', '']}
    """
    found: dict[Path, list[Any]] = {}
    queue: list[tuple[Any, Path, int]] = [(schema, (), 0)]
    for visited, (part, path, depth) in enumerate(queue):  # which grows
        if visited > _MANY or depth > _DEEP or not isinstance(part, Mapping):
            continue
        at = cast("Mapping[str, Any]", part)
        told: list[Any] = [*at["examples"]] if isinstance(at.get("examples"), list) else []
        told += [at[key] for key in ("example", "default") if key in at]
        if told:
            found.setdefault(path, []).extend(told)
        queue.extend((sub, more, depth + 1) for sub, more in _below(at, path, schema))
    return found


def _below(part: Mapping[str, Any], path: Path, root: Mapping[str, Any]) -> Iterator[tuple[Any, Path]]:
    if isinstance(part.get("$ref"), str):
        yield _behind(part["$ref"], root), path
    for key in ("allOf", "anyOf", "oneOf"):
        if isinstance(part.get(key), list):
            yield from ((sub, path) for sub in part[key])
    if isinstance(part.get("properties"), Mapping):
        yield from ((sub, (*path, name)) for name, sub in part["properties"].items())
    yield part.get("items"), (*path, "*")


def _behind(reference: str, root: Mapping[str, Any]) -> Any:
    """What a reference into the same schema leads to; ``None`` for any other."""
    if not reference.startswith("#"):
        return None
    at: Any = root
    for name in reference.lstrip("#/").split("/") if reference.strip("#/") else ():
        spelled = name.replace("~1", "/").replace("~0", "~")
        at = cast("Mapping[str, Any]", at).get(spelled) if isinstance(at, Mapping) else None
    return at


def narrowed(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema with ``contains``, which no grammar enforces, said of the first items instead.

    Every value of it is one of the schema. It may have none where the schema has some, if the first items must be
    something else.

    Example:
        >>> narrowed({"contains": {"const": 1}})["allOf"]
        [{'prefixItems': [{'const': 1}], 'minItems': 1}]
    """
    old = any(draft in str(schema.get("$schema", "")) for draft in _OLD)
    return cast("Mapping[str, Any]", _narrow(schema, "items" if old else "prefixItems"))


def _narrow(part: Any, prefix: str) -> Any:
    if is_list(part):
        return [_narrow(sub, prefix) for sub in part]
    if not isinstance(part, Mapping):
        return part
    at = cast("Mapping[str, Any]", part)
    narrow: dict[str, Any] = {}
    for key, sub in at.items():
        if key in _NAMED and isinstance(sub, Mapping):
            narrow[key] = {name: _narrow(below, prefix) for name, below in cast("Mapping[str, Any]", sub).items()}
        else:
            narrow[key] = sub if key in _DATA else _narrow(sub, prefix)
    count = at.get("minContains", 1)
    if "contains" in at and isinstance(count, int) and 0 < count < 100:
        more = {prefix: [narrow["contains"]] * count, "minItems": count}
        narrow["allOf"] = [*narrow.get("allOf", ()), more]
    return narrow
