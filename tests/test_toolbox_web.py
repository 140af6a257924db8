from __future__ import annotations

import gzip
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress

import anyio
import httpx
import pytest
import trustme

from hermes_agent.errors import ConfigurationError
from hermes_agent.toolbox import FetchError, Http, fetch

PUBLIC = "93.184.215.14"

Answer = Callable[[bytes, Callable[[bytes], None], threading.Event], None]


@contextmanager
def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> Generator[tuple[int, list[bytes]], None, None]:
    """A real server on loopback that sends whatever bytes a test wants; gives its port and the requests it got."""
    requests: list[bytes] = []
    over = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            connection: socket.socket = self.request
            with suppress(OSError):  # the client hangs up when it has had enough
                if tls is not None:
                    connection = tls.wrap_socket(connection, server_side=True)
                request = b""
                while b"\r\n\r\n" not in request:
                    received = connection.recv(65536)
                    if not received:
                        break
                    request += received
                if request:
                    requests.append(request)
                    answer(request, connection.sendall, over)
            connection.close()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield int(server.server_address[1]), requests
        finally:
            over.set()
            server.shutdown()
            thread.join()


def sending(data: bytes) -> Answer:
    def answer(request: bytes, send: Callable[[bytes], None], over: threading.Event) -> None:
        send(data)

    return answer


def saying(body: bytes, *headers: str, status: str = "200 OK") -> Answer:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers])
    return sending(head.encode("latin-1") + b"\r\n\r\n" + body)


def redirecting(location: str) -> Answer:
    return saying(b"", f"Location: {location}", status="302 Found")


def get(http: Http, url: str, start: int = 0, backend: str = "asyncio") -> str:
    return anyio.run(http.fetch, url, start, backend=backend)


def local(port: int, **options: object) -> Http:
    return Http(allow_private=[f"127.0.0.1:{port}"], **options)  # type: ignore[arg-type]  # each test names real options


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_page_on_both_event_loops(backend: str) -> None:
    with serving(saying(b"hello", "Content-Type: text/plain")) as (port, requests):
        assert get(local(port), f"http://127.0.0.1:{port}/a?b=c#d", backend=backend) == "hello"
    assert requests[0].startswith(b"GET /a?b=c HTTP/1.1\r\n")
    assert f"Host: 127.0.0.1:{port}\r\n".encode() in requests[0]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://127.0.0.1.:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://[::ffff:7f00:1]:{port}/",
        "http://[::1]:{port}/",
        "http://[::]:{port}/",
        "http://[64:ff9b::7f00:1]:{port}/",
        "http://0.0.0.0:{port}/",
        "http://localhost:{port}/",
        "http://localhost.:{port}/",
        "http://LOCALHOST:{port}/",
        "http://127。0。0。1:{port}/",
        "http://[fe80::1%25lo]:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://100.64.0.1/",
        "http://10.0.0.1/",
        "https://192.168.1.1/",
    ],
)
def test_addresses_that_are_not_public(url: str) -> None:
    with serving(saying(b"internal")) as (port, requests):
        with pytest.raises(PermissionError, match="only public addresses may be fetched"):
            anyio.run(fetch, url.replace("{port}", str(port)))
        assert requests == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://2130706433/", "disguised address"),
        ("http://0x7f.1/", "disguised address"),
        ("http://0x7f000001/", "disguised address"),
        ("http://127.1/", "disguised address"),
        ("http://017700000001/", "disguised address"),
        ("http://0177.0.0.1/", "cannot read"),
        ("http://0/", "disguised address"),
        ("http://1.2.3.4.5/", "disguised address"),
        ("http://１２７.0.0.1/", "cannot read"),  # noqa: RUF001 - the digits are what is tested
        ("file:///etc/passwd", "cannot read"),
        ("ftp://a.example/", "begins with http:// or https://"),
        ("gopher://127.0.0.1:6379/_FLUSHALL", "begins with http:// or https://"),
        ("javascript:alert(1)", "cannot read"),
        ("a.example", "cannot read"),
        ("", "cannot read"),
        ("http://", "cannot read"),
        ("http://..../", "not a host name"),
        ("http://a b/", "not a host name"),
        ("http://a%00b/", "not a host name"),
        ("http://a.example:0/", "port 0"),
        ("http://a.example:99999/", "port 99999"),
        ("http://user:pass@a.example/", "user name or password"),
        ("http://a.example\r\nX: y/", "cannot read"),
        ("http://[::/", "cannot read"),
        ("http://\ud800/", "cannot read"),
        ("http://a.example/" + "x" * 5000, "4000 is the most"),
    ],
)
def test_addresses_that_cannot_be_read(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=".") as caught:  # noqa: RUF043 - what it says is checked below
        anyio.run(fetch, url)
    assert says in str(caught.value)
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("http://169.254.169.254/latest/", PermissionError),
        ("http://127.0.0.1:1/", PermissionError),
        ("http://localhost/", PermissionError),
        ("//[::1]/", PermissionError),
        ("file:///etc/passwd", FetchError),
        ("http://2130706433/", FetchError),
        ("http://u:p@127.0.0.1/", FetchError),
        ("http://[/", FetchError),
    ],
)
def test_redirects_are_checked_like_the_first_address(location: str, error: type[Exception]) -> None:
    with serving(redirecting(location)) as (port, requests):
        with pytest.raises(error):
            get(local(port), f"http://127.0.0.1:{port}/")
        assert len(requests) == 1


