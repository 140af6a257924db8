"""One connection to an MCP server, in a task of its own.

The SDK's connection ends by breaking its own task group. Were that around the user's block, a server that dies would
cancel the block; so it is not: whatever becomes of the connection, the block goes on, and calls say what happened.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import anyio

from hermes_agent.errors import HermesError
from hermes_agent.integrations.mcp.address import Http, Stdio
from hermes_agent.integrations.mcp.content import answer_text
from hermes_agent.integrations.mcp.quiet import quiet_sdk

if TYPE_CHECKING:
    import mcp_types
    from anyio.abc import TaskStatus
    from mcp import Client
    from mcp.client import Transport
    from mcp.client.session import IncomingMessage
    from mcp.shared.dispatcher import ProgressFnT

__all__ = ["Link", "McpServerError", "McpToolError", "Offer"]

_logger = logging.getLogger("hermes_agent.mcp")

_WORDS = 4000  # bytes of standard error that are kept
_SILENCE = 300.0  # seconds an HTTP server may say nothing at all while it answers
_COMMAND_HINT = (
    "check the command, its arguments and cwd; it is given few of our environment variables, no keys among them: give "
    "it more by Stdio(env={...}), or as `env NAME=value command`"
)
_PAGES = 1000  # of a list of tools; a server that never ends one must not hold us


class McpServerError(HermesError):
    """An MCP server cannot be started or reached, does not speak the protocol, or has ended.

    ``raw`` is the end of what it wrote to standard error, where it has one. A model is not shown that.
    """


class McpToolError(Exception):
    """A tool of an MCP server answered with an error; the text is the server's own and is shown to the model."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server says of itself when it is connected to.

    Attributes:
        name: Its name; empty if it gave none.
        version: Its version; empty if it gave none.
        instructions: How it wants to be used; empty if it says nothing of that.
        tools: All its tools, as it listed them.
    """

    name: str
    version: str
    instructions: str
    tools: tuple[mcp_types.Tool, ...]


class Link:
    """A connection: `hold` keeps it, beside whoever uses `call`; `stop` ends it."""

    def __init__(self, server: Stdio | Http) -> None:
        self.server = server
        self._words = _LastWords()
        self._stop = anyio.Event()
        self._client: Client | None = None

    def stop(self) -> None:
        """Let `hold` come to its end; the process of a stdio server ends with it."""
        self._stop.set()

    async def hold(self, *, task_status: TaskStatus[Offer]) -> None:
        """Connect, tell the offer, and stay connected until `stop`.

        Raises:
            McpServerError: There is no connection. One that breaks later raises nothing here.
        """
        from mcp import Client
        from mcp_types import Implementation

        told = False
        try:
            client = Client(
                _transport(self.server, self._words),
                client_info=Implementation(name="hermes-agent-sdk", version=_version()),
                message_handler=self._heard,
            )
            with quiet_sdk():
                async with client:
                    offer = await _offer(client)
                    self._client = client
                    task_status.started(offer)
                    told = True
                    await self._stop.wait()
        except Exception as error:
            if not told:
                raise self._unreachable(error) from error
            _logger.warning(
                "the connection to MCP server %r broke: %s", self.server.shown, type(_first(error)).__name__
            )
            _logger.debug("the connection to MCP server %r broke", self.server.shown, exc_info=error)
        finally:
            self._client = None

    async def call(self, name: str, arguments: Mapping[str, Any], progress: ProgressFnT) -> str:
        """Call a tool; when the caller is cancelled the server is told so.

        Raises:
            McpToolError: The server says that it went wrong.
            McpServerError: The server has ended, or answered with something that is no answer.
        """
        from mcp import InputRequiredRoundsExceededError, MCPError
        from mcp_types import CONNECTION_CLOSED
        from pydantic import ValidationError

        client = self._client
        if client is None:
            raise self._ended(name, "The connection is closed.")
        try:
            result = await client.call_tool(name, dict(arguments), progress_callback=progress)
        except MCPError as error:
            if error.code == CONNECTION_CLOSED:
                await self._words.settle()
                raise self._ended(name, "It ended during the call.") from error
            raise McpToolError(error.message) from error
        except (ValidationError, InputRequiredRoundsExceededError, RuntimeError) as error:
            raise McpServerError(
                f"MCP server {self.server.shown!r} answered a call of {name!r} with something that is no answer to it",
                hint=f"this is for the server's makers: {_first(error)!s:.500}",
            ) from error
        text = answer_text(result)
        if result.is_error:
            raise McpToolError(text or "the server gave no reason")
        return text

    async def _heard(self, message: IncomingMessage) -> None:
        if getattr(message, "method", None) == "notifications/tools/list_changed":
            _logger.info("MCP server %r says that its tools have changed", self.server.shown)

    def _ended(self, name: str, what: str) -> McpServerError:
        words = self._words.text()
        error = McpServerError(
            f"MCP server {self.server.shown!r} cannot answer a call of {name!r}. {what}",
            hint="connect again; " + ("what it wrote to standard error is on .raw" if words else "it left no message"),
            raw=words,
        )
        if words:
            error.add_note(f"standard error of {self.server.shown!r} ended with:\n{words}")
        _logger.warning("MCP server %r cannot answer a call of %r: it has ended", self.server.shown, name)
        return error

    def _unreachable(self, error: BaseException) -> McpServerError:
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED

        words, first = self._words.text(), _first(error)
        ended = isinstance(first, MCPError) and first.code == CONNECTION_CLOSED
        why = "it ended before it answered" if ended else f"{type(first).__name__}: {first}"
        said = f"; its standard error ends with:\n{words}" if words else ""
        return McpServerError(
            f"MCP server {self.server.shown!r} cannot be used: {why}{said}",
            hint=_COMMAND_HINT
            if isinstance(self.server, Stdio)
            else "check the URL, its path and the headers, and that the server runs",
            raw=words,
        )

    def late(self, seconds: float) -> McpServerError:
        """The error for a server that took too long to connect."""
        words = self._words.text()
        said = f"; its standard error ends with:\n{words}" if words else ""
        return McpServerError(
            f"MCP server {self.server.shown!r} did not answer within connect_timeout={seconds!r} seconds{said}",
            hint="raise connect_timeout, or check that it speaks MCP at all",
            raw=words,
        )


async def _offer(client: Client) -> Offer:
    tools: list[mcp_types.Tool] = []
    cursor: str | None = None
    if client.server_capabilities.tools is not None:
        for _ in range(_PAGES):
            page = await client.list_tools(cursor=cursor, cache_mode="bypass")
            tools.extend(page.tools)
            cursor = page.next_cursor
            if not cursor:
                break
    info = client.server_info
    return Offer(info.name if info else "", info.version if info else "", client.instructions or "", tuple(tools))


def _transport(server: Stdio | Http, words: _LastWords) -> Transport:
    return _http(server) if isinstance(server, Http) else _stdio(server, words)


@asynccontextmanager
async def _http(server: Http) -> AsyncGenerator[Any]:
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    timeout = httpx2.Timeout(30.0, read=_SILENCE)
    async with (
        httpx2.AsyncClient(headers=dict(server.headers), timeout=timeout) as http,
        streamable_http_client(server.url, http_client=http) as streams,
    ):
        yield streams


@asynccontextmanager
async def _stdio(server: Stdio, words: _LastWords) -> AsyncGenerator[Any]:
    from mcp import StdioServerParameters, stdio_client

    parameters = StdioServerParameters(
        command=server.command, args=list(server.args), env=dict(server.env), cwd=server.cwd
    )
    if sys.platform == "win32":  # where nothing can wait for a pipe: its words go to our standard error
        async with stdio_client(parameters) as streams:
            yield streams
        return
    async with anyio.create_task_group() as group, AsyncExitStack() as stack:
        reading, writing = os.pipe()
        with os.fdopen(writing, "w") as errlog:
            group.start_soon(words.read, reading)
            streams = await stack.enter_async_context(stdio_client(parameters, errlog))
        try:
            yield streams
        finally:
            await stack.aclose()  # the process is gone; what it wrote before that may not have been read
            await words.settle(0.5)
            group.cancel_scope.cancel()


class _LastWords:
    """The end of what a process writes to standard error."""

    def __init__(self) -> None:
        self._kept: deque[bytes] = deque()
        self._size = 0
        self._done = anyio.Event()

    async def read(self, descriptor: int) -> None:
        """Read to the end, and close the descriptor."""
        try:
            while True:
                await anyio.wait_readable(descriptor)
                block = os.read(descriptor, 65536)
                if not block:
                    return
                self._keep(block)
        finally:
            self._done.set()
            os.close(descriptor)

    def _keep(self, block: bytes) -> None:
        _logger.debug("%s", block.decode(errors="replace").rstrip())
        self._kept.append(block[-_WORDS:])
        self._size += len(self._kept[-1])
        while self._size - len(self._kept[0]) >= _WORDS:
            self._size -= len(self._kept.popleft())

    async def settle(self, seconds: float = 1.0) -> None:
        """Wait a moment for the end of what a process that has ended had written."""
        with anyio.move_on_after(seconds):
            await self._done.wait()

    def text(self) -> str:
        """What is kept."""
        return b"".join(self._kept)[-_WORDS:].decode(errors="replace").strip()


def _first(error: BaseException) -> BaseException:
    """The error inside the groups that task groups wrap around it."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("hermes-agent-sdk")
    except PackageNotFoundError:  # a checkout that is not installed
        return "0"
