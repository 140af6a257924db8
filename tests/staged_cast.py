"""Who plays in a run on the stage, other than its tools: models and a hook."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hermes_agent import Retry, RunContext, RunResult
from hermes_agent.errors import ModelError
from hermes_agent.formats.dialects import dialect
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.hooks import Hooks, blocked
from hermes_agent.messages import ToolCall
from hermes_agent.models.base import Chunk, Guarantee, Request
from hermes_agent.record import CallEnded, TurnWritten
from hermes_agent.turn import TextPart, Turn
from tests.staged_plots import ANSWER, Written

if TYPE_CHECKING:
    from tests.staged_runs import Stage

__all__ = ["Meddling", "Writer"]

DIALECT = dialect("hermes-4-14b")


class Writer:
    """A model that writes what the plot says, and keeps to the tokens it is allowed; a chunk is a token."""

    dialect = DIALECT
    for_tests = True

    def __init__(self, stage: Stage, script: str) -> None:
        self.stage, self.name, self._script = stage, script, stage.scripts[script]
        self._rest: str | None = None
        self._turn = Written(ANSWER)

    async def guarantee(self, grammar: TurnGrammar, *, prove: bool = False) -> Guarantee:
        await self.stage.point()
        return "token"

    async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        stage = self.stage
        if stage.over or stage.calm:
            stage.wrong.append("the model was asked after the end")
        if not request.prefix or self._rest is None:
            thought = f"{DIALECT.think_close}\n" if request.prefix else ""
            self._turn = next(self._script, Written(thought + ANSWER))
            self._rest = self._turn.text
        text, self._rest = self._rest, ""
        state = _Writing(request)
        finish = self._turn.finish
        while text:
            if request.max_tokens is not None and state.written >= request.max_tokens:
                finish = "length"
                break
            if state.written == self._turn.breaks_after:
                raise ModelError("the server went away")
            piece, text = state.next_piece(text, stage.plot.chunk)
            self._rest = text
            await stage.point()
            yield state.chunk(piece)
        if self._turn.breaks_after is not None and state.written <= self._turn.breaks_after:
            raise ModelError("the server went away before the end")
        yield replace(state.chunk(""), finish_reason=finish, thought_cut=state.cut)


@dataclass(slots=True)
class _Writing:
    """How far a turn is written."""

    request: Request
    written: int = 0
    thought: int = 0
    cut: bool = False
    text: str = field(init=False)

    def __post_init__(self) -> None:
        self.text = self.request.prefix

    @property
    def thinking(self) -> bool:
        return DIALECT.think_open in self.text and DIALECT.think_close not in self.text

    def next_piece(self, text: str, size: int) -> tuple[str, str]:
        """The next token, and what is left: a call's end ends one, and a budget ends a thought."""
        reasoning = self.request.reasoning
        budget = None if reasoning.mode == "off" else reasoning.max_tokens
        if self.thinking and budget is not None and self.thought >= budget:
            _, _, text = text.partition(DIALECT.think_close)
            piece, self.cut = f"\n{DIALECT.think_close}", True
        else:
            call_end = text.find("</tool_call>")
            end = min(size, len(text)) if call_end < 0 else min(size, call_end + len("</tool_call>"))
            if 0 <= call_end < end:
                end = call_end + len("</tool_call>")
            piece, text = text[:end], text[end:]
            self.thought += self.thinking
        self.written += 1
        self.text += piece
        return piece, text

    def chunk(self, piece: str) -> Chunk:
        return Chunk(
            piece,
            input_tokens=5 + len(self.request.messages),
            output_tokens=self.written,
            thinking_tokens=self.thought,
        )


class Meddling(Hooks[Any]):
    """A hook that does what the plot says."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def _next(self, where: str) -> str:
        return next(self.stage.hooking[where], "pass")

    async def around_run(
        self, context: RunContext[Any], proceed: Callable[[], Awaitable[RunResult[Any]]]
    ) -> RunResult[Any]:
        await self.stage.point()
        what = self._next("around_run")
        if what == "raise":
            raise RuntimeError("a hook is broken")
        result = await proceed()
        await self.stage.point()
        if what == "raise_after":
            raise RuntimeError("a hook is broken")
        return result

    async def around_turn(
        self, context: RunContext[Any], request: Request, proceed: Callable[[Request], Awaitable[TurnWritten]]
    ) -> TurnWritten:
        await self.stage.point()
        what = self._next("around_turn")
        if what == "raise":
            raise RuntimeError("a hook is broken")
        if what == "skip":
            self.stage.changed_turns = True
            return TurnWritten(context.step, _spoken(ANSWER))
        written = await proceed(request)
        await self.stage.point()
        if what == "retry":
            raise Retry("Mind your manners.")
        if what == "text":
            self.stage.changed_turns = True
            return replace(written, turn=_spoken("7"))
        return written

    async def around_call(
        self, context: RunContext[Any], call: ToolCall, proceed: Callable[[ToolCall], Awaitable[CallEnded]]
    ) -> CallEnded:
        stage = self.stage
        key = (context.run_id, call.id)
        await stage.point()
        what = self._next("around_call")
        if what in ("block", "retry", "raise"):
            stage.barred.add(key)
        if what == "block":
            return blocked(call, "Not allowed.")
        if what == "retry":
            raise Retry("Not like this.")
        if what == "raise":
            raise RuntimeError("a hook is broken")
        ended = await proceed(replace(call, arguments={"n": 1}) if what == "arguments" else call)
        await stage.point()
        if what == "raise_after":
            raise RuntimeError("a hook is broken")
        if what == "retry_after":
            raise Retry("That was not good.")
        if what == "block_after":
            return blocked(call, "Nobody may see this.")
        if what == "result":
            return replace(ended, message=replace(ended.message, content="changed"))
        return ended


def _spoken(text: str) -> Turn:
    return Turn((TextPart(text, (0, len(text))),), raw=text)
