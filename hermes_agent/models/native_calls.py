"""Tool calls that a server sends in fields of their own, put together from pieces and written as the format has them.

Which call a piece belongs to is told by its index; servers leave that out, or number every call 0, and then id and
name tell. In doubt a piece is added to a call that is open, which at worst makes it unreadable: a call that cannot be
read is a fault, one that was closed too early would run with half of its arguments.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

from hermes_agent.formats.dialects import Dialect
from hermes_agent.formats.parser import parse
from hermes_agent.formats.segments import neutralise
from hermes_agent.formats.wire import dump_json, serialise_call

__all__ = ["NativeCalls"]


class NativeCalls:
    """The calls of one reply.

    Args:
        tools: Names that were offered, to tell one name from two.
        dialect: Says what must not arise from data.
    """

    def __init__(self, tools: Collection[str], dialect: Dialect) -> None:
        self._tools, self._dialect = tools, dialect
        self._calls: list[_Call] = []
        self._at: dict[object, _Call] = {}
        self._legacy: _Call | None = None

    def __bool__(self) -> bool:
        return bool(self._calls) or self._legacy is not None

    def add(self, pieces: Iterable[Mapping[str, Any]]) -> int:
        """Take the ``tool_calls`` of a delta; returns how many there were."""
        count = 0
        for place, piece in enumerate(pieces):
            function: Mapping[str, Any] = piece.get("function") or {}
            call = self._find(piece, function, place)
            call.ids.add(piece.get("id") or "")
            call.add(function.get("name"), function.get("arguments"))
            count += 1
        return count

    def add_legacy(self, function: Mapping[str, Any]) -> int:
        """Take the ``function_call`` of a delta, which the API had before ``tool_calls``; returns how many it was."""
        if not function.get("name") and not function.get("arguments"):
            return 0
        self._legacy = self._legacy or _Call()
        self._legacy.add(function.get("name"), function.get("arguments"))
        return 1

    def blocks(self, said: str, *, cut: bool) -> list[str]:
        """The calls as the format writes them.

        Args:
            said: The text that was given out before; what it calls is not called again.
            cut: The reply ended before its time, so arguments that are missing may have been to come.
        """
        # Somewhere are arguments without a name: nobody can tell that a call without arguments has none.
        stray = any(not call.name and call.text.strip() for call in self._calls)
        told = self._read(said) if said and self else []
        written: list[str] = []
        seen: set[tuple[frozenset[str], str]] = set()
        for call in self._calls:
            block = call.block(self._tools, self._dialect, cut=cut, may_be_empty=not cut and not stray)
            same = frozenset(call.ids - {""}), block
            if same[0] and same in seen:
                continue
            seen.add(same)
            written += self._untold(block, told)
        if self._legacy is not None:
            block = self._legacy.block(self._tools, self._dialect, cut=cut, may_be_empty=not cut)
            written += [] if block in [known for _, known in seen] else self._untold(block, told)
        return written

    def _read(self, text: str) -> list[tuple[str, dict[str, Any]]]:
        """The calls in a text, as the reader of turns finds them: what it does not find is not called there."""
        return [(call.name, call.arguments) for call in parse(text, dialect=self._dialect).tool_calls]

    def _untold(self, block: str, told: list[tuple[str, dict[str, Any]]]) -> list[str]:
        """``block``, unless it is a call that was told already; one that was told once stands for one."""
        found = self._read(block) if told else []
        if not found or found[0] not in told:
            return [block]
        told.remove(found[0])
        return []

    def _find(self, piece: Mapping[str, Any], function: Mapping[str, Any], place: int) -> _Call:
        """The call that a piece belongs to; a new one if it begins one."""
        index, call_id, name = _number(piece.get("index")), piece.get("id") or "", function.get("name") or ""
        last = self._calls[-1] if self._calls else None
        if index is not None:
            call = self._at.get(index)
            new = call is None or self._begins(call, call_id, function)
        elif call_id:
            call = self._at.get(call_id) or (None if name else last)
            new = call is None
        elif name and place and place >= len(self._calls):  # whole calls side by side
            call, new = None, True
        else:
            call = last
            new = call is None or self._begins(call, "", function, may_lack_id=True)
        if call is None or new:
            call = _Call()
            self._calls.append(call)
            if index is not None:
                self._at[index] = call
        if call_id:
            self._at[call_id] = call
        return call

    def _begins(self, call: _Call, call_id: str, function: Mapping[str, Any], *, may_lack_id: bool = False) -> bool:
        """Whether a piece that comes where a call is open begins another: some servers give every call the index 0.

        A new id alone says nothing, as some send one with every piece; nor does a name.
        """
        name = function.get("name")
        if not isinstance(name, str) or not name:
            return False
        known = {*call.ids} - {""}
        if call_id in known or (not call_id and (known or not may_lack_id)):
            return False
        if name != call.name and name in self._tools and call.name in self._tools:
            return True
        if not call.complete:
            return False
        arguments = function.get("arguments")
        return bool(known) or (bool(arguments) and _text(arguments) != call.text)


class _Call:
    """One call, put together from its pieces."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.name = ""
        self._arguments: list[str] = []

    @property
    def text(self) -> str:
        """The arguments, as far as they came."""
        return "".join(self._arguments)

    @property
    def complete(self) -> bool:
        """Whether the arguments are a whole object."""
        last = next((piece for piece in reversed(self._arguments) if piece.strip()), "")
        return last.rstrip().endswith("}") and isinstance(_read(self.text), dict)

    def add(self, name: object, arguments: object) -> None:
        """Take a piece."""
        if isinstance(name, str) and name != self.name:  # an empty name, or the same again, says nothing
            self.name += name
        if isinstance(arguments, str):
            self._arguments.append(arguments)
        elif arguments is not None:
            self._arguments = [_text(arguments)]

    def block(self, tools: Collection[str], dialect: Dialect, *, cut: bool, may_be_empty: bool) -> str:
        """The call as the format writes it; what cannot be read stays unreadable, without markup."""
        name = _once(self.name)[0] if self.name not in tools and _once(self.name)[0] in tools else self.name
        for candidate in _once(self.text):
            found = _read(candidate) if candidate.strip() else None
            if found is None and may_be_empty and candidate.strip() in ("", "null"):
                found = {}
            if isinstance(found, dict):
                return serialise_call(name, cast("dict[str, Any]", found))
        broken = "" if self.text.strip() == "null" else neutralise(self.text, dialect)  # null would be read as {}
        end = "" if cut else "}\n</tool_call>"
        return f'<tool_call>\n{{"name": {dump_json(name)}, "arguments": {broken}{end}'


def _number(index: object) -> object:
    """An index, which some servers send as a string."""
    return int(index) if isinstance(index, str) and index.isdecimal() else index


def _text(arguments: object) -> str:
    return arguments if isinstance(arguments, str) else dump_json(arguments)


def _read(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _once(text: str) -> tuple[str, ...]:
    """``text``, and its half if it is that half twice."""
    half = text[: len(text) // 2]
    return (half, text) if half and half + half == text else (text,)
