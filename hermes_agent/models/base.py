"""The one seam: everything that generates text is a `Model`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
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

__all__ = [
    "Chunk",
    "Constrain",
    "FinishReason",
    "Guarantee",
    "Model",
    "ModelLike",
    "OutlinesObject",
    "Request",
    "weakest",
]

Guarantee = Literal["token", "server", "checked"]
"""How strongly a turn is enforced: our mask on every token; by a server whose enforcement was seen to bite;
or only validated afterwards."""

Constrain = Literal["auto", "strict", "off"]
"""Enforce what the model can; refuse to run on less than a token or server guarantee; enforce nothing."""


def weakest(guarantees: Iterable[Guarantee]) -> Guarantee:
    """The weakest of several, of which there is at least one."""
    return max(guarantees, key=("token", "server", "checked").index)


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
        prefix: How the turn begins, markup and all, where that is settled already: the model writes on behind it,
            chunks hold only what is new, and ``grammar`` is about what follows.
        tool_choice: ``"auto"``, ``"required"``, ``"none"`` or a tool's name: what to ask of a server's own tools where
            there is no grammar, which says it else.
        parallel: Whether the turn may hold several calls, or at most how many; likewise.
    """

    messages: Sequence[Message]
    tools: Sequence[Tool] = ()
    output: Output = field(default_factory=Output.text)
    reasoning: Reasoning = Reasoning()
    grammar: TurnGrammar | None = None
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    prefix: str = ""
    tool_choice: str = "auto"
    parallel: bool | int = True


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of the turn as it is written, markup and all.

    Attributes:
        text: New text; may be empty.
        finish_reason: Set on the last chunk only: ``"stop"`` or ``"length"``.
        input_tokens: Tokens of the prompt; on the last chunk at the latest.
        output_tokens: Tokens written so far; on the last chunk at the latest.
        thinking_tokens: Those of them in the thinking block, as far as the model can tell; likewise.
        thought_cut: The thought was ended by its budget, not by the model; on the last chunk.
        guarantee: How strongly this turn was enforced, where that is less than the model promised; on the last
            chunk.
        dialect: How this turn is written, where it is another model that writes it than `Model.dialect` tells of;
            on the first chunk.
    """

    text: str
    finish_reason: FinishReason | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    thought_cut: bool = False
    guarantee: Guarantee | None = None
    dialect: Dialect | None = None


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

    async def guarantee(self, grammar: TurnGrammar, *, prove: bool = False) -> Guarantee:
        """How strongly ``generate`` would enforce this grammar.

        Args:
            grammar: What a turn may be.
            prove: Find out if it is not known; a server is then asked to write a few tokens.

        Raises:
            GuaranteeError: ``prove``, and nothing enforces it; the hint says what would help.
        """
        ...

    def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Write one turn."""
        ...


class OutlinesObject(Protocol):
    """A model object of Outlines, local or remote, blocking or async: what ``outlines.from_vllm(...)`` returns."""

    @property
    def type_adapter(self) -> object:
        """What sets it apart."""
        ...


ModelLike = Model | OutlinesObject | str
"""What may stand for a model: itself, a model object of Outlines, or a name."""
