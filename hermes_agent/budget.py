"""What is left of a run's limits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hermes_agent.limits import Limits, Usage
from hermes_agent.messages import ToolCall

__all__ = ["Budget", "Reached"]


@dataclass(frozen=True, slots=True)
class Reached:
    """A limit that a run has come to: what happened, and what to do about it."""

    message: str
    hint: str


class Budget:
    """What is left of a run's limits.

    Args:
        limits: What the run may cost.

    Attributes:
        prompt_tokens: Length of the last prompt; the next one is about as long, or longer.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.prompt_tokens = 0
        self._in_a_row: Counter[str] = Counter()

    def before_turn(self, usage: Usage, *, reserve: bool) -> Reached | None:
        """Whether there is room for another turn.

        Args:
            usage: What was used so far.
            reserve: Keep one step for the last answer.
        """
        limits = self.limits
        if limits.steps is not None and usage.steps + reserve >= limits.steps:
            return Reached(f"no answer after steps={limits.steps!r} model turns", "raise Limits(steps=…)")
        if limits.output_tokens is not None and usage.output_tokens >= limits.output_tokens:
            return Reached(f"output_tokens={limits.output_tokens!r} are used up", "raise Limits(output_tokens=…)")
        if limits.thinking_tokens is not None and usage.thinking_tokens >= limits.thinking_tokens:
            return Reached(f"thinking_tokens={limits.thinking_tokens!r} are used up", "raise Limits(thinking_tokens=…)")
        if limits.input_tokens is not None and usage.input_tokens + self.prompt_tokens > limits.input_tokens:
            return Reached(
                f"another prompt of {self.prompt_tokens} tokens would go beyond input_tokens={limits.input_tokens!r}",
                "raise Limits(input_tokens=…), or shorten the conversation with history_policy=Trim(…)",
            )
        return None

    def before_calls(self, usage: Usage, calls: Sequence[ToolCall]) -> Reached | None:
        """Whether the calls of a turn may be run."""
        limits = self.limits
        if limits.tool_calls is not None and usage.tool_calls + len(calls) > limits.tool_calls:
            return Reached(f"more than tool_calls={limits.tool_calls!r} calls", "raise Limits(tool_calls=…)")
        if limits.repeats is None:
            return None
        keys = [f"{call.name} {json.dumps(call.arguments, sort_keys=True)}" for call in calls]
        # Only what is made again in this turn goes on counting.
        self._in_a_row = Counter({key: self._in_a_row[key] + count for key, count in Counter(keys).items()})
        for call, key in zip(calls, keys, strict=True):
            if self._in_a_row[key] > limits.repeats:
                return Reached(
                    f"{call.name!r} was called again and again with the arguments {call.arguments!r}, "
                    f"more than repeats={limits.repeats!r} times in a row",
                    "worked examples= or a larger model help; raise Limits(repeats=…) if the same call makes sense",
                )
        return None

    def tokens_left(self, usage: Usage) -> int | None:
        """Tokens that may still be written; ``None`` is without bound."""
        limit = self.limits.output_tokens
        return None if limit is None else max(limit - usage.output_tokens, 1)

    def thinking_left(self, usage: Usage) -> int | None:
        """Tokens that may still be thought; ``None`` is without bound."""
        limit = self.limits.thinking_tokens
        return None if limit is None else max(limit - usage.thinking_tokens, 1)
