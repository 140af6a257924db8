"""Running the calls of one turn: validated first, side by side, results in call order.

Feedback texts follow the wording of Nous Research's reference script (Hermes-Function-Calling,
``functioncall.py``), which the models were trained beside.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import anyio

from hermes_agent.context import Retry, RunContext
from hermes_agent.limits import Limits
from hermes_agent.messages import ToolCall, ToolMessage
from hermes_agent.tool import Tool, ToolArgumentsError, cut, result_text
from hermes_agent.turn import Fault

__all__ = ["OnToolError", "Outcome", "fault_feedback", "no_result", "refuse_behind_fault", "run_calls"]

OnToolError = Literal["feedback", "raise"]
"""What becomes of an exception that a tool raises: the model is told its type and message, or the run ends."""

_logger = logging.getLogger("hermes_agent")

ContextFor = Callable[[ToolCall], RunContext[Any]]
Told = Callable[["ToolCall | Outcome"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one call.

    Attributes:
        call: The call.
        message: What the model is told.
        seconds: Wall clock the tool took; 0 when it was not run.
        error: What the tool raised, if it did; such as `SystemExit` is no `Exception`.
        invalid: The call itself was wrong (tool, arguments, or the tool said `Retry`): it counts as a
            correction.
        ran: The tool was run, whatever came of it.
    """

    call: ToolCall
    message: ToolMessage
    seconds: float = 0.0
    error: BaseException | None = None
    invalid: bool = False
    ran: bool = False


async def run_calls(
    calls: Sequence[ToolCall],
    *,
    tools: Mapping[str, Tool],
    limits: Limits,
    context_for: ContextFor,
    told: Told | None = None,
) -> list[Outcome]:
    """Validate every call and run those that pass, side by side.

    Args:
        calls: The calls of one turn.
        tools: The tools that may be called, by name.
        limits: Bounds on time and on the length of results.
        context_for: Makes the context of a call.
        told: Awaited with each call as it starts, and each outcome as it comes.

    Returns:
        One outcome a call, in the order of the calls.
    """
    if len(calls) == 1:  # the common case needs no task group
        return [await _one(calls[0], tools, limits, context_for, told)]
    outcomes: list[Outcome | None] = [None] * len(calls)

    async def place(index: int, call: ToolCall) -> None:
        outcomes[index] = await _one(call, tools, limits, context_for, told)

    async with anyio.create_task_group() as group:
        for index, call in enumerate(calls):
            group.start_soon(place, index, call)
    return [outcome for outcome in outcomes if outcome is not None]


async def _one(
    call: ToolCall, tools: Mapping[str, Tool], limits: Limits, context_for: ContextFor, told: Told | None
) -> Outcome:
    outcome = await _validated(call, tools, limits, context_for, told)
    if told is not None:
        await told(outcome)
    return outcome


async def _validated(
    call: ToolCall, tools: Mapping[str, Tool], limits: Limits, context_for: ContextFor, told: Told | None
) -> Outcome:
    tool = tools.get(call.name)
    if tool is None:
        known = ", ".join(map(repr, tools)) or "none"
        return _refused(call, f"There is no function named {call.name!r}. The available functions are: {known}.")
    try:
        arguments = tool.validate(call.arguments)
    except ToolArgumentsError as error:
        return _refused(
            call,
            f"There was an error validating function call against function signature: {call.name}\n{error}\n"
            "Please call this function again with correct arguments.",
        )
    except Retry as retry:
        return _refused(call, str(retry))
    except BaseException as error:
        if not _is_the_tools(error):
            raise
        return _failed(call, error, 0.0)  # a validator is part of the tool: its errors are the tool's
    if told is not None:
        await told(call)
    return replace(await _run(tool, call, arguments, limits, context_for), ran=True)


async def _run(
    tool: Tool, call: ToolCall, arguments: dict[str, Any], limits: Limits, context_for: ContextFor
) -> Outcome:
    seconds = tool.timeout if tool.timeout is not None else limits.tool_seconds
    context = context_for(call) if tool.takes_context else None
    started = time.perf_counter()
    try:
        with anyio.move_on_after(seconds):
            value = await tool.call(arguments, context)
            text = cut(result_text(value), limits.tool_result_chars)
            return Outcome(call, ToolMessage(text, call.name, call.id), time.perf_counter() - started)
    except Retry as retry:
        return _refused(call, str(retry), time.perf_counter() - started)
    except BaseException as error:  # whatever a tool raises is the tool's result, or ends the run
        if not _is_the_tools(error):
            raise
        _logger.info("tool %r failed", tool.name, exc_info=error)
        return _failed(call, error, time.perf_counter() - started)
    late = TimeoutError(f"{tool.name} did not finish within {seconds:g} seconds")
    return _failed(call, late, time.perf_counter() - started)


def _is_the_tools(error: BaseException) -> bool:
    """Whether it is a failure of the tool, and not somebody's wish that all of this ends.

    ``sys.exit`` in a tool is no reason to end the program around it, nor is a cancellation of something the tool
    waited for. A Ctrl-C and a cancellation of the run go through.
    """
    if isinstance(error, BaseExceptionGroup):
        inside = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return all(map(_is_the_tools, inside))
    if isinstance(error, asyncio.CancelledError):
        return not _is_cancelled()
    return isinstance(error, Exception | SystemExit)


def _is_cancelled() -> bool:
    """Whether somebody cancelled the task we are in: asyncio counts that, whoever does it and in whatever way."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # trio, where this error means nothing
        return False
    return task is None or task.cancelling() > 0


def _refused(call: ToolCall, text: str, seconds: float = 0.0) -> Outcome:
    return Outcome(call, ToolMessage(text, call.name, call.id, is_error=True), seconds, invalid=True)


def _failed(call: ToolCall, error: BaseException, seconds: float) -> Outcome:
    # Type and message only: a traceback tells the model nothing and may hold secrets.
    text = f"Error: {type(error).__name__}: {error}" if str(error) else f"Error: {type(error).__name__}"
    return Outcome(call, ToolMessage(cut(text, 2000), call.name, call.id, is_error=True), seconds, error)


def refuse_behind_fault(call: ToolCall) -> Outcome:
    """The outcome of a call that stands behind something unreadable: it is not run, and the model may ask again."""
    return _refused(
        call, "Not run, because a function call before it could not be read. Call it again if it is needed."
    )


def no_result(call: ToolCall) -> ToolMessage:
    """What stands for the result of a call when the run ended before there was one; it may have been running."""
    text = "The run ended before this call had a result. Call it again if it is still needed."
    return ToolMessage(text, call.name, call.id, is_error=True)


def fault_feedback(fault: Fault, *, cut_off: bool = False) -> ToolMessage:
    """What the model is told about something it wrote that could not be read, or that it could not finish."""
    if cut_off and fault.kind == "truncated":
        text = f"Your turn was cut off because it was too long: {fault.detail}\nPlease be shorter."
        return ToolMessage(text, fault.name or "", is_error=True)
    text = (
        f"There was an error parsing function calls: {fault.detail}\n"
        "Please call the function again with correct syntax, one JSON object with name and arguments "
        "within tool_call tags, or answer in plain text."
    )
    return ToolMessage(text, fault.name or "", is_error=True)
