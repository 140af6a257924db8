"""How tools are described to a model: one line of JSON each, in the shape of OpenAI's tools."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from hermes_agent.formats.wire import dump_json
from hermes_agent.tool import Tool

__all__ = ["tool_lines", "written"]


def tool_lines(tools: Sequence[Tool]) -> tuple[str, ...]:
    """The definitions of tools. An agent shows the same in each of its turns, so they are written once."""
    return _lines(_Same(tools))


def written() -> int:
    """How often definitions were written so far, as against remembered."""
    return _lines.cache_info().misses


class _Same:
    """Tools as a key: equal to the very same tools alone, as schemas that compare equal may read differently."""

    __slots__ = ("tools",)

    def __init__(self, tools: Sequence[Tool]) -> None:
        self.tools = tuple(tools)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and [*map(id, self.tools)] == [*map(id, other.tools)]

    def __hash__(self) -> int:
        return hash(tuple(map(id, self.tools)))


@lru_cache(maxsize=16)
def _lines(shown: _Same) -> tuple[str, ...]:
    return tuple(map(_line, shown.tools))


def _line(tool: Tool) -> str:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return dump_json({"type": "function", "function": function})
