"""What an agent settles once, for all its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hermes_agent.calls import OnToolError
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.limits import Limits
from hermes_agent.messages import Message, SystemMessage
from hermes_agent.models.base import Constrain, Request
from hermes_agent.output import Output
from hermes_agent.reasoning import Reasoning
from hermes_agent.sampling import Sampling
from hermes_agent.tool import Tool

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True)
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

    def turn_grammar(self, *, forced: bool) -> TurnGrammar | None:
        """What the next turn may be; ``None`` if nothing is to be enforced."""
        return None if self.constrain == "off" else self.grammar if forced else self.later_grammar

    def request(self, messages: Sequence[Message], *, left: int | None, forced: bool) -> Request:
        """One turn to be written.

        Args:
            messages: The conversation so far.
            left: Tokens that the run may still write; ``None`` is without bound.
            forced: A forced tool choice is still to be honoured.
        """
        bounds = [tokens for tokens in (left, self.limits.turn_tokens) if tokens is not None]
        return Request(
            messages=messages,
            tools=tuple(self.tools.values()),
            output=self.output,
            reasoning=self.reasoning,
            grammar=self.turn_grammar(forced=forced),
            sampling=self.sampling,
            max_tokens=min(bounds, default=None),
            tool_choice=(self.grammar if forced else self.later_grammar).tool_choice,
            parallel=self.grammar.parallel,
        )

    def before(self, history: Sequence[Message]) -> list[Message]:
        """The opening before a history; system messages of both stay in front of the worked examples."""
        opening = self.opening
        system = [m for m in opening if isinstance(m, SystemMessage)]
        first = next((i for i, m in enumerate(history) if not isinstance(m, SystemMessage)), len(history))
        return [*system, *history[:first], *opening[len(system) :], *history[first:]]
