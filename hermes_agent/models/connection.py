"""Connections to one server: a client for each event loop, the key it shows, and what no error may tell."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import anyio
from anyio.lowlevel import RunVar

from hermes_agent.errors import ConfigurationError
from hermes_agent.models.address import masked

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

__all__ = ["Connections", "Key"]

_HIDDEN = "***"
_LEAST_SECRET_CHARS = 6  # shorter ones are placeholders, and stand in half of all words


class Key:
    """The key of a server, looked for in the environment when it is first needed.

    Args:
        given: The key itself; ``None`` or empty looks for it.
        names: Environment variables that may hold it, first found counts.

    Raises:
        ConfigurationError: What was given cannot be sent. The value is not told.
    """

    def __init__(self, given: str | None, names: tuple[str, ...]) -> None:
        self._names = names
        self._known = _sendable(given, "api_key=") if given else None

    @property
    def value(self) -> str | None:
        """The key; ``None`` while there is none.

        Raises:
            ConfigurationError: The environment's cannot be sent.
        """
        if self._known is None:
            for name in self._names:
                if found := os.environ.get(name, "").strip():
                    self._known = _sendable(found, name)
                    break
        return self._known


def _sendable(key: str, source: str) -> str:
    if not all("!" <= character <= "~" for character in key):
        raise ConfigurationError(
            f"the key in {source} holds white space or characters that are not ASCII",
            hint="a header cannot carry it: copy it again, without line ends and typographic quotes",
        )
    return key


class Connections:
    """The clients of one server.

    Args:
        base_url: With ``/v1``, and with name and password if it has them.
        key: Sent as a bearer token; without one, a placeholder that servers without keys ignore.
        client: Use this client, and leave it open.
        http_client: The HTTP client below, of httpx2 or httpx; it is left open.
        of_openai: The server is OpenAI's, so its headers from the environment are meant for it.
    """

    def __init__(
        self,
        base_url: str,
        *,
        key: Key,
        client: AsyncOpenAI | None = None,
        http_client: httpx2.AsyncClient | None = None,
        of_openai: bool = False,
    ) -> None:
        self._base_url, self._key, self._of_openai = base_url, key, of_openai
        self._given, self._http_client = client, http_client
        self._clients: RunVar[tuple[AsyncOpenAI, AsyncGenerator[None, None]] | None] = RunVar("client", None)

    @property
    def borrowed(self) -> bool:
        """The pool of connections is the user's, and one for all event loops."""
        return self._given is not None or self._http_client is not None

    @property
    def headers(self) -> dict[str, str]:
        """For every request. A connection must not outlive its event loop, and a pool that is not ours keeps it."""
        return {"Connection": "close"} if self.borrowed else {}

    async def client(self) -> AsyncOpenAI:
        """The client of this event loop: connections do not outlive theirs, and ``run_sync`` runs a new one each."""
        if self._given is not None:
            return self._given
        entry = self._clients.get()
        if entry is None:
            from openai import AsyncOpenAI

            key = self._key.value or "none"
            client = AsyncOpenAI(
                api_key=key,
                base_url=self._base_url,
                http_client=self._http_client,
                max_retries=0,
                default_headers=None if self._of_openai else _without_openais(key),
            )
            closing = self._close_at_end(client)
            entry = client, closing
            self._clients.set(entry)
            await anext(closing)
        return entry[0]

    async def _close_at_end(self, client: AsyncOpenAI) -> AsyncGenerator[None, None]:
        """Waits, suspended, for the event loop to shut down its generators, which closes the client in its own loop."""
        try:
            yield
        finally:
            # A generator holds its event loop, and so would be what keeps the loop and itself for ever.
            if (entry := self._clients.get()) is not None and entry[0] is client:
                self._clients.set(None)
            if self._http_client is None:
                with anyio.CancelScope(shield=True):
                    await client.close()

    async def aclose(self) -> None:
        """Close the connections of this event loop. The next request opens new ones."""
        if (entry := self._clients.get()) is not None:
            self._clients.set(None)
            await entry[1].aclose()

    def hide(self, text: str) -> str:
        """A text without the key and the password, in whatever words a server repeats them."""
        for secret in self._secrets():
            if len(secret) >= _LEAST_SECRET_CHARS:
                text = text.replace(secret, _HIDDEN).replace(json.dumps(secret)[1:-1], _HIDDEN)
        return masked(text) if urlsplit(self._base_url).username is not None else text

    def _secrets(self) -> list[str]:
        key: object = self._key.value if self._given is None else self._given.api_key
        password = urlsplit(self._base_url).password or ""
        return [key if isinstance(key, str) else "", password, unquote(password)]


def _without_openais(key: str) -> Mapping[str, Any]:
    """Headers that leave out what the client takes from OpenAI's environment, which is for OpenAI alone."""
    from openai import Omit

    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    names = [line.partition(":")[0].strip() for line in lines if ":" in line]
    ours = ("OpenAI-Organization", "OpenAI-Project", *(name for name in names if name.lower() != "authorization"))
    return {**dict.fromkeys(ours, Omit()), "Authorization": f"Bearer {key}"}
