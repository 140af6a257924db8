"""Running the calls of one turn: validated first, side by side, results in call order.

Feedback texts follow the wording of Nous Research's reference script (Hermes-Function-Calling,
``functioncall.py``), which the models were trained beside.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import anyio

from hermes_agent.context import Retry, RunContext
from hermes_agent.errors import ConfigurationError, HermesError, HookError, RunPaused
from hermes_agent.hooks import Hooks, around
from hermes_agent.limits import NOTHING, Limits, Usage
from hermes_agent.log import RunLog
from hermes_agent.messages import ToolCall, ToolMessage
from hermes_agent.record import CallBegan, CallEnded, PendingCall
from hermes_agent.result import correction, error_text
from hermes_agent.tool import Tool, ToolArgumentsError, cut, result_text
from hermes_agent.turn import Fault

__all__ = ["Calls", "OnToolError", "Outcome", "Waits", "fault_feedback", "no_result", "refuse", "refuse_behind_fault"]

OnToolError = Literal["feedback", "raise"]
"""What becomes of an exception that a tool raises: the model is told its type and message, or the run ends."""

_logger = logging.getLogger("hermes_agent.calls")

ContextFor = Callable[[ToolCall], RunContext[Any]]
Told = Callable[["ToolCall | Outcome"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one call.

    Attributes:
        call: The call.
        ended: Its result or refusal; ``None`` while it waits for somebody's word.
        error: What the tool raised in this process, if it did; such as `SystemExit` is no `Exception`.
        pending: What it waits for: itself, or calls of an agent inside of it.
    """

    call: ToolCall
    ended: CallEnded | None = None
    error: BaseException | None = None
    pending: tuple[PendingCall, ...] = ()


class Waits(Exception):  # noqa: N818  # passes through hooks, and is no failure
    """A call that is not run before somebody has said so.

    Args:
        pending: What is waited for: the call itself, or calls of an agent inside of it.
    """

    def __init__(self, pending: Sequence[PendingCall]) -> None:
        super().__init__("this call waits for somebody's word")
        self.pending = tuple(pending)


