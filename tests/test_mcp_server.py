"""Tools and agents as an MCP server, spoken to by the official SDK's client over stdio and streamable HTTP."""

from __future__ import annotations

import json
import logging
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import TaskStatus
from mcp import Client, MCPError, StdioServerParameters
from mcp.types import CallToolResult, TextContent

from hermes_agent import Agent, Retry, RunContext, Tool, tool
from hermes_agent.errors import ConfigurationError
from hermes_agent.integrations.mcp import ask_tool, mcp_server, mcp_tools, serve_http
from hermes_agent.messages import AssistantMessage, ToolCall
from hermes_agent.testing import ScriptedModel
from tests.command import environment, hermes, process, tools_file

MINE = '''
import sys
import threading
from pathlib import Path

import anyio

from hermes_agent import Agent, Retry, RunContext, tool
from hermes_agent.testing import ScriptedModel

print("loading prints")
LOG = Path(__file__).with_name("log")


def add(a: int, b: int) -> int:
    """Add two numbers."""
    print("add prints")
    return a + b


def steps(ctx: RunContext, count: int) -> dict[str, int]:
    """Take steps in a thread."""
    for step in range(count):
        ctx.progress(f"step {step}", step, count)
    return {"taken": count}


async def waits(ctx: RunContext) -> str:
    """Wait for ever."""
    ctx.progress("waiting")
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        LOG.write_text("cancelled")
        raise


def fails() -> str:
    """Fail."""
    raise ValueError("no key api_key=abcdef0123456789abcdef")


def _model() -> ScriptedModel:
    call = '<tool_call>\\\\n{"name": "add", "arguments": {"a": 1, "b": 2}}\\\\n</tool_call>'
    return ScriptedModel([call, "It is 3."])


agent = Agent(_model(), tools=[add])
'''

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tools_file(tmp_path_factory.mktemp("mcp"), MINE.replace("\\\\n", "\\n"))


def parameters(*arguments: str | Path) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", "hermes_agent.cli", "mcp", "serve", *map(str, arguments)],
        env={"PYTHONPATH": environment()["PYTHONPATH"]},
    )


@pytest.fixture(scope="module")
def url(mine: Path) -> Iterator[str]:
    with process("mcp", "serve", mine, "--http", "--port", "0") as serving:
        assert serving.stderr is not None
        line = ""
        while "serving at" not in line:
            line = serving.stderr.readline()
            assert line, "it ended"
        yield line.removeprefix("serving at ").strip()
        serving.terminate()


@pytest.fixture(params=["stdio", "http"])
def server(request: pytest.FixtureRequest, mine: Path) -> StdioServerParameters | str:
    return parameters(mine) if request.param == "stdio" else request.getfixturevalue("url")


