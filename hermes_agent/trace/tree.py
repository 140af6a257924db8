"""A trace as a tree of lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hermes_agent.trace.words import (
    CALL_STATES,
    OUTCOMES,
    count,
    duration,
    notes,
    spelled,
    thinking_note,
    tokens,
    written,
)
from hermes_agent.turn import Fault, TextPart
from hermes_agent.visible import visible

if TYPE_CHECKING:
    from hermes_agent.trace.run import Trace
    from hermes_agent.trace.values import TracedCall, TracedShortening, TracedStep

__all__ = ["tree"]


@dataclass(slots=True)
class _Node:
    """A line, what follows it indented, and the nodes below."""

    line: str
    value: str = ""
    below: list[_Node] = field(default_factory=list["_Node"])


def tree(trace: Trace, *, chars: int | None, ascii_only: bool) -> str:
    """The run as lines; see `Trace.tree`."""
    return "\n".join(
        _lines(_Writing(chars, " | " if ascii_only else " · ").run(trace), *(_ASCII if ascii_only else _DRAWN))
    )


_DRAWN = ("├─ ", "└─ ", "│  ")
_ASCII = ("|- ", "`- ", "|  ")


def _lines(node: _Node, fork: str, last: str, bar: str) -> Iterator[str]:
    yield node.line
    gap = bar if node.below else " " * len(bar)
    if node.value:
        yield from (gap + line for line in node.value.split("\n"))
    for index, child in enumerate(node.below):
        is_last = index == len(node.below) - 1
        rest = _lines(child, fork, last, bar)
        yield (last if is_last else fork) + next(rest)
        yield from ((" " * len(bar) if is_last else bar) + line for line in rest)


class _Writing:
    """Makes the nodes.

    Args:
        chars: How much of a value is shown; ``None`` shows all.
        between: What stands between the facts of a line.
    """

    def __init__(self, chars: int | None, between: str) -> None:
        self._chars, self._between = chars, between

    def run(self, trace: Trace) -> _Node:
        """A run and all that is below it."""
        usage = trace.usage
        head = f"run {_line(trace.run_id)}: {OUTCOMES[trace.outcome]}"
        about = [
            f"agent {_line(trace.agent)}" if trace.agent else "",
            f"model {_line(trace.model)}" if trace.model else "",
            datetime.fromtimestamp(trace.began, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if trace.began else "",
            duration(trace.seconds),
            f"{count(usage.steps, 'step')}, {count(usage.tool_calls, 'call')}",
            f"tokens {tokens(usage)}",
            f"guarantee {_line(trace.guarantee)}"
            + (f" (promised {_line(trace.promised)})" if trace.promised != trace.guarantee else ""),
        ]
        node = _Node(head, self._between.join(filter(None, about)))
        if trace.history:
            node.below.append(_Node(f"{count(len(trace.history), 'earlier message')}"))
        node.below.append(self._value("prompt", trace.prompt))
        for index, step in enumerate(trace.steps):
            node.below += [self._shortened(item) for item in trace.shortenings if item.before_step == index]
            node.below.append(self._step(step, trace))
        node.below += [self._shortened(item) for item in trace.shortenings if item.before_step >= len(trace.steps)]
        if trace.answer is not None:
            node.below.append(self._value("answer", trace.answer))
        if trace.error:
            node.below.append(self._value("error", trace.error))
        return node

    def _step(self, step: TracedStep, trace: Trace) -> _Node:
        about = [
            f"step {step.number}",
            f"at {duration(step.began - trace.began)}",
            "broken off" if step.turn is None else f"model {duration(step.model_seconds)}",
            f"tokens {tokens(step.usage)}",
            "cut off at a token limit" if step.finish == "length" else "",
            f"guarantee {_line(step.guarantee)}",
            f"agent {_line(step.agent)}" if step.agent != trace.agent else "",
            f"model {_line(step.model)}" if step.model != trace.model else "",
        ]
        node = _Node(self._between.join(filter(None, about)))
        if step.thinking is not None:
            note = thinking_note(step)
            node.below.append(self._value("thinking" + (f" ({note})" if note else ""), step.thinking))
        elif step.turn is None and step.raw:
            node.below.append(self._value("written so far", step.raw))
        node.below += [self._call(call) for call in step.calls if call.inline]
        for part, call in written(step):
            match part:
                case TextPart(text):
                    node.below.append(self._value("text", text))
                case Fault():
                    node.below.append(self._fault(part))
                case _ if call is not None:
                    node.below.append(self._call(call))
                case _:
                    pass
        if step.rejected:
            node.below.append(self._value("not accepted; the model was told", step.rejected))
        return node

    def _fault(self, fault: Fault) -> _Node:
        raw = "" if fault.kind == "unknown_tool" else f"\n{fault.raw}"  # its call stands beside it
        return self._value(f"fault: {fault.kind.replace('_', ' ')}", fault.detail + raw)

    def _call(self, call: TracedCall) -> _Node:
        arguments = "arguments not recorded"
        if call.arguments is not None:
            arguments = ", ".join(f"{name}={spelled(value)}" for name, value in call.arguments.items())
        about = [
            f"call {_line(call.name)}({_line(self._cut(arguments))})",
            CALL_STATES[call.state],
            duration(call.seconds) if call.seconds else "",
            *(_line(note) for note in notes(call)),
        ]
        node = _Node(self._between.join(filter(None, about)))
        if call.run is not None:
            node.below.append(self.run(call.run))
        if call.error:
            node.below.append(self._value("error", call.error))
        if call.result is not None:
            node.below.append(self._value("result", call.result))
        return node

    def _shortened(self, item: TracedShortening) -> _Node:
        spent = item.usage.input_tokens or item.usage.output_tokens
        about = [
            f"history shortened to {count(len(item.shown), 'message')}",
            f"tokens {tokens(item.usage)}" * bool(spent),
        ]
        return _Node(self._between.join(filter(None, about)))

    def _value(self, label: str, value: str) -> _Node:
        shown = visible(self._cut(value))
        return _Node(f"{label}:", shown) if "\n" in shown else _Node(f"{label}: {shown}")

    def _cut(self, text: str) -> str:
        if self._chars is None or len(text) <= self._chars:
            return text
        return f"{text[: self._chars]} [{len(text) - self._chars:,} more characters]"


def _line(text: str) -> str:
    """Text that stays on its line."""
    return visible(text.replace("\n", "\\n"))
