"""The three ways a turn goes over the wire: what is posted, and where."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from hermes_agent.formats.chat import chat_messages
from hermes_agent.formats.definitions import tool_lines
from hermes_agent.formats.dialects import Dialect
from hermes_agent.formats.prompt import render
from hermes_agent.formats.segments import instructed, neutralise
from hermes_agent.formats.tags import TOOL_CALL_CLOSE, TOOL_CALL_OPEN, TOOL_RESPONSE_OPEN
from hermes_agent.formats.wire import dump_json
from hermes_agent.messages import AssistantMessage, Message, SystemMessage, ToolMessage, UserMessage
from hermes_agent.models.base import Request
from hermes_agent.models.servers import Server, Wire
from hermes_agent.reasoning import Reasoning
from hermes_agent.sampling import Sampling

__all__ = ["Posting", "post"]

_COMPLETION_TOKENS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """One request to a server: a turn, or the rest of one.

    Attributes:
        wire: How it goes.
        prefix: How the turn begins; it goes on behind.
        grammar: Fields that enforce what is written.
        max_tokens: Most tokens to write.
        stops: Strings that end it, besides those of the dialect.
        thinking: Whether thinking is switched on, for this request.
    """

    wire: Wire
    prefix: str = ""
    grammar: Mapping[str, Any] = field(default_factory=dict[str, Any])
    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    thinking: Reasoning = Reasoning()


def post(
    posting: Posting, request: Request, *, model: str, server: Server, dialect: Dialect, extra: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Path and body of a request.

    Args:
        posting: What goes on the wire.
        request: The turn it is part of.
        model: What the server calls the model.
        server: What it takes.
        dialect: How the model is spoken to.
        extra: Fields of the user's own, which win over all others.
    """
    body: dict[str, Any] = {"model": model, "stream": True, **server.body.get(posting.wire, {})}
    if server.preserves is not None and posting.wire != "native":
        tags = dialect.think_open, dialect.think_close, TOOL_CALL_OPEN, TOOL_CALL_CLOSE, TOOL_RESPONSE_OPEN
        body[server.preserves] = [tag for tag in tags if tag]
    if server.usage:
        body["stream_options"] = {"include_usage": True}
    match posting.wire:
        case "completions":
            path = "/completions"
            body |= _completions(posting, request, server, dialect)
        case "chat":
            path = "/chat/completions"
            body |= _chat(posting, request, server, dialect)
        case "native":
            path = "/chat/completions"
            body |= _native(posting, request, server, dialect)
        case _ as never:
            assert_never(never)
    return path, {**body, **posting.grammar, **extra}


def _completions(posting: Posting, request: Request, server: Server, dialect: Dialect) -> dict[str, Any]:
    spoken = replace(dialect, bos="") if server.adds_bos and not dialect.chat_template else dialect
    prompt = render(
        request.messages, dialect=spoken, tools=request.tools, output=request.output, reasoning=request.reasoning
    )
    limit = posting.max_tokens
    if limit is None and server.always_limit:
        limit = _COMPLETION_TOKENS
    return {
        "prompt": prompt + instructed(posting.prefix, dialect),
        "stop": [*dialect.stops, *posting.stops],
        **({} if limit is None else {"max_tokens": limit}),
        **_sampling(request.sampling.over(dialect.sampling), server),
    }


def _chat(posting: Posting, request: Request, server: Server, dialect: Dialect) -> dict[str, Any]:
    messages = chat_messages(
        request.messages, dialect=dialect, tools=request.tools, output=request.output, reasoning=posting.thinking
    )
    body: dict[str, Any] = {
        "messages": messages,
        **({} if posting.max_tokens is None else {server.most_tokens: posting.max_tokens}),
        **server.thinking.get(posting.thinking.mode, {}),
        **_sampling(request.sampling.over(dialect.sampling), server),
    }
    # Not the dialect's stops: the server knows its template's own, and some take four stops at most.
    if posting.stops:
        body["stop"] = list(posting.stops)
    if posting.prefix:
        messages.append({"role": "assistant", "content": instructed(posting.prefix, dialect)})
        body |= server.prefill
    return body


