"""Asking for the next turn: what it may cost, what it is shown, hooks around it; or what was recorded of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import cast

from hermes_agent.budget import Reached
from hermes_agent.context import Retry
from hermes_agent.errors import HermesError, HookError
from hermes_agent.events import StepFinished, StepStarted
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.generation import AnswerInline, generate_turn
from hermes_agent.hooks import around
from hermes_agent.limits import NOTHING
from hermes_agent.messages import AssistantMessage
from hermes_agent.models.base import Guarantee, Request
from hermes_agent.record import AnswerRejected, HistoryShortened, TurnBegan, TurnWritten
from hermes_agent.state import RunState

__all__ = ["Turns"]


class Turns:
    """Asks for the turns of a run, one after the other.

    Args:
        state: The run.
        answer_inline: Runs calls that stand inside a thought.
    """

    def __init__(self, state: RunState, answer_inline: AnswerInline) -> None:
        self.state, self._answer_inline = state, answer_inline
        self._grammar_told: TurnGrammar | None = None
        self._limits = {r.step: r.limit for r in state.log.records if isinstance(r, TurnBegan) and r.limit}
        self._written: list[TurnWritten] = []
        self._raised: Exception | None = None
        self._last_asked = False

    async def next(self) -> tuple[TurnWritten, str | None]:
        """The next turn, and why a hook or an earlier process does not accept it, if so."""
        state = self.state
        if state.last is not None:  # one limit was reached: the last turn is asked for, whatever the others say
            if self._last_asked:
                raise state.limit_error(state.last)
        elif (reached := state.budget.before_turn(state.usage, reserve=self._reserve)) is not None:
            state.reach(reached, "This is your last turn")
        state.step = step = state.step + 1
        if state.last is None and (limit := self._limits.get(step)):  # time was up, which no other limit tells
            state.reach(Reached(limit, "raise the limit"), "Time is up")
        self._last_asked = state.last is not None
        state.inline_calls = 0
        if state.plan.history_policy is not None:
            await self._shorten(step)
        rejection = None
        if (written := state.log.turns.get(step)) is None:
            written, rejection = await self._write_turn(step)
        else:
            self._take(written)
            self._note_inline(written)
            if (rejected := state.log.rejections.get(step)) is not None:
                rejection = rejected.text
        if written.guarantee:
            state.weaken(cast("Guarantee", written.guarantee))
        return written, rejection

    def _take(self, written: TurnWritten) -> None:
        state = self.state
        state.unread = written
        state.turns.append(written.turn)
        state.usage += written.usage
        state.budget.prompt_tokens = written.usage.input_tokens
        state.size = written.usage.input_tokens + written.usage.output_tokens

    def _note_inline(self, written: TurnWritten) -> None:
        """Count the calls that were run inside of a recorded turn's thought."""
        state = self.state
        if not (inline := state.log.inline.get(written.step)):
            return
        for call in written.turn.reasoning_calls:
            state.budget.before_calls(state.usage, [call])  # notes what is repeated
        for ended in inline:
            state.note(ended.message.name, ended)
            state.corrections = state.corrections + 1 if ended.invalid else 0

    @property
    def _reserve(self) -> bool:
        state = self.state
        return state.plan.on_limit == "answer" and state.last is None

    async def _write_turn(self, step: int) -> tuple[TurnWritten, str | None]:
        state = self.state
        limit = "" if state.last is None else state.last.message
        grammar = self._grammar_text()
        await state.log.write(TurnBegan(step, state.plan.name, state.model.name, grammar, time.time(), limit=limit))
        await state.tell(StepStarted(step))
        self._written.clear()
        rejection = None
        try:
            written = await (self._hooked() if state.plan.hooks else self._generate(self._request()))
        except Retry as retry:
            if not self._written:
                raise state.error(HookError, "a hook raised Retry before there was a turn", "call proceed()") from retry
            written, rejection = self._written[-1], str(retry)
        except HermesError as error:
            self._keep_unfinished(error.raw)
            raise
        except Exception as error:
            if error is self._raised:  # the model's own
                raise
            raise state.error(HookError, f"a hook around a turn raised {error!r}", "mend the hook") from error
        if len(self._written) > 1:  # a hook had it written anew: all of it was paid for
            written = replace(written, usage=sum((one.usage for one in self._written), NOTHING))
        elif written not in self._written:  # a turn that a hook made is a step like any other
            written = replace(written, step=step, usage=replace(written.usage, steps=1))
        self._take(written)  # first: should time be up while it is written down, it is there
        await state.log.write(written)
        if rejection is not None:
            await state.log.write(AnswerRejected(step, rejection, time.time()))
        await state.tell(StepFinished(step, written.turn, written.usage))
        return written, rejection

    async def _hooked(self) -> TurnWritten:
        state = self.state
        proceed: Callable[[Request], Awaitable[TurnWritten]] = self._generate
        context = state.context()
        for hook in reversed(state.plan.hooks):
            proceed = around(hook.around_turn, context, proceed)
        written = await proceed(self._request())
        if not isinstance(cast("object", written), TurnWritten):
            raise state.error(
                HookError, f"a hook around a turn returned {written!r}", "return what proceed() gave, or a TurnWritten"
            )
        return written

    async def _generate(self, request: Request) -> TurnWritten:
        state = self.state
        try:
            made = await generate_turn(
                state.model,
                request,
                emit=state.emit,
                answer_inline=self._answer_inline,
                grammar=self._grammar,
                earlier=state.log.parts.get(state.step, ()),
            )
        except Exception as error:
            self._raised = error
            raise
        written = TurnWritten(state.step, made.turn, made.finish, made.usage, made.guarantee or "", time.time())
        self._written.append(written)
        return written

    def _keep_unfinished(self, raw: str) -> None:
        """Put a turn into the conversation that broke off behind calls that were run inside its thought."""
        state = self.state
        if state.inline_calls:
            thought, _, text = raw.partition(state.model.dialect.think_close)
            thought = thought.partition(state.model.dialect.think_open)[2]
            state.append(AssistantMessage(text.strip(), thought.strip("\n"), raw=raw))

    def _grammar(self) -> TurnGrammar | None:
        state = self.state
        return state.plan.turn_grammar(forced=not state.answered_calls, last=state.last is not None)

    def _grammar_text(self) -> str:
        """The grammar as text, where it is another than that of the turn before."""
        grammar = self._grammar()
        if grammar is self._grammar_told:
            return ""
        self._grammar_told = grammar
        return "" if grammar is None else grammar.lark()

    def _request(self) -> Request:
        state = self.state
        return state.plan.request(
            state.shown,
            tokens=None if state.last is not None else state.budget.tokens_left(state.usage),
            thinking=state.budget.thinking_left(state.usage),
            forced=not state.answered_calls,
            last=state.last is not None,
        )

    async def _shorten(self, step: int) -> None:
        """Let the history policy choose what the model is shown from here on."""
        state = self.state
        policy, visible = state.plan.history_policy, state.visible
        assert policy is not None
        assert visible is not None
        if (known := state.log.shortened.get(step)) is None:
            if state.log.turns.get(step) is not None:
                return
            shortened = await policy.shorten(visible, state.size)
            if shortened is None:
                return
            known = HistoryShortened(step, shortened.messages, shortened.usage, time.time())
            await state.log.write(known)
        state.usage += known.usage
        state.show_only(known.shown)
