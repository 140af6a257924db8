"""The tools of an MCP server as tools of an agent."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, overload

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from anyio.from_thread import BlockingPortal, start_blocking_portal

from hermes_agent.context import RunContext
from hermes_agent.errors import ConfigurationError, ToolDefinitionError
from hermes_agent.integrations.mcp.address import Server, server_of
from hermes_agent.integrations.mcp.link import Link, Offer
from hermes_agent.tool import Approval, Tool

if TYPE_CHECKING:
    import mcp_types

__all__ = ["McpTools", "ServerTools", "mcp_tools"]

_logger = logging.getLogger("hermes_agent.mcp")

_UNFIT = re.compile(r"[^A-Za-z0-9_.:/-]")
_LONGEST_NAME = 128


@dataclass(frozen=True, slots=True)
class ServerTools(Sequence[Tool]):
    """The tools of a connected server, in its order, to be given to an agent.

    Attributes:
        tools: The same, as a tuple.
        name: The server's own name; empty if it gave none.
        version: Its version; empty if it gave none.
        instructions: How it wants its tools to be used, for an agent's ``instructions``; empty if it says nothing.
    """

    tools: tuple[Tool, ...]
    name: str = ""
    version: str = ""
    instructions: str = ""

    def __len__(self) -> int:
        return len(self.tools)

    @overload
    def __getitem__(self, index: int) -> Tool: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Tool]: ...
    def __getitem__(self, index: int | slice) -> Tool | Sequence[Tool]:
        return self.tools[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """Which tools are taken from a server, and what they become."""

    prefix: str
    include: Collection[str] | None
    exclude: Collection[str]
    timeout: float | None
    approval: Approval
    trust_hints: bool


def mcp_tools(
    server: Server,
    *,
    prefix: str = "",
    include: Collection[str] | None = None,
    exclude: Collection[str] = (),
    timeout: float | None = None,
    connect_timeout: float = 60.0,
    approval: Approval = False,
    trust_hints: bool = False,
) -> McpTools:
    """Connect to an MCP server and take its tools: a context manager, for ``async with`` as for ``with``.

    The connection lasts as long as the block. With ``async with`` the tools belong to the event loop of the block;
    with ``with`` the connection lives in a thread of its own, and the tools can be used from any loop and from
    ``run_sync``.

    A call reports the server's progress as `ToolProgress`; when it is cancelled, by a limit or by the end of the run,
    the server is told. An error that the server reports is a tool's error to the model. Letters that a tool's name
    may not have here become ``_``.

    Args:
        server: A URL, a command line, a command as a list, a `Stdio` or an `Http`.
        prefix: Put before each name, so that the tools of several servers can stand side by side.
        include: The only tools to take, by the server's names; ``None`` takes all.
        exclude: Tools not to take, by the server's names.
        timeout: Seconds of wall clock one call may take; ``None`` leaves it to the run's limits.
        connect_timeout: Seconds that connecting and listing the tools may take.
        approval: As in `tool`, for every tool of the server.
        trust_hints: Believe what the server says of its tools: one that it calls read only or idempotent may run again
            after a crash, and one that it calls destructive asks for approval. A server may say anything, so only for
            servers that you trust as you trust your own code.

    Raises:
        ConfigurationError: The server is no server, ``include`` or ``exclude`` names a tool it has not, or two tools
            come to the same name.
        ToolDefinitionError: A tool has a schema that is not one; ``exclude`` leaves it out.
        McpServerError: The server cannot be started or reached, or does not speak MCP.

    Example:
        >>> async def ask(question):
        ...     async with mcp_tools("npx -y @modelcontextprotocol/server-filesystem /srv/papers") as files:
        ...         return await Agent(tools=files).run(question)
    """
    for name, value in (("include", include), ("exclude", exclude)):
        if isinstance(value, str):
            raise ConfigurationError(f"{name}={value!r} is one text", hint=f"give a list: {name}=[{value!r}]")
    choice = _Choice(
        prefix=prefix, include=include, exclude=exclude, timeout=timeout, approval=approval, trust_hints=trust_hints
    )
    return McpTools(server, choice, connect_timeout)


class McpTools:
    """A connection to be opened, once; made by `mcp_tools`."""

    def __init__(self, server: Server, choice: _Choice, connect_timeout: float) -> None:
        self._server = server_of(server)
        self._choice = choice
        self._connect_timeout = connect_timeout
        self._open: AbstractAsyncContextManager[ServerTools] | None = None
        self._stack = ExitStack()

    async def __aenter__(self) -> ServerTools:
        self._open = self._opened(None)
        return await self._open.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._open is not None
        return await self._open.__aexit__(kind, error, trace)

    def __enter__(self) -> ServerTools:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal("asyncio", name="hermes_agent MCP"))
            tools = stack.enter_context(portal.wrap_async_context_manager(self._opened(portal)))
            self._stack = stack.pop_all()
            return tools

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        # The block's error is not told to the thread, which would only hand it back.
        self._stack.close()
        return None

    @asynccontextmanager
    async def _opened(self, portal: BlockingPortal | None) -> AsyncGenerator[ServerTools]:
        # What is carried past the task group, which would wrap it. Cancellation is not: the group knows it.
        broke: Exception | SystemExit | KeyboardInterrupt | None = None
        async with anyio.create_task_group() as group:
            link = Link(self._server)
            try:
                offer = await _connected(group, link, self._connect_timeout)
                found = _tools(offer, self._choice, _Caller(link, portal))
                yield ServerTools(found, offer.name, offer.version, offer.instructions)
            except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  # raised again below
                broke = error
            finally:
                link.stop()
        if broke is not None:
            raise broke


async def _connected(group: TaskGroup, link: Link, seconds: float) -> Offer:
    with anyio.move_on_after(seconds):
        offer: Offer = await group.start(link.hold)
        return offer
    raise link.late(seconds)


class _CallTool(Protocol):
    async def __call__(self, name: str, arguments: dict[str, Any], context: RunContext[Any]) -> str: ...


class _Caller:
    """Calls tools over a link, from its own loop or, through the portal, from another."""

    def __init__(self, link: Link, portal: BlockingPortal | None) -> None:
        self._link, self._portal = link, portal

    async def __call__(self, name: str, arguments: dict[str, Any], context: RunContext[Any]) -> str:
        latest = -math.inf

        async def tell(progress: float, total: float | None, message: str | None) -> None:
            # By the protocol each number is above the one before. The SDK has a task for each, and on trio those start
            # in any order: one that comes late is old news.
            nonlocal latest
            if progress >= latest:
                latest = progress
                context.progress(message or name, progress, total)

        async def go() -> str:
            return await self._link.call(name, arguments, tell)

        return await (go() if self._portal is None else _across(self._portal, go))


async def _across(portal: BlockingPortal, go: _Go) -> str:
    """Await something that runs on the portal's loop; a cancellation here cancels it there.

    Raises:
        ConfigurationError: The portal's loop has ended.
    """
    try:
        future = portal.start_task_soon(go)
    except RuntimeError as error:
        raise ConfigurationError(
            "an MCP tool was called when its connection was closed", hint="call it inside the block of mcp_tools"
        ) from error
    try:
        return await anyio.to_thread.run_sync(future.result, abandon_on_cancel=True)
    except anyio.get_cancelled_exc_class():
        future.cancel()
        raise


class _Go(Protocol):
    async def __call__(self) -> str: ...


def _tools(offer: Offer, choice: _Choice, call: _CallTool) -> tuple[Tool, ...]:
    known = {listed.name for listed in offer.tools}
    for option, names in (("include", choice.include or ()), ("exclude", choice.exclude)):
        if missing := sorted(set(names) - known):
            raise ConfigurationError(
                f"{option} names {', '.join(map(repr, missing))}, which MCP server {offer.name!r} has not",
                hint=f"it has {', '.join(map(repr, sorted(known))) or 'no tools'}",
            )
    taken: dict[str, str] = {}
    found: list[Tool] = []
    for listed in offer.tools:
        if listed.name in choice.exclude or (choice.include is not None and listed.name not in choice.include):
            continue
        made = _tool(listed, choice, call)
        if made.name in taken:
            raise ConfigurationError(
                f"tools {taken[made.name]!r} and {listed.name!r} of MCP server {offer.name!r} are both {made.name!r}",
                hint="leave one of them out with exclude=[...]",
            )
        taken[made.name] = listed.name
        found.append(made)
    return tuple(found)


def _tool(listed: mcp_types.Tool, choice: _Choice, call: _CallTool) -> Tool:
    own_name = listed.name

    # Arguments come by keyword, so this name must be one that no schema uses.
    async def call_server(hermes_agent_context_: RunContext[Any], **arguments: Any) -> str:
        return await call(own_name, arguments, hermes_agent_context_)

    name = _UNFIT.sub("_", choice.prefix + own_name)[:_LONGEST_NAME]
    if name != choice.prefix + own_name:
        _logger.info("the MCP tool %r is called %r here", own_name, name)
    hints = listed.annotations if choice.trust_hints else None
    harmless = hints is not None and bool(hints.read_only_hint or hints.idempotent_hint)
    destructive = hints is not None and bool(hints.destructive_hint) and not hints.read_only_hint
    try:
        return Tool.from_schema(
            name=name,
            description=listed.description or listed.title or "",
            parameters=listed.input_schema,
            call=call_server,
            timeout=choice.timeout,
            approval=choice.approval or destructive,
            idempotent=harmless,
        )
    except ToolDefinitionError as error:
        raise ToolDefinitionError(
            f"MCP tool {own_name!r}: {error.message}", hint=f"leave it out with exclude=[{own_name!r}]"
        ) from error
