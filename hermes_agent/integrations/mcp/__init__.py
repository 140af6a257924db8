"""Tools from MCP servers, and agents and tools as an MCP server (Model Context Protocol, extra ``mcp``).

    mcp_tools     the tools of a server, by command or by URL, as tools of an agent
    serve_stdio   an agent, or tools, as a server on standard input and output
    serve_http    the same over streamable HTTP
    mcp_server    the same as a server object of the official SDK, to be mounted elsewhere

Both sides rest on the official SDK (``mcp`` 2), which speaks every version of the protocol up to 2026-07-28.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("mcp") is None:
    raise ImportError("MCP needs the extra: pip install 'hermes-agent-sdk[mcp]'", name="mcp")

from hermes_agent.integrations.mcp.address import Http, Server, Stdio
from hermes_agent.integrations.mcp.client import McpTools, ServerTools, mcp_tools
from hermes_agent.integrations.mcp.link import McpServerError, McpToolError
from hermes_agent.integrations.mcp.server import Served, ask_tool, mcp_server, serve_http, serve_stdio

__all__ = [
    "Http",
    "McpServerError",
    "McpToolError",
    "McpTools",
    "Served",
    "Server",
    "ServerTools",
    "Stdio",
    "ask_tool",
    "mcp_server",
    "mcp_tools",
    "serve_http",
    "serve_stdio",
]
