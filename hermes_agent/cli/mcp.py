"""``hermes-sdk mcp``: serve tools and agents over MCP, and look at the tools of a server."""

from __future__ import annotations

import re
import shlex
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hermes_agent.cli.exits import reported
from hermes_agent.cli.load import load_object, load_tools
from hermes_agent.cli.options import DebugOption, JsonOption
from hermes_agent.cli.terminal import console, json_line, safe
from hermes_agent.errors import ConfigurationError

if TYPE_CHECKING:
    from hermes_agent.agent import Agent
    from hermes_agent.integrations.mcp import Server, ServerTools
    from hermes_agent.tool import Tool

__all__ = ["HELP", "app", "server_tools"]

HELP = """Serve tools and agents over MCP, or look at the tools of a server. Needs the extra `mcp`."""

_SERVE_HELP = """Serve tools, or an agent, as an MCP server.

On standard input and output, for clients that start it as a command; with --http over streamable HTTP.

\b
Examples:
  hermes-sdk mcp serve weather.py
  hermes-sdk mcp serve weather.py:forecast calculator
  hermes-sdk mcp serve travel.py:agent --http --port 8000
"""

_LIST_HELP = """Print the tools of an MCP server.

The server is a URL, or the command that starts it, behind -- so that its options are its own.

\b
Examples:
  hermes-sdk mcp list http://127.0.0.1:8000/mcp
  hermes-sdk mcp list -- npx -y @modelcontextprotocol/server-filesystem /srv/papers
"""

_NAMED = re.compile(r"([A-Za-z0-9_-]+)=(?=\S)(.*)\Z", re.DOTALL)

app = typer.Typer(help=HELP, no_args_is_help=True)


@app.command(help=_SERVE_HELP)
def serve(
    served: Annotated[
        list[str],
        typer.Argument(
            metavar="WHAT...",
            help="path.py:function, path.py:agent, path.py (every public typed function in it), "
            "package.module:name, or a ready-made tool such as calculator.",
        ),
    ],
    http: Annotated[bool, typer.Option("--http", help="Serve over streamable HTTP.")] = False,
    host: Annotated[
        str | None,
        typer.Option(help="With --http: the address to listen on; there is no login.", show_default="127.0.0.1"),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="With --http: the port; 0 takes a free one.", show_default="8000"),
    ] = None,
    name: Annotated[str, typer.Option(help="The server's name.")] = "hermes-agent-sdk",
    approved: Annotated[
        bool, typer.Option("--approved", help="Serve tools that ask for approval too: the client asks its user.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Serve tools, or an agent."""
    for option, value in (("--host", host), ("--port", port)):
        if value is not None and not http:
            raise typer.BadParameter(f"{value!r} is of use with --http alone", param_hint=option)
    where = {"host": host or "127.0.0.1", "port": 8000 if port is None else port} if http else None
    with reported(debug):
        integration = _integration()
        with redirect_stdout(sys.stderr):  # what a file prints while it is loaded is not for the client
            found = [item for spec in served for item in _loaded(spec)]
        _run_server(integration, found, where, name=name, approved=approved)


def _run_server(
    integration: Any, found: Sequence[Any], where: dict[str, Any] | None, *, name: str, approved: bool
) -> None:
    import anyio

    async def over_http() -> None:
        class Told:
            """Says where the server is, once it can be reached."""

            def started(self, value: str | None = None) -> None:
                print(f"serving at {value}", file=sys.stderr, flush=True)

        await integration.serve_http(found, **where or {}, name=name, approved=approved, task_status=Told())

    async def over_stdio() -> None:
        await integration.serve_stdio(found, name=name, approved=approved)

    if where is None:
        # A thread waits for the client's next line, and Python would wait for that thread.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    anyio.run(over_stdio if where is None else over_http)


def _loaded(spec: str) -> Sequence[Tool | Agent[Any, Any]]:
    if ":" in spec:
        from hermes_agent.integrations.mcp.server import is_agent

        if is_agent(found := load_object(spec)):
            return [found]
    return load_tools([spec])


@app.command("list", help=_LIST_HELP)
def list_(
    server: Annotated[list[str], typer.Argument(metavar="URL | -- COMMAND...", help="The server.")],
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="Sent to a URL. May be repeated."),
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Print the tools of a server."""
    with reported(debug):
        integration = _integration()
        with integration.mcp_tools(_address(server, header or [])) as found:
            if as_json:
                print(json_line(_plain(found)))
            else:
                _show(found)


def _address(words: Sequence[str], headers: Sequence[str]) -> Server:
    is_url = len(words) == 1 and words[0].startswith(("http://", "https://"))
    if not headers:
        return words[0] if len(words) == 1 else list(words)  # one word may be a whole command line, as for --mcp
    if not is_url:
        raise ConfigurationError(f"--header was given with the command {shlex.join(words)!r}", hint="give a URL")
    read: dict[str, str] = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise ConfigurationError(f"--header {header!r} is no header", hint="write 'Name: value'")
        read[name.strip()] = value.strip()
    from hermes_agent.integrations.mcp import Http

    return Http(words[0], read)


def _plain(found: ServerTools) -> dict[str, Any]:
    return {
        "name": found.name,
        "version": found.version,
        "instructions": found.instructions,
        "tools": [
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters} for tool in found
        ],
    }


def _show(found: ServerTools) -> None:
    out = console()
    who = f"{found.name or 'the server'} {found.version}".strip()
    out.print(f"{safe(who)}: {len(found)} tools", style="bold")
    for tool in found:
        wanted = tool.parameters.get("required", [])
        arguments = ", ".join(name if name in wanted else f"{name}?" for name in tool.parameters.get("properties", {}))
        out.print(safe(f"\n{tool.name}({arguments})"), style="cyan")
        for line in tool.description.strip().splitlines():
            out.print(f"  {safe(line)}")


@contextmanager
def server_tools(servers: Sequence[str] | None) -> Generator[list[Tool]]:
    """The tools of the servers of ``--mcp``, connected for the length of the block.

    Args:
        servers: URLs and command lines; ``name=`` before one puts ``name_`` before the names of its tools.

    Raises:
        ConfigurationError: One of them is no server.
        McpServerError: One of them cannot be reached.
    """
    if not servers:
        yield []
        return
    integration = _integration()
    with ExitStack() as stack:
        found: list[Tool] = []
        for server in servers:
            named = _NAMED.match(server)
            prefix, address = (f"{named[1]}_", named[2]) if named else ("", server)
            found += stack.enter_context(integration.mcp_tools(address, prefix=prefix))
        yield found


def _integration() -> Any:
    try:
        from hermes_agent.integrations import mcp
    except ImportError as error:
        raise ConfigurationError(
            "the extra for MCP is not installed", hint="pip install 'hermes-agent-sdk[mcp]'"
        ) from error
    return mcp
