"""Tools, or an agent, as an MCP server."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any, cast

import anyio
from anyio.abc import TaskStatus
from typing_extensions import TypeIs

from hermes_agent.agent import Agent
from hermes_agent.context import Retry, RunContext
from hermes_agent.errors import ConfigurationError
from hermes_agent.events import Event, StepStarted, ToolFinished, ToolProgress, ToolStarted
from hermes_agent.integrations.mcp.content import error_of, result_of
from hermes_agent.integrations.mcp.reports import Reports
from hermes_agent.redaction import Redaction
from hermes_agent.result import cut
from hermes_agent.tool import Tool, ToolArgumentsError

if TYPE_CHECKING:
    import mcp_types
    import uvicorn
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server as SdkServer

__all__ = ["Served", "ask_tool", "is_agent", "mcp_server", "serve_http", "serve_stdio"]

_logger = logging.getLogger("hermes_agent.mcp")

_GRACE = 3  # seconds that open requests have to end

One = Agent[Any, Any] | Tool | Callable[..., Any]
Served = One | Iterable[One]
"""An agent, a tool, a typed function, or several of these."""


def ask_tool(agent: Agent[Any, Any], *, name: str = "ask", description: str | None = None) -> Tool:
    """An agent as one tool that takes a question, and reports its steps and calls as progress.

    Args:
        agent: Who answers.
        name: What the tool is called.
        description: What it is for; without it the text says what the agent's tools are.
    """

    async def ask(context: RunContext[Any], question: str) -> object:
        async with agent.stream(question, deps=context.deps) as events:
            async for event in events:
                if (news := _news(event)) is not None:
                    context.progress(news)
        return events.result.output

    return Tool.from_schema(
        name=name,
        description=description or "Ask an agent a question in plain words, and get its answer.",
        parameters={
            "type": "object",
            "properties": {"question": {"type": "string", "description": "The question, with all it needs."}},
            "required": ["question"],
            "additionalProperties": False,
        },
        call=ask,
    )


def _news(event: Event) -> str | None:
    match event:
        case StepStarted(step):
            return f"step {step}"
        case ToolStarted(call):
            return f"calls {call.name}"
        case ToolProgress(call, message):
            return f"{call.name}: {message}"
        case ToolFinished(call, result):
            return f"{call.name} {'failed' if result.is_error else 'answered'}"
        case _:
            return None


def mcp_server(
    served: Served,
    *,
    name: str = "hermes-agent-sdk",
    version: str = "",
    instructions: str | None = None,
    deps: object = None,
    approved: bool = False,
) -> SdkServer[Any]:
    """An MCP server of the official SDK that offers tools; ``streamable_http_app()`` mounts it in an ASGI server.

    What a tool returns is its text, and its data where it is a JSON object. Wrong arguments and what a tool raises
    are error results, for the client's model to read: type and message, never a traceback. ``ctx.progress`` reaches
    the client, and a client that cancels a call cancels the tool.

    Args:
        served: An agent, which becomes the tool ``ask``; a tool; a typed function; or several of these.
        name: The server's name.
        version: Its version.
        instructions: How its tools are to be used, for the client's model.
        deps: Handed to tools and agents in their `RunContext`.
        approved: Serve tools that ask for approval too. Nobody can be asked here: the client must ask its user.

    Raises:
        ConfigurationError: Two tools of one name, a tool that cannot be run, or one that asks for approval.
    """
    from mcp import MCPError
    from mcp.server.lowlevel import Server as SdkServer
    from mcp_types import INVALID_PARAMS, CallToolRequestParams, ListToolsResult, PaginatedRequestParams

    tools = _by_name(served, approved)
    listed = ListToolsResult(tools=[_listed(tool) for tool in tools.values()])

    async def list_tools(
        context: ServerRequestContext[Any, Any], params: PaginatedRequestParams | None
    ) -> mcp_types.ListToolsResult:
        return listed

    async def call_tool(
        context: ServerRequestContext[Any, Any], params: CallToolRequestParams
    ) -> mcp_types.CallToolResult:
        if (tool := tools.get(params.name)) is None:
            raise MCPError(INVALID_PARAMS, f"there is no tool {params.name!r}; there are {', '.join(tools)}")
        return await _call(tool, params.arguments or {}, context, deps)

    return SdkServer(name, version=version, instructions=instructions, on_list_tools=list_tools, on_call_tool=call_tool)


async def serve_stdio(
    served: Served,
    *,
    name: str = "hermes-agent-sdk",
    version: str = "",
    instructions: str | None = None,
    deps: object = None,
    approved: bool = False,
) -> None:
    """Serve on standard input and output until the client closes them.

    What tools print meanwhile goes to standard error. Arguments and errors are those of `mcp_server`. Cancelling it
    takes effect when the client writes or closes: the read that waits for it cannot be broken off.
    """
    from mcp import stdio_server

    server = mcp_server(served, name=name, version=version, instructions=instructions, deps=deps, approved=approved)
    async with stdio_server() as (reading, writing):
        # The SDK has our standard output lead to standard error meanwhile; but what Python's own stream still held at
        # the end would go to the client.
        ours = sys.stdout
        try:
            with redirect_stdout(sys.stderr):
                await server.run(reading, writing, server.create_initialization_options())
        finally:
            ours.flush()


async def serve_http(
    served: Served,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    path: str = "/mcp",
    name: str = "hermes-agent-sdk",
    version: str = "",
    instructions: str | None = None,
    deps: object = None,
    approved: bool = False,
    task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve over streamable HTTP until it is cancelled, or the process gets SIGINT or SIGTERM.

    There is no login: whoever reaches the port may call the tools. On loopback, which is the default, requests that a
    web page has sent by another name are refused; elsewhere put a server with a login in front.

    Args:
        served: What is served, as in `mcp_server`; so are the other arguments.
        host: The address to listen on.
        port: The port; 0 takes a free one.
        path: The path of the endpoint.
        name: The server's name.
        version: Its version.
        instructions: How its tools are to be used.
        deps: Handed to tools and agents.
        approved: Serve tools that ask for approval too.
        task_status: Told the URL once it can be reached, as in ``await group.start(serve_http, ...)``.

    Raises:
        ConfigurationError: As in `mcp_server`; or the address cannot be listened on; or the event loop is trio.
    """
    import sniffio
    import uvicorn

    if sniffio.current_async_library() != "asyncio":
        raise ConfigurationError(
            "serve_http was awaited on trio, where its HTTP server does not run", hint="use asyncio, or serve_stdio"
        )
    server = mcp_server(served, name=name, version=version, instructions=instructions, deps=deps, approved=approved)
    app = server.streamable_http_app(host=host, streamable_http_path=path)
    with _listening(host, port) as listener:
        address: tuple[Any, ...] = listener.getsockname()
        shown = f"[{host}]" if ":" in host else host
        task_status.started(f"http://{shown}:{address[1]}{path}")
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=_GRACE)
        await _until_cancelled(uvicorn.Server(config), listener)


