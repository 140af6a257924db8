"""Where an MCP server is: a command to start, or a URL."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from hermes_agent.errors import ConfigurationError

__all__ = ["Http", "Server", "Stdio", "server_of"]

_FORMS = 'give a URL, a command line, a list such as ["npx", "-y", "…"], Stdio(...) or Http(...)'


@dataclass(frozen=True, slots=True)
class Stdio:
    """A server that is started as a process and spoken to over its standard input and output.

    Attributes:
        command: The program, looked up on ``PATH``.
        args: Its arguments.
        env: Environment variables for it, besides the few that every program needs (``PATH``, ``HOME`` and the
            like). Nothing else of our environment is handed over: it may hold keys.
        cwd: The folder it runs in; ours by default.
    """

    command: str
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    cwd: str | Path | None = None

    @property
    def shown(self) -> str:
        """The command, for messages; without its arguments, which may hold keys."""
        return self.command


@dataclass(frozen=True, slots=True)
class Http:
    """A server that is reached over streamable HTTP.

    Attributes:
        url: The whole URL of its endpoint, such as ``http://127.0.0.1:8000/mcp``.
        headers: Sent with every request, such as ``{"Authorization": "Bearer …"}``; to this origin only.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)

    def __post_init__(self) -> None:
        if not _is_url(self.url):
            raise ConfigurationError(
                f"{self.url!r} is not an http or https URL", hint="such as http://127.0.0.1:8000/mcp"
            )

    @property
    def shown(self) -> str:
        """The URL, for messages; without user, password, query and fragment, which may hold keys."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


Server = Stdio | Http | str | Sequence[str]
"""A server: a `Stdio`, an `Http`, a URL, a command line, or a command as a list."""


def server_of(spec: Server) -> Stdio | Http:
    """What a user gave, as one of the two.

    Raises:
        ConfigurationError: It is neither a URL nor a command.
    """
    match spec:
        case Stdio() | Http():
            return spec
        case str() if _is_url(spec):
            return Http(spec)
        case str():
            try:
                return server_of(shlex.split(spec))
            except ValueError as error:
                raise ConfigurationError(f"{spec!r} is not a command line: {error}", hint=_FORMS) from error
        case _:
            words = list(cast("Sequence[object]", spec)) if isinstance(cast("object", spec), Sequence) else []
            if not words or not all(isinstance(word, str) and "\0" not in word for word in words) or not words[0]:
                raise ConfigurationError(f"{spec!r} is no MCP server", hint=_FORMS)
            command, *args = cast("list[str]", words)
            return Stdio(command, args)


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://")) and bool(urlsplit(text).netloc)
