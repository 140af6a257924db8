"""Hooks: what stands around a run, its model turns and its tool calls, to watch, change or block them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from hermes_agent.context import RunContext
from hermes_agent.messages import ToolCall, ToolMessage
from hermes_agent.models.base import Request
from hermes_agent.record import CallEnded, TurnWritten

if TYPE_CHECKING:
    from hermes_agent.run import RunResult

__all__ = ["Hooks", "around", "blocked"]

ItemT = TypeVar("ItemT")
DoneT = TypeVar("DoneT")
HookDepsT = TypeVar("HookDepsT", default=Any)


class Hooks(Generic[HookDepsT]):
    """What happens around a run; override what you need and give it to an agent as ``hooks=[...]``.

    Each method is given a ``proceed`` that does the thing. What stands before it happens before, what stands behind
    it happens after; what it is called with and what is returned may be changed; not calling it blocks the thing.
    The first hook of the list is the outermost. Nothing that has ended is hooked again when a run goes on; a call that
    waited is: its arguments are what its hooks make of them then, and a word given about others does not count.

    Around a turn and a call `Retry` tells the model what to do instead; any other error ends the run. ``proceed`` of a
    run may be called once, that of a turn again: each counts.

    Example:
        >>> class NoDeleting(Hooks):
        ...     async def around_call(self, context, call, proceed):
        ...         if "DELETE" in str(call.arguments).upper():
        ...             return blocked(call, "Deleting is not allowed.")
        ...         return await proceed(call)
    """

    async def around_run(
        self, context: RunContext[HookDepsT], proceed: Callable[[], Awaitable[RunResult[Any]]]
    ) -> RunResult[Any]:
        """Around the whole run, and around going on with one that was paused."""
        return await proceed()

    async def around_turn(
        self, context: RunContext[HookDepsT], request: Request, proceed: Callable[[Request], Awaitable[TurnWritten]]
    ) -> TurnWritten:
        """Around one turn of the model. ``request.messages`` is live and must not be changed in place."""
        return await proceed(request)

    async def around_call(
        self, context: RunContext[HookDepsT], call: ToolCall, proceed: Callable[[ToolCall], Awaitable[CallEnded]]
    ) -> CallEnded:
        """Around one call that is about to be validated and run, in the task that runs it."""
        return await proceed(call)


def around(
    method: Callable[[RunContext[Any], ItemT, Callable[[ItemT], Awaitable[DoneT]]], Awaitable[DoneT]],
    context: RunContext[Any],
    proceed: Callable[[ItemT], Awaitable[DoneT]],
) -> Callable[[ItemT], Awaitable[DoneT]]:
    """What does a thing with one more hook around it."""
    return lambda item: method(context, item, proceed)


def blocked(call: ToolCall, reason: str) -> CallEnded:
    """The result of a call that was not run; the model is told the reason."""
    return CallEnded(call.id, ToolMessage(reason, call.name, call.id, is_error=True))
