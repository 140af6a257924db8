"""Dialects of the Hermes format, as data.

Sources: the model cards and chat templates of Nous Research; where only third parties describe a template
(tool role and exact blank lines of Hermes 4) the field is a setting to override, see `Dialect`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hermes_agent.reasoning import Keep
from hermes_agent.sampling import Sampling

__all__ = ["Dialect", "dialect"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one family of models writes and reads its turns. Override a field with ``replace(...)``.

    Attributes:
        name: How the dialect is chosen.
        bos: Written before everything else.
        turn_open: Opens a turn; ``{role}`` is replaced.
        turn_close: Closes a turn.
        stops: Any of these ends the model's turn; the first closes turns in training.
        tool_role: The role that tool results are rendered under.
        think_open, think_close: The tags of the thinking block.
    """

    name: str
    bos: str = ""
    turn_open: str = "<|im_start|>{role}\n"
    turn_close: str = "<|im_end|>\n"
    stops: tuple[str, ...] = ("<|im_end|>",)
    tool_role: str = "tool"
    think_open: str = "<think>"
    think_close: str = "</think>"
    keep_reasoning: Keep = "none"
    sampling: Sampling = Sampling()


def dialect(name: str, **overrides: Any) -> Dialect:
    """The dialect called ``name``, with fields overridden."""
    return replace(Dialect(name=name), **overrides)
