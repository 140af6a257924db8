"""Conversations as training data: ShareGPT, in the layout of the dataset NousResearch/hermes-function-calling-v1.

A record is ``{"conversations": [{"from": "system" | "human" | "gpt" | "tool", "value": …}, …]}``, its values as models
write and read them, with ``<think>``, ``<tool_call>`` and ``<tool_response>``; tools stand in it once more as JSON
text, under ``tools``. The dataset's card is the source.

What those values cannot tell (ids of calls, which results are errors, tags that are data) stands as JSON text under
``hermes_agent``, which other readers pass over. It holds for values that are as they were written: whoever edits one
is believed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from typing import Any, cast

from hermes_agent.errors import ConfigurationError
from hermes_agent.formats.chat import chat_messages
from hermes_agent.formats.dialects import Dialect
from hermes_agent.formats.dialects import dialect as named_dialect
from hermes_agent.formats.parser import parse
from hermes_agent.formats.wire import dump_json, serialise_calls
from hermes_agent.messages import (
    AssistantMessage,
    Conversation,
    Message,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
    dump_messages,
    load_messages,
)
from hermes_agent.output import Output
from hermes_agent.reasoning import Mode, Reasoning
from hermes_agent.tool import Tool

__all__ = ["Sample", "from_sharegpt", "to_sharegpt"]

_VERSION = 1
_OURS = "hermes_agent"
_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "tool": "tool",
}
_FROM = {"system": "system", "user": "human", "assistant": "gpt", "tool": "tool"}
_RESPONSE = re.compile(r"\s*<tool_response>\n?(.*?)\n?</tool_response>\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Turn:
    """One entry of ``conversations``, and the messages it stands for."""

    written: Mapping[str, object]
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """A record as read.

    Attributes:
        conversation: Its messages. Calls have ids, and results the ids and names of the calls they answer.
        keys: Everything else that stands in the record, such as ``id``, ``category`` and ``tools``.
    """

    conversation: Conversation
    keys: Mapping[str, object] = field(default_factory=dict[str, object])
    _turns: tuple[_Turn, ...] = field(default=(), repr=False)

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools under ``tools``, which cannot be run; those that stand in the system text alone are not found.

        Raises:
            ToolDefinitionError: One of them cannot be a tool.
            ConfigurationError: There is something else under ``tools``.
        """
        return tuple(map(_tool, _tool_definitions(self.keys.get("tools"))))

    def to_sharegpt(self, *, dialect: Dialect | str = "hermes-3") -> dict[str, Any]:
        """The record again: equal to what was read, with the messages that were added since."""
        messages = tuple(self.conversation)
        turns: list[_Turn] = []
        at = 0
        for turn in self._turns:
            if messages[at : at + len(turn.messages)] != turn.messages:
                break
            turns.append(turn)
            at += len(turn.messages)
        turns.extend(_written(messages[at:], named_dialect(dialect)))
        return _record(turns, self.keys)


def to_sharegpt(
    messages: Iterable[Message],
    *,
    tools: Iterable[Tool | Callable[..., Any]] = (),
    dialect: Dialect | str = "hermes-3",
    output: Any = str,
    reasoning: Reasoning | Mode | bool = "off",
) -> dict[str, Any]:
    r"""A conversation as a record, from which `from_sharegpt` makes an equal one.

    Args:
        messages: The conversation.
        tools: What was offered. With tools, an output or thinking, the record begins with a system turn that holds
            the dialect's prompts for them and the conversation's own instructions; without, system messages stand
            as they are.
        dialect: Whose prompts those are, and whether results are written with the name of their tool.
        output: What the final answer had to be.
        reasoning: Whether thinking was on.

    Raises:
        ConfigurationError: A call's arguments hold something that is not JSON.

    Example:
        >>> to_sharegpt([UserMessage("2 + 2?"), AssistantMessage("4", reasoning="Easy.")])["conversations"]
        [{'from': 'human', 'value': '2 + 2?'}, {'from': 'gpt', 'value': '<think>\nEasy.\n</think>\n4'}]
    """
    found, shown = named_dialect(dialect), tuple(Tool.of(tool) for tool in tools)
    said = tuple(messages)
    required, thinking = Output.of(output), Reasoning.of(reasoning)
    turns: list[_Turn] = []
    if shown or required.schema is not None or thinking.mode == "on":
        own = tuple(said[: _leading(said)])
        opening = chat_messages(own, dialect=found, tools=shown, output=required, reasoning=thinking)
        if opening:
            text = "\n\n".join(turn["content"] for turn in opening)
            turns.append(_Turn({"from": "system", "value": text}, own))
            said = said[len(own) :]
    turns.extend(_written(said, found))
    return _record(turns, {"tools": dump_json([_definition(tool) for tool in shown])} if shown else {})


