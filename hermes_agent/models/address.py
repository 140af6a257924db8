"""Where servers listen, and how that stands in the name of a model."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from hermes_agent.errors import ConfigurationError
from hermes_agent.models.servers import Server

__all__ = ["address", "masked", "split_name"]

_USER = re.compile(r"(?<=//)[^/?#\s]*@")
_URL_TAIL = re.compile(r"@(?=https?://)", re.IGNORECASE)
_NO_URL_TAIL = re.compile(
    r"@(?:[a-z][a-z0-9+.-]*:/.*|https?:.*|localhost(?:[:/].*)?|[^@/\s]+:\d{2,5}(?:/.*)?|[^@\s]+/v1/?)$", re.IGNORECASE
)
_LOOKS = "it looks like http://localhost:8000/v1"


def address(server: Server, given: str | None) -> str:
    """Where a server listens: what was given, else ``HERMES_SDK_BASE_URL``, else its usual address.

    Raises:
        ConfigurationError: There is none, or it is no URL.
    """
    # A provider on the internet has one address; its key shall not go to whatever the variable names.
    local = server.base_url is None or server.base_url.startswith("http://localhost")
    url = given or (os.environ.get("HERMES_SDK_BASE_URL") if local else None) or server.base_url
    if not url:
        raise ConfigurationError(
            f"{server.name!r} has no address of its own",
            hint="pass base_url=, write the name as provider:model@http://host:port/v1, or set HERMES_SDK_BASE_URL",
        )
    scheme, found, rest = url.strip().partition("://")
    if not found or scheme.lower() not in ("http", "https") or not _has_host(rest):
        raise ConfigurationError(f"base_url={masked(url)!r} is no URL", hint=_LOOKS)
    return f"{scheme.lower()}://{rest}".rstrip("/")


def _has_host(rest: str) -> bool:
    """Whether the part of a URL behind its scheme names a host that can be asked."""
    try:
        parts = urlsplit(f"//{rest}")
        return bool(parts.hostname) and parts.port != 0 and not re.search(r"\s", rest)
    except ValueError:  # a port that is no number, or too large
        return False


def masked(text: str) -> str:
    """A URL, or a text with URLs, without names and passwords in them, as may be shown."""
    return _USER.sub("***@", text)


def split_name(name: str) -> tuple[str, str | None]:
    """The model and the address in ``model@http://host/v1``; a model's name may hold an ``@`` of its own.

    Raises:
        ConfigurationError: What stands behind the ``@`` is meant for an address, and is none.

    Example:
        >>> split_name("hermes@q4@http://host/v1"), split_name("hermes@q4")
        (('hermes@q4', 'http://host/v1'), ('hermes@q4', None))
    """
    if found := _URL_TAIL.search(name):
        return name[: found.start()], name[found.end() :]
    if found := _NO_URL_TAIL.search(name):
        raise ConfigurationError(
            f"{masked(found[0])!r} behind the model's name is no address", hint=f"{_LOOKS}, with its http://"
        )
    return name, None
