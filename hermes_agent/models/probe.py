"""Does the grammar bite? A server is asked for a word that no model says by luck, in each field that might hold it.

Servers ignore fields they do not know and answer 200, so only the answer tells.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from hermes_agent.formats.dialects import Dialect
from hermes_agent.messages import UserMessage
from hermes_agent.models.base import Request
from hermes_agent.models.refusals import Failure
from hermes_agent.models.replies import Reply
from hermes_agent.models.servers import Form, Server, Wire, filled
from hermes_agent.models.transport import Event
from hermes_agent.models.wires import Posting
from hermes_agent.sampling import Sampling

__all__ = ["Probe", "Prober", "Seen", "bites", "proof", "question"]

Seen = Literal["enforced", "ignored", "refused", "unknown"]
"""What became of a grammar: the answer obeyed it; it did not; the request was turned down; it cannot be told."""

_WORD = "zqx7"
_PROBE_TOKENS = 32
_PROOF_TOKENS = 8
_RAW_PROMPT = "a"
_RAW_MOST_TOKENS = 3  # the letter, a BOS, and one to spare; a chat template alone takes more
_COUNTING = "Count from 1 to 9, with commas."
_COUNTED = "1, 2, 3, 4, 5, 6,"


@dataclass(frozen=True, slots=True)
class Probe:
    """What was seen of a server and a model.

    Attributes:
        base_url: The server.
        model: What was asked for.
        served_model: What the server calls the model; empty if it does not say.
        forms: By wire and name of the form (`hermes_agent.models.servers.Form`), what became of a grammar in it.
        raw_completions: Whether completions take a prompt as it is; ``None`` if that could not be told.
        prefill: Whether the chat wire goes on behind a turn's beginning; ``None`` if that could not be told.
        reasoning_field: The field in which thoughts came back, if any did.
        context_length: Tokens of prompt and turn together, where the server says.
    """

    base_url: str
    model: str
    served_model: str = ""
    forms: Mapping[Wire, Mapping[str, Seen]] = field(default_factory=dict[Wire, Mapping[str, Seen]])
    raw_completions: bool | None = None
    prefill: bool | None = None
    reasoning_field: str | None = None
    context_length: int | None = None

    def seen(self, wire: Wire, form: Form) -> Seen:
        """What became of a form; ``"unknown"`` if it was not tried."""
        return self.forms.get(wire, {}).get(form.name, "unknown")


def question(form: Form) -> dict[str, Any]:
    """The fields that would make a server say the word."""
    grammar: Any
    match form.kind:
        case "lark":
            grammar = f'%llguidance {{}}\nstart: "{_WORD}"\n'
        case "gbnf":
            grammar = f'root ::= "{_WORD}"\n'
        case "regex":
            grammar = _WORD
        case "json_schema":
            grammar = {
                "type": "object",
                "properties": {_WORD: {"type": "string", "enum": [_WORD]}},
                "required": [_WORD],
                "additionalProperties": False,
            }
        case "structural_tag":
            grammar = {"type": "structural_tag", "format": {"type": "const_string", "value": _WORD}}
    return filled(form, json.dumps(grammar) if form.as_text else grammar)


_START = {"lark": re.compile(r"(?m)^start: "), "gbnf": re.compile(r"(?m)^root ::= ")}
_PROVEN = {"lark": f'start: "{_WORD}" proven\nproven: ', "gbnf": f'root ::= "{_WORD}" proven\nproven ::= '}


def proof(form: Form, fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fields of a grammar with the word before all that it allows; ``None`` where a form has no place for it.

    A server may hold to small grammars and drop a large one, or one with a feature it does not know: llama.cpp answers
    200 to a Lark grammar that does not compile, and writes what it likes.
    """
    if form.kind not in _START:
        return None

    def marked(value: Any) -> Any:
        if isinstance(value, str):
            return _START[form.kind].sub(lambda _: _PROVEN[form.kind], value, count=1)
        if isinstance(value, Mapping):
            members = cast("Mapping[str, Any]", value)
            return {key: marked(member) for key, member in members.items()}
        return value

    return {key: marked(value) for key, value in fields.items()}


def bites(form: Form, answer: str) -> Seen:
    """What an answer, perhaps cut off, says of the fields that asked for it."""
    if form.kind != "json_schema":
        return "enforced" if answer.strip() == _WORD else "ignored"
    # Where white space is free, a small model may not get any further than that.
    said, wanted = "".join(answer.split()), f'{{"{_WORD}":"{_WORD}"}}'
    if not said or not wanted.startswith(said):
        return "ignored"
    return "enforced" if _WORD in said else "unknown"


