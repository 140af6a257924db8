"""Whether the model thinks before it answers, and what becomes of the thoughts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from hermes_agent.errors import ConfigurationError

__all__ = ["Keep", "Mode", "Reasoning"]

Mode = Literal["auto", "on", "off"]
Keep = Literal["last", "all", "none"]


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How a run thinks.

    Attributes:
        mode: ``"on"`` asks for a ``<think>`` block before every turn and enforces it; ``"off"`` forbids it;
            ``"auto"`` lets the model choose. Where tokens are masked, a thought ends at half of
            ``Limits.turn_tokens`` (counted as four characters a token), so that an answer fits behind it.
        keep: Which earlier thoughts are shown to the model again: ``"none"``, those since the ``"last"``
            user message, or ``"all"``. ``None`` takes the dialect's own policy. ``"last"`` rewrites old
            turns when a new question arrives, so a server's prefix cache misses once per question.
    """

    mode: Mode = "off"
    keep: Keep | None = None

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

    @classmethod
    def of(cls, value: Reasoning | Mode | Literal["optional"] | bool) -> Reasoning:
        """Read the short forms: a mode by name (``"optional"`` is ``"auto"``), or a bool for on and off."""
        if isinstance(value, Reasoning):
            return value
        if isinstance(value, bool):
            return cls("on" if value else "off")
        return cls("auto" if value == "optional" else value)
