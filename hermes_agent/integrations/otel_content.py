"""What was said and done in a run, in the JSON shapes of OpenTelemetry's conventions for generative AI.

They are those of ``gen-ai-input-messages.json``, ``gen-ai-output-messages.json``, ``gen-ai-system-instructions.json``
and ``gen-ai-tool-definitions.json`` in the repository open-telemetry/semantic-conventions-genai.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, assert_never

from hermes_agent.messages import AssistantMessage, Message, SystemMessage, ToolCall, ToolMessage, UserMessage
from hermes_agent.tool import Tool
from hermes_agent.turn import CallPart, TextPart, Turn

__all__ = ["dumped", "input_messages", "output_messages", "readable", "system_instructions", "tool_definitions"]

JsonObject = dict[str, Any]


def dumped(value: object) -> str:
    """A value as JSON text of ASCII characters alone, which every exporter can write."""
    return json.dumps(value, separators=(",", ":"), default=str)


def readable(text: str) -> str:
    """The text without lone surrogates, over which exporters stumble."""
    return text.encode("utf-8", "replace").decode()


def system_instructions(messages: Iterable[Message]) -> list[JsonObject]:
    """The text of all system messages."""
    return [_text(message.text) for message in messages if isinstance(message, SystemMessage)]


def input_messages(messages: Iterable[Message]) -> list[JsonObject]:
    """The conversation less its system messages."""
    return [_message(message) for message in messages if not isinstance(message, SystemMessage)]


def output_messages(turn: Turn, finish: str) -> list[JsonObject]:
    """The one message that a turn is. Calls that could not be read are text."""
    parts = [] if turn.reasoning is None else [_thought(turn.reasoning)]
    for part in turn.parts:
        if isinstance(part, TextPart):
            parts.append(_text(part.text))
        elif isinstance(part, CallPart):
            parts.append(_call(part.call))
        elif part.kind != "unknown_tool":  # its call stands before it
            parts.append(_text(part.raw))
    return [{"role": "assistant", "parts": parts, "finish_reason": finish}]


def tool_definitions(tools: Sequence[Tool]) -> list[JsonObject]:
    """What the model was told of its tools."""
    return [
        {"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters}
        for tool in tools
    ]


def _message(message: Message) -> JsonObject:
    match message:
        case SystemMessage() | UserMessage():
            parts = [_text(message.text)]
        case AssistantMessage():
            parts = [] if message.reasoning is None else [_thought(message.reasoning)]
            parts += [_text(message.text)] if message.text else []
            parts += [_call(call) for call in message.tool_calls]
        case ToolMessage():
            parts = [{"type": "tool_call_response", "id": message.call_id or None, "response": message.content}]
        case _ as never:
            assert_never(never)
    return {"role": message.role, "parts": parts}


def _text(text: str) -> JsonObject:
    return {"type": "text", "content": text}


def _thought(text: str) -> JsonObject:
    return {"type": "reasoning", "content": text}


def _call(call: ToolCall) -> JsonObject:
    return {"type": "tool_call", "id": call.id or None, "name": call.name, "arguments": call.arguments}
