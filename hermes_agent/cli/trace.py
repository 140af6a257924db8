"""The live trace: a run's events as a person reads them."""

from __future__ import annotations

import json
import time
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, assert_never

from rich.text import Text
from typing_extensions import TypeVar

from hermes_agent.cli.approvals import can_ask, settled
from hermes_agent.cli.interrupts import noticed_by_loop
from hermes_agent.cli.terminal import safe
from hermes_agent.errors import RunPaused
from hermes_agent.events import (
    ArgumentsDelta,
    CallCompleted,
    CallStarted,
    Event,
    FaultFound,
    Final,
    InlineCall,
    ParserEvent,
    PartialOutput,
    ReasoningDelta,
    StepFinished,
    StepStarted,
    TextDelta,
    ToolFinished,
    ToolProgress,
    ToolStarted,
)
from hermes_agent.limits import Usage

if TYPE_CHECKING:
    from rich.console import Console

    from hermes_agent.agent import Agent, RunStream
    from hermes_agent.messages import Message, ToolCall
    from hermes_agent.models.base import Guarantee
    from hermes_agent.pause import PausedRun
    from hermes_agent.run import RunResult

__all__ = ["Trace", "trace", "watch"]

T = TypeVar("T")

_RESULT_LINES, _RESULT_CHARS, _ARGUMENT_CHARS = 12, 1200, 600


async def trace(events: RunStream[T], console: Console | Trace) -> RunResult[T]:
    """Print a run as it happens, then what it cost.

    Args:
        events: What ``Agent.stream`` yields; read to its end.
        console: Where to print; or a trace of your own, to ask it for usage when the run fails.

    Returns:
        The result of the run.

    Raises:
        HermesError: The run failed; what was printed so far stands, on whole lines.
    """
    view = console if isinstance(console, Trace) else Trace(console)
    try:
        async for event in events:
            view.show(event)
    finally:
        view.break_line()
    view.finish(events.result.guarantee)
    return events.result


def watch(agent: Agent[None, T], question: str, history: Sequence[Message], console: Console | Trace) -> RunResult[T]:
    """Ask, and print the run as it happens. On a terminal, calls that wait for a word are asked about.

    Raises:
        KeyboardInterrupt: Ctrl-C; the model and the tools were stopped, and the trace says so.
        RunPaused: Calls wait for a word, and there is nobody to ask.
        HermesError: The run failed.
    """
    import anyio

    view = console if isinstance(console, Trace) else Trace(console)
    waiting: PausedRun | None = None

    async def go() -> RunResult[T]:
        run = agent.stream(question, history=history) if waiting is None else agent.resume_stream(waiting)
        with noticed_by_loop():
            async with run as events:
                return await trace(events, view)

    while True:
        try:
            return _unwrapped(anyio.run, go)
        except RunPaused as paused:
            if not can_ask():
                raise
            waiting = paused.run
        except (KeyboardInterrupt, CancelledError):
            view.stop()
            raise KeyboardInterrupt from None
        try:
            waiting = settled(waiting, view.out)
        except KeyboardInterrupt:
            view.stop()
            raise


def _unwrapped(run: Callable[[Callable[[], Awaitable[T]]], T], go: Callable[[], Awaitable[T]]) -> T:
    try:
        return run(go)
    except BaseExceptionGroup as group:
        # A task group wraps what is no ordinary error: a second Ctrl-C, the end of a closed pipe.
        first, *others = group.exceptions
        if others:
            raise
        raise first from None