class Calls:
    """What runs the calls of a run.

    Args:
        tools: The tools that may be called, by name.
        limits: Bounds on time, on how many run at once and on the length of results.
        log: What was recorded of the run; a call that has its result there is not run again.
        context_for: Makes the context of a call.
        hooks: Stand around each call, the first outermost.
        sequential: Run one call after the other.
        told: Awaited with each call as it starts, and each outcome as it comes.
    """

    def __init__(
        self,
        tools: Mapping[str, Tool],
        limits: Limits,
        log: RunLog,
        context_for: ContextFor,
        *,
        hooks: Sequence[Hooks[Any]] = (),
        sequential: bool = False,
        told: Told | None = None,
    ) -> None:
        self.tools, self.limits, self.log, self.context_for = tools, limits, log, context_for
        self.hooks, self.sequential, self.told = hooks, sequential, told
        self._errors: dict[str, BaseException] = {}

    async def run(self, calls: Sequence[ToolCall]) -> list[Outcome]:
        """Validate every call of a turn and run those that pass, side by side where they may.

        Returns:
            One outcome a call, in the order of the calls.

        Raises:
            HookError: A hook raised; the calls beside it were cancelled.
        """
        if len(calls) == 1:  # the common case needs no task group
            return [await self._one(calls[0])]
        hand_offs = [c.id for c in calls if (tool := self.tools.get(c.name)) is not None and tool.hand_off]
        outcomes: dict[str, Outcome] = {}
        for group in self._groups(calls):
            await self._together(group, outcomes, late=hand_offs[1:])
        return [outcomes[call.id] for call in calls]

    def _groups(self, calls: Sequence[ToolCall]) -> list[list[ToolCall]]:
        """The calls in order, those that may run side by side together."""
        groups: list[list[ToolCall]] = [[]]
        for call in calls:
            tool = self.tools.get(call.name)
            if self.sequential or (tool is not None and tool.sequential):
                groups += [[call], []]
            else:
                groups[-1].append(call)
        return [group for group in groups if group]

    async def _together(self, calls: Sequence[ToolCall], outcomes: dict[str, Outcome], *, late: Sequence[str]) -> None:
        bound = self.limits.concurrency
        room = nullcontext() if bound is None or len(calls) <= bound else anyio.Semaphore(bound)
        failed: list[HermesError] = []

        async def place(call: ToolCall) -> None:
            try:
                async with room:
                    outcomes[call.id] = await self._one(call, second_hand_off=call.id in late)
            except HermesError as error:  # carried past the task group, which would wrap it
                failed.append(error)
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for call in calls:
                group.start_soon(place, call)
        if failed:
            raise failed[0]

    async def _one(self, call: ToolCall, *, second_hand_off: bool = False) -> Outcome:
        if (known := self.log.ended.get(call.id)) is not None:
            return Outcome(call, known)
        if second_hand_off:
            return Outcome(call, refuse(call, "Not run, because the conversation can be handed over once a turn."))
        try:
            ended = await self._hooked(call) if self.hooks else await self._settle(call)
        except Waits as waits:
            return Outcome(call, pending=waits.pending)
        await self.log.write(ended)
        outcome = Outcome(call, ended, self._errors.pop(call.id, None))
        if self.told is not None:
            await self.told(outcome)
        return outcome

    async def _hooked(self, call: ToolCall) -> CallEnded:
        ran: list[CallEnded] = []

        async def settle(call: ToolCall) -> CallEnded:
            ran.append(await self._settle(call))
            return ran[-1]

        proceed: Callable[[ToolCall], Awaitable[CallEnded]] = settle
        context = self.context_for(call)
        for hook in reversed(self.hooks):
            proceed = around(hook.around_call, context, proceed)
        try:
            ended = await proceed(call)
        except Retry as retry:
            ended = self._sent_back(call, retry)
        except (HermesError, Waits):
            raise
        except Exception as error:
            raise HookError(f"a hook around {call.name!r} raised {error!r}", hint="mend the hook") from error
        if not isinstance(cast("object", ended), CallEnded) or ended.call_id != call.id:
            raise HookError(
                f"a hook around {call.name!r} returned {ended!r}, which is no result of call {call.id!r}",
                hint="return what proceed() gave, or blocked(call, reason)",
            )
        return _with_costs(ended, ran)

    async def _settle(self, call: ToolCall) -> CallEnded:
        """Validate a call, ask for a word if it needs one, and run it.

        Raises:
            Waits: Somebody has to say what becomes of it.
        """
        word = self.log.settled.get(call.id)
        if word is not None and word.decision == "denied":
            return _ended(call, f"Not run: {correction(word.text, self.limits.tool_result_chars)}", is_error=True)
        if word is not None and word.decision == "supplied":
            return _ended(call, cut(word.text, self.limits.tool_result_chars))
        tool = self.tools.get(call.name)
        if tool is None:
            known = ", ".join(map(repr, self.tools)) or "none"
            return refuse(call, f"There is no function named {call.name!r}. The available functions are: {known}.")
        try:
            arguments = tool.validate(call.arguments)
        except ToolArgumentsError as error:
            return refuse(
                call,
                f"There was an error validating function call against function signature: {call.name}\n{error}\n"
                "Please call this function again with correct arguments.",
            )
        except Retry as retry:
            return self._sent_back(call, retry)
        except BaseException as error:
            if not _is_the_tools(error):
                raise
            return self._failed(call, error)  # a validator is part of the tool: its errors are the tool's
        if word is None or self.log.waited[call.id].arguments != call.arguments:  # they are what was allowed
            await self._ask(tool, call, arguments)
        await self.log.write(CallBegan(call, time.time()))
        if self.told is not None:
            await self.told(call)
        return await self._run(tool, call, arguments)

    async def _ask(self, tool: Tool, call: ToolCall, arguments: dict[str, Any]) -> None:
        """Whether a call may be run without anybody's word.

        Raises:
            Waits: It may not.
        """
        if call.id in self.log.cut_off:
            if not tool.idempotent:
                raise Waits([PendingCall(call, "interrupted", self.log.run_id)])
        elif tool.function is None:
            raise Waits([PendingCall(call, "external", self.log.run_id)])
        elif tool.approval is not False and await self._wants_approval(tool, call, arguments):
            raise Waits([PendingCall(call, "approval", self.log.run_id)])

    async def _wants_approval(self, tool: Tool, call: ToolCall, arguments: dict[str, Any]) -> bool:
        if isinstance(tool.approval, bool):
            return tool.approval
        try:
            wanted = tool.approval(self.context_for(call), arguments)
            return bool(await wanted if inspect.isawaitable(wanted) else wanted)
        except Exception as error:
            raise HookError(f"approval= of tool {tool.name!r} raised {error!r}", hint="mend that function") from error

    async def _run(self, tool: Tool, call: ToolCall, arguments: dict[str, Any]) -> CallEnded:
        seconds = tool.timeout if tool.timeout is not None else self.limits.tool_seconds
        context = self.context_for(call) if tool.takes_context else None
        started = time.perf_counter()
        try:
            with anyio.move_on_after(seconds):
                value = await tool.call(arguments, context)
                text = cut(result_text(value), self.limits.tool_result_chars)
                message = ToolMessage(text, call.name, call.id)
                return CallEnded(
                    call.id,
                    message,
                    time.perf_counter() - started,
                    ran=True,
                    usage=_inside(context),
                    hand_off=tool.hand_off,
                    at=time.time(),
                )
        except RunPaused as paused:
            if not paused.run_id.startswith(f"{self.log.run_id}/"):
                raise ConfigurationError(
                    f"tool {tool.name!r} asked an agent whose run waits for somebody's word, out of sight of this run",
                    hint="give that agent as a tool: agent.as_tool()",
                ) from paused
            raise Waits(paused.run.pending) from None
        except Retry as retry:
            return _costing(self._sent_back(call, retry), context, time.perf_counter() - started)
        except BaseException as error:  # whatever a tool raises is the tool's result, or ends the run
            if not _is_the_tools(error):
                raise
            _logger.info("tool %r failed: %s", tool.name, type(error).__name__)
            _logger.debug("tool %r failed", tool.name, exc_info=error)
            return _costing(self._failed(call, error), context, time.perf_counter() - started)
        left = "" if tool.is_async else "; it cannot be stopped, and may still be running"
        late = TimeoutError(f"{tool.name} did not finish within {seconds:g} seconds{left}")
        return _costing(self._failed(call, late), context, time.perf_counter() - started)

    def _sent_back(self, call: ToolCall, retry: Retry) -> CallEnded:
        return refuse(call, correction(str(retry), self.limits.tool_result_chars))

    def _failed(self, call: ToolCall, error: BaseException) -> CallEnded:
        self._errors[call.id] = error
        text = error_text(error)
        return replace(_ended(call, f"Error: {text}", is_error=True), error=text)


