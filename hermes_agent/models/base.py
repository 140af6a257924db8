"""The one seam: everything that generates text is a `Model`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from hermes_agent.formats.dialects import Dialect
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.messages import Message
from hermes_agent.output import Output
from hermes_agent.reasoning import Reasoning
from hermes_agent.sampling import Sampling
from hermes_agent.tool import Tool
from hermes_agent.turn import FinishReason

__all__ = ["Chunk", "Constrain", "FinishReason", "Guarantee", "Model", "Request"]

Guarantee = Literal["token", "server", "checked"]
"""How strongly a turn is enforced: our mask on every token; by a server whose enforcement was seen to bite;
or only validated afterwards."""

Constrain = Literal["auto", "strict", "off"]
"""Enforce what the model can; refuse to run on less than a token or server guarantee; enforce nothing."""


@dataclass(frozen=True, slots=True)
class Request:
    """One turn to write.

    Attributes:
        messages: The conversation, system message first if there is one. Read only.
        tools: Tools to show in the prompt; empty shows none.
        output: What the final answer must be; its schema goes into the prompt unless it is plain text.
        reasoning: Whether to think, and which earlier thoughts to show.
        grammar: What may be written; ``None`` leaves the turn free.
        sampling: What the caller asked for; the model fills the gaps from its dialect.
        max_tokens: Most tokens to write; ``None`` is bounded by the context window alone.
    """

    messages: Sequence[Message]
    tools: Sequence[Tool] = ()
    output: Output = field(default_factory=Output.text)
    reasoning: Reasoning = Reasoning()
    grammar: TurnGrammar | None = None
    sampling: Sampling = Sampling()
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of the turn as it is written, markup and all.

    Attributes:
        text: New text; may be empty.
        finish_reason: Set on the last chunk only: ``"stop"`` or ``"length"``.
        input_tokens: Tokens of the prompt; set on the last chunk.
        output_tokens: Tokens written in the whole turn; set on the last chunk.
    """

    text: str
    finish_reason: FinishReason | None = None
    input_tokens: int = 0
    output_tokens: int = 0


@runtime_checkable
class Model(Protocol):
    """Something that writes assistant turns.

    ``generate`` raises `ModelError` for everything that keeps the model from writing. Closing the iterator
    (``aclose``), or cancelling the task that reads it, stops the generation within one token.
    """

    @property
    def name(self) -> str:
        """The model's name as a user would write it."""
        ...

    @property
    def dialect(self) -> Dialect:
        """How the model's turns are written. May load the tokenizer, never the weights."""
        ...

    def guarantee(self, grammar: TurnGrammar) -> Guarantee:
        """How strongly ``generate`` would enforce this grammar."""
        ...

    def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Write one turn."""
        ...
