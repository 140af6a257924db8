"""Whether the model thinks before it answers, and what becomes of the thoughts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

from hermes_agent.errors import ConfigurationError

__all__ = ["Keep", "Mode", "Reasoning", "ReasoningCalls"]

Mode = Literal["auto", "on", "off"]
Keep = Literal["last", "all", "none"]
ReasoningCalls = Literal["ignore", "use", "inline"]


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How a run thinks.

    Attributes:
        mode: ``"on"`` asks for a ``<think>`` block before every turn and enforces it; ``"off"`` forbids it;
            ``"auto"`` lets the model choose.
        max_tokens: Most tokens in one thought, which is then ended: at the end of a sentence if one comes shortly
            before, else at once. ``None`` leaves half of ``Limits.turn_tokens``, where tokens are drawn here; on a
            server, it leaves the thought to the model.
        keep: Which earlier thoughts are shown to the model again: ``"none"``, those since the ``"last"``
            user message, or ``"all"``. ``None`` takes the dialect's own policy. ``"last"`` rewrites old
            turns when a new question arrives, so a server's prefix cache misses once per question.
        calls: What becomes of calls inside the thinking block. ``"ignore"``: they are intentions, kept in
            ``Turn.reasoning_calls``. ``"use"``: they are run if the turn has no others. ``"inline"``:
            each is run as soon as it is written, its result put behind it, and the thought goes on in the same
            turn, as in the interleaved form that Hermes 4 was trained on
            (``tool_use_interleaved_thinking`` in Nous Research's Atropos environments).
    """

    mode: Mode = "off"
    keep: Keep | None = None
    max_tokens: int | None = None
    calls: ReasoningCalls = "ignore"

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ConfigurationError(
                f"unknown reasoning mode {self.mode!r}", hint=f"use one of {', '.join(map(repr, get_args(Mode)))}"
            )
        if self.keep is not None and self.keep not in get_args(Keep):
            raise ConfigurationError(
                f"unknown reasoning policy keep={self.keep!r}",
                hint=f"use one of {', '.join(map(repr, get_args(Keep)))}",
            )

        if self.calls not in get_args(ReasoningCalls):
            raise ConfigurationError(
                f"unknown policy calls={self.calls!r} for calls inside the thinking",
                hint=f"use one of {', '.join(map(repr, get_args(ReasoningCalls)))}",
            )
        tokens = cast("object", self.max_tokens)
        if tokens is not None and (isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1):
            raise ConfigurationError(
                f"Reasoning(max_tokens={self.max_tokens!r}) leaves no thought",
                hint='use a number from 1 on, None, or mode="off"',
            )

    @classmethod
    def of(cls, value: Reasoning | Mode | Literal["optional"] | bool) -> Reasoning:
        """Read the short forms: a mode by name (``"optional"`` is ``"auto"``), or a bool for on and off."""
        if isinstance(value, Reasoning):
            return value
        if isinstance(value, bool):
            return cls("on" if value else "off")
        return cls("auto" if value == "optional" else value)