def _with_costs(ended: CallEnded, ran: Sequence[CallEnded]) -> CallEnded:
    """A result that a hook may have put in the place of others: what was run was run, whatever the model is told."""
    if not any(each.ran for each in ran) or ended in ran[-1:]:
        return ended
    used = sum((each.usage for each in ran), NOTHING)
    return replace(ended, ran=True, seconds=sum(each.seconds for each in ran), usage=used)


def _costing(ended: CallEnded, context: RunContext[Any] | None, seconds: float) -> CallEnded:
    return replace(ended, seconds=seconds, usage=_inside(context), ran=True, at=time.time())


def _inside(context: RunContext[Any] | None) -> Usage:
    """What agents have used that a tool asked."""
    return NOTHING if context is None else context.used_inside


def _ended(call: ToolCall, text: str, *, is_error: bool = False) -> CallEnded:
    return CallEnded(call.id, ToolMessage(text, call.name, call.id, is_error=is_error), at=time.time())


def refuse(call: ToolCall, text: str) -> CallEnded:
    """The result of a call that is wrong: it is not run, and counts as a correction."""
    return replace(_ended(call, text, is_error=True), invalid=True)


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


def refuse_behind_fault(call: ToolCall) -> Outcome:
    """The outcome of a call that stands behind something unreadable: it is not run, and the model may ask again."""
    text = "Not run, because a function call before it could not be read. Call it again if it is needed."
    return Outcome(call, refuse(call, text))


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
