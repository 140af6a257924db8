"""One turn over a server, in as many requests as it takes.

A budget for thoughts, and an answer whose form a server cannot hold while the model thinks, are two requests: one up
to the end of the thought, one behind ``</think>``. Both need a wire on which a turn's beginning can be sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Protocol

from hermes_agent.errors import ContextLengthError, GrammarError, ModelError
from hermes_agent.formats.dialects import Dialect
from hermes_agent.formats.grammar import Tags, TurnGrammar
from hermes_agent.models.base import Chunk, Guarantee, Request, weakest
from hermes_agent.models.refusals import Failure, room_left
from hermes_agent.models.replies import Reply
from hermes_agent.models.servers import Form, Server, Wire, filled
from hermes_agent.models.thinking import ThoughtBudget
from hermes_agent.models.transport import Event
from hermes_agent.models.wires import Posting
from hermes_agent.models.written import Beginning, Behind, Spent, Until, Written

__all__ = ["Enforced", "Speaker", "Writing", "fitting"]

_MOST_REQUESTS = 16


@dataclass(frozen=True, slots=True)
class Enforced:
    """A grammar in the field of a server: which field, what goes into it, and whether it was seen to bite."""

    form: Form
    fields: Mapping[str, Any]
    guarantee: Guarantee


class Speaker(Protocol):
    """What a turn needs of its endpoint."""

    server: Server

    @property
    def dialect(self) -> Dialect:
        """How the model is spoken to."""
        ...

    @property
    def context_length(self) -> int | None:
        """Tokens of prompt and turn together, where known."""
        ...

    def continues(self, wire: Wire) -> bool:
        """Whether a turn can be taken up on this wire."""
        ...

    def enforced(self, wire: Wire, grammar: TurnGrammar | None) -> Enforced | None:
        """The strongest form of a grammar that the server takes."""
        ...

    def turned_down(self, wire: Wire, form: Form) -> None:
        """Take note that the server refuses a form on a wire."""
        ...

    def send(self, posting: Posting, request: Request) -> AsyncGenerator[Event, None]:
        """Post, and read events."""
        ...


def fitting(form: Form, grammar: TurnGrammar, tags: Tags, ends: Sequence[int] = ()) -> dict[str, Any] | None:
    """The fields that hold a server to a grammar; ``None`` if this form cannot say it.

    Args:
        form: The field.
        grammar: What may be written.
        tags: How the server's tokenizer spells the tags.
        ends: Tokens that end the model's turn. llama.cpp tells LLGuidance of one end token only, and not always of the
            model's own, which then may never be written: the model can only go on where it would have stopped.
    """
    found: Any = None
    try:
        match form.kind:
            case "lark":
                found = _with_ends(grammar.lark(tags), ends)
            case "gbnf":
                found = None if grammar.cannot_say("gbnf") else grammar.gbnf(tags)
            case "structural_tag":
                found = None if grammar.cannot_say("structural_tag") else grammar.structural_tag(tags)
            case "regex":
                found = grammar.regex()
            case "json_schema":
                # With tools, it would write calls as bare JSON, which is also what a typed answer looks like.
                found = None if grammar.tools else grammar.json_schema()
    except GrammarError:
        return None
    if found is None:
        return None
    return filled(form, json.dumps(found, ensure_ascii=False) if form.as_text else found)


def _with_ends(lark: str, ends: Sequence[int]) -> str:
    if not ends:
        return lark
    tokens = " | ".join(f"<[{token}]>" for token in ends)
    return re.sub(r"(?m)^start: (.*)$", rf"start: whole_turn ( {tokens} )?\nwhole_turn: \1", lark, count=1)


class Writing:
    """One turn being written; made, read once with `chunks`, thrown away."""

    def __init__(self, speaker: Speaker, request: Request, wire: Wire) -> None:
        self.form_used: Form | None = None
        self._speaker, self._request = speaker, request
        self._wire: Wire = wire
        self._dialect = speaker.dialect
        self._tags = self._dialect.think_open, self._dialect.think_close
        self._continues = speaker.continues(wire)
        self._written = Written(request.prefix, self._tags)
        self._spent = Spent()
        self._cut = False
        self._reply = Reply(dialect=self._dialect)
        self._held_to: list[Guarantee] = []

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        """The turn, piece by piece. Each chunk tells what the turn has cost so far, as it may be left behind any.

        Raises:
            ModelError: The wire cannot do what is asked.
            Failure: The server fails.
        """
        self._check()
        spent = self._spent
        async with aclosing(self._write()) as texts:
            async for text in texts:
                if text:
                    self._written.add(text)
                    spent.note(self._reply, in_thought=self._in_thought, opened=self._written.opened)
                    yield Chunk(text, None, spent.input, spent.output, spent.thinking)
        yield Chunk(
            "",
            self._reply.finish or "stop",
            spent.input,
            spent.output,
            spent.thinking,
            self._cut,
            weakest(self._held_to) if self._held_to else None if self._request.grammar is None else "checked",
        )

    def _check(self) -> None:
        if self._continues:
            return
        reasoning = self._request.reasoning
        if self._request.prefix:
            what = "a turn's beginning needs"
        elif reasoning.mode != "off" and reasoning.calls == "inline":
            what = 'Reasoning(calls="inline") needs'
        else:
            return
        raise ModelError(
            f"{what} a wire on which the model can write on behind a turn's beginning, and {self._wire!r} on "
            f"{self._speaker.server.name!r} is not known to be one",
            hint='use wire="completions" if the server has raw completions, or a server that continues: '
            'vllm, sglang, llamacpp; or Reasoning(calls="use")',
        )

    @property
    def _whole(self) -> str:
        return self._written.text

    @property
    def _in_thought(self) -> bool:
        return self._written.in_thought

    @property
    def _thinks(self) -> bool:
        return self._in_thought or (not self._request.prefix and self._request.reasoning.mode != "off")

    async def _write(self) -> AsyncGenerator[str, None]:
        request, grammar = self._request, self._request.grammar
        whole = self._speaker.enforced(self._wire, grammar)
        behind = grammar.after_thought() if self._thinks and grammar is not None else None
        rest = self._speaker.enforced(self._wire, behind)
        budget = request.reasoning.max_tokens
        apart = self._continues and self._wire != "native" and whole is None and rest is not None
        if not self._thinks or (budget is None and not apart):
            steps = self._one(whole, grammar)
        elif self._continues and (self._in_thought or request.reasoning.mode == "on"):
            steps = self._two(behind, budget)
        else:
            steps = self._may_think(whole, behind, budget, weak=self._continues and whole is None and rest is not None)
        async with aclosing(steps) as texts:
            async for text in texts:
                yield text

    async def _one(self, enforced: Enforced | None, grammar: TurnGrammar | None) -> AsyncGenerator[str, None]:
        """The turn, or the rest of it, in one request; or more, where the server cuts it off before its time."""
        for _ in range(_MOST_REQUESTS):
            before = self._spent.output
            async with aclosing(self._held(enforced, grammar)) as texts:
                async for text in texts:
                    yield text
            if not self._cut_by_server(before):
                return
            if self.form_used is not None:  # a grammar would begin anew, so only text that needs none can go on
                assert grammar is not None
                if grammar.must_call or grammar.output.kind != "text":
                    return
                enforced = grammar = None

    async def _held(self, enforced: Enforced | None, grammar: TurnGrammar | None) -> AsyncGenerator[str, None]:
        """One request, held to the grammar by the strongest form that the server does not turn down."""
        while True:
            try:
                async with aclosing(self._post(self._posting(enforced), inside=False)) as texts:
                    async for text in texts:
                        yield text
            except Failure as failure:
                if enforced is None or not failure.field or self._reply.pieces:
                    raise
                self._speaker.turned_down(self._wire, enforced.form)
                weaker = self._speaker.enforced(self._wire, grammar)
                if weaker is not None and weaker.form == enforced.form:
                    raise
                enforced = weaker
            else:
                self._note(enforced)
                return

    def _cut_by_server(self, before: int) -> bool:
        """Whether the server's own limit ended the last request, and the turn can be taken up."""
        if self._reply.finish != "length" or not self._continues:
            return False
        wrote, left, window = self._spent.output - before, self._left(), self._speaker.context_length
        full = window is not None and self._spent.input + wrote >= window
        return wrote > 0 and not full and (left is None or left > 0)

    async def _two(self, behind: TurnGrammar | None, budget: int | None) -> AsyncGenerator[str, None]:
        """A thought, which is opened for the model if it is not open, and what comes behind it."""
        if not self._in_thought:
            yield self._dialect.think_open + "\n"
        until = Until(self._tags[1])
        for _ in range(_MOST_REQUESTS):
            before, left = self._spent.output, self._left()
            limit = left if budget is None else budget if left is None else min(budget, left)
            posting = replace(self._posting(None), max_tokens=limit, stops=(self._tags[1],))
            async with aclosing(self._post(posting, inside=True)) as texts:
                async for text in texts:
                    yield until.push(text)
                    if until.reached:
                        break
            if until.reached or self._reply.finish != "length":
                break
            if budget is not None and limit == budget:
                self._cut = True
                break
            if not self._cut_by_server(before):
                yield until.rest()
                return
            budget = None if budget is None else max(budget - (self._spent.output - before), 1)
        if not until.reached:
            yield until.rest()
        async with aclosing(self._behind(behind)) as texts:
            async for text in texts:
                yield text

    async def _may_think(
        self, whole: Enforced | None, behind: TurnGrammar | None, budget: int | None, *, weak: bool
    ) -> AsyncGenerator[str, None]:
        """A turn that begins with a thought if the model likes; then what comes behind it.

        Where no form of the grammar can say that (``weak``), the first request only shows what the model begins with.
        Where a turn cannot be taken up, what comes behind a thought that had to be ended is asked for anew, without
        thinking.
        """
        watch = None if budget is None else ThoughtBudget(budget, self._tags)
        if not weak:
            self._note(whole)
        beginning, until = Beginning(self._tags[0]), Until(self._tags[1])
        posting = replace(self._posting(whole), stops=(self._tags[1],) if weak else ())
        async with aclosing(self._post(posting, inside=False)) as texts:
            async for text in texts:
                shown = beginning.push(text) if weak and not self._in_thought else text
                if shown is None:
                    break
                shown = until.push(shown) if weak else shown
                yield shown
                if shown and watch is not None and watch.push(shown):
                    self._cut = True
                if self._cut or until.reached:
                    break
            else:
                yield beginning.held + until.rest()
                if not (weak and self._in_thought and self._reply.finish == "stop"):
                    return
        async with aclosing(self._behind(behind)) as texts:
            async for text in texts:
                yield text

    async def _behind(self, grammar: TurnGrammar | None) -> AsyncGenerator[str, None]:
        """What comes behind a thought, which ends here."""
        if self._in_thought:
            lead = "" if self._whole.endswith("\n") else "\n"
            yield lead + self._dialect.think_close + self._dialect.think_separator
        if (left := self._left()) is not None and left <= 0:
            self._reply.finish = "length"
            return
        # A model that is asked anew may think again, and a turn has one thought.
        anew = None if self._continues else Behind(self._tags)
        async with aclosing(self._one(self._speaker.enforced(self._wire, grammar), grammar)) as texts:
            async for text in texts:
                yield text if anew is None else anew.push(text)
        yield "" if anew is None else anew.rest()

    def _note(self, enforced: Enforced | None) -> None:
        """Thoughts are free whatever the grammar, so a request for a thought alone is not noted."""
        if self._request.grammar is not None:
            self._held_to.append("checked" if enforced is None else enforced.guarantee)

    def _left(self) -> int | None:
        return None if self._request.max_tokens is None else self._request.max_tokens - self._spent.output

    def _posting(self, enforced: Enforced | None) -> Posting:
        left = self._left()
        self.form_used = None if enforced is None else enforced.form
        thinking = self._request.reasoning
        if self._whole and not self._in_thought:
            thinking = replace(thinking, mode="off")
        return Posting(
            wire=self._wire,
            prefix=self._whole if self._continues else "",
            grammar={} if enforced is None else enforced.fields,
            max_tokens=None if left is None else max(left, 1),
            thinking=thinking,
        )

    async def _post(self, posting: Posting, *, inside: bool) -> AsyncGenerator[str, None]:
        """One request, with fewer tokens if the server says that so many do not fit."""
        try:
            async with aclosing(self._posted(posting, inside=inside)) as texts:
                async for text in texts:
                    yield text
        except Failure as failure:
            room = room_left(failure.error.raw) if isinstance(failure.error, ContextLengthError) else None
            if room is None or (posting.max_tokens is not None and posting.max_tokens <= room):
                raise
            async with aclosing(self._posted(replace(posting, max_tokens=room), inside=inside)) as texts:
                async for text in texts:
                    yield text

    async def _posted(self, posting: Posting, *, inside: bool) -> AsyncGenerator[str, None]:
        self._reply = reply = Reply(
            dialect=self._dialect,
            mode=posting.thinking.mode,
            fields=self._speaker.server.reasoning_fields,
            tools=[tool.name for tool in self._request.tools],
            echo=posting.prefix,
            inside=inside,
        )
        self._spent.begin(inside=inside, thinks=self._in_thought, may_think=not self._whole)
        try:
            async with aclosing(self._speaker.send(posting, self._request)) as events:
                async for event in events:
                    text = reply.feed(event)
                    if text:
                        yield text
            yield reply.close()
        finally:  # a request that is left has its cost too, though the server does not tell it
            self._spent.end(reply)