def text_of(result: CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


@asyncio_only
async def test_tools_are_listed_and_called(server: StdioServerParameters | str) -> None:
    async with Client(server) as client:
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(listed) == {"add", "steps", "waits", "fails"}
        assert listed["add"].description == "Add two numbers."
        assert listed["add"].input_schema["required"] == ["a", "b"]
        assert "ctx" not in listed["steps"].input_schema["properties"]
        result = await client.call_tool("add", {"a": 1, "b": 2})
        assert (result.is_error, text_of(result), result.structured_content) == (False, "3", None)

        told: list[tuple[float, float | None, str | None]] = []

        async def tell(progress: float, total: float | None, message: str | None) -> None:
            told.append((progress, total, message))

        result = await client.call_tool("steps", {"count": 3}, progress_callback=tell)
        assert result.structured_content == {"taken": 3}
        assert text_of(result) == '{"taken": 3}'
        assert [(total, message) for _, total, message in sorted(told)] == [(3.0, f"step {n}") for n in range(3)]
        numbers = [number for number, _, _ in told]
        assert numbers == sorted(set(numbers))


@asyncio_only
async def test_wrong_arguments_and_errors_are_error_results(server: StdioServerParameters | str) -> None:
    async with Client(server) as client:
        wrong = await client.call_tool("add", {"a": "x"})
        assert wrong.is_error
        assert "do not fit" in text_of(wrong)
        failed = await client.call_tool("fails")
        assert failed.is_error
        assert text_of(failed) == "Error: ValueError: no key api_key=[removed]"
        with pytest.raises(MCPError, match="there is no tool 'nope'; there are add"):
            await client.call_tool("nope")


@asyncio_only
async def test_a_client_that_gives_up_cancels_the_tool(server: StdioServerParameters | str, mine: Path) -> None:
    log = mine.with_name("log")
    log.unlink(missing_ok=True)
    async with Client(server) as client:
        async with anyio.create_task_group() as group:
            waiting = anyio.Event()

            async def tell(progress: float, total: float | None, message: str | None) -> None:
                waiting.set()

            async def call() -> None:
                await client.call_tool("waits", progress_callback=tell)

            group.start_soon(call)
            with anyio.fail_after(20):
                await waiting.wait()
            group.cancel_scope.cancel()
        with anyio.fail_after(20):
            while not log.exists():  # noqa: ASYNC110  # another process writes it
                await anyio.sleep(0.01)
        assert text_of(await client.call_tool("add", {"a": 1, "b": 1})) == "2"


PRINTS = '''
import os
import sys

early = sys.stdout


def chatty(times: int) -> str:
    """Print."""
    for _ in range(times):
        print("stray line")
        early.write("stray text")
    os.write(1, b"stray bytes")
    os.system("echo stray child")
    return "done"
'''


@pytest.mark.parametrize("times", [1, 5000])
async def test_what_a_tool_prints_never_reaches_the_client(times: int, tmp_path: Path) -> None:
    wire = tmp_path / "wire"
    started = parameters(tools_file(tmp_path, PRINTS))
    kept = ["-c", 'wire=$1; shift; "$@" 2>/dev/null | tee "$wire"', "sh", str(wire), started.command, *started.args]
    async with Client(StdioServerParameters(command="sh", args=kept, env=started.env)) as client:
        assert text_of(await client.call_tool("chatty", {"times": times})) == "done"
    lines = wire.read_text().splitlines()
    assert lines
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in lines)


async def test_a_program_that_serves_keeps_its_prints_from_the_client(tmp_path: Path) -> None:
    wire = tmp_path / "wire"
    program = tools_file(
        tmp_path,
        PRINTS + "\nimport anyio\nfrom hermes_agent.integrations.mcp import serve_stdio\n\n"
        "anyio.run(serve_stdio, chatty)\n",
    )
    kept = ["-c", f'"$@" 2>/dev/null | tee {wire}', "sh", sys.executable, str(program)]
    async with Client(StdioServerParameters(command="sh", args=kept, env=parameters().env)) as client:
        assert text_of(await client.call_tool("chatty", {"times": 2})) == "done"
    assert all(line.startswith("{") for line in wire.read_text().splitlines())


async def test_what_a_tool_raises_is_logged_in_full_for_those_alone_who_debug(caplog: pytest.LogCaptureFixture) -> None:
    def secretive() -> str:
        """Fail."""
        raise ValueError("what was said")

    with caplog.at_level(logging.INFO, "hermes_agent.mcp"):
        async with served(secretive) as client:
            assert "what was said" in text_of(await client.call_tool("secretive"))
    ours = [record for record in caplog.records if record.name == "hermes_agent.mcp"]
    assert [record.getMessage() for record in ours] == ["tool 'secretive' failed: ValueError"]
    assert not ours[0].exc_info


async def test_an_agent_is_one_tool_that_tells_its_steps(mine: Path) -> None:
    told: list[str] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        told.append(message or "")

    async with Client(parameters(f"{mine}:agent")) as client:
        (listed,) = (await client.list_tools()).tools
        assert listed.name == "ask"
        result = await client.call_tool("ask", {"question": "1 + 2?"}, progress_callback=tell)
        assert text_of(result) == "It is 3."
    assert set(told) == {"step 1", "calls add", "add answered", "step 2"}


