"""A proxy between a client and a server of OpenAI's API that does one thing wrong, chosen as data.

    with FaultyProxy("http://127.0.0.1:8080", Fault("reset_mid_chunk", at=3)) as proxy:
        ...  # talk to proxy.url

Only requests for text are struck, unless the fault says otherwise; everything else goes through. The proxy counts what
it sees, so that a test can say that nothing was asked twice, and how often the fault really struck.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from tests.loopback import Asked, Client, Loopback

__all__ = ["Fault", "FaultyProxy", "Kind"]

Kind = Literal[
    "none",
    # something else instead of the server's answer
    "reset_before_headers", "stall_before_headers", "answer_with",
    # the stream breaks off or stands still
    "reset_mid_chunk", "reset_in_character", "close_mid_chunk", "reset_after_finish", "reset_after_done",
    "no_end", "done_without_finish", "stall", "stall_after_done",
    # its events are others
    "duplicate_deltas", "empty_deltas", "finish_reason", "cut_with", "no_usage", "no_done", "strange_event",
    # its bytes come in other pieces
    "single_bytes", "split_characters", "merged",
]  # fmt: skip
"""What goes wrong."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What the proxy does wrong.

    Attributes:
        kind: What.
        at: So many pieces of text go through before it strikes, where it strikes in a place.
        skip: How many requests it lets through first.
        times: How many requests it strikes then; ``None`` strikes all.
        value: The finish reason, the event or the body that is sent.
        status: The status that is answered.
        headers: What is answered with it.
        path: How the paths of the requests end that are struck.
    """

    kind: Kind = "none"
    at: int = 2
    skip: int = 0
    times: int | None = None
    value: str = ""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    path: str = "completions"


class FaultyProxy(Loopback):
    """The proxy; a context manager.

    Attributes:
        struck: How often the fault did strike: each request counts once.
        turns: Requests that asked for text.
    """

    def __init__(self, upstream: str, fault: Fault = Fault()) -> None:
        super().__init__()
        self.upstream, self.fault = upstream.removesuffix("/").removesuffix("/v1"), fault
        self.struck = self._matching = 0
        self.turns: list[Asked] = []

    async def opened(self) -> None:
        unlimited = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._http = httpx.AsyncClient(timeout=None, trust_env=False, limits=unlimited)

    async def closed(self) -> None:
        await self._http.aclose()

    async def answer(self, asked: Asked, client: Client) -> None:
        fault = Fault()
        if asked.path.endswith("completions"):
            self.turns.append(asked)
        if asked.path.endswith(self.fault.path):
            number = self._matching - self.fault.skip
            self._matching += 1
            if number >= 0 and (self.fault.times is None or number < self.fault.times):
                fault = self.fault
        match fault.kind:
            case "reset_before_headers":
                self.struck += 1
                await client.reset()
            case "stall_before_headers":
                self.struck += 1
                await asyncio.Event().wait()  # until the client leaves
            case "answer_with":
                self.struck += 1
                await client.whole(fault.status, dict(fault.headers), fault.value.encode())
            case _:
                await self._pass_on(fault, asked, client)

    async def _pass_on(self, fault: Fault, asked: Asked, client: Client) -> None:
        headers = {name: asked.headers[name] for name in ("content-type", "authorization") if name in asked.headers}
        url = f"{self.upstream}{asked.path}"
        async with self._http.stream(asked.method, url, headers=headers, content=asked.body) as reply:
            kind = {"content-type": reply.headers.get("content-type", "")}
            if not kind["content-type"].startswith("text/event-stream"):
                await client.whole(reply.status_code, kind, await reply.aread())
                return
            await client.head(reply.status_code, {**kind, "transfer-encoding": "chunked"})
            stream = _Stream(fault, client)
            try:
                await stream.send(_events(reply.aiter_raw()))
            finally:
                self.struck += stream.struck


async def _events(blocks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The data of each event, whatever the pieces it comes in."""
    held = b""
    async for block in blocks:
        *whole, held = (held + block).replace(b"\r\n", b"\n").split(b"\n\n")
        for event in whole:
            if event.startswith(b"data:"):
                yield event[5:].strip().decode()


