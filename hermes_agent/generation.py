"""One model turn: written by the model, read by the parser as it comes, told as events.

Mostly that is one request. With ``Reasoning(calls="inline")`` a turn is written in several: the model stops behind
a call inside its thinking, the result is put there, and it writes on behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from hermes_agent.errors import HermesError
from hermes_agent.events import Event, InlineCall
from hermes_agent.formats.dialects import Dialect
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.formats.parser import TurnParser
from hermes_agent.formats.prompt import inline_results
from hermes_agent.limits import Usage
from hermes_agent.messages import ToolCall, ToolMessage
from hermes_agent.models.base import Chunk, FinishReason, Guarantee, Model, Request, weakest
from hermes_agent.models.permission import check_requests_allowed
from hermes_agent.record import PartWritten
from hermes_agent.turn import Fault, Turn

__all__ = ["AnswerInline", "Emit", "Generation", "generate_turn"]

Emit = Callable[[Event], Awaitable[None]]

AnswerInline = Callable[[Sequence[ToolCall | Fault], PartWritten], Awaitable[Sequence[ToolMessage]]]
"""Runs calls of a thought; one result for each, in their order. It is given what was written up to there, as well."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A turn, how it ended, what it cost, and how it was enforced if that is less than the model promised."""

    turn: Turn
    finish: FinishReason
    usage: Usage
    guarantee: Guarantee | None


async def generate_turn(
    model: Model,
    request: Request,
    *,
    emit: Emit | None,
    answer_inline: AnswerInline,
    grammar: Callable[[], TurnGrammar | None],
    earlier: Sequence[PartWritten] = (),
) -> Generation:
    """Have one turn written and read.

    Args:
        model: Writes it.
        request: What is to be written, and what may be.
        emit: Awaited with every event; ``None`` if nobody listens.
        answer_inline: Runs the calls of a thought that wants results inline.
        grammar: What turns may be by now: a call inside the thought may have honoured a forced tool choice.
        earlier: Parts of the turn that were written before, by a process that did not come to its end.

    Raises:
        HermesError: The model failed, or a call could not be answered; what there is of the turn is in ``raw``.
    """
    check_requests_allowed(model)
    reader = _Reader(model, request, emit)
    try:
        return await _generate(model, request, reader, answer_inline, grammar, deque(earlier))
    except HermesError as error:
        error.raw = error.raw or reader.raw
        raise


async def _generate(
    model: Model,
    request: Request,
    reader: _Reader,
    answer_inline: AnswerInline,
    grammar: Callable[[], TurnGrammar | None],
    earlier: deque[PartWritten],
) -> Generation:
    parts: list[_Part] = []
    while True:
        part = _Part()
        parts.append(part)
        if earlier:
            written = earlier.popleft()
            part.note_again(written, await reader.read(written.raw[len(reader.raw) :]))
            await reader.answer(await answer_inline(part.inline, written))
            continue
        async with aclosing(model.generate(_rest(request, reader, parts, grammar))) as chunks:
            async for chunk in chunks:
                part.note(chunk, await reader.read(chunk.text, chunk.dialect))
                if part.inline and chunk.finish_reason is None:
                    break
        if not part.inline or _used_up(request, parts):
            break
        await reader.answer(await answer_inline(part.inline, part.written(reader.raw)))
        if _thought_left(request, parts) == 0:
            part.thought_cut = True
            await reader.end_thought()
    finish = parts[-1].finish
    turn = await reader.close(finish)
    held_to: list[Guarantee] = [part.guarantee for part in parts if part.guarantee is not None]
    usage = Usage(
        sum(part.input_tokens for part in parts),
        sum(part.output_tokens for part in parts),
        steps=1,
        thinking_tokens=sum(part.thinking_tokens for part in parts),
    )
    return Generation(_judged(turn, request, parts), finish, usage, weakest(held_to) if held_to else None)


