"""HTTP GET for a model: public addresses only, bounded in bytes, time and redirects.

The address that was checked is the address that is connected to: each hop resolves its host once, checks every
address, and then connects by address with the right ``Host`` header and TLS name, so that a name server which
changes its answer in between (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

from hermes_agent.errors import ConfigurationError
from hermes_agent.toolbox.addresses import is_address, normal_host, why_refused

if TYPE_CHECKING:
    import ssl

    import httpx

__all__ = ["FetchError", "Http", "Resolver", "fetch"]

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Gives the addresses of a host, for a port, in the order in which to try them."""

MAX_URL_CHARS: Final = 4000
MAX_ADDRESSES: Final = 4
CONNECT_SECONDS: Final = 5.0
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TEXT: Final = re.compile(r"text/.*|application/(?:.*\+)?(?:json|xml|yaml|x-yaml|javascript|x-ndjson|x-sh|toml)")
_META_CHARSET: Final = re.compile(
    rb"<meta[^>]{0,200}?charset\s{0,10}=\s{0,10}[\"']?([A-Za-z0-9_-]{1,30})", re.IGNORECASE
)
# Only these: a page must not choose a codec that is slow (punycode) or no text encoding of the web at all.
_CHARSETS: Final = re.compile(
    r"utf-?(?:8|16|32)(?:-?[bl]e)?|us-ascii|ascii|latin-?1|iso-8859-\d{1,2}|windows-125\d|cp125\d|koi8-[ru]|"
    r"gb2312|gbk|gb18030|big5|big5-hkscs|shift_jis|euc-jp|iso-2022-jp|euc-kr|mac-roman|tis-620"
)


class FetchError(OSError):
    """A page that could not be had: no connection, an error status, no text, too many redirects."""