def test_redirects_are_followed_and_bounded() -> None:
    def answer(request: bytes, send: Callable[[bytes], None], over: threading.Event) -> None:
        if b"GET /end" in request:
            saying(b"there")(request, send, over)
        elif b"GET /loop" in request:
            redirecting("/loop")(request, send, over)
        else:
            redirecting("end")(request, send, over)

    with serving(answer) as (port, requests):
        assert get(local(port), f"http://127.0.0.1:{port}/start") == "there"
        del requests[:]
        with pytest.raises(FetchError, match="redirects more than 3 times"):
            get(local(port, max_redirects=3), f"http://127.0.0.1:{port}/loop")
        assert len(requests) == 4


def test_a_name_that_resolves_to_a_private_address() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return [PUBLIC, "127.0.0.1"]

    with pytest.raises(PermissionError, match=r"'127\.0\.0\.1' of host 'evil\.example' is loopback"):
        get(Http(resolve=resolve), "http://evil.example/")


def test_the_checked_address_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    sent: list[httpx.Request] = []

    async def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return [PUBLIC] if len(asked) == 1 else ["127.0.0.1"]

    async def record(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(302, headers={"Location": "/again"})

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", record)
    with pytest.raises(PermissionError, match="is loopback"):
        get(Http(resolve=rebinding), "https://Rebind.example:8443/x")
    assert asked == ["rebind.example"] * 2, "resolved once for each hop, and never by the connection"
    assert [str(request.url) for request in sent] == [f"https://{PUBLIC}:8443/x"]
    assert sent[0].headers["Host"] == "rebind.example:8443"
    assert sent[0].extensions["sni_hostname"] == "rebind.example"


def test_the_connection_uses_no_other_resolver_than_the_one_checked() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    with serving(saying(b"found")) as (port, requests):
        http = Http(resolve=resolve, allow_private=[f"known-to-no-name-server.example:{port}"])
        assert get(http, f"http://known-to-no-name-server.example:{port}/") == "found"
        with pytest.raises(PermissionError, match="is loopback"):
            get(http, f"http://127.0.0.1:{port}/")
    assert f"Host: known-to-no-name-server.example:{port}".encode() in requests[0]


def test_certificates_are_checked_against_the_name_not_the_address() -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("good.example").configure_cert(server)  # pyright: ignore[reportUnknownMemberType]  # typed for pyOpenSSL too
    client = ssl.create_default_context()
    authority.configure_trust(client)  # pyright: ignore[reportUnknownMemberType]  # typed for pyOpenSSL too

    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    with serving(saying(b"secret"), server) as (port, requests):
        allowed = [f"good.example:{port}", f"bad.example:{port}", f"127.0.0.1:{port}"]
        http = Http(resolve=resolve, allow_private=allowed, ssl_context=client)
        assert get(http, f"https://good.example:{port}/") == "secret"
        for host in ("bad.example", "127.0.0.1"):
            with pytest.raises(FetchError, match="certificate"):
                get(http, f"https://{host}:{port}/")
        with pytest.raises(FetchError, match="certificate"):
            get(Http(resolve=resolve, allow_private=allowed), f"https://good.example:{port}/")
    assert len(requests) == 1


def test_only_the_hosts_that_may_be_asked() -> None:
    with serving(redirecting("http://elsewhere.example/?secret=1")) as (port, _):
        http = Http(hosts=["127.0.0.1"], allow_private=[f"127.0.0.1:{port}"])
        with pytest.raises(PermissionError, match=r"'elsewhere\.example' is not one of the hosts"):
            get(http, f"http://127.0.0.1:{port}/")


def test_proxies_and_passwords_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with serving(saying(b"direct")) as (port, requests):
        assert get(local(port), f"http://127.0.0.1:{port}/") == "direct"
    assert b"authorization" not in requests[0].lower()


def test_a_gzip_bomb_is_cut_before_it_unfolds() -> None:
    bomb = gzip.compress(b"a" * 50_000_000, compresslevel=9)
    with serving(saying(bomb, "Content-Type: text/plain", "Content-Encoding: gzip")) as (port, _):
        begin = time.process_time()
        text = get(local(port, max_bytes=1000), f"http://127.0.0.1:{port}/")
        assert time.process_time() - begin < 2
    assert text == "a" * 1000 + "\n[cut: the page is longer than 1000 bytes]"


def test_compression() -> None:
    packed = gzip.compress(b"packed")
    with serving(saying(packed, "Content-Encoding: gzip")) as (port, _):
        assert get(local(port), f"http://127.0.0.1:{port}/") == "packed"
    for encoding, body, says in (
        ("gzip, gzip", gzip.compress(packed), "which was not asked for"),
        ("br", b"x", "which was not asked for"),
        ("gzip", b"not gzip", "broken compressed"),
        ("gzip", packed[:-9], "ends too early"),
    ):
        with (
            serving(saying(body, f"Content-Encoding: {encoding}")) as (port, _),
            pytest.raises(FetchError, match=says),
        ):
            get(local(port), f"http://127.0.0.1:{port}/")


def test_an_endless_body_is_cut() -> None:
    def answer(request: bytes, send: Callable[[bytes], None], over: threading.Event) -> None:
        send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        while not over.is_set():
            send(b"x" * 65536)

    with serving(answer) as (port, _):
        text = get(local(port, max_bytes=100_000, max_chars=10), f"http://127.0.0.1:{port}/")
    assert text == (
        "x" * 10 + "\n[cut: characters 0 to 10 of 100000 (of a page longer than 100000 bytes); go on with start=10]"
    )


@pytest.mark.parametrize("drip", [b"x", b"", b"X-Header: more\r\n"])
def test_a_slow_server_is_given_up(drip: bytes) -> None:
    def answer(request: bytes, send: Callable[[bytes], None], over: threading.Event) -> None:
        send(b"HTTP/1.1 200 OK\r\n" if drip.startswith(b"X-") else b"HTTP/1.1 200 OK\r\n\r\n")
        while not over.wait(0.02):
            send(drip)

    with serving(answer) as (port, _), pytest.raises(TimeoutError, match=r"took longer than 0\.3 seconds"):
        get(local(port, seconds=0.3), f"http://127.0.0.1:{port}/")


def test_a_slow_name_server_is_given_up() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        await anyio.sleep_forever()
        return []

    with pytest.raises(TimeoutError, match=r"'http://a\.example/' took longer"):
        get(Http(resolve=resolve, seconds=0.05), "http://a.example/")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (saying(b"", status="404 Not Found"), "answered 404 Not Found"),
        (saying(b"", status="500 Oops"), "answered 500"),
        (saying(b"", status="304 Not Modified"), "answered 304"),
        (saying(b"%PDF", "Content-Type: application/pdf"), "'application/pdf', and only text"),
        (saying(b"\x89PNG\0\0", "Content-Type: text/plain"), "binary data"),
        (saying(b"\x7fELF\0"), "binary data"),
        (sending(b"SSH-2.0-OpenSSH_9\r\n"), "broke off"),
        (sending(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"), "broke off"),
        (sending(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 500_000), "broke off"),
    ],
)
def test_answers_that_are_no_page(answer: Answer, says: str) -> None:
    with serving(answer) as (port, _), pytest.raises(FetchError) as caught:
        get(local(port), f"http://127.0.0.1:{port}/")
    assert says in str(caught.value)


def test_hosts_that_cannot_be_reached() -> None:
    async def nobody(host: str, port: int) -> Sequence[str]:
        return []

    async def unknown(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(FetchError, match=r"host 'a\.example' has no address"):
        get(Http(resolve=nobody), "http://a.example/")
    with pytest.raises(FetchError, match=r"host 'a\.example' cannot be found"):
        get(Http(resolve=unknown), "http://a.example/")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(FetchError, match="no connection"):
        get(local(port), f"http://127.0.0.1:{port}/")


def test_the_next_address_is_tried_when_one_takes_no_connection() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["::1", "127.0.0.1"]

    with serving(saying(b"second")) as (port, _):
        http = Http(resolve=resolve, allow_private=[f"a.example:{port}"])
        assert get(http, f"http://a.example:{port}/") == "second"


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("text/plain; charset=latin-1", b"caf\xe9", "café"),
        ("text/plain; charset=utf-8", b"caf\xe9", "caf\N{REPLACEMENT CHARACTER}"),
        ("text/plain", "café".encode(), "café"),
        ("text/plain; charset=latin-1", b"\xef\xbb\xbfcaf\xc3\xa9", "café"),
        ("text/plain; charset=utf-16", "café".encode("utf-16"), "café"),
        ("text/plain; charset=nonsense", "café".encode(), "café"),
        ("text/plain; charset=punycode", b"abc-" * 1000, "abc-" * 1000),
        ("text/plain; charset=zip", b"abc", "abc"),
        ("text/plain; charset=iso-8859-12", b"abc", "abc"),
        ("text/plain; charset=unicode_escape", b"\\u0041", "\\u0041"),
        ("application/json", b'{"a": 1}', '{"a": 1}'),
        ("text/html", b"<meta charset='latin-1'><p>caf\xe9 &amp; tea</p><script>x</script>", "café & tea"),
        ("text/html; charset=utf-8", b"<p>one<p>two <a href='/x'>x</a>", "one\n\ntwo [x](http://127.0.0.1:{port}/x)"),
    ],
)
def test_charsets_and_html(kind: str, body: bytes, text: str) -> None:
    with serving(saying(body, f"Content-Type: {kind}")) as (port, _):
        assert get(local(port), f"http://127.0.0.1:{port}/") == text.replace("{port}", str(port))


def test_reading_on_in_a_long_page() -> None:
    with serving(saying(b"0123456789")) as (port, _):
        url, http = f"http://127.0.0.1:{port}/", local(port, max_chars=4)
        assert get(http, url) == "0123\n[cut: characters 0 to 4 of 10; go on with start=4]"
        assert get(http, url, 8) == "89"
        for start in (10, -1):
            with pytest.raises(ValueError, match=f"start={start} is outside the page, which has 10 characters"):
                get(http, url, start)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"hosts": "a.example"}, "is one string"),
        ({"allow_private": "127.0.0.1:80"}, "is one string"),
        ({"allow_private": ["127.0.0.1"]}, "names no port"),
        ({"seconds": 0}, "allows nothing"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Http(**options)  # type: ignore[arg-type]  # wrong on purpose
