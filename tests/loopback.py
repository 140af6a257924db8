"""An HTTP/1.1 server on loopback, for tests that need one which they can watch, and make misbehave.

It runs on an event loop of its own, in a thread of its own, so that a test's loop holds nothing but the test's tasks.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

__all__ = ["Asked", "Client", "Loopback"]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, and when it was read, by `time.monotonic`."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    when: float

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass(frozen=True, slots=True)
class Client:
    """Who asked, for the length of one answer."""

    writer: asyncio.StreamWriter
    ending: Callable[[], None]

    async def head(self, status: int, headers: Mapping[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} {'OK' if status == 200 else 'Not OK'}", *(f"{k}: {v}" for k, v in headers.items())]
        await self.raw("\r\n".join([*lines, "", ""]).encode())

    async def whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """An answer in one piece."""
        self.ending()
        await self.head(status, {**headers, "content-length": str(len(body))})
        await self.raw(body)

    async def chunk(self, data: bytes) -> None:
        """A part of a chunked answer; an empty one is its end."""
        if not data:
            self.ending()  # before the last bytes: who has those may ask again at once
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reset(self) -> None:
        """Break the connection off, as a crash does: what was written still arrives, and then an error."""
        here: socket.socket = self.writer.get_extra_info("socket")
        # A reset throws away what the client's machine has not taken yet.
        while _unsent(here):  # noqa: ASYNC110  # the kernel has no event for it
            await asyncio.sleep(0.001)
        here.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def hang_up(self) -> None:
        """Close the connection, as a server does that thinks it has said everything."""
        self.writer.close()


class Loopback:
    """The server; a context manager. What it counts may be read from any thread.

    Attributes:
        requests: Every request so far.
        in_flight: Requests being answered now.
        most_in_flight: The most there ever were at once.
        abandoned: Requests whose client left before the end of the answer.
        connections: Open connections.
    """

    def __init__(self) -> None:
        self.requests: list[Asked] = []
        self.most_in_flight = self.abandoned = self.connections = 0
        self._in_flight: set[object] = set()
        self.port = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name=type(self).__name__)

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10), "the server did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the server did not stop"

    async def answer(self, asked: Asked, client: Client) -> None:
        """Answer one request; cancelled when its client leaves."""
        raise NotImplementedError

    async def opened(self) -> None:
        """Runs before the first request."""

    async def closed(self) -> None:
        """Runs after the last one."""

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._open: set[asyncio.Task[None]] = set()
        await self.opened()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self.closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        try:
            await self._converse(reader, writer)
        except asyncio.CancelledError:
            pass  # the server is being stopped, and this task is the connection's last
        finally:
            self.connections -= 1
            self._open.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read while answering, as nothing else tells that a client has left."""
        held, answering = b"", None
        try:
            while block := await _read(reader):
                held += block
                while (taken := _take(held)) is not None:
                    asked, held = taken
                    if answering is not None:
                        await answering
                    answering = asyncio.create_task(self._answer(asked, writer))
        finally:
            if answering is not None:
                answering.cancel()
                await asyncio.gather(answering, return_exceptions=True)

    async def _answer(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        ticket = object()
        self.requests.append(asked)
        self._in_flight.add(ticket)
        self.most_in_flight = max(self.most_in_flight, len(self._in_flight))
        try:
            await self.answer(asked, Client(writer, lambda: self._in_flight.discard(ticket)))
        except (asyncio.CancelledError, OSError):
            self.abandoned += 1
        finally:
            self._in_flight.discard(ticket)


def _unsent(connection: socket.socket) -> int:
    """Bytes that were written to the connection and not acknowledged."""
    (count,) = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4))
    return int(count)


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(65536)
    except OSError:  # the client reset the connection
        return b""


def _take(held: bytes) -> tuple[Asked, bytes] | None:
    """The first whole request of what was read, and what is behind it."""
    head, found, rest = held.partition(b"\r\n\r\n")
    if not found:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", 0))
    if len(rest) < length:
        return None
    method, path, _ = first.split(" ")
    return Asked(method, path, headers, rest[:length], time.monotonic()), rest[length:]