async def resolve(host: str, port: int) -> list[str]:
    """Ask the operating system for a host's addresses."""
    import socket

    import anyio

    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """Fetches pages within bounds; ``Http(...).fetch`` is the tool.

    Example:
        >>> docs_only = Http(hosts=["docs.python.org"], seconds=10).fetch

    Attributes:
        hosts: The only hosts that may be asked, redirects included; ``None`` for any public one. A model that reads
            pages can be talked into sending what it knows to a stranger's host: name the hosts where you can.
        allow_private: Exact ``host:port`` that may be reached although their address is not public, such as
            ``"127.0.0.1:8000"``.
        max_bytes: Bytes read of one page, after decompression.
        max_chars: Characters given back by one call.
        seconds: Wall clock of one call, from the name lookup to the last byte.
        max_redirects: Redirects followed; each is checked like the first address.
        resolve: Where the addresses of a host come from.
        ssl_context: Which certificates are trusted; ``None`` for those of ``certifi``.
    """

    hosts: Collection[str] | None = None
    allow_private: Collection[str] = ()
    max_bytes: int = 2_000_000
    max_chars: int = 16_000
    seconds: float = 20.0
    max_redirects: int = 5
    resolve: Resolver = resolve
    ssl_context: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        for name in ("hosts", "allow_private"):
            if isinstance(getattr(self, name), str):
                raise ConfigurationError(
                    f"Http({name}={getattr(self, name)!r}) is one string", hint=f"give a list: {name}=[...]"
                )
        for entry in self.allow_private:
            if not re.fullmatch(r".+:\d{1,5}", entry):
                raise ConfigurationError(
                    f"Http(allow_private=[{entry!r}]) names no port", hint="write host:port, such as '127.0.0.1:8000'"
                )
        for name in ("max_bytes", "max_chars", "seconds"):
            if getattr(self, name) <= 0:
                raise ConfigurationError(f"Http({name}={getattr(self, name)!r}) allows nothing", hint="use more than 0")

    async def fetch(self, url: str, start: int = 0) -> str:
        """Fetch a web page or a text file and return its text.

        Args:
            url: Address of the page, beginning with http:// or https://.
            start: Character to start from, to read on in a page that was cut.

        Raises:
            ValueError: The address cannot be read.
            PermissionError: The address is not public, or not one of the hosts that may be asked.
            TimeoutError: It took longer than ``seconds``.
            FetchError: No connection, an error status, no text, or too many redirects.
        """
        import anyio

        try:
            with anyio.fail_after(self.seconds):
                page = await self._follow(url)
                text = await anyio.to_thread.run_sync(page.text)
        except TimeoutError:
            raise TimeoutError(f"{url!r} took longer than {self.seconds:g} seconds") from None
        return _part(text, start, self.max_chars, complete=page.complete, max_bytes=self.max_bytes)

    async def _follow(self, url: str) -> _Page:
        target = _target(url)
        for _ in range(self.max_redirects + 1):
            answer = await self._get(target, await self._addresses(target))
            if isinstance(answer, _Page):
                return answer
            try:
                target = _target(urljoin(str(target.url), answer))
            except ValueError as error:
                raise FetchError(f"{url!r} redirects to {answer!r}, which is refused: {error}") from None
        raise FetchError(f"{url!r} redirects more than {self.max_redirects} times")

    async def _addresses(self, target: _Target) -> list[str]:
        """Resolve a host and check every address it has.

        Raises:
            PermissionError: The host may not be asked, or one of its addresses is not public.
            FetchError: The host has no address.
        """
        if self.hosts is not None and target.host not in {normal_host(host) for host in self.hosts}:
            raise PermissionError(f"{target.host!r} is not one of the hosts that may be asked: {sorted(self.hosts)!r}")
        try:
            found = [target.host] if is_address(target.host) else list(await self.resolve(target.host, target.port))
        except (OSError, UnicodeError) as error:
            raise FetchError(f"host {target.host!r} cannot be found: {error}") from None
        if not found:
            raise FetchError(f"host {target.host!r} has no address")
        if f"{target.host}:{target.port}" in {_host_and_port(entry) for entry in self.allow_private}:
            return found
        for address in found:
            reason = why_refused(address)
            if reason is not None:
                named = "" if address == target.host else f" of host {target.host!r}"
                raise PermissionError(f"only public addresses may be fetched, and {address!r}{named} {reason}")
        return found

    async def _get(self, target: _Target, addresses: list[str]) -> _Page | str:
        """Ask the first address that takes the connection; a string is where it redirects to."""
        import httpx

        failure: Exception | None = None
        for address in addresses[:MAX_ADDRESSES]:
            # A transport of its own for each hop: a kept connection to one address must never serve a second host,
            # whose certificate was not checked. Straight to the transport: no proxies, cookies, netrc or own redirects.
            transport = httpx.AsyncHTTPTransport(
                verify=self.ssl_context or _certificates(), trust_env=False, limits=httpx.Limits(max_connections=1)
            )
            try:
                async with transport:
                    response = await transport.handle_async_request(target.request(address))
                    try:
                        return await self._read(target, response)
                    finally:
                        await response.aclose()
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
            except httpx.TransportError as error:
                raise FetchError(f"{str(target.url)!r} broke off: {str(error) or type(error).__name__}") from None
        raise FetchError(f"no connection to {str(target.url)!r}: {failure!s}")

    async def _read(self, target: _Target, response: httpx.Response) -> _Page | str:
        url = str(target.url)
        location = response.headers.get("location")
        if response.status_code in _REDIRECTS and location is not None:
            return str(location)
        if response.status_code >= 300:
            raise FetchError(f"{url!r} answered {response.status_code} {response.reason_phrase}".rstrip())
        kind = str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()
        if kind and not _TEXT.fullmatch(kind):
            raise FetchError(f"{url!r} is {kind!r}, and only text can be fetched")
        content = _Content(response.headers.get("content-encoding", ""), self.max_bytes, url)
        stream: httpx.AsyncByteStream = response.stream  # type: ignore[assignment]  # this transport's streams are async
        async for chunk in stream:
            if not content.take(chunk):
                break
        body, complete = content.whole()
        return _Page(url, kind, response.charset_encoding, body, complete)


async def fetch(url: str, start: int = 0) -> str:
    """Fetch a public web page or text file and return its text.

    Args:
        url: Address of the page, beginning with http:// or https://.
        start: Character to start from, to read on in a page that was cut.
    """
    return await _PUBLIC.fetch(url, start)


_PUBLIC: Final = Http()


@dataclass(frozen=True, slots=True)
class _Target:
    """An address that may be asked if its host resolves to something public."""

    url: httpx.URL
    host: str
    port: int

    def request(self, address: str) -> httpx.Request:
        import httpx

        host = f"[{self.host}]" if ":" in self.host else self.host
        return httpx.Request(
            "GET",
            self.url.copy_with(host=address, fragment=None),
            headers={
                "Host": host if self.url.port is None else f"{host}:{self.url.port}",
                "User-Agent": "hermes-agent-sdk (+fetch tool)",
                "Accept": "text/*, application/json, application/xml;q=0.9, */*;q=0.1",
                "Accept-Encoding": "gzip",
                "Connection": "close",
            },
            extensions={
                "sni_hostname": self.host,
                "timeout": {"connect": CONNECT_SECONDS, "read": None, "write": None, "pool": None},
            },
        )


