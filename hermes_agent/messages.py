"""The conversation: frozen messages in an append-only list that survives JSON exactly."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, cast, overload

from hermes_agent.errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = [
    "AssistantMessage",
    "Conversation",
    "Example",
    "JsonValue",
    "Message",
    "SystemMessage",
    "ToolCall",
    "ToolMessage",
    "UserMessage",
    "dump_messages",
    "load_messages",
]

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"

_VERSION = 1


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call the model made.

    Attributes:
        name: The tool's name, as the model wrote it.
        arguments: The arguments by name, decoded; numbers keep Python's ``int``/``float`` distinction.
        id: Unique within a conversation; empty until a run takes the call up. The Hermes format has no
            ids, results answer calls by position.
        raw: The text the call was read from, without its tags; empty for a call made by hand.
        repairs: Names of the repairs that were needed to read it, in the order applied.
    """

    name: str
    arguments: dict[str, Any]
    id: str = ""
    raw: str = ""
    repairs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SystemMessage:
    """Instructions that stand before the conversation."""

    text: str
    role: Literal["system"] = field(default="system", init=False, repr=False)


@dataclass(frozen=True, slots=True)
class UserMessage:
    """What the user said."""

    text: str
    role: Literal["user"] = field(default="user", init=False, repr=False)


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    """What the model wrote.

    Attributes:
        text: Visible text.
        reasoning: The inside of the thinking block; ``None`` when there was none.
        tool_calls: The calls, in order.
        raw: The exact turn, kept only where text and calls do not tell all of it, that is, where the turn
            had faults: the model then sees again what it really wrote.
    """

    text: str = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    raw: str = ""
    role: Literal["assistant"] = field(default="assistant", init=False, repr=False)


@dataclass(frozen=True, slots=True)
class ToolMessage:
    """What a tool answered, or what was wrong with a call.

    Attributes:
        content: The text shown to the model inside ``<tool_response>``.
        name: The tool, where one is known.
        call_id: ``ToolCall.id`` of the call it answers; empty for feedback on a call that could not be read.
        is_error: The call failed, was refused or could not be read.
    """

    content: str
    name: str = ""
    call_id: str = ""
    is_error: bool = False
    role: Literal["tool"] = field(default="tool", init=False, repr=False)


Message = SystemMessage | UserMessage | AssistantMessage | ToolMessage


@dataclass(frozen=True, slots=True)
class Example:
    """A worked question, shown to the model before the conversation; small models need a few.

    Attributes:
        question: What a user asks.
        calls: ``(tool name, arguments, result)`` in the order they are made, one model turn each.
        answer: The final answer, as the model should write it.

    Example:
        >>> Example("What is 17 * 23?", calls=[("calculator", {"expression": "17 * 23"}, "391")], answer="391")
        Example(question='What is 17 * 23?', calls=(('calculator', {'expression': '17 * 23'}, '391'),), answer='391')
    """

    question: str
    calls: Sequence[tuple[str, Mapping[str, Any], str]] = ()
    answer: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "calls", tuple((n, dict(a), r) for n, a, r in self.calls))

    def messages(self) -> tuple[Message, ...]:
        """The example as the turns it stands for."""
        turns: list[Message] = [UserMessage(self.question)]
        for name, arguments, result in self.calls:
            turns.append(AssistantMessage(tool_calls=(ToolCall(name, dict(arguments)),)))
            turns.append(ToolMessage(result, name=name))
        if self.answer:
            turns.append(AssistantMessage(self.answer))
        return tuple(turns)


class Conversation(Sequence[Message]):
    """Messages, oldest first. Appending is the only change there is.

    Two conversations are equal when their messages are. ``Conversation.from_json(c.to_json()) == c`` for
    every conversation whose call arguments are JSON.
    """

    __slots__ = ("_messages",)

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self._messages: list[Message] = list(messages)

    def append(self, message: Message) -> None:
        """Add one message at the end."""
        self._messages.append(message)

    def extend(self, messages: Iterable[Message]) -> None:
        """Add messages at the end, in order."""
        self._messages.extend(messages)

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages)

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Message]: ...
    def __getitem__(self, index: int | slice) -> Message | Sequence[Message]:
        return tuple(self._messages[index]) if isinstance(index, slice) else self._messages[index]

    def __eq__(self, other: object) -> bool:
        return self._messages == other._messages if isinstance(other, Conversation) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable by append, so not hashable; Sequence says otherwise

    def __repr__(self) -> str:
        # Counted, not spelled: a history of megabytes does not belong into a log line.
        return f"<Conversation of {len(self)} messages>"

    def up_to_now(self) -> Sequence[Message]:
        """The messages so far, read only; what is appended later is not among them. Nothing is copied."""
        return _Window(self._messages, len(self._messages))

    def to_json(self) -> str:
        """The conversation as one JSON object; every character and number survives.

        Raises:
            ConfigurationError: A call's arguments hold something that is not JSON, such as NaN or a date.
        """
        try:
            return json.dumps({"version": _VERSION, "messages": dump_messages(self._messages)}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"the conversation cannot be written as JSON: {error}",
                hint="call arguments must be None, bool, int, float, str, list or dict with str keys",
            ) from error

    @classmethod
    def from_json(cls, text: str | bytes) -> Conversation:
        """Read what ``to_json`` wrote.

        Raises:
            ConfigurationError: The text is not a saved conversation; the message says where it breaks.
        """
        from pydantic import ValidationError

        try:
            data: Any = json.loads(text)
            if not isinstance(data, dict) or cast("dict[str, Any]", data).get("version") != _VERSION:
                raise ValueError(f"expected an object with version {_VERSION}")
            return cls(load_messages(cast("dict[str, Any]", data).get("messages")))
        except (ValueError, ValidationError, RecursionError) as error:
            raise ConfigurationError(
                f"not a saved conversation: {error}",
                hint="load what Conversation.to_json() wrote",
                raw=str(text)[:2000],
            ) from error


class _Window(Sequence[Message]):
    """The beginning of a list that only grows."""

    __slots__ = ("_end", "_messages")

    def __init__(self, messages: list[Message], end: int) -> None:
        self._messages, self._end = messages, end

    def __len__(self) -> int:
        return self._end

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Message]: ...
    def __getitem__(self, index: int | slice) -> Message | Sequence[Message]:
        places = range(self._end)[index]
        return self._messages[places] if isinstance(places, int) else tuple(self._messages[i] for i in places)

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(cast("Sequence[object]", other)) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # equal to other sequences, which cannot be hashed either

    def __repr__(self) -> str:
        return f"<{self._end} messages>"


def dump_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as JSON values, where the arguments of their calls are JSON."""
    return cast("list[dict[str, Any]]", _adapter().dump_python(list(messages)))


def load_messages(values: object) -> list[Message]:
    """What ``dump_messages`` wrote, equal to what it was written of.

    Raises:
        pydantic.ValidationError: These are no messages.
    """
    return _adapter().validate_python(values)


@cache
def _adapter() -> TypeAdapter[list[Message]]:
    from pydantic import Field, TypeAdapter

    return TypeAdapter(list[Annotated[Message, Field(discriminator="role")]])
