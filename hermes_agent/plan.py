"""What an agent settles once, for all its runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from hermes_agent.calls import OnToolError
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.hooks import Hooks
from hermes_agent.limits import Limits
from hermes_agent.messages import Message, SystemMessage
from hermes_agent.models.base import Constrain, Model, Request
from hermes_agent.output import Output
from hermes_agent.reasoning import Reasoning
from hermes_agent.sampling import Sampling
from hermes_agent.tool import Tool
from hermes_agent.validators import Validator

if TYPE_CHECKING:
    from hermes_agent.history import HistoryPolicy

__all__ = ["OnLimit", "Plan"]


OnLimit = Literal["raise", "answer"]
"""What becomes of a run that has come to a limit: it ends with an error, or its next turn has to answer."""


@dataclass(frozen=True)
class Plan:
    """What an agent settles once, for all its runs.

    Attributes:
        tools: By name.
        output: What the final answer must be.
        opening: Instructions and worked examples, which stand before every conversation.
        grammar: What the first turn may be.
        later_grammar: What the turns after the first tool result may be: a forced tool choice has then
            been honoured, and forcing it again would never let the model answer.
        reasoning: Whether the model thinks.
        sampling: How tokens are drawn.
        limits: What a run may cost.
        constrain: How much enforcement is asked for.
        on_tool_error: What becomes of an exception in a tool.
        name: What the agent is called in traces.
        last_grammar: What a turn may be that has to answer, because a limit was reached.
        on_limit: Whether such a turn is asked for.
        validators: Check the answer beyond its type.
        hooks: Stand around the run, its turns and its calls; the first is the outermost.
        sequential: Run the calls of a turn one after the other.
        history_policy: Chooses what the model is shown of a long conversation.
        hand_offs: The agents that may go on with the conversation, by name.
    """

    tools: Mapping[str, Tool]
    output: Output[Any]
    opening: tuple[Message, ...]
    grammar: TurnGrammar
    later_grammar: TurnGrammar
    reasoning: Reasoning
    sampling: Sampling
    limits: Limits
    constrain: Constrain
    on_tool_error: OnToolError
    name: str
    last_grammar: TurnGrammar
    on_limit: OnLimit
    validators: tuple[Validator, ...]
    hooks: tuple[Hooks[Any], ...]
    sequential: bool
    history_policy: HistoryPolicy | None
    hand_offs: Mapping[str, Callable[[], tuple[Plan, Model]]]

    @cached_property
    def shown_tools(self) -> tuple[Tool, ...]:
        """The tools, in the order given."""
        return tuple(self.tools.values())

    def turn_grammar(self, *, forced: bool, last: bool = False) -> TurnGrammar | None:
        """What the next turn may be; ``None`` if nothing is to be enforced."""
        return None if self.constrain == "off" else self._meant(forced=forced, last=last)

    def _meant(self, *, forced: bool, last: bool) -> TurnGrammar:
        return self.last_grammar if last else self.grammar if forced else self.later_grammar

    def request(
        self, messages: Sequence[Message], *, tokens: int | None, thinking: int | None, forced: bool, last: bool
    ) -> Request:
        """One turn to be written.

        Args:
            messages: The conversation so far.
            tokens: Tokens that the run may still write; ``None`` is without bound.
            thinking: Those that it may still think; likewise.
            forced: A forced tool choice is still to be honoured.
            last: The turn has to answer.
        """
        most = self.limits.turn_tokens
        if tokens is not None:
            most = tokens if most is None else min(tokens, most)
        reasoning = self.reasoning
        if thinking is not None and reasoning.mode != "off":
            budget = thinking if reasoning.max_tokens is None else min(thinking, reasoning.max_tokens)
            reasoning = replace(reasoning, max_tokens=budget)
        if last and reasoning.calls == "inline":
            reasoning = replace(reasoning, calls="ignore")
        return Request(
            messages=messages,
            tools=self.shown_tools,
            output=self.output,
            reasoning=reasoning,
            grammar=self.turn_grammar(forced=forced, last=last),
            sampling=self.sampling,
            max_tokens=most,
            tool_choice=self._meant(forced=forced, last=last).tool_choice,
            parallel=self.grammar.parallel,
        )

    def before(self, history: Sequence[Message]) -> list[Message]:
        """The opening before a history; system messages of both stay in front of the worked examples."""
        opening = self.opening
        system = [m for m in opening if isinstance(m, SystemMessage)]
        first = next((i for i, m in enumerate(history) if not isinstance(m, SystemMessage)), len(history))
        return [*system, *history[:first], *opening[len(system) :], *history[first:]]