async def _until_cancelled(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve; when it is cancelled, or a signal comes, end what is open, in order and within `_GRACE` seconds."""
    async with anyio.create_task_group() as group:

        async def serve() -> None:
            with anyio.CancelScope(shield=True):  # it knows an end of its own, and complains of any other
                await server.serve(sockets=[listener])
            group.cancel_scope.cancel()

        group.start_soon(serve)
        try:
            await anyio.sleep_forever()
        finally:
            server.should_exit = True


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(
            f"cannot listen on host={host!r}, port={port!r}: {error}", hint="give another port, or 0 for a free one"
        ) from error


def _by_name(served: Served, approved: bool) -> Mapping[str, Tool]:
    single = isinstance(served, Agent | Tool) or callable(served)
    given = [cast("One", served)] if single else list(cast("Iterable[One]", served))
    found: dict[str, Tool] = {}
    for item in given:
        tool = ask_tool(item) if is_agent(item) else Tool.of(item)
        if tool.name in found:
            raise ConfigurationError(
                f"two of the tools to be served are called {tool.name!r}",
                hint="give tool(name=...), or ask_tool(agent, name=...)",
            )
        if tool.function is None:
            raise ConfigurationError(
                f"tool {tool.name!r} has only a schema and cannot be served", hint="give Tool.from_schema(call=...)"
            )
        if tool.approval is not False and not approved:
            raise ConfigurationError(
                f"tool {tool.name!r} asks for approval, and a server has nobody to ask",
                hint="leave it out, or serve with approved=True if every client asks its user",
            )
        found[tool.name] = tool
    if not found:
        raise ConfigurationError("there is nothing to serve", hint="give an agent, tools or functions")
    return found


def is_agent(value: object) -> TypeIs[Agent[Any, Any]]:
    """Whether something is an agent, of whatever types."""
    return isinstance(value, Agent)


def _listed(tool: Tool) -> mcp_types.Tool:
    from mcp_types import Tool as Listed
    from mcp_types import ToolAnnotations

    hints = ToolAnnotations(idempotent_hint=True) if tool.idempotent else None
    return Listed(name=tool.name, description=tool.description, input_schema=tool.parameters, annotations=hints)


async def _call(
    tool: Tool, arguments: Mapping[str, Any], request: ServerRequestContext[Any, Any], deps: object
) -> mcp_types.CallToolResult:
    reports = Reports(request.session.report_progress)
    context: RunContext[Any] = RunContext(deps=deps, call_id=str(request.request_id), _report=reports.report)
    result: mcp_types.CallToolResult | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(reports.send)
        result = await _answer(tool, arguments, context)
        reports.end()
    assert result is not None
    return result


async def _answer(tool: Tool, arguments: Mapping[str, Any], context: RunContext[Any]) -> mcp_types.CallToolResult:
    try:
        with anyio.move_on_after(tool.timeout):
            return result_of(await tool.call(tool.validate(arguments), context))
    except (ToolArgumentsError, Retry) as error:
        return error_of(str(error))
    except (Exception, SystemExit) as error:  # whatever a tool raises is its result
        _logger.info("tool %r failed: %s", tool.name, type(error).__name__)
        _logger.debug("tool %r failed", tool.name, exc_info=error)
        # Type and message only: a traceback tells the model nothing and may hold secrets.
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return error_of(f"Error: {cut(Redaction().text(text), 2000)}")
    return error_of(f"Error: {tool.name} did not finish within {tool.timeout:g} seconds")
