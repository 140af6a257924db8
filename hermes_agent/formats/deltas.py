"""OpenAI-style deltas of tool calls, as servers really stream them, put together again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, cast

from hermes_agent.formats.repair import DEFAULT_REPAIRS, UnreadableCallError, decode
from hermes_agent.formats.scan import ValueScanner
from hermes_agent.messages import ToolCall

__all__ = ["CallDeltas"]


@dataclass(slots=True)
class _Growing:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])


class CallDeltas:
    """Collects the ``tool_calls`` deltas of one streamed reply.

    Deltas belong together by ``index``, never by ``id``: ids come once, later deltas have none. Servers
    repeat names, empty or whole, and some send every value twice; both are seen through.

    Args:
        names: Names of the tools that were offered.

    Example:
        >>> deltas = CallDeltas(["skills_list"])
        >>> for _ in range(2):
        ...     deltas.add(0, name="skills_list", arguments='{"category": "research"}')
        >>> deltas.calls()[0].arguments
        {'category': 'research'}
    """

    def __init__(self, names: Collection[str] = ()) -> None:
        self._names = frozenset(names)
        self._calls: dict[int, _Growing] = {}

    def add(self, index: int, *, id: str | None = None, name: str | None = None, arguments: str | None = None) -> None:  # noqa: A002  # the field's name in the protocol
        """Take one delta; absent fields are ``None`` or empty."""
        call = self._calls.setdefault(index, _Growing())
        call.id = call.id or id or ""
        if name and name != call.name:
            call.name += name
        if arguments:
            call.arguments.append(arguments)

    def calls(self) -> tuple[ToolCall, ...]:
        """The calls in order of their index. No arguments at all are ``{}``.

        Raises:
            UnreadableCallError: Arguments are no JSON object; a stream that broke off ends like that.
        """
        return tuple(self._read(call) for _, call in sorted(self._calls.items()))

    def _read(self, call: _Growing) -> ToolCall:
        name = self._undoubled(call.name)
        raw = "".join(call.arguments)
        value, used = _arguments(raw, name)
        repairs = (*(("repeated_delta",) if name != call.name else ()), *used)
        return ToolCall(name, value, call.id, raw, tuple(dict.fromkeys(repairs)))

    def _undoubled(self, name: str) -> str:
        """``name``, or its half where that is a tool, the whole is none, and both halves are equal."""
        half, odd = divmod(len(name), 2)
        if not odd and name[:half] == name[half:] and name not in self._names and name[:half] in self._names:
            return name[:half]
        return name


def _arguments(raw: str, name: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    text = raw.strip()
    if not text:
        return {}, ()
    half, odd = divmod(len(text), 2)
    twice = _whole(text[:half]) and text[:half] == text[half:] if not odd else False
    try:
        value, used = decode(text[:half] if twice else text, DEFAULT_REPAIRS)
    except UnreadableCallError as error:
        raise UnreadableCallError(str(error), name) from error
    if twice:
        used = ("repeated_delta", *used)
    if value is None:
        return {}, (*used, "null_arguments")
    if not isinstance(value, dict):
        raise UnreadableCallError("the arguments are not a JSON object", name)
    return cast("dict[str, Any]", value), used


def _whole(text: str) -> bool:
    """Whether ``text`` is one JSON object."""
    return text.startswith("{") and ValueScanner().feed(text, 0) == (len(text), "done")
