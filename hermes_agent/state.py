"""What a run has come to, and what everything that happens to it changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from hermes_agent.budget import Budget, Reached
from hermes_agent.calls import no_result, refuse
from hermes_agent.context import Inside, RunContext
from hermes_agent.errors import (
    ConfigurationError,
    GuaranteeError,
    InvalidOutputError,
    LimitExceededError,
    RunError,
)
from hermes_agent.events import Event
from hermes_agent.generation import Emit
from hermes_agent.history import estimate
from hermes_agent.limits import NOTHING, Usage
from hermes_agent.log import RunLog
from hermes_agent.messages import AssistantMessage, Conversation, Message, ToolCall, ToolMessage, UserMessage
from hermes_agent.models.base import FinishReason, Guarantee, Model, weakest
from hermes_agent.plan import Plan
from hermes_agent.record import CallEnded, TurnWritten
from hermes_agent.result import correction
from hermes_agent.turn import Turn

__all__ = ["Report", "RunState"]

Report = Callable[[ToolCall, str, float | None, float | None], None]
"""Takes what a tool says of its progress, from any thread: the call, a message, how much is done, and of what."""


class RunState:
    """What a run has come to.

    Attributes:
        plan: What the agent settled that writes the next turn; another one after a hand-off.
        model: Writes it.
        messages: The conversation, which only grows.
        shown: What the model is shown of it, behind the agent's opening.
        visible: The same without the opening, where a history policy may ask for it.
        size: Tokens of the last prompt and turn; an estimate before the first.
        corrections: Turns in a row that had to be corrected.
        gone_wrong: Turns in a row in which every call of a tool was refused, by tool.
        strict: ``constrain="strict"`` was asked for, by this agent or one before it.
        answered_calls: A tool has answered since this agent took over: a forced tool choice has been honoured.
        inline_calls: How often the turn that is written has stopped for calls inside its thought.
        last: The limit that was reached, where the next turn has to answer.
        unread: A turn that is recorded, and that the conversation does not have yet.
        emit: Is told what happens.
        report: Is told what tools say of their progress.
    """

    def __init__(
        self, plan: Plan, model: Model, prompt: str, *, history: Sequence[Message], deps: Any, log: RunLog
    ) -> None:
        self.plan, self.model, self.deps, self.log = plan, model, deps, log
        self.emit: Emit | None = None
        self.report: Report | None = None
        if not isinstance(cast("object", prompt), str):
            raise ConfigurationError(f"the prompt is {prompt!r}, which is not a str", hint="pass what the user says")
        for item in cast("Sequence[object]", history):
            if not isinstance(item, Message):
                raise ConfigurationError(
                    f"history holds {item!r}, which is not a message",
                    hint="pass result.messages, a Conversation, or messages of hermes_agent.messages",
                )
        self.prompt = prompt
        self.messages = Conversation([*history, UserMessage(prompt)])
        # The opening is not part of the result: it belongs to the agent, and the next agent has its own.
        self.shown = Conversation([*plan.before(history), UserMessage(prompt)])
        self.visible = list(self.messages) if plan.history_policy is not None else None
        self.strict = plan.constrain == "strict"
        self.budget = Budget(plan.limits)
        self.usage = Usage()
        self.size = estimate(self.messages) if plan.history_policy is not None else 0
        self.turns: list[Turn] = []
        self.attempts: list[str] = []
        self.corrections = 0
        self.gone_wrong: Counter[str] = Counter()
        self.answered_calls = False
        self._noted: set[str] = set()
        self.inline_calls = self.step = 0
        self.guarantee: Guarantee = "checked"
        self.last: Reached | None = None
        self.unread: TurnWritten | None = None

    @property
    def went_on(self) -> bool:
        """The run is known to have gone on behind this turn, such as with a last one because time was up in it."""
        return self.step < self.log.last_step

    def context(self, call: ToolCall | None = None) -> RunContext[Any]:
        """The run as a call, a hook or a validator sees it at this moment."""
        return RunContext(
            deps=self.deps,
            usage=self.usage,
            step=self.step,
            messages=self.messages.up_to_now(),
            call_id="" if call is None else call.id,
            run_id=self.log.run_id,
            agent=self.plan.name,
            model=self.model.name,
            inside=None if call is None else Inside(self.log),
            _report=None if self.report is None or call is None else partial(self.report, call),
        )

    def go_over(self, plan: Plan, model: Model) -> None:
        """Let another agent go on with the conversation."""
        self.plan, self.model = plan, model
        self.strict = self.strict or plan.constrain == "strict"
        self.answered_calls = False
        shown = self.messages if self.visible is None else self.visible
        self.visible = list(shown) if plan.history_policy is not None else None
        self.shown = Conversation(plan.before(shown))

    def show_only(self, messages: Sequence[Message]) -> None:
        """Show the model these messages in place of the conversation so far."""
        self.visible = list(messages)
        self.shown = Conversation(self.plan.before(messages))

    def append(self, message: Message) -> None:
        """Put a message at the end of the conversation."""
        if isinstance(message, AssistantMessage):
            self.unread = None
            self._noted.clear()
        self.messages.append(message)
        self.shown.append(message)
        if self.visible is not None:
            self.visible.append(message)

    def note(self, name: str, ended: CallEnded) -> None:
        """Count a call of this tool that has its result; once, though time may be up between that and its message."""
        if ended.call_id in self._noted:
            return
        self._noted.add(ended.call_id)
        if ended.usage is not NOTHING:
            self.usage += ended.usage
        self.usage += Usage(tool_calls=int(ended.ran))
        self.answered_calls = self.answered_calls or not ended.invalid

    def close_calls(self, why: str = "") -> list[tuple[ToolCall, ToolMessage]]:
        """Give a result to each call of the last turn that has none, so that the conversation can go on.

        Returns:
            The calls of which nothing else is known, and what they were given.
        """
        answered: set[str] = set()
        closed: list[tuple[ToolCall, ToolMessage]] = []
        for message in reversed(self.messages):
            if isinstance(message, AssistantMessage):
                for call in message.tool_calls:
                    if call.id in answered:
                        continue
                    if (known := self.log.ended.get(call.id)) is not None:
                        self.note(call.name, known)
                        self.append(known.message)
                        continue
                    closed.append((call, refuse(call, why).message if why else no_result(call)))
                    self.append(closed[-1][1])
            if not isinstance(message, ToolMessage):
                break
            answered.add(message.call_id)
        return closed

    def reach(self, reached: Reached, why: str) -> None:
        """A limit is reached: the run ends, or its next turn has to answer.

        Raises:
            LimitExceededError: It ends.
        """
        if self.plan.on_limit != "answer" or self.last is not None:
            raise self.limit_error(reached)
        self.last = reached
        if self.step and why != "Not run":  # a refused call has been told already
            self.append(ToolMessage(f"{why}: answer now with what you have, without calling a function."))

    def reject(self, turn: Turn, finish: FinishReason, why: str) -> None:
        """Put an answer into the conversation that is not accepted, and why.

        Raises:
            RunError: There were too many.
        """
        why = correction(why, self.plan.limits.tool_result_chars)
        self.append(AssistantMessage(turn.text, turn.reasoning))
        self.append(ToolMessage(f"{why}\nPlease answer again.", is_error=True))
        if self.last is not None:
            raise self.limit_error(
                replace(self.last, message=f"{self.last.message}, and the last answer was not valid: {why}"),
                raw=turn.raw,
            )
        self.correct(InvalidOutputError, turn, finish, f"the answer kept failing validation; last: {why}")

    def correct(self, kind: type[RunError], turn: Turn, finish: FinishReason, message: str) -> None:
        """Count a turn that has to be corrected.

        Raises:
            RunError: There were too many in a row.
        """
        self.attempts.append(turn.raw)
        self.corrections += 1
        if self.corrections > self.plan.limits.corrections and not self.went_on:
            if finish == "length":
                raise self.error(
                    LimitExceededError,
                    f"the model's turns were cut off before their end (turn_tokens={self.plan.limits.turn_tokens!r})",
                    "raise Limits(turn_tokens=…), or ask for less in one turn",
                    raw=turn.raw,
                )
            raise self.error(
                kind,
                f"{message} (corrections={self.plan.limits.corrections!r} were used up)",
                "look at .attempts; a larger model, worked examples= or constrain='auto' help",
                raw=turn.raw,
            )

    async def promised(self) -> Guarantee:
        """The weakest enforcement of this agent's turns to come, as far as its model can promise it.

        Raises:
            GuaranteeError: ``constrain="strict"`` asks for more.
        """
        if self.plan.constrain == "off":
            return "checked"
        grammars = {self.plan.grammar, self.plan.later_grammar}
        return weakest([await self.model.guarantee(grammar, prove=self.strict) for grammar in grammars])

    def weaken(self, guarantee: Guarantee) -> None:
        """Note what a turn was held to.

        Raises:
            GuaranteeError: ``constrain="strict"``, and the turn was less than enforced.
        """
        self.guarantee = weakest([self.guarantee, guarantee])
        if self.guarantee == "checked" and self.strict:
            raise GuaranteeError(
                f"constrain='strict', but model {self.model.name!r} does not enforce its turns",
                hint="use constrain='auto' to have such turns validated afterwards only",
            )

    def error(self, kind: type[RunError], message: str, hint: str, *, raw: str = "") -> RunError:
        """What ends the run, with all it has come to."""
        return kind(message, hint=hint, raw=raw, messages=self.messages, attempts=self.attempts)

    def limit_error(self, reached: Reached, *, raw: str = "") -> RunError:
        """What ends a run that has come to a limit."""
        return self.error(LimitExceededError, reached.message, reached.hint, raw=raw)

    async def tell(self, event: Event) -> None:
        """Tell whoever watches."""
        if self.emit is not None:
            await self.emit(event)