def _native(posting: Posting, request: Request, server: Server, dialect: Dialect) -> dict[str, Any]:
    body: dict[str, Any] = {
        "messages": _native_messages(request, dialect),
        **({} if posting.max_tokens is None else {server.most_tokens: posting.max_tokens}),
        **server.thinking.get(posting.thinking.mode, {}),
        **_sampling(request.sampling, server),
    }
    if request.tools:
        body |= _native_tools(request, server, dialect)
    return body


def _native_tools(request: Request, server: Server, dialect: Dialect) -> dict[str, Any]:
    asked = request if request.grammar is None else request.grammar
    choice = asked.tool_choice
    offered = request.tools
    wanted: Any = choice
    if choice not in ("auto", "none", "required"):
        wanted = {"type": "function", "function": {"name": choice}}
        if "named" not in server.tool_choices:  # then there is only one tool to choose
            offered = [tool for tool in offered if tool.name == choice] or offered
            wanted = "required"
    if isinstance(wanted, str) and wanted not in server.tool_choices:
        wanted = "auto"
    # Definitions come from other people too, such as an MCP server, and a template writes them into the prompt.
    body: dict[str, Any] = {"tools": [json.loads(neutralise(line, dialect)) for line in tool_lines(offered)]}
    if "none" not in server.tool_choices and choice == "none":
        return {}
    if server.tool_choices != ("auto",):
        body["tool_choice"] = wanted
    if server.parallel:
        body["parallel_tool_calls"] = asked.parallel is True or int(asked.parallel) > 1
    return body


def _native_messages(request: Request, dialect: Dialect) -> list[dict[str, Any]]:
    """The conversation in the API's own shape; other people's text is broken up, since a template writes it out."""
    first = next((i for i, m in enumerate(request.messages) if not isinstance(m, SystemMessage)), len(request.messages))
    # Instructions, and the schema of the answer: the model has to know it whatever the server enforces.
    chat: list[dict[str, Any]] = [
        *chat_messages(
            request.messages[:first],
            dialect=dialect,
            output=request.output,
            reasoning=Reasoning("off", keep=request.reasoning.keep),
        )
    ]
    for at, message in enumerate(request.messages[first:]):
        chat.append(_native_message(message, at, dialect, chat))
    return chat


def _native_message(message: Message, at: int, dialect: Dialect, before: Sequence[dict[str, Any]]) -> dict[str, Any]:
    match message:
        case SystemMessage(text):
            return {"role": "system", "content": instructed(text, dialect)}
        case UserMessage(text):
            return {"role": "user", "content": neutralise(text, dialect)}
        case AssistantMessage():
            turn: dict[str, Any] = {"role": "assistant", "content": neutralise(message.raw or message.text, dialect)}
            if message.tool_calls and not message.raw:
                turn["tool_calls"] = [
                    {
                        "id": neutralise(call.id, dialect) or f"call_{at}_{index}",
                        "type": "function",
                        "function": {
                            "name": neutralise(call.name, dialect),
                            "arguments": neutralise(dump_json(call.arguments), dialect),
                        },
                    }
                    for index, call in enumerate(message.tool_calls)
                ]
            return turn
        case ToolMessage():
            content = neutralise(message.content, dialect)
            call_id = neutralise(message.call_id, dialect) or _open_call(before)
            if call_id is None:  # feedback on a turn that had no call the API would know
                return {"role": "user", "content": content}
            return {"role": "tool", "tool_call_id": call_id, "content": content}
        case _ as never:
            assert_never(never)


def _open_call(before: Sequence[dict[str, Any]]) -> str | None:
    """The first call that has no result yet; worked examples carry no ids, results answer calls in order."""
    answered: set[str] = set()
    for message in reversed(before):
        if message["role"] == "tool":
            answered.add(message["tool_call_id"])
        elif message["role"] == "assistant":
            return next((c["id"] for c in message.get("tool_calls", ()) if c["id"] not in answered), None)
        else:
            break
    return None


def _sampling(sampling: Sampling, server: Server) -> dict[str, Any]:
    named = {theirs: getattr(sampling, ours) for ours, theirs in server.sampling.items()}
    return {name: value for name, value in named.items() if value is not None}
