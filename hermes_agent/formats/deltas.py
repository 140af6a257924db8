"""OpenAI-style deltas of tool calls, as servers really stream them, put together again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from hermes_agent.formats.repair import DEFAULT_REPAIRS, UnreadableCallError, arguments_of, decode, repair_names
from hermes_agent.formats.scan import ValueScanner
from hermes_agent.formats.states import FinishReason
from hermes_agent.messages import ToolCall
from hermes_agent.turn import Fault

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
        repairs: Names of `hermes_agent.formats.repair.REPAIRS` that may be used.

    Raises:
        ConfigurationError: A repair is not one of those.

    Example:
        >>> deltas = CallDeltas(["skills_list"])
        >>> for _ in range(2):
        ...     deltas.add(0, name="skills_list", arguments='{"category": "research"}')
        >>> deltas.finish("stop")[0].arguments
        {'category': 'research'}
    """

    def __init__(self, names: Collection[str] = (), *, repairs: Collection[str] = DEFAULT_REPAIRS) -> None:
        self._names = frozenset(names)
        self._repairs = repair_names(repairs)
        self._calls: dict[int, _Growing] = {}

    def add(self, index: int, *, id: str | None = None, name: str | None = None, arguments: str | None = None) -> None:  # noqa: A002  # the field's name in the protocol
        """Take one delta; absent fields are ``None`` or empty."""
        call = self._calls.setdefault(index, _Growing())
        call.id = call.id or id or ""
        if name and name != call.name:
            call.name += name
        if arguments:
            call.arguments.append(arguments)

    def finish(self, finish_reason: FinishReason | None = None) -> tuple[ToolCall | Fault, ...]:
        """The calls in order of their index; a fault for each that cannot be read.

        Servers drop the arguments ``{}`` of a call without any, so that arguments which never came are none if
        the stream was finished. Otherwise they were perhaps still to come, and the call is truncated.

        Args:
            finish_reason: ``"stop"`` if the server said that the turn is finished, for whatever it calls the
                reason; ``None`` if it did not say, as when the connection broke.

        Returns:
            Calls and faults. A fault's span is that of its ``raw``, the arguments as far as they came.
        """
        return tuple(self._read(call, finish_reason) for _, call in sorted(self._calls.items()))

    def _read(self, call: _Growing, reason: FinishReason | None) -> ToolCall | Fault:
        name = self._undoubled(call.name)
        used = ["repeated_delta"] if name != call.name else []
        raw = "".join(call.arguments)
        try:
            arguments = self._arguments(raw.strip(), name, used, reason)
        except UnreadableCallError as error:
            return Fault("malformed", (0, len(raw)), raw, str(error), name or None)
        if arguments is None:
            return Fault("truncated", (0, len(raw)), raw, "the turn ended inside this call", name or None)
        return ToolCall(name, arguments, call.id, raw, tuple(dict.fromkeys(used)))

    def _arguments(self, text: str, name: str, used: list[str], reason: FinishReason | None) -> dict[str, Any] | None:
        """The arguments; ``None`` if they are not all there."""
        complete = ValueScanner().feed(text, 0)[1] != "more" if text else reason == "stop"
        if not complete:
            return None
        if not name:
            raise UnreadableCallError('the call has no "name"')
        if not text:
            if "missing_arguments" not in self._repairs:
                raise UnreadableCallError('the call has no "arguments"', name)
            used.append("missing_arguments")
            return {}
        once = self._once(text)
        if once != text:
            used.append("repeated_delta")
        value, respelled = decode(once, self._repairs)
        used += respelled
        return arguments_of(value, self._repairs, used, name)

    def _undoubled(self, name: str) -> str:
        """``name``, or its half where that is a tool, the whole is none, and both halves are equal."""
        half = _half(name)
        doubled = "repeated_delta" in self._repairs and half in self._names and name not in self._names
        return half if doubled else name

    def _once(self, text: str) -> str:
        """``text``, or its half where that is a JSON object, and both halves are equal."""
        half = _half(text)
        whole = half.startswith("{") and ValueScanner().feed(half, 0) == (len(half), "done")
        return half if whole and "repeated_delta" in self._repairs else text


def _half(text: str) -> str:
    """What stands in ``text`` twice; empty if nothing does."""
    half = text[: len(text) // 2]
    return half if half + half == text else ""
