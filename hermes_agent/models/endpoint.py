"""Models behind an OpenAI-compatible API, spoken to in Hermes."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from hermes_agent.errors import ConfigurationError, GuaranteeError, ModelUnavailableError
from hermes_agent.formats.dialects import Dialect, guess_dialect
from hermes_agent.formats.dialects import dialect as named_dialect
from hermes_agent.formats.grammar import Tags, TurnGrammar
from hermes_agent.models.address import address, masked
from hermes_agent.models.base import Chunk, Guarantee, Request
from hermes_agent.models.capabilities import Inquiry, Learned
from hermes_agent.models.connection import Connections, Key
from hermes_agent.models.pace import LoopLock
from hermes_agent.models.permission import check_requests_allowed
from hermes_agent.models.probe import Probe, Prober, Seen
from hermes_agent.models.refusals import Failure, Where
from hermes_agent.models.servers import Form, Server, Wire, filled
from hermes_agent.models.servers import server as named_server
from hermes_agent.models.transport import Event, Timeouts, Transport
from hermes_agent.models.wires import Posting, post
from hermes_agent.models.writing import Enforced, Writing, fitting

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

__all__ = ["Endpoint", "Timeouts"]

_probes: dict[tuple[str, ...], Probe] = {}
_probing = threading.Lock()
_logger = logging.getLogger("hermes_agent.models")


class Endpoint:
    """A model on a server that speaks OpenAI's API. Nothing is sent before it is used.

    Args:
        model_id: What the server calls the model.
        server: Which server it is: a name of `hermes_agent.models.servers.SERVERS`, or a row of your own.
        base_url: Where it listens, with ``/v1``; ``None`` takes ``HERMES_SDK_BASE_URL``, unless the server is a
            provider on the internet, else the server's usual address.
        api_key: Its key; ``None`` takes the environment's when it is first needed, as `Server.keys` names it.
        client: An `openai.AsyncOpenAI` to use instead of our own; it is left open. Base URL and key are then its.
        http_client: The HTTP client for our own, for proxies and certificates; it is left open. Over a client that
            was passed in, every request opens a connection of its own, as event loops cannot share them.
        wire: How turns go over the wire, see `hermes_agent.models.wires`; ``"auto"`` takes the server's best, or the
            best on which it was seen to enforce a turn.
        dialect: How the model is spoken to; ``None`` guesses from the names and the template that the server tells.
        context_length: Tokens of prompt and turn together; ``None`` asks the server.
        timeouts: How long the server may take.
        max_retries: How often a request is sent again; never once there was text.
        max_in_flight: Requests at once, in one event loop.
        requests_per_minute: Requests begun in any minute, over all event loops; ``None`` is without bound.
        chat_template: A Jinja chat template that writes raw prompts.
        extra_body: Fields for every request; they win over ours.

    Example:
        >>> Endpoint("NousResearch/Hermes-4-14B", server="vllm").name
        'vllm:NousResearch/Hermes-4-14B'
    """

    def __init__(
        self,
        model_id: str,
        *,
        server: str | Server = "generic",
        base_url: str | None = None,
        api_key: str | None = None,
        client: AsyncOpenAI | None = None,
        http_client: httpx2.AsyncClient | None = None,
        wire: Wire | Literal["auto"] = "auto",
        dialect: Dialect | str | None = None,
        context_length: int | None = None,
        timeouts: Timeouts = Timeouts(),
        max_retries: int = 2,
        max_in_flight: int = 16,
        requests_per_minute: int | None = None,
        chat_template: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        self.server = named_server(server)
        if not model_id:
            raise ConfigurationError(f"model_id={model_id!r} names no model", hint="pass what the server calls it")
        if wire not in ("auto", *get_args(Wire)):
            raise ConfigurationError(f"unknown wire {wire!r}", hint='use "auto", "completions", "chat" or "native"')
        _at_least(
            1, max_in_flight=max_in_flight, requests_per_minute=requests_per_minute, context_length=context_length
        )
        _at_least(0, max_retries=max_retries)
        self.model_id = model_id
        url = str(client.base_url).rstrip("/") if client is not None else address(self.server, base_url)
        self.base_url = masked(url)  # name and password go over the wire and nowhere else
        self.wire: Wire = self.server.wires[0] if wire == "auto" else wire
        self._open_wires: tuple[Wire, ...] = self.server.wires[1:] if wire == "auto" else ()
        self._key = Key(api_key, self.server.keys)
        self._needs_key = self.server.needs_key and client is None
        asked = None if dialect is None else named_dialect(dialect)
        if chat_template is not None:
            asked = replace(asked or guess_dialect(model_id, chat_template=chat_template), chat_template=chat_template)
        self._asked_dialect = self._dialect = asked
        self._asked_length = context_length
        self._extra = dict(extra_body or {})
        self._where = Where(self.base_url, model_id, self.server.name, self.server.keys)
        self._learned = Learned()
        self._learning, self._probing = LoopLock(), LoopLock()
        self._probe_key = self.base_url, model_id, self.server.name, repr(self.server.forms)
        of_openai = self.server.name == "openai"
        connections = Connections(url, key=self._key, client=client, http_client=http_client, of_openai=of_openai)
        self.max_in_flight = max_in_flight
        self._transport = Transport(
            url, connections, timeouts=timeouts, max_retries=max_retries, max_in_flight=max_in_flight,
            requests_per_minute=requests_per_minute,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"Endpoint({self.model_id!r}, server={self.server.name!r}, base_url={self.base_url!r})"

    @property
    def name(self) -> str:
        """The name as a user would write it."""
        at = "" if self.base_url == self.server.base_url else f"@{self.base_url}"
        wire = "" if self.wire == self.server.wires[0] else f"+{self.wire}"
        return f"{self.server.name}{wire}:{self.model_id}{at}"

    @property
    def dialect(self) -> Dialect:
        """How the model is spoken to; what the server tells may correct it before the first turn."""
        if self._dialect is None:
            self._dialect = guess_dialect(self.model_id)
        return self._dialect

    @property
    def context_length(self) -> int | None:
        """Tokens of prompt and turn together; ``None`` until the server was asked, or if it does not say."""
        return self._asked_length or self._learned.context_length

    @property
    def turned_away(self) -> int:
        """Requests that the server was too busy for (HTTP 429 and 503), those sent again included."""
        return self._transport.turned_away

    async def aclose(self) -> None:
        """Close the connections of this event loop; its end closes them too."""
        await self._transport.aclose()

    async def guarantee(self, grammar: TurnGrammar, *, prove: bool = False) -> Guarantee:
        """``"server"`` where a form of the grammar was seen to bite, else ``"checked"``.

        Args:
            grammar: What a turn may be.
            prove: Probe the server if that was not done yet.

        Raises:
            GuaranteeError: ``prove``, and the server does not enforce the grammar.
            ModelError: ``prove``, and the server cannot be asked.
        """
        wire, others = self.wire, self._open_wires
        if not prove:
            return self._promise(wire, grammar)
        if await self._enforces(wire, grammar):
            return "server"
        for other in others:
            if await self._enforces(other, grammar):
                return "server" if self._take(other) else await self.guarantee(grammar, prove=True)
        raise self._refusal(wire, others, grammar)

    def _take(self, wire: Wire) -> bool:
        """Stay with a wire from now on; ``False`` if another one was taken meanwhile, which then stays."""
        with _probing:
            if self._open_wires:
                self.wire, self._open_wires = wire, ()
            return self.wire == wire

    async def _enforces(self, wire: Wire, grammar: TurnGrammar) -> bool:
        """Whether the server was seen to hold to this grammar on this wire; weaker forms are tried where need be."""
        found = await self._look(wire)
        while True:
            while self._promise(wire, grammar) == "server":
                if await self._proven(wire, grammar):
                    return True
            if not self._prober(wire).untried(found):
                return False
            found = await self._look(wire, further=True)

    def _refusal(self, wire: Wire, others: tuple[Wire, ...], grammar: TurnGrammar) -> GuaranteeError:
        probe, dropped = self._probed(), self._learned.dropped
        tried: Mapping[str, Seen] = {} if probe is None else probe.forms.get(wire, {})
        found = ", ".join(
            f"{name}: {'not for this grammar' if (wire, name, grammar.key) in dropped else what}"
            for name, what in tried.items()
        )
        nor = f", nor on {' or '.join(map(repr, others))}" if others else ""
        return GuaranteeError(
            f"{self.name!r} does not enforce this turn on the wire {wire!r} ({found or 'no form was tried'}){nor}",
            hint=f"{self.server.enforces}; or use constrain='auto', which validates every turn afterwards",
        )

    def _promise(self, wire: Wire, grammar: TurnGrammar) -> Guarantee:
        enforced = self._first(wire, grammar)
        return "checked" if enforced is None else enforced.guarantee

    def _first(self, wire: Wire, grammar: TurnGrammar) -> Enforced | None:
        """What would hold a turn: all of it, or all behind its thought."""
        enforced = self.enforced(wire, grammar)
        if enforced is None and self.continues(wire) and _thinks(grammar):
            return self.enforced(wire, grammar.after_thought())
        return enforced

    async def _proven(self, wire: Wire, grammar: TurnGrammar) -> bool:
        """Whether the server holds to this very grammar; if not, the form is not used for it again."""
        enforced, learned = self._first(wire, grammar), self._learned
        assert enforced is not None
        key = wire, enforced.form.name, tuple(sorted((k, repr(v)) for k, v in enforced.fields.items()))
        if key in learned.proven:
            return True
        if await self._prober(wire).proves(enforced.form, enforced.fields):
            learned.proven.add(key)
            return True
        learned.dropped.add((wire, enforced.form.name, grammar.key))
        learned.dropped.add((wire, enforced.form.name, grammar.after_thought().key))
        return False

    async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Write one turn.

        Raises:
            ContextLengthError: The server says that the prompt does not fit.
            ModelUnavailableError: It cannot be reached, or does not know the model, or the key.
            ModelError: It fails in another way.
        """
        learned = await self._learn()
        known = frozenset(learned.refused)
        while True:
            wire, begun = self.wire, False
            writing = Writing(self, request, wire)
            try:
                async with aclosing(writing.chunks()) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield chunk
            except Failure as failure:
                form = writing.form_used
                if begun or form is None or not failure.field:
                    if not begun:  # it does not take the turn without those forms either, so it was not them
                        learned.refused.intersection_update(known)
                    raise failure.error from failure.__cause__
                # The server does not take this field: the next weaker form has to do, now and later.
                learned.refused.add((wire, form.name))
            else:
                return

    def turned_down(self, wire: Wire, form: Form) -> None:
        """Take note that the server refuses a form on a wire, for this turn and later ones."""
        self._learned.refused.add((wire, form.name))

    async def send(self, posting: Posting, request: Request) -> AsyncGenerator[Event, None]:
        """Post one request of a turn and read its events. Part of writing a turn; use `generate`.

        Raises:
            Failure: The server fails.
        """
        path, body = post(
            posting, request, model=self.model_id, server=self.server, dialect=self.dialect, extra=self._extra
        )
        async with aclosing(self._transport.events(path, body, self._where)) as events:
            async for event in events:
                yield event

    def continues(self, wire: Wire) -> bool:
        """Whether a turn can be taken up on this wire."""
        probe = self._probed()
        if wire == "chat" and probe is not None and probe.prefill is not None:
            return probe.prefill
        if wire == "completions" and probe is not None and probe.raw_completions is not None:
            return probe.raw_completions
        return wire in self.server.continues

    def enforced(self, wire: Wire, grammar: TurnGrammar | None) -> Enforced | None:
        """The strongest form of a grammar that the server takes, as far as is known."""
        if grammar is None or (self.server.after_thoughts and _thinks(grammar) and self.continues(wire)):
            return None
        probe = self._probed()
        weak: Enforced | None = None
        for form in self.server.forms.get(wire, ()):
            seen: Seen = "unknown" if probe is None else probe.seen(wire, form)
            learned = self._learned
            refused = (wire, form.name) in learned.refused or (wire, form.name, grammar.key) in learned.dropped
            if refused or seen in ("ignored", "refused"):
                continue
            if seen == "unknown" and weak is not None:
                continue
            fields = self._native(form, grammar) if wire == "native" else fitting(form, grammar, *self._spelling)
            if fields is None:
                continue
            if seen == "enforced":
                return Enforced(form, fields, "server")
            weak = Enforced(form, fields, "checked")
        return weak

    def _native(self, form: Form, grammar: TurnGrammar) -> dict[str, Any] | None:
        """The schema of the answer, where the server's own tools do not stand against it."""
        schema = grammar.output.schema
        if schema is None or (grammar.tools and (grammar.must_call or not self.server.schema_with_tools)):
            return None
        return filled(form, schema)

    @property
    def _spelling(self) -> tuple[Tags, tuple[int, ...]]:
        """How the tokenizer spells the tags, and the ends of a turn that are one token."""
        if self._learned.tags is None:
            return Tags.text(self.dialect), ()
        return self._learned.tags, self._learned.ends

    def _probed(self) -> Probe | None:
        with _probing:
            return _probes.get(self._probe_key)

    async def probe(self, *, again: bool = False, every: bool = False) -> Probe:
        """What the server enforces, ignores and refuses on this wire; kept for the process.

        The forms of a grammar are tried strongest first, up to the first that bites. That is one short request a form,
        so two in all where the strongest bites: another one looks whether raw completions are raw, or whether a chat
        message can be gone on with.

        Args:
            again: Ask even if that was done before.
            every: Try all forms, also behind one that bites.

        Raises:
            ModelError: The server cannot be asked.
        """
        return await self._look(self.wire, again=again, every=every)

    async def _look(self, wire: Wire, *, again: bool = False, every: bool = False, further: bool = False) -> Probe:
        """What is known of a wire; with ``further``, after trying forms up to the next that bites."""
        learned = await self._learn()
        before = self._probed()
        async with self._probing.lock():
            prober, known = self._prober(wire), self._probed()
            if known is not None and wire in known.forms and not again:
                looked_meanwhile = further and known is not before
                if looked_meanwhile or not (prober.untried(known) and (every or further)):
                    return known
            known = known or Probe(base_url=self.base_url, model=self.model_id)
            if again:
                known = replace(known, forms={name: forms for name, forms in known.forms.items() if name != wire})
            found = await prober.look(known, every=every)
            found = replace(found, served_model=learned.served_model, context_length=self.context_length)
            with _probing:
                _probes[self._probe_key] = found
            return found

    def _prober(self, wire: Wire) -> Prober:
        return Prober(self.server, wire, self.dialect, self.send, self._ask_raw)

    def _ask_raw(self, body: Mapping[str, Any]) -> AsyncGenerator[Event, None]:
        return self._transport.events("/completions", {"model": self.model_id, **body, **self._extra}, self._where)

    async def _learn(self) -> Learned:
        """Ask once what the server tells about itself: context length, template, how it spells tags."""
        check_requests_allowed(self)  # nothing is sent before this
        if self._needs_key and self._key.value is None:
            raise ModelUnavailableError(
                f"{self._where} needs a key", hint=f"pass api_key=, or set {' or '.join(self.server.keys)}"
            )
        learned = self._learned
        tries = learned.tries
        async with self._learning.lock():
            # Who waited for an answer that did not come does not wait for one of its own.
            if not learned.told and learned.tries == tries:
                learned.tries += 1
                try:
                    await self._be_told(learned)
                except TimeoutError as error:  # asking again would cost every run that time again
                    learned.told = True
                    _logger.info("%s does not tell what it is: %s", self._where, error)
                except ConnectionError as error:  # the turn itself will tell why, and the next one asks again
                    _logger.info("%s does not tell what it is: %s", self._where, error)
                else:
                    learned.told = True
        return learned

    async def _be_told(self, learned: Learned) -> None:
        inquiry = Inquiry(self.server, self.model_id, self._transport.ask)
        await inquiry.facts(learned)
        if self._asked_dialect is None and (learned.template or learned.served_model):
            names = f"{self.model_id} {learned.served_model} {learned.root_model}"
            self._dialect = guess_dialect(names, chat_template=learned.template)
        await inquiry.spelling(learned, self.dialect)


def _thinks(grammar: TurnGrammar) -> bool:
    return grammar.place == "in_thought" or (grammar.place == "start" and grammar.reasoning != "off")


def _at_least(least: int, **numbers: int | None) -> None:
    for name, value in numbers.items():
        if value is not None and (isinstance(value, bool) or value < least):
            raise ConfigurationError(f"{name}={value!r}", hint=f"use a whole number from {least} on")
