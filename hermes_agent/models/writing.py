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

__all__ = ["Enforced", "Speaker", "Writing", "fitting"]

_MOST_CONTINUATIONS = 16


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
        self._continues = speaker.continues(wire)
        self._written = _Written(request.prefix, (self._dialect.think_open, self._dialect.think_close))
        self._input_tokens = self._output_tokens = self._thinking_tokens = 0
        self._cut = False
        self._reply = Reply(dialect=self._dialect)
        self._held_to: list[Guarantee] = []

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        """The turn, piece by piece.

        Raises:
            ModelError: The wire cannot do what is asked.
            Failure: The server fails.
        """
        self._check()
        async with aclosing(self._write()) as texts:
            async for text in texts:
                if text:
                    self._written.add(text)
                    yield Chunk(text)
        yield Chunk(
            "",
            self._reply.finish or "stop",
            self._input_tokens,
            self._output_tokens,
            self._thinking_tokens,
            self._cut,
            weakest(self._held_to) if self._held_to else None if self._request.grammar is None else "checked",
        )

    def _check(self) -> None:
        if self._request.prefix and not self._continues:
            raise ModelError(
                f"a turn's beginning needs a wire on which the model can write on behind it, and {self._wire!r} on "
                f"{self._speaker.server.name!r} is not known to be one",
                hint='use wire="completions" if the server has raw completions, or a server that continues: '
                "vllm, sglang, llamacpp",
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
        request = self._request
        whole = self._speaker.enforced(self._wire, request.grammar)
        rest = None
        budget = request.reasoning.max_tokens
        if self._thinks and request.grammar is not None:
            rest = self._speaker.enforced(self._wire, request.grammar.after_thought())
        apart = self._continues and self._wire != "native" and whole is None and rest is not None
        if not self._thinks or (budget is None and not apart):
            steps = self._one(whole)
        elif self._continues and (self._in_thought or request.reasoning.mode == "on"):
            steps = self._two(rest, budget)
        else:
            steps = self._may_think(whole, rest, budget)
        async with aclosing(steps) as texts:
            async for text in texts:
                yield text

    async def _one(self, enforced: Enforced | None) -> AsyncGenerator[str, None]:
        """The turn, or the rest of it, in one request; or more, where the server cuts it off before its time."""
        self._note(enforced)
        for _ in range(_MOST_CONTINUATIONS):
            before = self._output_tokens
            async with aclosing(self._post(self._posting(enforced), inside=False)) as texts:
                async for text in texts:
                    yield text
            if not self._cut_by_server(enforced, before):
                return

    def _cut_by_server(self, enforced: Enforced | None, before: int) -> bool:
        """Whether the server's own limit ended the turn, and it can be taken up: a grammar would begin anew."""
        if self._reply.finish != "length" or not self._continues or enforced is not None:
            return False
        wrote, limit = self._output_tokens - before, self._left()
        window = self._speaker.context_length
        full = window is not None and self._input_tokens + wrote >= window
        return wrote > 0 and not full and limit is not None and limit > 0

    async def _two(self, rest: Enforced | None, budget: int | None) -> AsyncGenerator[str, None]:
        """A thought, which is opened for the model if it is not open, and what comes behind it."""
        if not self._in_thought:
            yield self._dialect.think_open + "\n"
        left = self._left()
        limit = left if budget is None else budget if left is None else min(budget, left)
        posting = replace(self._posting(None), max_tokens=limit, stops=(self._dialect.think_close,))
        async with aclosing(self._post(posting, inside=True)) as texts:
            async for text in texts:
                yield text
        if self._reply.finish == "length":
            if budget is None or limit != budget:
                return
            self._cut = True
        if self._in_thought:
            yield self._closing()
        if (left := self._left()) is not None and left <= 0:
            return
        async with aclosing(self._one(rest)) as texts:
            async for text in texts:
                yield text

    async def _may_think(
        self, whole: Enforced | None, rest: Enforced | None, budget: int | None
    ) -> AsyncGenerator[str, None]:
        """A turn that begins with a thought if the model likes; then what comes behind it.

        Where no form of the grammar can say that, the first request only shows what the model begins with. Where a
        turn cannot be taken up, what comes behind a thought that had to be ended is asked for anew, without thinking.
        """
        weak = self._continues and whole is None and rest is not None
        tags = self._dialect.think_open, self._dialect.think_close
        watch = None if budget is None else ThoughtBudget(budget, tags)
        if not weak:
            self._note(whole)
        beginning = _Beginning(tags[0])
        posting = replace(self._posting(whole), stops=(tags[1],) if weak else ())
        async with aclosing(self._post(posting, inside=False)) as texts:
            async for text in texts:
                shown = beginning.push(text) if weak and not self._in_thought else text
                if shown is None:
                    break
                yield shown
                if shown and watch is not None and watch.push(shown):
                    self._cut = True
                    break
            else:
                yield beginning.held
                if not (weak and self._in_thought and self._reply.finish == "stop"):
                    return
        if self._cut:  # a request that is left does not say what it cost
            self._thinking_tokens = self._output_tokens = self._reply.pieces
        if self._in_thought:
            yield self._closing()
        async with aclosing(self._one(rest)) as texts:
            async for text in texts:
                yield text

    def _note(self, enforced: Enforced | None) -> None:
        """Thoughts are free whatever the grammar, so a request for a thought alone is not noted."""
        if self._request.grammar is not None:
            self._held_to.append("checked" if enforced is None else enforced.guarantee)

    def _closing(self) -> str:
        lead = "" if self._whole.endswith("\n") else "\n"
        return lead + self._dialect.think_close + self._dialect.think_separator

    def _left(self) -> int | None:
        return None if self._request.max_tokens is None else self._request.max_tokens - self._output_tokens

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
        thought_at: int | None = 0 if self._in_thought else None
        thoughts = 0
        async with aclosing(self._speaker.send(posting, self._request)) as events:
            async for event in events:
                text = reply.feed(event)
                if text:
                    yield text
                thoughts = self._count(reply, thought_at, thoughts)
        yield reply.close()
        written = reply.output_tokens or reply.pieces
        self._input_tokens = self._input_tokens or reply.input_tokens
        self._output_tokens += written
        if inside:
            self._thinking_tokens += written
        elif not posting.prefix or thought_at is not None:
            self._thinking_tokens += reply.reasoning_tokens or min(thoughts, written)

    def _count(self, reply: Reply, thought_at: int | None, thoughts: int) -> int:
        """Pieces of the reply up to the end of its thought, each taken for a token."""
        opened = thought_at is not None or self._written.opened
        return reply.pieces if opened and self._in_thought else thoughts


class _Written:
    """The turn so far. Adding to it costs the same at any length.

    Attributes:
        in_thought: Its last thinking tag opens a thought.
        opened: What was written behind the prefix begins with a thought.
    """

    def __init__(self, prefix: str, tags: tuple[str, str]) -> None:
        self.in_thought = self.opened = False
        self._tags = tags
        self._pieces: list[str] = []
        self._tail = self._head = ""
        self.add(prefix)
        self._head, self.opened = "", False

    @property
    def text(self) -> str:
        """All of it, prefix and all."""
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    def add(self, text: str) -> None:
        """Take more text."""
        self._pieces.append(text)
        near = self._tail + text  # the tail is what may hold the beginning of a tag
        begun, ended = (near.rfind(tag) for tag in self._tags)
        if begun >= 0 or ended >= 0:
            self.in_thought = begun > ended
        self._tail = near[1 - max(map(len, self._tags)) :]
        if not self.opened and len(self._head) < (room := len(self._tags[0]) + 8):
            self._head = (self._head + text)[:room]
            self.opened = self._tags[0] in self._head


class _Beginning:
    """Holds a turn back until it is clear whether it begins with a tag."""

    def __init__(self, tag: str) -> None:
        self.held = ""
        self._tag = tag

    def push(self, text: str) -> str | None:
        """What can be shown: all, once the tag is whole; ``None`` if the turn begins in another way."""
        self.held += text
        begun = self.held.lstrip()
        if begun.startswith(self._tag):
            shown, self.held = self.held, ""
            return shown
        return "" if self._tag.startswith(begun) else None