class _Part:
    """What one request brought."""

    def __init__(self) -> None:
        self.finish: FinishReason = "stop"
        self.input_tokens = self.output_tokens = self.thinking_tokens = 0
        self.thought_cut = False
        self.guarantee: Guarantee | None = None
        self.inline: list[ToolCall | Fault] = []

    def note(self, chunk: Chunk, events: Sequence[Event]) -> None:
        self.inline += [event.call for event in events if isinstance(event, InlineCall)]
        self.input_tokens = chunk.input_tokens or self.input_tokens
        # A request that is left before its end does not say what it cost: then a chunk counts as a token.
        self.output_tokens = chunk.output_tokens or self.output_tokens + 1
        self.thinking_tokens = chunk.thinking_tokens or self.thinking_tokens
        if chunk.finish_reason is not None:
            self.finish, self.output_tokens = chunk.finish_reason, chunk.output_tokens
            self.thought_cut, self.guarantee = chunk.thought_cut, chunk.guarantee

    def note_again(self, written: PartWritten, events: Sequence[Event]) -> None:
        self.inline += [event.call for event in events if isinstance(event, InlineCall)]
        self.input_tokens, self.output_tokens = written.usage.input_tokens, written.usage.output_tokens
        self.thinking_tokens = written.usage.thinking_tokens

    def written(self, raw: str) -> PartWritten:
        usage = Usage(self.input_tokens, self.output_tokens, thinking_tokens=self.thinking_tokens)
        return PartWritten(0, raw, usage)


class _Reader:
    """The parser of a turn, and whoever listens to it."""

    def __init__(self, model: Model, request: Request, emit: Emit | None) -> None:
        self.thought_is_over = False
        self._model, self._request, self._emit = model, request, emit
        self._dialect: Dialect | None = None
        self._known: TurnParser | None = None

    def _parser(self, dialect: Dialect | None = None) -> TurnParser:
        # Not before there is a chunk: the dialect may have to be loaded, as the model is by then.
        if self._known is None:
            reasoning = self._request.reasoning
            calls = "ignore" if reasoning.mode == "off" else reasoning.calls
            self._dialect = self._model.dialect if dialect is None else dialect
            self._known = TurnParser(
                tools=[tool.name for tool in self._request.tools],
                dialect=self._dialect,
                output=self._request.output,
                reasoning_calls=calls,
                quiet=self._emit is None and calls != "inline",  # then nobody waits for anything inside the turn
            )
        return self._known

    @property
    def raw(self) -> str:
        """Everything read so far."""
        return "" if self._known is None else self._known.raw

    async def read(self, text: str, dialect: Dialect | None = None) -> Sequence[Event]:
        """Read on, and tell what was found."""
        parser = self._parser(dialect)
        return await self._told(parser.feed(text)) if text else ()

    async def answer(self, results: Sequence[ToolMessage]) -> None:
        """Put results behind the calls of the thought."""
        assert self._dialect is not None  # there is a thought
        await self.read("\n" + inline_results(results, self._dialect))

    async def end_thought(self) -> None:
        """The thinking block is closed here, though the model did not."""
        assert self._dialect is not None  # there is a thought
        self.thought_is_over = True
        await self.read(f"{self._dialect.think_close}\n")

    async def close(self, finish: FinishReason) -> Turn:
        """The turn ends here."""
        turn, events = self._parser().close(finish)
        await self._told(events)
        return turn

    async def _told(self, events: Sequence[Event]) -> Sequence[Event]:
        if self._emit is not None:
            for event in events:
                await self._emit(event)
        return events


def _rest(
    request: Request, reader: _Reader, parts: Sequence[_Part], current: Callable[[], TurnGrammar | None]
) -> Request:
    """The request for what is still to be written behind the results that have just been put into the thought."""
    if not reader.raw:
        return request
    reasoning, limit, grammar = request.reasoning, request.max_tokens, current()
    left = _thought_left(request, parts)
    if left:
        reasoning = replace(reasoning, max_tokens=left)
    if limit is not None:
        limit -= sum(part.output_tokens for part in parts)
    if grammar is not None:
        grammar = grammar.after_thought() if reader.thought_is_over else grammar.in_thought()
    return replace(request, prefix=reader.raw, grammar=grammar, reasoning=reasoning, max_tokens=limit)


def _thought_left(request: Request, parts: Sequence[_Part]) -> int | None:
    """Tokens left of the thought's budget; ``None`` is without bound."""
    budget = request.reasoning.max_tokens
    if budget is None:  # the same that a model takes by itself
        budget = None if request.max_tokens is None else max(request.max_tokens // 2, 1)
    return None if budget is None else max(budget - sum(part.thinking_tokens for part in parts), 0)


def _used_up(request: Request, parts: Sequence[_Part]) -> bool:
    """Whether there are no tokens left to write on."""
    used = sum(part.output_tokens for part in parts)
    if request.max_tokens is None or used < request.max_tokens:
        return False
    parts[-1].finish = "length"
    return True


def _judged(turn: Turn, request: Request, parts: Sequence[_Part]) -> Turn:
    """The turn, with what its text alone cannot tell about its thinking."""
    if any(part.thought_cut for part in parts):
        return replace(turn, thinking="overlong")
    if request.reasoning.mode == "on" and turn.thinking == "none":
        return replace(turn, thinking="never_opened")
    return turn
