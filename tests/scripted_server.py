"""A server of OpenAI's API that says what a test tells it to, over real sockets, on all three wires."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.loopback import Asked, Client, Loopback

__all__ = ["Script", "ScriptedServer"]

Script = Callable[[dict[str, Any]], Sequence[str]]
"""Takes the body of a request; gives the turn, or the rest of one, in Hermes text, one piece a token."""

_HALF = re.compile("[\ud800-\udfff]")
_CALL = re.compile(r"<tool_call>\n(.*?)\n</tool_call>", re.DOTALL)


class ScriptedServer(Loopback):
    """The server; a context manager. Each piece of the script goes out as one event, and counts as one token."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self.script = script

    async def answer(self, asked: Asked, client: Client) -> None:
        if asked.path == "/v1/models":
            body = json.dumps({"object": "list", "data": [{"id": "scripted", "object": "model"}]}).encode()
            await client.whole(200, {"content-type": "application/json"}, body)
        elif not asked.path.endswith("completions"):
            await client.whole(404, {"content-type": "application/json"}, b'{"error": {"message": "no such path"}}')
        else:
            await client.head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
            for event in self._events(asked):
                await client.chunk(f"data: {_dumped(event)}\n\n".encode())
            await client.chunk(b"data: [DONE]\n\n")
            await client.chunk(b"")

    def _events(self, asked: Asked) -> Iterator[dict[str, Any]]:
        body = asked.json
        pieces = self.script(body)
        shared = {"id": "reply", "created": 0, "model": "scripted"}
        if asked.path.endswith("chat/completions"):
            deltas = _native(pieces) if body.get("tools") else [{"content": piece} for piece in pieces]
            choices: list[dict[str, Any]] = [{"delta": delta} for delta in deltas]
            shared |= {"object": "chat.completion.chunk"}
            last: dict[str, Any] = {"delta": {}}
        else:
            choices = [{"text": piece} for piece in pieces]
            shared |= {"object": "text_completion"}
            last = {"text": ""}
        for choice in choices:
            yield {**shared, "choices": [{"index": 0, "finish_reason": None, **choice}]}
        calls = bool(body.get("tools")) and _CALL.search("".join(pieces)) is not None
        yield {**shared, "choices": [{"index": 0, "finish_reason": "tool_calls" if calls else "stop", **last}]}
        yield {**shared, "choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": len(choices)}}


def _dumped(event: dict[str, Any]) -> str:
    """Characters as they are, as most servers send them; but half a character can only be an escape."""
    plain = json.dumps(event, ensure_ascii=False)
    return json.dumps(event) if _HALF.search(plain) else plain


def _native(pieces: Sequence[str]) -> list[dict[str, Any]]:
    """The same turn in the API's own fields: its text, then each call, the arguments in pieces."""
    text = "".join(pieces)
    calls = list(_CALL.finditer(text))
    if not calls:
        return [{"content": piece} for piece in pieces]
    before = text[: calls[0].start()]
    deltas: list[dict[str, Any]] = [{"content": before}] if before else []
    for index, found in enumerate(calls):
        call = json.loads(found[1])
        head = {"index": index, "id": f"call_{index}", "type": "function"}
        deltas.append({"tool_calls": [{**head, "function": {"name": call["name"], "arguments": ""}}]})
        arguments = json.dumps(call["arguments"], ensure_ascii=False)
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": arguments[start : start + 4]}}]}
            for start in range(0, len(arguments), 4)
        ]
    return deltas