class Trace:
    """Prints events one by one. Nothing a model or a tool writes is read as markup or obeyed by the terminal.

    Args:
        console: Where to print; a quiet one leaves only the counting.

    Attributes:
        out: Where it is printed.
        usage: What the turns read so far have cost.
    """

    def __init__(self, console: Console) -> None:
        self.usage = Usage()
        self.out = console
        unicode = (console.encoding or "").lower().startswith("utf")
        self._call, self._result, self._dot, self._more = ("→", "←", "·", "…") if unicode else ("->", "<-", "|", "...")
        self._started = time.perf_counter()
        self._open: type[Event] | None = None  # whose text the cursor stands behind
        self._side_by_side = False
        self._wrote_text = False
        self._rejected = False

    @property
    def seconds(self) -> float:
        """Wall clock since the trace was made."""
        return time.perf_counter() - self._started

    def show(self, event: Event) -> None:
        """Print one event."""
        match event:
            case StepStarted():
                self._wrote_text = False
                if self._rejected:
                    self._line("! the answer was not valid; the model is asked again", "yellow")
            case StepFinished():
                self._count_step(event)
            case ToolStarted():
                self.usage += Usage(tool_calls=1)  # the call itself was shown when it was read
            case ToolProgress():
                self._line(f"{self._dot} {safe(self._cut(_progress(event), _ARGUMENT_CHARS))}", "dim")
            case ToolFinished():
                self._show_result(event)
            case PartialOutput():
                pass  # the text it was read from is shown
            case Final(output):
                if not self._wrote_text:
                    self._line(safe(str(output)), "")
            case _:
                self._show_written(event)

    def _show_written(self, event: ParserEvent) -> None:
        match event:
            case ReasoningDelta(text):
                self._go_on(ReasoningDelta, text, "dim italic", "thinking: ")
            case TextDelta(text):
                self._wrote_text = True
                self._go_on(TextDelta, text, "", "")
            case CallStarted() | ArgumentsDelta() | InlineCall():
                pass  # shown once it is whole, or as part of the thought
            case CallCompleted(_, call):
                self._line(f"{self._call} {self._spelled(call)}", "cyan")
            case FaultFound(fault):
                self._line(f"! {fault.kind.replace('_', ' ')}: {safe(fault.detail)}", "yellow")
            case _:
                assert_never(event)

    def break_line(self) -> None:
        """End the line the cursor stands in, if it stands in one."""
        if self._open is not None:
            self._open = None
            self._put("")

    def stop(self) -> None:
        """Print that the run was stopped, and what it cost up to there."""
        self._line("stopped", "bold yellow")
        self.finish()

    def finish(self, guarantee: Guarantee | None = None) -> None:
        """Print what the run cost, and how strongly it was enforced."""
        used = self.usage
        parts = [
            f"{_count(used.steps, 'step')}, {_count(used.tool_calls, 'call')}",
            f"{used.input_tokens:,} tokens in, {used.output_tokens:,} out",
            f"{self.seconds:.1f} s",
        ]
        if guarantee is not None:
            parts.append(f"guarantee {guarantee}")
        self._line(f" {self._dot} ".join(parts), "dim")

    def _count_step(self, event: StepFinished) -> None:
        calls = len(event.turn.tool_calls)
        self.usage += event.usage
        self._side_by_side = calls > 1
        self._rejected = not calls and not event.turn.faults

    def _put(self, text: str, style: str = "", end: str = "\n") -> None:
        # A Text is printed as it is, whatever the console makes of strings.
        self.out.print(Text(text, style), end=end, soft_wrap=True, highlight=False)

    def _go_on(self, kind: type[Event], text: str, style: str, label: str) -> None:
        if not text:
            return
        if self._open is not kind:
            self.break_line()
            self._open = kind
            self._put(label, style=style, end="")
        self._put(safe(text), style=style, end="")

    def _line(self, text: str, style: str, end: str = "\n") -> None:
        self.break_line()
        self._put(text, style=style, end=end)

    def _spelled(self, call: ToolCall) -> str:
        arguments = ", ".join(f"{name}={_value(value)}" for name, value in call.arguments.items())
        note = f"  (repaired: {', '.join(call.repairs)})" if call.repairs else ""
        return safe(f"{call.name}({self._cut(arguments, _ARGUMENT_CHARS)}){note}")

    def _show_result(self, event: ToolFinished) -> None:
        lines = safe(self._cut(event.result.content, _RESULT_CHARS)).split("\n")
        left = len(lines) - _RESULT_LINES
        if left > 0:
            lines[_RESULT_LINES:] = [f"[{self._more} {_count(left, 'more line')}]"]
        name = f"{safe(event.call.name)}: " if self._side_by_side else ""
        self._line(f"{self._result} {name}", "green", end="")
        self._put("\n  ".join(lines), style="red" if event.result.is_error else "", end="")
        self._put(f"  {event.seconds:.1f} s" if event.seconds >= 0.05 else "", style="dim")

    def _cut(self, text: str, limit: int) -> str:
        return text if len(text) <= limit else f"{text[:limit]} [{self._more} {len(text) - limit:,} more characters]"


def _value(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return repr(value)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _progress(event: ToolProgress) -> str:
    done = "" if event.done is None else f"{event.done:,g}"
    of = "" if event.total is None else f" of {event.total:,g}"
    return f"{event.call.name}: {event.message}" + (f" ({done}{of})" if done else "")
