"""What a tool may know about the run it is called in, and how it sends the model back to think again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic

from typing_extensions import TypeVar

from hermes_agent.limits import NOTHING, Usage
from hermes_agent.messages import Message

if TYPE_CHECKING:
    from hermes_agent.log import RunLog

__all__ = ["DepsT", "Retry", "RunContext"]

DepsT = TypeVar("DepsT", default=None)
"""The type of the object a run hands to its tools."""


@dataclass(frozen=True, slots=True)
class RunContext(Generic[DepsT]):
    """The run as one tool call sees it.

    A function whose first parameter is annotated ``RunContext`` or ``RunContext[...]`` is given one; the
    model never sees that parameter.

    Attributes:
        deps: The object given to the run as ``deps=``.
        usage: What the run has used up to this call.
        step: The model turn that is written or that made the call, counted from 1; 0 before the first.
        messages: The conversation so far. Read only.
        call_id: The id of this call, unique within the conversation; empty where there is no call, as in a validator.
        run_id: The id of the run.
        agent: Name of the agent.
        model: Name of the model.
        inside: For tools that ask agents of their own.
    """

    deps: DepsT
    usage: Usage = field(default_factory=Usage)
    step: int = 0
    messages: Sequence[Message] = ()
    call_id: str = ""
    run_id: str = ""
    agent: str = ""
    model: str = ""
    inside: Inside | None = field(default=None, repr=False, compare=False)
    _report: Callable[[str, float | None, float | None], None] | None = field(default=None, repr=False, compare=False)

    @property
    def used_inside(self) -> Usage:
        """What agents that this call asked have used."""
        return NOTHING if self.inside is None else self.inside.usage

    def progress(self, message: str, done: float | None = None, total: float | None = None) -> None:
        """Tell whoever watches the run how far this call is; `ToolProgress` events of a stream say it.

        It returns at once, from an ``async def`` as from a worker thread. Where nobody watches, or the call
        is over, it does nothing.

        Args:
            message: For people.
            done: How much is done, in any unit.
            total: How much there is to do, in the same unit.
        """
        if self._report is not None:
            self._report(message, done, total)


class Inside:
    """What a tool that runs agents of its own takes from the run around it, and gives back.

    Attributes:
        usage: What those runs have used.
    """

    __slots__ = ("log", "usage")

    def __init__(self, log: RunLog) -> None:
        self.log = log
        self.usage = NOTHING


class Retry(Exception):  # noqa: N818  # an instruction to the model, not a failure of the program
    """Raised by a tool or an output validator: the message is shown to the model, which may try again.

    It counts as a correction, so a tool that always raises it ends the run with an error.

    Args:
        message: What the model did wrong and what it should do instead.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