def from_sharegpt(record: Mapping[str, Any]) -> Sample:
    """A record as a conversation.

    Any text that models wrote can be read: what is spelled in another way than ours, such as a call as a Python
    literal, is kept in ``AssistantMessage.raw``.

    Args:
        record: One record, as `json.loads` gives it. Turns may be from ``user`` and ``assistant`` as well.

    Raises:
        ConfigurationError: It has another layout; the message says where.

    Example:
        >>> sample = from_sharegpt({"conversations": [{"from": "human", "value": "Hello"}], "task": "Greeting"})
        >>> sample.conversation[0], sample.keys
        (UserMessage(text='Hello'), {'task': 'Greeting'})
    """
    entries = record.get("conversations") if isinstance(cast("object", record), Mapping) else None
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise ConfigurationError(
            f"{_short(record)} is no ShareGPT record", hint='it has a list of turns under "conversations"'
        )
    noted = _noted(record.get(_OURS))
    said: list[Message] = []
    turns: list[_Turn] = []
    for index, entry in enumerate(cast("Sequence[object]", entries)):
        role, value = _role_and_value(index, entry)
        digest, messages = noted.get(index, ("", ()))
        if digest != _digest(role, value):
            messages = tuple(_read(role, value, said))
        turns.append(_Turn(cast("Mapping[str, object]", entry), messages))
        said.extend(messages)
    keys = {key: value for key, value in record.items() if key not in ("conversations", _OURS)}
    return Sample(Conversation(said), keys, tuple(turns))


