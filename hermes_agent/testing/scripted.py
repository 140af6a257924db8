"""A model that writes from a script."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence

from hermes_agent.errors import GuaranteeError, ModelError
from hermes_agent.formats.dialects import Dialect
from hermes_agent.formats.dialects import dialect as named_dialect
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.formats.wire import serialise_calls
from hermes_agent.messages import AssistantMessage
from hermes_agent.models.base import Chunk, FinishReason, Guarantee, Request

__all__ = ["ScriptedModel"]


class ScriptedModel:
    """Writes the given turns, one a request, and remembers what it was asked.

    Args:
        turns: Raw text of a turn, with its markup; or an `AssistantMessage`, which is spelled as a model would.
        dialect: A dialect or its name.
        chunk_size: Characters a chunk; ``None`` writes each turn in one piece.
        finish_reason: How the turns end; ``"length"`` plays a turn that was cut off.
        guarantee: What the model claims to enforce. It enforces nothing.

    Attributes:
        requests: Every request so far. ``messages`` is live: it shows the conversation as it is now.

    Example:
        >>> from hermes_agent import Agent
        >>> Agent(ScriptedModel(["Hello."])).run_sync("Hi").output
        'Hello.'
    """

    name = "scripted"

    def __init__(
        self,
        turns: Iterable[str | AssistantMessage],
        *,
        dialect: str | Dialect = "chatml",
        chunk_size: int | None = None,
        finish_reason: FinishReason = "stop",
        guarantee: Guarantee = "checked",
    ) -> None:
        self.dialect = named_dialect(dialect)
        self.requests: list[Request] = []
        self._turns = iter(turns)
        self._chunk_size = chunk_size
        self._finish_reason: FinishReason = finish_reason
        self._guarantee: Guarantee = guarantee

    async def guarantee(self, grammar: TurnGrammar, *, prove: bool = False) -> Guarantee:
        """What it was told to claim."""
        if prove and self._guarantee == "checked":
            raise GuaranteeError(
                f"model {self.name!r} enforces nothing", hint='ScriptedModel(guarantee="token") plays one that does'
            )
        return self._guarantee

    async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Write the next turn of the script; a word counts as a token.

        Raises:
            ModelError: The script has ended.
        """
        self.requests.append(request)
        turn = next(self._turns, None)
        if turn is None:
            raise ModelError(
                f"the script has no turn {len(self.requests)}",
                hint="give ScriptedModel as many turns as the run asks for",
            )
        text = turn if isinstance(turn, str) else _spelled(turn, self.dialect)
        for piece in _pieces(text, self._chunk_size):
            yield Chunk(piece)
        yield Chunk("", self._finish_reason, output_tokens=text.count(" ") + 1)

    def assert_complete(self) -> None:
        """Check that the run asked for every turn of the script.

        Raises:
            AssertionError: Turns are left.
        """
        left = list(self._turns)
        if left:
            raise AssertionError(f"{len(left)} turns of the script were not asked for, next: {left[0]!r}")


def _spelled(message: AssistantMessage, dialect: Dialect) -> str:
    thought = ""
    if message.reasoning is not None:
        thought = f"{dialect.think_open}\n{message.reasoning}\n{dialect.think_close}{dialect.think_separator}"
    calls = serialise_calls([(call.name, call.arguments) for call in message.tool_calls])
    return thought + "\n".join(part for part in (message.text, calls) if part)


def _pieces(text: str, size: int | None) -> Sequence[str]:
    return [text] if size is None else [text[i : i + size] for i in range(0, len(text), size)]
