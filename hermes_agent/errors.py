"""The one tree of errors.

    HermesError
    ├── ConfigurationError        wrong before anything ran
    │   ├── ToolDefinitionError   a function or schema that cannot be a tool
    │   ├── OutputTypeError       a type that cannot be an output
    │   ├── GrammarError          a turn that no text can satisfy, or that no engine compiles
    │   └── RequestsForbiddenError  a real model was asked where tests forbid it (hermes_agent.testing)
    ├── ModelError                the model could not write
    │   ├── ModelUnavailableError not installed, not cached, not reachable, not known
    │   ├── ContextLengthError    the prompt does not fit the model's context window
    │   └── GuaranteeError        ``constrain="strict"`` asked for more than the model can enforce
    ├── JobError                  an extraction job cannot go on from its file, or cannot write its output
    ├── JournalError              a journal cannot be read or written, or has no such run (hermes_agent.journal)
    ├── McpServerError            an MCP server that cannot be reached or has died (hermes_agent.integrations.mcp)
    ├── RunPaused                 the run waits for somebody's word on calls; not a failure
    └── RunError                  the run ended without an answer
        ├── InvalidTurnError      the model kept writing turns that cannot be read
        ├── InvalidOutputError    the answer kept failing validation
        ├── ToolFailedError       a tool raised, and the agent was told to let it
        ├── HookError             a hook raised
        └── LimitExceededError    a step, call, token or time limit was reached

Every error carries ``messages`` (the conversation so far), ``raw`` (the text that broke, as the model or
the user wrote it), ``attempts`` (every raw turn that was rejected), ``records`` of the run, and ``hint`` (what to do
next).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hermes_agent.messages import Message
    from hermes_agent.pause import PausedRun
    from hermes_agent.record import Record

__all__ = [
    "ConfigurationError",
    "ContextLengthError",
    "GrammarError",
    "GuaranteeError",
    "HermesError",
    "HookError",
    "InvalidOutputError",
    "InvalidTurnError",
    "JobError",
    "LimitExceededError",
    "ModelError",
    "ModelUnavailableError",
    "OutputTypeError",
    "RunError",
    "RunPaused",
    "ToolDefinitionError",
    "ToolFailedError",
]


class HermesError(Exception):
    """Root of every error this package raises on purpose.

    Args:
        message: What went wrong, with the offending value printed by ``repr``.
        hint: What to do next, as one sentence.
        raw: The text that could not be used, exactly as received; empty when there is none.
        messages: The conversation up to the error; empty when no run was under way.
        attempts: Every raw turn of the model that was rejected, oldest first.

    Attributes:
        run_id: The run that it ended; empty when there was none.
        records: What was recorded of that run, by run id; `hermes_agent.trace.Trace.of` shows it.
    """

    run_id: str = ""
    records: Mapping[str, Sequence[Record]] = MappingProxyType({})

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        raw: str = "",
        messages: Sequence[Message] = (),
        attempts: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.raw = raw
        self.messages: Sequence[Message] = messages
        self.attempts: tuple[str, ...] = tuple(attempts)

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class ConfigurationError(HermesError):
    """Something is wrong before anything ran: an argument, a name, a combination."""


class ToolDefinitionError(ConfigurationError):
    """A function or a schema cannot be a tool; the message says why."""


class OutputTypeError(ConfigurationError):
    """A type cannot be the output of a run; the message says why."""


class GrammarError(ConfigurationError):
    """No text can satisfy the turn that was asked for, or the engine refuses its grammar."""


class ModelError(HermesError):
    """The model could not write."""


class ModelUnavailableError(ModelError):
    """The model is not installed, not cached, not reachable or not known."""


class ContextLengthError(ModelError):
    """The prompt, in tokens, leaves no room in the model's context window."""


class GuaranteeError(ModelError):
    """``constrain="strict"`` was asked of a model that cannot enforce the turn grammar."""


class JobError(HermesError):
    """An extraction job cannot go on from its file, is under way elsewhere, or cannot write its output.

    What was settled before is safe in the job's file.
    """


class RunPaused(HermesError):  # noqa: N818  # nothing is wrong: somebody is asked
    """The run waits for somebody's word on calls: approval, or a result from elsewhere.

    Attributes:
        run: The run as it stands, to be saved, settled and gone on with by ``Agent.resume``.
    """

    def __init__(self, message: str, *, run: PausedRun, hint: str = "", messages: Sequence[Message] = ()) -> None:
        super().__init__(message, hint=hint, messages=messages)
        self.run = run

    def __reduce__(self) -> tuple[object, ...]:
        # It crosses processes like every other error; what it was made with is in its state.
        return RunPaused.__new__, (type(self), self.message), self.__dict__


class RunError(HermesError):
    """The run ended without an answer.

    ``messages`` holds everything up to there. Each call in it has one result, if only that the run ended first, so
    that it can be the ``history`` of another run.
    """


class InvalidTurnError(RunError):
    """The model wrote turns that cannot be read, more often than the limits allow."""


class InvalidOutputError(RunError):
    """The answer failed validation more often than the limits allow."""


class ToolFailedError(RunError):
    """A tool raised, and ``on_tool_error="raise"`` was asked for; ``__cause__`` is what it raised."""


class HookError(RunError):
    """A hook raised something that is no error of this package; ``__cause__`` is what it raised."""


class LimitExceededError(RunError):
    """A step, tool call, token or time limit was reached."""