def _record(turns: Sequence[_Turn], keys: Mapping[str, object]) -> dict[str, Any]:
    """The record of these turns, and in it what reading them would not tell."""
    said: list[Message] = []
    notes: dict[str, object] = {}
    for index, turn in enumerate(turns):
        role, value = _role_and_value(index, turn.written)
        # By their spelling, because 1 == True and 0.0 == -0.0.
        if repr(tuple(_read(role, value, said))) != repr(turn.messages):
            notes[str(index)] = {"digest": _digest(role, value), "messages": dump_messages(turn.messages)}
        said.extend(turn.messages)
    record = {"conversations": [dict(turn.written) for turn in turns], **keys}
    if notes:
        try:
            record[_OURS] = json.dumps({"version": _VERSION, "turns": notes}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise _not_json(error) from error
    return record


# Writing


def _leading(messages: Sequence[Message]) -> int:
    """How many system messages stand at the beginning."""
    return next((i for i, item in enumerate(messages) if not isinstance(item, SystemMessage)), len(messages))


def _written(messages: Sequence[Message], dialect: Dialect) -> Iterator[_Turn]:
    """Messages as turns; results that follow one another are one turn."""
    for is_result, group in groupby(messages, lambda message: isinstance(message, ToolMessage)):
        if is_result:
            results = tuple(group)
            value = "\n".join(
                f"<tool_response>\n{_result(message, dialect)}\n</tool_response>"
                for message in cast("tuple[ToolMessage, ...]", results)
            )
            yield _Turn({"from": "tool", "value": value}, results)
            continue
        for message in group:
            text = _assistant(message) if isinstance(message, AssistantMessage) else cast("UserMessage", message).text
            yield _Turn({"from": _FROM[message.role], "value": text}, (message,))


def _assistant(message: AssistantMessage) -> str:
    if message.raw:
        return message.raw
    thought = "" if message.reasoning is None else f"<think>\n{message.reasoning}\n</think>\n"
    try:
        calls = serialise_calls([(call.name, call.arguments) for call in message.tool_calls])
    except (TypeError, ValueError) as error:
        raise _not_json(error) from error
    return thought + "\n".join(filter(None, (message.text, calls)))


def _result(message: ToolMessage, dialect: Dialect) -> str:
    if not (dialect.result_envelope and message.name):
        return message.content
    content: object = message.content
    if message.content[:1] in ("{", "["):
        try:
            content = json.loads(message.content)
            return dump_json({"name": message.name, "content": content})
        except (ValueError, RecursionError):
            content = message.content
    return dump_json({"name": message.name, "content": content})


def _definition(tool: Tool) -> dict[str, object]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


# Reading


def _role_and_value(index: int, entry: object) -> tuple[str, str]:
    turn = _mapping(entry)
    role, value = _ROLES.get(str(turn.get("from"))), turn.get("value")
    if role is None or not isinstance(value, str):
        raise ConfigurationError(
            f"turn {index} is {_short(entry)}",
            hint='a turn is {"from": …, "value": text}, from "system", "human", "gpt" or "tool"',
        )
    return role, value


def _read(role: str, value: str, said: Sequence[Message]) -> Iterator[Message]:
    """The messages that a turn stands for, behind those that were said before."""
    if role == "system":
        yield SystemMessage(value)
    elif role == "user":
        yield UserMessage(value)
    elif role == "assistant":
        yield _read_assistant(value, len(said))
    else:
        yield from _read_results(value, _unanswered(said))


def _read_assistant(value: str, at: int) -> AssistantMessage:
    turn = parse(value)
    # Ids as a run gives them, so that what a run said reads back without further notes.
    calls = tuple(
        ToolCall(call.name, call.arguments, f"call_{at}_{index}", call.raw, call.repairs)
        for index, call in enumerate(turn.tool_calls)
    )
    message = AssistantMessage(turn.text, turn.reasoning, calls)
    try:
        told = _assistant(message) == value
    except ConfigurationError:
        told = False
    return message if told else AssistantMessage(turn.text, turn.reasoning, calls, raw=value)


def _unanswered(said: Sequence[Message]) -> list[ToolCall]:
    """The calls that wait for a result: those of the last turn, less as many as results follow it."""
    for results, message in enumerate(reversed(said)):
        if isinstance(message, AssistantMessage):
            return list(message.tool_calls[results:])
        if not isinstance(message, ToolMessage):
            break
    return []


def _read_results(value: str, calls: Sequence[ToolCall]) -> Iterator[ToolMessage]:
    contents: list[str] = []
    at = 0
    while found := _RESPONSE.match(value, at):
        contents.append(found[1])
        at = found.end()
    if at < len(value) or not contents:
        contents = [value]  # no tags, or something beside them: all of it is what the tool said
    for index, text in enumerate(contents):
        name, content = _from_envelope(text)
        call = calls[index] if index < len(calls) else ToolCall("", {})
        yield ToolMessage(content, name or call.name, call.id)


def _from_envelope(text: str) -> tuple[str, str]:
    """Name and content of ``{"name": …, "content": …}``; no name and the text as it is where it is something else."""
    if not text.startswith("{"):
        return "", text
    try:
        values = _mapping(json.loads(text))
        if set(values) == {"name", "content"} and isinstance(name := values["name"], str):
            content: object = values["content"]
            return name, content if isinstance(content, str) else dump_json(content)
    except (ValueError, RecursionError):
        pass
    return "", text


def _noted(text: object) -> dict[int, tuple[str, tuple[Message, ...]]]:
    """What is noted of turns, by index: the digest of what they looked like, and their messages."""
    from pydantic import ValidationError

    if text is None:
        return {}
    try:
        notes: Any = json.loads(cast("str", text))
        if notes["version"] != _VERSION:
            raise ValueError(f"expected version {_VERSION}")
        return {
            int(index): (str(note["digest"]), tuple(load_messages(note["messages"])))
            for index, note in notes["turns"].items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, ValidationError, RecursionError) as error:
        raise ConfigurationError(
            f"what stands under {_OURS!r} cannot be read: {type(error).__name__}: {error}",
            hint="remove that key to read the visible turns alone",
        ) from error


def _tool_definitions(value: object) -> list[object]:
    """The list of tools, which most records hold as JSON text."""
    try:
        tools: object = json.loads(value) if isinstance(value, str) and value.strip() else value or []
    except (ValueError, RecursionError):
        tools = None
    if not isinstance(tools, list):
        raise ConfigurationError(f"tools={_short(value)} is no list of tools", hint="it is JSON, or JSON text")
    return cast("list[object]", tools)


def _tool(definition: object) -> Tool:
    values = _mapping(definition)
    told = _mapping(values.get("function", values))
    if "name" not in told:
        raise ConfigurationError(
            f"{_short(definition)} is no tool", hint='a tool is {"type": "function", "function": …}'
        )
    return Tool.from_schema(
        name=str(told["name"]),
        description=str(told.get("description") or ""),
        parameters=_mapping(told.get("parameters")) or {"properties": {}},
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _digest(role: str, value: str) -> str:
    return sha256(f"{role}\n{value}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _not_json(error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"the conversation cannot be written as JSON: {error}",
        hint="call arguments must be None, bool, int, float, str, list or dict with str keys",
    )
