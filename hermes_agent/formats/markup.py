"""What the parser looks for in text, compiled once for each set of tags."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol, cast

from hermes_agent.errors import ConfigurationError
from hermes_agent.formats.body import BlockEnds
from hermes_agent.formats.tags import (
    NEAR_MISSES,
    THINK_CLOSE,
    THINK_OPEN,
    TOOL_CALL_CLOSE,
    TOOL_CALL_OPEN,
    any_of,
    fold,
)
from hermes_agent.messages import JsonValue

__all__ = ["Kind", "Markup", "NamedTool", "ToolLike", "markup", "read_tools"]

Kind = Literal["call", "close", "response", "near", "think", "unthink", "stop", "object"]

_OBJECT = r"""\{[ \t\r\n]{0,16}["'](?:name|arguments|parameters|args|function|type)["']"""
_OBJECT_BEGINS = re.compile(r"""\{[ \t\r\n]{0,16}(?:["'][a-z]{0,10})?\Z""")


class NamedTool(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str:
        """What the model calls it by."""
        ...


ToolLike = str | NamedTool | Mapping[str, JsonValue] | Callable[..., object]
"""A tool's name, a `Tool`, an OpenAI-style description, or a function."""


@dataclass(frozen=True, slots=True)
class Markup:
    """The patterns of one set of tags.

    Attributes:
        pattern: Finds the next thing in text that may be markup.
        kinds: What a literal is, by its folded spelling.
        thinks: Closing tag by opening tag of thinking blocks, both folded.
        thoughts: Finds the next thing in a thinking block, by its closing tag.
        ends: What ends a block of calls.
        inline_ends: What ends one inside a thinking block, by the block's closing tag.
        stops: What ends the turn.
        near: Finds the end of a call in some other format, by how it began.
    """

    pattern: re.Pattern[str]
    kinds: Mapping[str, Kind]
    thinks: Mapping[str, str]
    thoughts: Mapping[str, re.Pattern[str]]
    ends: BlockEnds
    inline_ends: Mapping[str, BlockEnds]
    stops: tuple[str, ...]
    near: Mapping[str, re.Pattern[str]]
    _firsts: re.Pattern[str]
    _prefixes: frozenset[str]
    _longest: int
    _objects: bool

    def hold(self, text: str, pos: int) -> int:
        """Where the end of ``text`` begins that may be the beginning of markup; its length if none does."""
        end = len(text)
        start = max(pos, end - self._longest + 1)
        for found in self._firsts.finditer(text, start):
            if fold(text[found.start() :]) in self._prefixes:
                end = found.start()
                break
        begun = _OBJECT_BEGINS.search(text, max(pos, len(text) - 32)) if self._objects else None
        return min(end, begun.start()) if begun else end


@lru_cache(maxsize=64)
def markup(stops: tuple[str, ...], think: tuple[str, str], objects: bool) -> Markup:
    """The patterns for these stops and thinking tags; ``objects`` finds bare objects too."""
    thinks = {THINK_OPEN: THINK_CLOSE, fold(think[0]): fold(think[1])}
    kinds: dict[str, Kind] = {
        **_all(NEAR_MISSES, "near"),
        "<tool_call": "call",
        "</tool_call": "close",
        "<tool_response": "response",
        **_all(thinks, "think"),
        **_all(thinks.values(), "unthink"),
    }
    pattern = any_of(kinds, stops) + f"|{_OBJECT}" * objects
    kinds.update(_all(stops, "stop"))
    ends = BlockEnds.of(stops)
    return Markup(
        pattern=re.compile(pattern),
        kinds=kinds,
        thinks=thinks,
        thoughts={
            closing: re.compile(any_of([closing], (TOOL_CALL_OPEN, TOOL_CALL_CLOSE, "<tool_response", *stops)))
            for closing in thinks.values()
        },
        ends=ends,
        inline_ends={closing: BlockEnds.of((closing, *stops)) for closing in thinks.values()},
        stops=stops,
        near={
            opening: re.compile(rf"{any_of([closing])}[sS]?\s{{0,4}}[>\]]|(?={ends.pattern.pattern})")
            for opening, closing in NEAR_MISSES.items()
        }
        | {"</tool_call": re.compile(r">|(?=[<\s])")},
        _firsts=re.compile(any_of({literal[0] for literal in kinds})),
        _prefixes=frozenset(
            literal[:n] for literal in (*kinds, TOOL_CALL_OPEN, TOOL_CALL_CLOSE) for n in range(1, len(literal))
        ),
        _longest=max(map(len, kinds)),
        _objects=objects,
    )


def _all(literals: Iterable[str], kind: Kind) -> dict[str, Kind]:
    return {fold(literal): kind for literal in literals}


def read_tools(
    tools: Iterable[ToolLike] | None,
) -> tuple[frozenset[str] | None, dict[str, Mapping[str, JsonValue]]]:
    """Names of the tools, and the ``properties`` of their parameters where known; names are ``None`` for ``None``.

    Raises:
        ConfigurationError: Something among them has no name.
    """
    if tools is None:
        return None, {}
    if isinstance(tools, str):
        raise ConfigurationError(f"tools={tools!r} is one string", hint="pass a list of tools or of their names")
    schemas: dict[str, Mapping[str, JsonValue]] = {}
    for tool in tools:
        name, parameters = _described(tool)
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"{tool!r} has no name", hint="pass tools, names, schemas or functions")
        schemas[name] = _mapping(_mapping(parameters).get("properties"))
    return frozenset(schemas), schemas


def _described(tool: object) -> tuple[object, object]:
    """Name and parameters of whatever stands for a tool."""
    if isinstance(tool, str):
        return tool, None
    if isinstance(tool, Mapping):
        outer = _mapping(cast("object", tool))
        inner = _mapping(outer.get("function", outer))
        return inner.get("name"), inner.get("parameters")
    return getattr(tool, "name", None) or getattr(tool, "__name__", None), getattr(tool, "parameters", None)


def _mapping(value: object) -> Mapping[str, JsonValue]:
    return cast("Mapping[str, JsonValue]", value) if isinstance(value, Mapping) else {}