def _target(url: str) -> _Target:
    import httpx

    if len(url) > MAX_URL_CHARS:
        raise ValueError(f"the address has {len(url)} characters, and {MAX_URL_CHARS} is the most")
    try:
        parsed = httpx.URL(url.strip())
        host = normal_host(parsed.raw_host.decode("ascii"))
    except (httpx.InvalidURL, ValueError) as error:
        raise ValueError(f"cannot read the address {url!r}: {error}") from None
    if parsed.scheme not in {"http", "https"}:
        raise ValueError(f"cannot fetch {url!r}: an address begins with http:// or https://")
    if parsed.userinfo:
        raise ValueError(f"cannot fetch an address with a user name or password in it: {parsed.host!r}")
    if parsed.port is not None and not 1 <= parsed.port <= 65535:
        raise ValueError(f"cannot fetch {url!r}: port {parsed.port!r} is outside 1 to 65535")
    return _Target(parsed, host, parsed.port or (443 if parsed.scheme == "https" else 80))


def _host_and_port(entry: str) -> str:
    host, _, port = entry.rpartition(":")
    return f"{normal_host(host.strip('[]'))}:{int(port)}"


@cache
def _certificates() -> ssl.SSLContext:
    import httpx

    return httpx.create_ssl_context(trust_env=False)


class _Content:
    """A body as it comes in, decompressed, and never more of it than asked for.

    The HTTP library's own decoders are not used: they open a chunk fully, however far it unfolds, and
    take as many layers of compression as the server names.
    """

    def __init__(self, encoding: str, most: int, url: str) -> None:
        name = encoding.strip().lower()
        if name not in {"", "identity", "gzip", "x-gzip", "deflate"}:
            raise FetchError(f"{url!r} is compressed as {encoding!r}, which was not asked for")
        self._unzip = zlib.decompressobj(zlib.MAX_WBITS | 32) if name not in {"", "identity"} else None
        self._most = most
        self._url = url
        self._body = bytearray()

    def take(self, chunk: bytes) -> bool:
        """Take the next bytes; says whether there is room for more."""
        room = self._most + 1 - len(self._body)
        if self._unzip is None:
            self._body += chunk[:room]
        else:
            try:
                self._body += self._unzip.decompress(chunk, room)
            except zlib.error as error:
                raise FetchError(f"{self._url!r} sent broken compressed data: {error}") from None
        return len(self._body) <= self._most

    def whole(self) -> tuple[bytes, bool]:
        """The bytes, and whether these are all of them."""
        complete = len(self._body) <= self._most
        if complete and self._body and self._unzip is not None and not self._unzip.eof:
            raise FetchError(f"{self._url!r} sent compressed data that ends too early")
        return bytes(self._body[: self._most]), complete


@dataclass(frozen=True, slots=True)
class _Page:
    url: str
    kind: str
    charset: str | None
    body: bytes
    complete: bool

    def text(self) -> str:
        """The page as readable text.

        Raises:
            FetchError: It is binary data.
        """
        from hermes_agent.toolbox.page_text import readable

        html = self.kind in {"text/html", "application/xhtml+xml"}
        charset = (self.charset or "").lower()
        meta = _META_CHARSET.search(self.body[:2048]) if html and not charset else None
        if meta is not None:
            charset = meta[1].decode("ascii").lower()
        if self.body.startswith(b"\xef\xbb\xbf"):
            charset = "utf-8-sig"
        elif self.body.startswith((b"\xff\xfe", b"\xfe\xff")):
            charset = "utf-16"
        elif not _CHARSETS.fullmatch(charset):
            charset = "utf-8"
        if b"\0" in self.body[:8192] and not charset.startswith(("utf-16", "utf16", "utf-32", "utf32")):
            raise FetchError(f"{self.url!r} is binary data, and only text can be fetched")
        try:
            text = self.body.decode(charset, "replace")
        except LookupError:  # the pattern lets through a few names that Python lacks, such as iso-8859-12
            text = self.body.decode("utf-8", "replace")
        return readable(text, self.url) if html else text


def _part(text: str, start: int, most: int, *, complete: bool, max_bytes: int) -> str:
    """The characters from ``start`` on, with a last line that says what is missing."""
    if start < 0 or (start and start >= len(text)):
        raise ValueError(f"start={start!r} is outside the page, which has {len(text)} characters")
    end = min(len(text), start + most)
    whole = f"{len(text)}" if complete else f"{len(text)} (of a page longer than {max_bytes} bytes)"
    if end < len(text):
        return f"{text[start:end]}\n[cut: characters {start} to {end} of {whole}; go on with start={end}]"
    return text[start:] if complete else f"{text[start:]}\n[cut: the page is longer than {max_bytes} bytes]"
