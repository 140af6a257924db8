"""A model that writes from a script."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import TypeAlias, cast

from hermes_agent.errors import ConfigurationError, GuaranteeError, ModelError
from hermes_agent.formats.dialects import Dialect
from hermes_agent.formats.dialects import dialect as named_dialect
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.formats.wire import serialise_calls
from hermes_agent.messages import AssistantMessage, Message
from hermes_agent.models.base import Chunk, FinishReason, Guarantee, Request

__all__ = ["ScriptedModel", "ScriptedTurn", "pieces"]

ScriptedTurn: TypeAlias = str | AssistantMessage | Exception | Callable[[Request], str | AssistantMessage]
"""A turn as it is written; as a message, which is spelled as a model would; an error to raise; or a function that
makes one of the first two from the request."""

_SHOWN = 300
_TURN_HINT = "a turn is a str, an AssistantMessage, an exception, or a function that returns one of the first two"


class ScriptedModel:
    """Writes the given turns, one a request, and remembers what it was asked.

    Args:
        turns: Raw text of a turn, with its markup; or an `AssistantMessage`, which is spelled as a model would; or a
            function that gets the `Request` and returns one of the two; or an exception, which is raised in place of
            a turn.
        dialect: A dialect or its name.
        chunk_size: Characters a chunk; ``None`` writes each turn in one piece.
        finish_reason: How the turns end; ``"length"`` plays a turn that was cut off.
        guarantee: What the model claims to enforce. It enforces nothing.

    Raises:
        ConfigurationError: The script is no list, or holds what is no turn.

    Attributes:
        requests: Every request so far. ``messages`` is live: it shows the conversation as it is now.

    Example:
        >>> from hermes_agent import Agent
        >>> Agent(ScriptedModel(["Hello."])).run_sync("Hi").output
        'Hello.'
        >>> Agent(ScriptedModel([lambda request: f"You said {request.messages[-1].text!r}."])).run_sync("Hi").output
        "You said 'Hi'."
    """

    name = "scripted"
    for_tests = True

    def __init__(
        self,
        turns: Iterable[ScriptedTurn],
        *,
        dialect: str | Dialect = "chatml",
        chunk_size: int | None = None,
        finish_reason: FinishReason = "stop",
        guarantee: Guarantee = "checked",
    ) -> None:
        self.dialect = named_dialect(dialect)
        self.requests: list[Request] = []
        self._turns = iter(_checked(turns))
        self._written = 0
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
            ModelError: The script has ended; the message says what was asked.
            Exception: What the script raises.
        """
        self.requests.append(request)
        turn = next(self._turns, None)
        if turn is None:
            raise ModelError(
                f"the script has ended: it has {_counted(self._written, 'turn')}, and request {len(self.requests)} "
                f"asks for one more, behind {_last(request.messages)}",
                hint="give ScriptedModel as many turns as the run asks for",
            )
        self._written += 1
        text = self._text(turn, request)
        for piece in pieces(text, self._chunk_size):
            yield Chunk(piece)
        yield Chunk("", self._finish_reason, output_tokens=text.count(" ") + 1)

    def _text(self, turn: ScriptedTurn, request: Request) -> str:
        """A turn as it is written."""
        if isinstance(turn, Exception):
            raise turn
        _check(turn, self._written)
        written = turn if isinstance(turn, str | AssistantMessage) else turn(request)
        if isinstance(written, AssistantMessage):
            return _spelled(written, self.dialect)
        if not isinstance(cast("object", written), str):
            raise ConfigurationError(f"turn {self._written} of the script is {written!r}", hint=_TURN_HINT)
        return written

    def assert_complete(self) -> None:
        """Check that the run asked for every turn of the script.

        Raises:
            AssertionError: Turns are left.
        """
        left = list(self._turns)
        if left:
            raise AssertionError(
                f"{_counted(len(left), 'turn')} of the script not asked for, next: {left[0]!r}; the run ended after "
                f"{_counted(len(self.requests), 'request')}"
                + (f", the last behind {_last(self.requests[-1].messages)}" if self.requests else "")
            )


def _checked(turns: Iterable[ScriptedTurn]) -> Iterable[ScriptedTurn]:
    """What is a script. Turns of one that makes them as it goes are looked at one by one."""
    given = cast("object", turns)  # whatever the annotation says
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ConfigurationError(f"turns={given!r} is no list of turns", hint=f"give a list; {_TURN_HINT}")
    if isinstance(turns, Sequence):
        for number, turn in enumerate(turns, 1):
            _check(turn, number)
    return turns


def _check(turn: object, number: int) -> None:
    if not (isinstance(turn, str | AssistantMessage | Exception) or callable(turn)):
        raise ConfigurationError(f"turn {number} of the script is {turn!r}", hint=_TURN_HINT)


def _spelled(message: AssistantMessage, dialect: Dialect) -> str:
    thought = ""
    if message.reasoning is not None:
        thought = f"{dialect.think_open}\n{message.reasoning}\n{dialect.think_close}{dialect.think_separator}"
    calls = serialise_calls([(call.name, call.arguments) for call in message.tool_calls])
    return thought + "\n".join(part for part in (message.text, calls) if part)


def pieces(text: str, size: int | None) -> Sequence[str]:
    """A text in pieces of so many characters, or in one."""
    return [text] if size is None else [text[i : i + size] for i in range(0, len(text), size)]


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _last(messages: Sequence[Message]) -> str:
    """The last message, for people."""
    if not messages:
        return "no message"
    shown = repr(messages[-1])
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
