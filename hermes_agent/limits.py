"""What a run may cost, and what it did cost: two frozen values."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from hermes_agent.errors import ConfigurationError

__all__ = ["NOTHING", "Limits", "Usage"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and rounds used; values add up with ``+``.

    Attributes:
        input_tokens: Tokens of every prompt, summed over the turns, whether prefilled or reused.
        output_tokens: Tokens the model wrote, thinking included.
        steps: Model turns.
        tool_calls: Tool calls that were run.
        thinking_tokens: Those of ``output_tokens`` in thinking blocks, as far as the model can tell.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    steps: int = 0
    tool_calls: int = 0
    thinking_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.steps + other.steps,
            self.tool_calls + other.tool_calls,
            self.thinking_tokens + other.thinking_tokens,
        )


NOTHING = Usage()
"""Nothing was used."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one run. ``None`` lifts a bound.

    Attributes:
        steps: Model turns, corrections included.
        tool_calls: Tool calls over the whole run.
        input_tokens: Tokens of all prompts of the run, as the model counts them: no turn is asked for whose prompt,
            at least as long as the one before, would go beyond.
        output_tokens: Tokens the model may write over the whole run.
        thinking_tokens: Those it may write in thinking blocks over the whole run.
        turn_tokens: Tokens the model may write in one turn.
        seconds: Wall clock of the whole run.
        tool_seconds: Wall clock of one tool call, unless the tool sets its own.
        concurrency: Calls of one turn that may run at the same time.
        repeats: How often in a row the same call, of equal arguments, may be made.
        corrections: How many unreadable turns, invalid calls or invalid answers *in a row* go back to
            the model before the run ends with an error.
        tool_result_chars: Longest tool result shown to the model, and longest `Retry`, though that never below 2,000;
            what is cut is said in its place.
    """

    steps: int | None = 20
    tool_calls: int | None = 50
    input_tokens: int | None = None
    output_tokens: int | None = None
    thinking_tokens: int | None = None
    turn_tokens: int | None = 4096
    seconds: float | None = None
    tool_seconds: float | None = 60.0
    concurrency: int | None = 16
    repeats: int | None = None
    corrections: int = 3
    tool_result_chars: int | None = 20_000

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, getattr(self, field.name))


def _check(name: str, value: object) -> None:
    """Whether a bound means something.

    Raises:
        ConfigurationError: It is no number of its kind, or allows nothing.
    """
    if value is None and name != "corrections":
        return
    given = f"Limits({name}={value!r})"
    lifted = "" if name == "corrections" else f", or {name}=None to lift it"
    if name in ("seconds", "tool_seconds"):
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            raise ConfigurationError(f"{given} is not a number", hint=f"use a number{lifted}")
    elif isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(f"{given} is not a whole number", hint=f"use a whole number{lifted}")
    if name in ("tool_calls", "corrections"):
        if value < 0:
            raise ConfigurationError(f"{given} is negative", hint=f"use 0 or more{lifted}")
    elif value <= 0:
        raise ConfigurationError(f"{given} allows nothing", hint=f"use a positive number{lifted}")
