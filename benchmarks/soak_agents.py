"""The soak's model, tools and agents: few of each, shared by all runs."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from benchmarks.soak_scripts import CUT, HANG, HUGE, Fails, Script, Turn
from hermes_agent import Agent, Limits, Retry, RunContext, Tool, tool
from hermes_agent.errors import HermesError
from hermes_agent.formats.dialects import dialect
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.formats.wire import serialise_calls
from hermes_agent.hooks import Hooks, blocked
from hermes_agent.journal import Journal
from hermes_agent.messages import AssistantMessage, ToolCall, UserMessage
from hermes_agent.models.base import Chunk, Guarantee, Request
from hermes_agent.record import CallEnded, TurnWritten

__all__ = ["SoakModel", "agents_of"]

Context = RunContext[Script]

HANG_SECONDS = 0.03
"""After which a hanging tool is given up."""

_PIECE = 48


class SoakModel:
    """Writes what the script of the run says that asks: one model for all runs, which keeps nothing of any.

    Attributes:
        scripts: By number, those of the runs under way.
    """

    name = "soak"
    dialect = dialect("chatml")

    def __init__(self) -> None:
        self.scripts: dict[int, Script] = {}

    async def guarantee(self, grammar: TurnGrammar, *, prove: bool = False) -> Guarantee:
        """Nothing is enforced."""
        return "checked"

    async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """The turn of the script that is behind the turns of the conversation."""
        script, turn = self._turn(request)
        text = script.says("begins to write") if isinstance(turn, Fails) or turn is HANG else _spelled(turn)
        for at in range(0, len(text), _PIECE):
            yield Chunk(text[at : at + _PIECE])
            await (anyio.sleep(0.001) if script.random.random() < 0.1 else checkpoint())
        if isinstance(turn, Fails):
            raise _again(turn.error)
        if turn is HANG:
            script.reached.set()
            await anyio.sleep_forever()
        yield Chunk("", "stop", input_tokens=10, output_tokens=len(text))

    def _turn(self, request: Request) -> tuple[Script, Turn]:
        written = 0
        for message in reversed(request.messages):
            if isinstance(message, AssistantMessage):
                written += 1
            elif isinstance(message, UserMessage):
                _, number, what = message.text.replace(":", "").split()
                script = self.scripts[int(number)]
                if request.tool_choice == "none":  # the last turn, which has to answer
                    return script, script.answer
                return script, (script.inner if what == "inner" else script.turns)[written]
        raise AssertionError(f"nobody asked anything: {request.messages!r}")


def _spelled(turn: Turn) -> str:
    if isinstance(turn, AssistantMessage):
        calls = serialise_calls([(call.name, call.arguments) for call in turn.tool_calls])
        return "\n".join(part for part in (turn.text, calls) if part)
    assert isinstance(turn, str)
    return turn


def _again(error: Exception) -> Exception:
    """An exception of its own for each time it is raised: one that is raised twice collects tracebacks."""
    return type(error)(error.message if isinstance(error, HermesError) else str(error))


def _noted(context: Context, n: int) -> Script:
    """The script of the run that calls, where the call is counted."""
    script = context.deps
    if script.number != n:
        script.wrong.append(f"was asked for run {n}")
    if context.run_id.partition("/")[0] != script.run_id:
        script.wrong.append(f"was called in {context.run_id}")
    script.ran[f"{context.run_id}/{context.call_id}"] += 1
    return script


def add(context: Context, n: int, a: int, b: int) -> str:
    """Add."""
    return _noted(context, n).says(f"gives {a + b}")


async def add_async(context: Context, n: int, a: int, b: int) -> str:
    """Add."""
    script = _noted(context, n)
    for _ in range(script.random.randrange(4)):
        await checkpoint()
    return script.says(f"gives {a + b}")


@tool(sequential=True)
async def alone(context: Context, n: int) -> str:
    """Work alone."""
    await checkpoint()
    return _noted(context, n).says("alone")


def fail(context: Context, n: int, how: str) -> str:
    """Fail."""
    text = _noted(context, n).says("failed")
    if how == "ExceptionGroup":
        raise ExceptionGroup(text, [ValueError(text), KeyError(text)])
    raise {"ValueError": ValueError, "KeyError": KeyError, "SystemExit": SystemExit}[how](text)


async def fail_async(context: Context, n: int, how: str) -> str:
    """Fail."""
    await checkpoint()
    return fail(context, n, how)


def picky(context: Context, n: int, *, good: bool) -> str:
    """Be picky."""
    script = _noted(context, n)
    if not good:
        raise Retry(script.says("is too small"))
    return script.says("is good")


async def picky_async(context: Context, n: int, *, good: bool) -> str:
    """Be picky."""
    await checkpoint()
    return picky(context, n, good=good)


@tool(timeout=HANG_SECONDS)
def hang(context: Context, n: int) -> str:
    """Hang in a thread."""
    _noted(context, n).gate.wait()
    return "late"


@tool(timeout=HANG_SECONDS)
async def hang_async(context: Context, n: int) -> str:
    """Hang."""
    _noted(context, n)
    await anyio.sleep_forever()
    return "late"


@tool(timeout=math.inf)
async def stay(context: Context, n: int) -> str:
    """Stay until the run is ended."""
    _noted(context, n).reached.set()
    await anyio.sleep_forever()
    return "late"


@tool(timeout=math.inf)
def stay_thread(context: Context, n: int) -> str:
    """Stay in a thread until the run is ended, and longer."""
    script = _noted(context, n)
    anyio.from_thread.run_sync(script.reached.set, token=script.token)
    script.gate.wait()
    return "late"


@tool(timeout=math.inf, idempotent=True)
async def again(context: Context, n: int) -> str:
    """Stay the first time, and answer the second."""
    script = _noted(context, n)
    if not script.reached.is_set():
        script.reached.set()
        await anyio.sleep_forever()
    return script.says("at last")


def huge(context: Context, n: int) -> str:
    """Return a lot."""
    return _noted(context, n).says("").ljust(HUGE, "x")


async def huge_async(context: Context, n: int) -> str:
    """Return a lot."""
    await checkpoint()
    return huge(context, n)


def walk(context: Context, n: int) -> str:
    """Tell of progress from a thread."""
    script = _noted(context, n)
    for step in range(3):
        context.progress(script.says("walks"), step, 3)
    return script.says("arrived")


async def walk_async(context: Context, n: int) -> str:
    """Tell of progress."""
    script = _noted(context, n)
    for step in range(3):
        context.progress(script.says("walks"), step, 3)
        await checkpoint()
    return script.says("arrived")


@tool(approval=True)
def ask(context: Context, n: int, word: str = "") -> str:
    """Wait for a word."""
    return _noted(context, n).says("was allowed")


async def _wanted(context: Context, arguments: dict[str, Any]) -> bool:
    await checkpoint()
    return bool(arguments["n"] == context.deps.number)


@tool(approval=_wanted)
async def ask_maybe(context: Context, n: int, word: str = "") -> str:
    """Wait for a word."""
    await checkpoint()
    return _noted(context, n).says("was allowed")


def barred(context: Context, n: int) -> str:
    """Never to be run."""
    _noted(context, n).wrong.append("a barred tool was run")
    return "late"


def trap(context: Context, n: int) -> str:
    """Never to be run."""
    return barred(context, n)


REMOTE = Tool.from_schema(name="remote", parameters={"properties": {"n": {"type": "integer"}}, "required": ["n"]})


class Watching(Hooks[Script]):
    """Bars one tool, breaks at another, and rejects a turn."""

    async def around_turn(
        self, context: Context, request: Request, proceed: Callable[[Request], Awaitable[TurnWritten]]
    ) -> TurnWritten:
        """Reject what must be said again."""
        written = await proceed(request)
        if "must be said again" in written.turn.text:
            raise Retry(context.deps.says("say it again"))
        return written

    async def around_call(
        self, context: Context, call: ToolCall, proceed: Callable[[ToolCall], Awaitable[CallEnded]]
    ) -> CallEnded:
        """Bar, or break."""
        if call.name == "barred":
            return blocked(call, context.deps.says("is not allowed"))
        if call.name == "trap":
            raise ValueError(context.deps.says("trapped"))
        return await proceed(call)


async def right_number(context: Context, value: int) -> None:
    await checkpoint()
    if value != context.deps.number and value >= 0:
        raise Retry(context.deps.says("has another number"))


def no_negative(context: Context, value: int) -> int:
    if value < 0:
        raise KeyError(context.deps.says("broke the validator"))
    return value


def agents_of(model: SoakModel, journal: Journal | None) -> dict[str, Agent[Script, Any]]:
    """The agents, by name."""
    few = [add, add_async, ask, ask_maybe, hang_async, barred, trap]
    tools = [
        *few, alone, fail, fail_async, picky, picky_async, hang, stay, stay_thread, again, huge, huge_async, walk,
        walk_async, REMOTE,
    ]  # fmt: skip

    def agent(**settings: Any) -> Agent[Script, Any]:
        given: dict[str, Any] = {
            "tools": tools,
            "deps_type": Script,
            "journal": journal,
            "limits": Limits(tool_result_chars=CUT),
        }
        make: Callable[..., Agent[Script, Any]] = Agent
        return make(model, **(given | settings))

    limits = {
        "steps": Limits(steps=3),
        "calls": Limits(tool_calls=2),
        "repeats": Limits(repeats=2),
        "seconds": Limits(seconds=0.05),
    }
    back, inner = agent(tools=few, name="back"), agent(tools=few, name="inner")
    return {
        "all": agent(),
        "strict": agent(on_tool_error="raise"),
        "narrow": agent(limits=Limits(concurrency=2)),
        "sequential": agent(sequential=True),
        "outer": agent(tools=[*few, inner.as_tool()]),
        "front": agent(tools=few, handoffs=[back]),
        "hooked": agent(tools=few, hooks=[Watching(), Hooks[Script]()]),
        "typed": agent(tools=few, output=int, validators=[right_number, no_negative]),
        **{f"raise_{name}": agent(limits=bound) for name, bound in limits.items()},
        **{f"answer_{name}": agent(limits=bound, on_limit="answer") for name, bound in limits.items()},
    }