class _Stream:
    """One streamed answer on its way to the client."""

    def __init__(self, fault: Fault, client: Client) -> None:
        self.struck = False
        self._fault, self._client = fault, client
        self._pieces = 0
        self._held = b""

    async def send(self, events: AsyncIterator[str]) -> None:
        async for data in events:
            if self._breaks_before(data):
                await self._break(_sse(data))
                return
            for text in self._changed(data):
                await self._write(text.encode())
            self._pieces += _speaks(data)
            if self._breaks_after(data):
                self._strike()
                await self._stop()
                return
        if self._held:
            await self._client.chunk(self._held)
        await self._client.chunk(b"")

    def _strike(self) -> None:
        self.struck = True

    def _breaks_before(self, data: str) -> bool:
        if self._pieces < self._fault.at or not _speaks(data):
            return False
        match self._fault.kind:
            case "reset_mid_chunk" | "close_mid_chunk" | "no_end" | "done_without_finish" | "stall":
                return True
            case "reset_in_character":
                return not data.isascii()
            case _:
                return False

    async def _break(self, text: str) -> None:
        self._strike()
        data, client = text.encode(), self._client
        match self._fault.kind:
            case "no_end":
                await client.chunk(b"")
                return
            case "done_without_finish":
                await client.chunk(_sse("[DONE]").encode())
                await client.chunk(b"")
                return
            case "reset_mid_chunk" | "close_mid_chunk":
                await client.raw(b"%x\r\n%s" % (len(data), data[: len(data) // 2]))
            case "reset_in_character":
                inside = next(i for i, byte in enumerate(data) if byte >= 0x80) + 1
                await client.raw(b"%x\r\n%s" % (len(data), data[:inside]))
            case _:
                pass
        await self._stop()

    def _breaks_after(self, data: str) -> bool:
        match self._fault.kind:
            case "reset_after_finish":
                return _finishes(data)
            case "reset_after_done" | "stall_after_done":
                return data == "[DONE]"
            case _:
                return False

    async def _stop(self) -> None:
        match self._fault.kind:
            case "stall" | "stall_after_done":
                await asyncio.Event().wait()  # until the client leaves
            case "close_mid_chunk":
                self._client.hang_up()
            case _:
                await self._client.reset()

    def _changed(self, data: str) -> list[str]:
        """What is sent in an event's place."""
        changes = _CHANGES.get(self._fault.kind)
        if changes is None:
            return [_sse(data)]
        changed = [_sse(event) for event in changes(data, self._pieces, self._fault)]
        if changed != [_sse(data)]:
            self._strike()
        return changed

    async def _write(self, data: bytes) -> None:
        match self._fault.kind:
            case "single_bytes":
                pieces = [data[i : i + 1] for i in range(len(data))]
            case "split_characters":
                cuts = [0, *(i for i, byte in enumerate(data) if byte & 0xC0 == 0x80), len(data)]
                pieces = [data[start:end] for start, end in itertools.pairwise(cuts)]
            case "merged":
                self._held += data
                pieces = [self._held[i : i + _MERGED] for i in range(0, len(self._held) - _MERGED + 1, _MERGED)]
                self._held = self._held[len(pieces) * _MERGED :]
            case _:
                pieces = [data]
        if pieces != [data]:
            self._strike()
        for piece in pieces:
            await self._client.chunk(piece)


_MERGED = 333  # an odd length: several events, the last of them cut


def _duplicated(data: str, pieces: int, fault: Fault) -> list[str]:
    return [data] * (2 if _speaks(data) and pieces >= fault.at else 1)


def _with_empty(data: str, pieces: int, fault: Fault) -> list[str]:
    """The event between some that say nothing, as servers send to keep a connection alive."""
    if not _speaks(data):
        return [data]
    event = json.loads(data)
    deltas: list[dict[str, Any]] = [{}, {"content": ""}, {"content": None}]
    empty: list[dict[str, Any]] = [{"text": ""}, *({"delta": delta} for delta in deltas)]
    nothing: list[Any] = [None, [], *([{"index": 0, "finish_reason": None, **choice}] for choice in empty)]
    around = [json.dumps({**event, "choices": choices}) for choices in nothing]
    return [*around, data, *around]


def _other_finish(data: str, pieces: int, fault: Fault) -> list[str]:
    return [_edited(data, finish=fault.value)]


def _cut(data: str, pieces: int, fault: Fault) -> list[str]:
    """Drop the rest of the text, and say that it ended in some other way."""
    if _speaks(data) and pieces >= fault.at and not _finishes(data):
        return []
    return [_edited(data, finish=fault.value)]


def _no_usage(data: str, pieces: int, fault: Fault) -> list[str]:
    if data == "[DONE]":
        return [data]
    event = json.loads(data)
    event.pop("usage", None)
    return [json.dumps(event, ensure_ascii=False)] if event.get("choices") else []


def _no_done(data: str, pieces: int, fault: Fault) -> list[str]:
    return [] if data == "[DONE]" else [data]


def _strange(data: str, pieces: int, fault: Fault) -> list[str]:
    return [fault.value, data] if _speaks(data) and pieces == fault.at else [data]


_CHANGES: Mapping[Kind, Callable[[str, int, Fault], list[str]]] = {
    "duplicate_deltas": _duplicated,
    "empty_deltas": _with_empty,
    "finish_reason": _other_finish,
    "cut_with": _cut,
    "no_usage": _no_usage,
    "no_done": _no_done,
    "strange_event": _strange,
}
"""Takes an event, how many pieces of text went before it, and the fault; gives the events in its place."""


def _sse(data: str) -> str:
    return f"data: {data}\n\n"


def _choices(data: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [] if data == "[DONE]" else json.loads(data).get("choices") or []
    return found


def _speaks(data: str) -> bool:
    for choice in _choices(data):
        delta = choice.get("delta") or choice
        if any(delta.get(key) for key in ("text", "content", "reasoning_content", "tool_calls")):
            return True
    return False


def _finishes(data: str) -> bool:
    return any(choice.get("finish_reason") for choice in _choices(data))


def _edited(data: str, *, finish: str) -> str:
    if not _finishes(data):
        return data
    event = json.loads(data)
    for choice in event["choices"]:
        choice["finish_reason"] = finish
    return json.dumps(event, ensure_ascii=False)
