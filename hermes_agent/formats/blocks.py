"""One block of calls, found by `CallBody`, read into calls and faults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from hermes_agent.formats.body import CallBody
from hermes_agent.formats.functions import read_function
from hermes_agent.formats.repair import DECODER, REPAIRS, UnreadableCallError, call_of, decode, guess_name, read_call
from hermes_agent.formats.scan import split_array, within_depth
from hermes_agent.messages import JsonValue, ToolCall
from hermes_agent.turn import CallPart, Fault, FaultKind, Span

__all__ = ["Block", "ReadingRules", "quick_call", "read_block", "read_near", "recover"]


_CLOSE = re.compile(r"[ \t\r\n]*+</tool_call>")


@dataclass(frozen=True, slots=True)
class ReadingRules:
    """What the reading of calls depends on.

    Attributes:
        repairs: The repairs that may be used.
        names: Names of the tools that were offered; ``None`` if that is not known.
        schemas: ``properties`` of each tool's parameters, where known.
    """

    repairs: frozenset[str]
    names: frozenset[str] | None = None
    schemas: Mapping[str, Mapping[str, JsonValue]] = field(default_factory=dict[str, Mapping[str, JsonValue]])

    def unknown(self, part: CallPart, raw: str) -> Fault | None:
        """The fault that stands behind a call of a tool nobody offered."""
        name = part.call.name
        if self.names is None or name in self.names:
            return None
        known = ", ".join(sorted(self.names)[:20]) or "none"
        return Fault("unknown_tool", part.span, raw, f"there is no tool {name!r}; the tools are: {known}", name)


@dataclass(slots=True, eq=False)
class Block:
    """A block of calls that has ended.

    Attributes:
        raw: Its text, tags included.
        at: Where it begins in the turn.
        body_at: Where its body begins.
        body: What was found in it.
        cut_short: The turn ended because its length was used up.
    """

    raw: str
    at: int
    body_at: int
    body: CallBody
    cut_short: bool = False

    def text(self, span: Span) -> str:
        """The text at ``span`` of the turn."""
        return self.raw[span[0] - self.at : span[1] - self.at]

    @property
    def span(self) -> Span:
        """Where the block stands in the turn."""
        return self.at, self.at + len(self.raw)

    @property
    def inside(self) -> str:
        """The text between the tags, less the white space at its ends."""
        return self.raw[self.body_at - self.at : self.body.end_at - self.at].strip()


def read_block(block: Block, rules: ReadingRules) -> list[CallPart | Fault]:
    """The calls of a block, each followed by its fault if the tool is unknown, or what is wrong with it."""
    body = block.body
    parts: list[CallPart | Fault]
    if body.function:
        parts = _function(block, rules)
    elif body.error:
        parts = [_fault("malformed", block, body.error)]
    elif body.end in ("eof", "cut") and (body.value_at is not None or not body.values):
        parts = _truncated(block, rules)
    elif body.end == "eof" and block.cut_short:
        body.value_at = body.values.pop()[0]
        parts = _truncated(block, rules)
    elif not body.values:
        parts = [_fault("malformed", block, "there is nothing between the tags")]
    else:
        if body.end in ("eof", "cut"):
            body.used["missing_close"] = None
        elif body.end == "open":
            body.used["missing_closer_between"] = None
        parts = _values(block, rules)
    return _checked(parts, block, rules)


def quick_call(text: str, begin: int) -> tuple[ToolCall, int] | None:
    """Read a call whose object begins at ``text[begin]``, if it is there whole and needs no repair.

    Returns:
        The call, and where its closing tag ends; ``None`` if that takes more than a look.

    Raises:
        ValueError: The object is not JSON, or not complete.
        RecursionError: It is nested very deeply.
    """
    value, end = DECODER.raw_decode(text, begin)
    close = _CLOSE.match(text, end)
    if close is None or len(value) != 2:
        return None
    raw, name, arguments = text[begin:end], value.get("name"), value.get("arguments")
    if not isinstance(arguments, dict) or not isinstance(name, str) or not name:
        return None
    if "\\u" in raw or not within_depth(raw):
        return None
    return ToolCall(name, cast("dict[str, Any]", arguments), "", raw), close.end()


def recover(block: Block, rules: ReadingRules, repair: str) -> list[CallPart]:
    """The calls of a block without an opening tag, if all of it is calls of known tools; else nothing."""
    if repair not in rules.repairs or rules.names is None:
        return []
    block.body.used[repair] = None
    block.body.end = "close"
    parts = read_block(block, rules)
    calls = [part for part in parts if isinstance(part, CallPart) and part.call.name in rules.names]
    return calls if len(calls) == len(parts) else []


def read_near(raw: str, at: int, opening: str, rules: ReadingRules) -> CallPart | Fault:
    """What is to be said of a call in some other format: ``raw``, which stands at ``at`` in the turn."""
    span = (at, at + len(raw))
    if opening == "<function=" and "function_tag" in rules.repairs:
        try:
            return CallPart(read_function(raw, rules.schemas), span)
        except UnreadableCallError as error:
            return Fault("malformed", span, raw, str(error), error.name)
    detail = f"{opening!r} is not how a call is written; write <tool_call>, a JSON object, </tool_call>"
    return Fault("unrecognised_tag", span, raw, detail)


def _values(block: Block, rules: ReadingRules) -> list[CallPart | Fault]:
    body = block.body
    if off := [name for name in body.used if name not in rules.repairs]:
        return [_fault("malformed", block, f"not one JSON object between the tags: {REPAIRS[off[0]]}")]
    used = tuple(name for name in REPAIRS if name in body.used)
    alone = len(body.values) == 1
    parts: list[CallPart | Fault] = []
    for start, end in body.values:
        span = block.span if alone else (start, end)
        owed = body.owed if end == body.values[-1][1] else ""
        value = _Value(
            span, start, block.inside if alone else block.text(span), block.text((start, end)).rstrip() + owed
        )
        try:
            if value.text.startswith("["):
                parts += _array(value, block, rules, used)
            else:
                parts.append(CallPart(read_call(value.raw, rules.repairs, text=value.text, used=used), span))
        except UnreadableCallError as error:
            parts.append(Fault("malformed", span, block.text(span), str(error), error.name))
    return parts


@dataclass(frozen=True, slots=True)
class _Value:
    """A value of a block: the span it answers for, where it begins, what was written, and what to decode."""

    span: Span
    at: int
    raw: str
    text: str


def _array(value: _Value, block: Block, rules: ReadingRules, used: tuple[str, ...]) -> list[CallPart | Fault]:
    """Read an array of calls."""
    items, respelled = decode(value.text, rules.repairs)
    spans = split_array(value.text)
    if "call_array" not in rules.repairs or not items or len(items) != len(spans):
        raise UnreadableCallError("there is an array between the tags, not one JSON object")
    parts: list[CallPart | Fault] = []
    for item, (start, end) in zip(items, spans, strict=True):
        span = (value.at + start, min(value.at + end, block.body.values[-1][1]))
        raw = block.text(span)
        try:
            parts.append(CallPart(call_of(item, raw, rules.repairs, (*used, "call_array", *respelled)), span))
        except UnreadableCallError as error:
            parts.append(Fault("malformed", span, block.text(span), str(error), error.name))
    return parts


def _truncated(block: Block, rules: ReadingRules) -> list[CallPart | Fault]:
    """The turn ended inside the block: what was complete before that counts, in its own right."""
    body = block.body
    parts: list[CallPart | Fault] = []
    if body.values:
        parts = _values(block, rules)
        if isinstance(parts[0], Fault) and len(parts) == 1:
            return parts
        start = body.value_at or block.at
        parts = [_within(part, block, body.values[0]) for part in parts]
    else:
        start = block.at
    span = (start, block.span[1])
    raw = block.text(span)
    name = guess_name(block.inside) if start == block.at else guess_name(raw)
    return [*parts, Fault("truncated", span, raw, "the turn ended inside this call", name)]


def _within(part: CallPart | Fault, block: Block, span: Span) -> CallPart | Fault:
    """A part that took the whole block, moved to its own span."""
    if isinstance(part, Fault) or part.span != block.span:
        return part
    call = part.call
    return CallPart(ToolCall(call.name, call.arguments, raw=block.text(span), repairs=call.repairs), span)


def _function(block: Block, rules: ReadingRules) -> list[CallPart | Fault]:
    if block.body.end == "eof" and "</function>" not in block.inside:
        return [_fault("truncated", block, "the turn ended inside this call")]
    if "function_tag" in rules.repairs:
        try:
            return [CallPart(read_function(block.inside, rules.schemas), block.span)]
        except UnreadableCallError as error:
            return [_fault("malformed", block, str(error), error.name)]
    return [_fault("unrecognised_tag", block, "a call is a JSON object between <tool_call> and </tool_call>")]


def _fault(kind: FaultKind, block: Block, detail: str, name: str | None = None) -> Fault:
    return Fault(kind, block.span, block.raw, detail, name or guess_name(block.inside))


def _checked(parts: list[CallPart | Fault], block: Block, rules: ReadingRules) -> list[CallPart | Fault]:
    if rules.names is None or not any(isinstance(part, CallPart) for part in parts):
        return parts
    checked: list[CallPart | Fault] = []
    for part in parts:
        checked.append(part)
        if isinstance(part, CallPart) and (fault := rules.unknown(part, block.text(part.span))):
            checked.append(fault)
    return checked