async def test_our_client_on_our_server(mine: Path) -> None:
    server = parameters(mine)
    from hermes_agent.integrations.mcp import Stdio

    model = ScriptedModel([AssistantMessage("", tool_calls=(ToolCall("add", {"a": 20, "b": 22}, ""),)), "42."])
    async with mcp_tools(Stdio(server.command, server.args, env=server.env or {})) as tools:
        result = await Agent(model, tools=tools).run("20 + 22?")
    assert [m.content for m in result.messages if m.role == "tool"] == ["42"]


@dataclass
class Deps:
    name: str


@tool(idempotent=True, timeout=1.0)
async def slow(ctx: RunContext[Deps]) -> str:
    """Be slow for all but some."""
    if ctx.deps.name != "me":
        await anyio.sleep_forever()
    return f"quick for {ctx.deps.name}, {len(ctx.call_id) > 0}"


def again() -> str:
    """Want something else."""
    raise Retry("ask for something else")


def leaves() -> str:
    """Leave."""
    sys.exit(3)


@asynccontextmanager
async def served(*things: Any, **settings: Any) -> AsyncGenerator[Client]:
    async with Client(mcp_server(things, **settings)) as client:
        yield client


async def test_deps_timeouts_retries_and_exits() -> None:
    async with served(
        slow, again, leaves, deps=Deps("me"), name="ours", version="7", instructions="Be nice."
    ) as client:
        assert client.instructions == "Be nice."
        assert client.server_info is not None
        assert (client.server_info.name, client.server_info.version) == ("ours", "7")
        hints = {tool.name: tool.annotations for tool in (await client.list_tools()).tools}
        assert hints["slow"] is not None
        assert hints["slow"].idempotent_hint
        assert hints["again"] is None
        assert text_of(await client.call_tool("slow")).startswith("quick for me")
        told = await client.call_tool("again")
        assert (told.is_error, text_of(told)) == (True, "ask for something else")
        left = await client.call_tool("leaves")
        assert (left.is_error, text_of(left)) == (True, "Error: SystemExit: 3")
    async with served(slow, deps=Deps("you")) as client:
        late = await client.call_tool("slow")
        assert (late.is_error, text_of(late)) == (True, "Error: slow did not finish within 1 seconds")


async def test_an_agent_that_finds_no_answer_is_an_error_result() -> None:
    agent = Agent(ScriptedModel(["no number"] * 9), output=int)
    async with served(agent) as client:
        result = await client.call_tool("ask", {"question": "How many?"})
        assert result.is_error
        assert "InvalidOutputError" in text_of(result)


def test_what_cannot_be_served_is_refused() -> None:
    agent = Agent(ScriptedModel([]))
    with pytest.raises(ConfigurationError, match="two of the tools to be served are called 'ask'"):
        mcp_server([agent, agent])
    mcp_server([agent, ask_tool(agent, name="other", description="Another.")])
    with pytest.raises(ConfigurationError, match="nothing to serve"):
        mcp_server([])
    with pytest.raises(ConfigurationError, match="only a schema"):
        mcp_server(Tool.from_schema(name="x", parameters={}))
    careful = tool(approval=True)(again)
    with pytest.raises(ConfigurationError, match="asks for approval"):
        mcp_server(careful)
    mcp_server(careful, approved=True)


@asyncio_only
async def test_http_is_served_until_it_is_cancelled_and_to_this_machine_alone() -> None:
    import httpx

    async with anyio.create_task_group() as group:

        async def serve(*, task_status: TaskStatus[str]) -> None:
            await serve_http(again, port=0, task_status=task_status)

        url: str = await group.start(serve)
        assert url.startswith("http://127.0.0.1:")
        async with Client(url) as client:
            assert (await client.call_tool("again")).is_error
        async with httpx.AsyncClient() as http:
            headers = {"Host": "evil.example", "Content-Type": "application/json", "Accept": "application/json"}
            answer = await http.post(url, headers=headers, json={})
            assert answer.status_code == 421
        port = int(url.split(":")[2].split("/")[0])
        with pytest.raises(ConfigurationError, match="cannot listen"):
            await serve_http(again, port=port)
        group.cancel_scope.cancel()


@pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
async def test_http_says_that_it_needs_asyncio() -> None:
    with pytest.raises(ConfigurationError, match="trio"):
        await serve_http(again, port=0)


def test_the_command_lists_the_tools_of_a_server(url: str) -> None:
    ran = hermes("mcp", "list", url)
    assert ran.code == 0
    assert "4 tools" in ran.out
    assert "add(a, b)\n  Add two numbers." in ran.out
    assert '"name": "steps"' in hermes("mcp", "list", url, "--json", "-H", "X-Key: 1").out
    failed = hermes("mcp", "list", "--", "no-such-command-anywhere", "-x")
    assert failed.code == 1
    assert "no-such-command-anywhere" in failed.err
    assert hermes("mcp", "list", "-H", "X: 1", "--", "ls").code == 1
    assert hermes("mcp", "list", "-H", "X", url).code == 1
    assert (
        hermes("mcp", "list", shlex.join([sys.executable, "-c", "pass"])).err.count("it ended before it answered") == 1
    )


@pytest.mark.parametrize("option", [("--port", "8000"), ("--host", "127.0.0.1")])
def test_where_to_listen_is_only_for_http(option: tuple[str, str]) -> None:
    ran = hermes("mcp", "serve", "calculator", *option)
    assert ran.code == 2
    assert "--http" in ran.err


def test_a_command_that_is_no_server_is_told_without_a_traceback() -> None:
    with process("mcp", "list", "--", "echo", "hello") as listing:
        out, err = listing.communicate()
    assert (listing.returncode, out) == (1, "")
    assert "Traceback" not in err
    assert "hello" not in err
    assert err.startswith("error: MCP server 'echo' cannot be used")
    assert "env NAME=value command" in " ".join(err.split())


def test_run_and_chat_take_tools_of_servers(url: str, tmp_path: Path) -> None:
    file = tools_file(tmp_path)
    ran = hermes("run", "1 + 2?", "-m", f"{file}:adds", "--mcp", url)
    assert ran.code == 0, ran
    assert "← 3" in ran.err
    ran = hermes("chat", "-m", f"{file}:adds", "--mcp", url, stdin="1 + 2?\n")
    assert "The sum is 3." in ran.out
    ran = hermes("run", "q", "-m", f"{file}:greets", "--mcp", f"one={url}", "--mcp", f"two={url}", "-q")
    assert (ran.code, ran.out) == (0, "Hello.\n")
    ran = hermes("run", "q", "-m", f"{file}:greets", "--mcp", "no-such-command-anywhere")
    assert ran.code == 1
    assert "no-such-command-anywhere" in ran.err


def test_ctrl_c_ends_a_server_on_stdio_that_waits_for_its_client(mine: Path) -> None:
    arguments = ["-m", "hermes_agent.cli", "mcp", "serve", str(mine)]
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, *arguments], env=environment(), stdin=pipe, stdout=pipe) as serving:
        assert serving.stdin is not None
        assert serving.stdout is not None
        serving.stdin.write(b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
        serving.stdin.flush()
        assert b'"id":1' in serving.stdout.readline()
        serving.send_signal(signal.SIGINT)
        assert serving.wait(20) == -signal.SIGINT


def test_the_command_says_what_cannot_be_served(mine: Path) -> None:
    ran = hermes("mcp", "serve", f"{mine}:LOG")
    assert ran.code == 1
    assert "is no function" in ran.err
    ran = hermes("mcp", "serve", "no-such-tool")
    assert ran.code == 1
    assert "calculator" in ran.err