@dataclass(frozen=True, slots=True)
class Prober:
    """Asks one server, on one wire.

    Attributes:
        server: What it is believed to take.
        wire: How it is spoken to.
        dialect: How the model is.
        send: Posts a request of a turn.
        send_raw: Posts to completions whatever it is given.
    """

    server: Server
    wire: Wire
    dialect: Dialect
    send: Callable[[Posting, Request], AsyncGenerator[Event, None]]
    send_raw: Callable[[Mapping[str, Any]], AsyncGenerator[Event, None]]

    def untried(self, known: Probe | None) -> bool:
        """Whether there are forms of this wire that were not asked for."""
        forms = self.server.forms.get(self.wire, ())
        return known is None or any(form.name not in known.forms.get(self.wire, {}) for form in forms)

    async def look(self, before: Probe, *, every: bool = False) -> Probe:
        """Add what can be seen on this wire: forms not tried before, strongest first, up to the first that bites.

        Args:
            before: What was seen before.
            every: Try the weaker forms, too.

        Raises:
            ModelError: The server cannot be asked.
        """
        forms: dict[str, Seen] = dict(before.forms.get(self.wire, {}))
        named, raw, prefill = before.reasoning_field, before.raw_completions, before.prefill
        for form in self.server.forms.get(self.wire, ()):
            if form.name in forms:
                continue
            forms[form.name], where = await self._try(form)
            named = named or where
            if forms[form.name] == "enforced" and not every:
                break
        if self.wire not in before.forms:
            raw = await self._raw_completions() if self.wire == "completions" else raw
            prefill = await self._prefill() if self.wire == "chat" else prefill
        return replace(
            before,
            forms={**before.forms, self.wire: forms},
            raw_completions=raw,
            prefill=prefill,
            reasoning_field=named,
        )

    async def _try(self, form: Form) -> tuple[Seen, str | None]:
        """What becomes of a form, and the field that thoughts came back in."""
        found = await self._say(Posting(wire=self.wire, grammar=question(form), max_tokens=_PROBE_TOKENS), "Say hello.")
        return ("refused", None) if found is None else (bites(form, found[0]), found[1])

    async def proves(self, form: Form, fields: Mapping[str, Any]) -> bool:
        """Whether the server holds to this very grammar; taken for granted where that cannot be asked.

        Raises:
            ModelError: The server cannot be asked.
        """
        asked = proof(form, fields)
        if asked is None:
            return True
        found = await self._say(Posting(wire=self.wire, grammar=asked, max_tokens=_PROOF_TOKENS), "Say hello.")
        return found is not None and found[0].lstrip().startswith(_WORD)

    async def _prefill(self) -> bool | None:
        """Told by whether a count goes on; a model that begins anew does not begin with a number."""
        found = await self._say(Posting(wire="chat", prefix=_COUNTED, max_tokens=4), _COUNTING)
        if found is None:
            return False
        return True if found[0].lstrip().startswith("7") else None

    async def _raw_completions(self) -> bool | None:
        """Told by how long the server takes a prompt of one letter to be."""
        reply = Reply(dialect=self.dialect)
        body = {
            "prompt": _RAW_PROMPT,
            "max_tokens": 1,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.server.body.get("completions", {}),
        }
        try:
            async with aclosing(self.send_raw(body)) as events:
                async for event in events:
                    reply.feed(event)
        except Failure as failure:
            return False if failure.status in (404, 405, 501) else None
        return reply.input_tokens <= _RAW_MOST_TOKENS if reply.input_tokens else None

    async def _say(self, posting: Posting, said: str) -> tuple[str, str | None] | None:
        """A short, greedy answer, and the field its thoughts came in; ``None`` if the request was turned down."""
        reply = Reply(dialect=self.dialect, fields=self.server.reasoning_fields, echo=posting.prefix)
        request = Request([UserMessage(said)], sampling=Sampling(temperature=0))
        try:
            async with aclosing(self.send(posting, request)) as events:
                texts = [reply.feed(event) async for event in events]
        except Failure as failure:
            # Some servers fail with 500 over a field they cannot read; all else tells nothing about the field.
            if failure.field or failure.status in (400, 415, 422, 500, 501):
                return None
            raise failure.error from failure.__cause__
        return "".join((*texts, reply.close())), reply.reasoning_field
