"""What a server tells about itself: context length, template, and how its tokenizer spells the tags."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

from hermes_agent.formats.dialects import Dialect
from hermes_agent.formats.grammar import Tags
from hermes_agent.models.servers import OWN, Server, Wire

__all__ = ["Ask", "Inquiry", "Learned"]


class Ask(Protocol):
    """Fetches what stands beside the API."""

    def __call__(self, path: str, body: Mapping[str, Any] | None = None, /) -> Awaitable[Any]:
        """The JSON there, or ``None``."""
        ...


@dataclass(slots=True)
class Learned:
    """What the server said about itself, which forms it turned down, and for which grammars they failed or held."""

    tries: int = 0
    told: bool = False
    context_length: int | None = None
    template: str | None = None
    served_model: str = ""
    root_model: str = ""
    tags: Tags | None = None
    ends: tuple[int, ...] = ()
    refused: set[tuple[Wire, str]] = field(default_factory=set[tuple[Wire, str]])
    dropped: set[tuple[Wire, str, str]] = field(default_factory=set[tuple[Wire, str, str]])
    proven: set[object] = field(default_factory=set[object])


@dataclass(frozen=True, slots=True)
class Inquiry:
    """Asks one server about one model.

    Attributes:
        server: What it is believed to take.
        model_id: What it calls the model.
        ask: Fetches.
    """

    server: Server
    model_id: str
    ask: Ask

    async def facts(self, learned: Learned) -> None:
        """Context length, template and names.

        Raises:
            ConnectionError: The server cannot be reached.
            TimeoutError: It does not answer.
        """
        told: dict[str, Any] = {}
        for path, keys in self.server.context:
            if path not in told:
                told[path] = await self.ask(path)
            found = told[path]
            length = self._dig(found, keys)
            learned.context_length = learned.context_length or (length if isinstance(length, int) else None)
            learned.template = _text(self._dig(found, ("chat_template",))) or learned.template
            served = _text(self._dig(found, ("model_alias",))) or _text(self._dig(found, ("data", OWN, "id")))
            learned.served_model = served or learned.served_model
            learned.root_model = _text(self._dig(found, ("data", OWN, "root"))) or learned.root_model

    async def spelling(self, learned: Learned, dialect: Dialect) -> None:
        """How the tokenizer spells the tags, if it can be asked.

        Raises:
            ConnectionError: The server cannot be reached.
            TimeoutError: It does not answer.
        """
        if self.server.tokenize is None:
            return
        plain = Tags.text(dialect)
        tags = plain.call_open, plain.call_close, plain.think_open, plain.think_close
        spelled = [await self._tokens(str(text)) for text in (*tags, *dialect.stops)]
        if any(tokens is None for tokens in spelled):
            return
        single = [tokens[0] if tokens is not None and len(tokens) == 1 else None for tokens in spelled]
        call_open, call_close, think_open, think_close = (
            text if token is None else token for text, token in zip(tags, single[:4], strict=True)
        )
        learned.tags = replace(
            plain, call_open=call_open, call_close=call_close, think_open=think_open, think_close=think_close
        )
        learned.ends = tuple(token for token in single[4:] if token is not None)

    async def _tokens(self, text: str) -> list[int] | None:
        assert self.server.tokenize is not None
        path, name = self.server.tokenize
        told = await self.ask(path, {name: text, "parse_special": True, "add_special": False})
        tokens = self._dig(told, ("tokens",))
        return cast("list[int]", tokens) if isinstance(tokens, list) else None

    def _dig(self, value: Any, keys: tuple[str | int, ...]) -> Any:
        """The value under some keys, or ``None`` where they do not lead anywhere."""
        for key in keys:
            try:
                value = self._own(value) if key == OWN else value[key]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def _own(self, entries: Any) -> Any:
        """The entry of this model; an only one is taken to be it, as servers of one model heed no name."""
        listed: list[Any] = [*entries] if isinstance(entries, list) else []
        for name in ("id", "root"):
            for entry in listed:
                if self._dig(entry, (name,)) == self.model_id:
                    return entry
        return listed[0] if len(listed) == 1 else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
