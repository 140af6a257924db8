"""Requests to one server: a client for each event loop, streams, timeouts, retries, and how many at once.

The openai client sends the requests. What it does not do is done here: it retries by its own count before a stream
begins and never after, waits for a first token as long as for any other, and takes a stream that just stops for one
that ended. So its retries are off, and there is one budget for all of them.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import RunVar

from hermes_agent.errors import ConfigurationError, ModelError, ModelUnavailableError
from hermes_agent.models.event import Event, finishes, read_event, speaks
from hermes_agent.models.refusals import Failure, Where, refusal
from hermes_agent.models.sse import EventReader

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

__all__ = ["Event", "LoopLock", "Timeouts", "Transport", "key_of"]

_FIRST_DELAY, _MOST_DELAY, _MOST_RETRY_AFTER = 0.5, 8.0, 120.0
_DRAIN_SECONDS = 0.2
_ASIDE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a server may take, in seconds; ``None`` waits for ever.

    Attributes:
        connect: To take the connection.
        first_token: From the request to the first piece of text; the prompt is read in this time.
        between_tokens: From one piece of text to the next.
    """

    connect: float | None = 10.0
    first_token: float | None = 300.0
    between_tokens: float | None = 60.0

    def __post_init__(self) -> None:
        for name in ("connect", "first_token", "between_tokens"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not value > 0):
                raise ConfigurationError(
                    f"Timeouts({name}={value!r})", hint="use a number of seconds above 0, or None to wait for ever"
                )


class Transport:
    """The way to one server.

    Args:
        base_url: With ``/v1``.
        api_key: Sent as a bearer token; ``None`` sends a placeholder, which servers without keys ignore.
        client: Use this client, and leave it open.
        http_client: The HTTP client below, of httpx2 or httpx; it is left open.
        timeouts: How long to wait.
        max_retries: How often a request is sent again before its first text.
        max_in_flight: Requests at once, in one event loop.
        requests_per_minute: At most so many are begun within any 60 seconds, in the whole process.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        client: AsyncOpenAI | None = None,
        http_client: httpx2.AsyncClient | None = None,
        timeouts: Timeouts = Timeouts(),
        max_retries: int = 2,
        max_in_flight: int = 16,
        requests_per_minute: int | None = None,
    ) -> None:
        self.base_url = base_url
        self.timeouts = timeouts
        self.max_retries = max_retries
        self._api_key, self._given_client, self._http_client = api_key, client, http_client
        self._max_in_flight = max_in_flight
        self._gates: RunVar[anyio.Semaphore | None] = RunVar("gate", None)
        self._clients: RunVar[tuple[AsyncOpenAI, AsyncGenerator[None, None]] | None] = RunVar("client", None)
        self._pace = None if requests_per_minute is None else _Pace(requests_per_minute)

    async def events(self, path: str, body: Mapping[str, Any], where: Where) -> AsyncGenerator[Event, None]:
        """Post a request and read the events of its stream. Closing closes the response at once.

        Raises:
            Failure: It failed for good; nothing is sent again once there was text.
        """
        async with self._gate():
            for attempt in range(self.max_retries + 1):
                spoke = False
                try:
                    async with aclosing(self._stream(path, body, where)) as events:
                        async for event in events:
                            spoke = spoke or speaks(event)
                            yield event
                except Failure as failure:
                    delay = _delay(attempt, failure.after)
                    if spoke or not failure.retry or attempt == self.max_retries or delay > _MOST_RETRY_AFTER:
                        raise
                else:
                    return
                await anyio.sleep(delay)

    async def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """A small JSON answer from beside the API, for what is good to know; ``None`` if there is none.

        Args:
            path: Below the server's root, which is the base URL without ``/v1``.
            body: What to post; without, it is fetched.

        Raises:
            ConnectionError: The server did not answer at all, within 10 seconds or its time for a first token.
        """
        from openai import APIConnectionError, OpenAIError

        client = await self._client()
        url = self.base_url.removesuffix("/").removesuffix("/v1") + path
        options: Any = {"max_retries": 0, "timeout": min(_ASIDE_SECONDS, self.timeouts.first_token or _ASIDE_SECONDS)}
        try:
            if body is None:
                return await client.get(url, cast_to=object, options=options)
            return await client.post(url, cast_to=object, body=body, options=options)
        except APIConnectionError as error:
            raise ConnectionError(f"{url!r} did not answer") from error
        except (OpenAIError, ValueError):
            return None

    async def aclose(self) -> None:
        """Close the connections of this event loop. The next request opens new ones."""
        if (entry := self._clients.get()) is not None:
            self._clients.set(None)
            await entry[1].aclose()

    def _gate(self) -> anyio.Semaphore:
        """First come, first served. A semaphore, as another task may close a generator."""
        gate = self._gates.get()
        if gate is None:
            gate = anyio.Semaphore(self._max_in_flight)
            self._gates.set(gate)
        return gate

    async def _client(self) -> AsyncOpenAI:
        """The client of this event loop: connections do not outlive theirs, and ``run_sync`` runs a new one each."""
        if self._given_client is not None:
            return self._given_client
        entry = self._clients.get()
        if entry is None:
            from openai import AsyncOpenAI

            client = AsyncOpenAI(
                api_key=self._api_key or "none",
                base_url=self.base_url,
                http_client=self._http_client,
                max_retries=0,
            )
            closing = _close_at_end(client, ours=self._http_client is None)
            entry = client, closing
            self._clients.set(entry)
            await anext(closing)
        return entry[0]

    async def _stream(self, path: str, body: Mapping[str, Any], where: Where) -> AsyncGenerator[Event, None]:
        """One attempt."""
        if self._pace is not None:
            await self._pace.wait()
        clock = _Clock(self.timeouts, where)
        response = await clock.first(self._open(path, body, where))
        try:
            async with aclosing(_events(response, clock, where)) as events:
                async for event in events:
                    yield event
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    async def _open(self, path: str, body: Mapping[str, Any], where: Where) -> httpx2.Response:
        import httpx2
        from openai import APIConnectionError, APIStatusError, APITimeoutError, AsyncStream

        client = await self._client()
        body = _sendable(body)
        # Only connecting is timed by the HTTP client; what comes after is timed by what it is.
        timeout = httpx2.Timeout(None, connect=self.timeouts.connect)
        try:
            stream = await client.post(
                path,
                cast_to=object,
                body=body,
                options={"max_retries": 0, "timeout": timeout},
                stream=True,
                stream_cls=AsyncStream[object],
            )
        except APIStatusError as error:
            raise refusal(where, error.status_code, _text(error), after=_retry_after(error.response.headers)) from error
        except APITimeoutError as error:
            raise _unreachable(where, f"no connection within {self.timeouts.connect} s") from error
        except APIConnectionError as error:
            raise _unreachable(where, repr(error.__cause__ or error)) from error
        return stream.response


async def _close_at_end(client: AsyncOpenAI, *, ours: bool) -> AsyncGenerator[None, None]:
    """Waits, suspended, for the event loop to shut down its generators, which closes the client in its own loop."""
    try:
        yield
    finally:
        if ours:
            with anyio.CancelScope(shield=True):
                await client.close()


async def _events(response: httpx2.Response, clock: _Clock, where: Where) -> AsyncGenerator[Event, None]:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "text/event-stream":
        body = b"".join([block async for block in clock.blocks(response)]).decode("utf-8", "replace")
        yield _whole(body, kind, where)
        return
    reader = EventReader()
    async with aclosing(clock.blocks(response)) as blocks:
        async for block in blocks:
            for data in reader.feed(block):
                if data.strip() == "[DONE]":
                    if not clock.finished:
                        raise _cut_off(where, "told its end, but no finish_reason")
                    # Read to its end, a connection can be used again.
                    with anyio.move_on_after(_DRAIN_SECONDS):
                        async for _ in blocks:
                            pass
                    return
                event = read_event(data, where)
                clock.heard(event)
                yield event
    if not clock.finished:
        raise _cut_off(where, "ended before its end")


def _whole(body: str, kind: str, where: Where) -> Event:
    """A reply that did not come as a stream although one was asked for."""
    if "json" in kind:
        event = read_event(body, where)
        if event.get("choices"):
            return event
    said = " ".join(body[:200].split())
    raise Failure(
        ModelUnavailableError(
            f"{where} answered with {kind or 'nothing that has a type'} instead of a stream: {said!r}",
            hint="this is no OpenAI-compatible API: check the base URL, its /v1, and what stands between",
            raw=body,
        )
    )


class _Clock:
    """Times one attempt: everything up to the first text, then each silence.

    Attributes:
        finished: The model has said that it is at its end. What breaks behind that takes no text with it.
    """

    def __init__(self, timeouts: Timeouts, where: Where) -> None:
        self._timeouts, self._where = timeouts, where
        self._spoke = self.finished = False
        self._deadline = None if timeouts.first_token is None else time.monotonic() + timeouts.first_token

    def heard(self, event: Event) -> None:
        self._spoke = self._spoke or speaks(event)
        self.finished = self.finished or finishes(event)

    async def first(self, opening: Any) -> httpx2.Response:
        with anyio.move_on_after(self._left()) as scope:
            response: httpx2.Response = await opening
            return response
        assert scope.cancelled_caught
        raise self._late()

    async def blocks(self, response: httpx2.Response) -> AsyncGenerator[bytes, None]:
        import httpx
        import httpx2

        async with aclosing(response.aiter_bytes()) as blocks:
            while True:
                try:
                    block = b""
                    with anyio.move_on_after(self._left()) as scope:
                        block = await anext(blocks)
                except StopAsyncIteration:
                    return
                except (httpx2.HTTPError, httpx2.StreamError, httpx.HTTPError, httpx.StreamError) as error:
                    if self.finished:
                        return
                    raise _cut_off(self._where, f"broke: {error!r}") from error
                if scope.cancelled_caught:
                    if self.finished:
                        return
                    raise self._late()
                yield block

    def _left(self) -> float | None:
        if self._spoke:
            return self._timeouts.between_tokens
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0)

    def _late(self) -> Failure:
        name = "between_tokens" if self._spoke else "first_token"
        return Failure(
            ModelUnavailableError(
                f"{self._where} was silent for {name}={getattr(self._timeouts, name)!r} seconds",
                hint=f"raise Timeouts({name}=…), or look at the server's load",
            )
        )


class LoopLock:
    """Lets one task of an event loop through at a time: what is asked once is not asked by all that want to know."""

    def __init__(self) -> None:
        self._locks: RunVar[anyio.Lock | None] = RunVar("lock", None)

    def lock(self) -> anyio.Lock:
        """That of the running loop."""
        found = self._locks.get()
        if found is None:
            found = anyio.Lock()
            self._locks.set(found)
        return found


class _Pace:
    """Lets at most ``most`` begin within any 60 seconds; each takes its place in the row, whatever loop it is in."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._begun: deque[float] = deque(maxlen=most)
        self._lock = threading.Lock()

    async def wait(self) -> None:
        with self._lock:
            now = time.monotonic()
            at = max(now, self._begun[0] + 60) if len(self._begun) == self._most else now
            self._begun.append(at)
        await anyio.sleep(at - now)


def _sendable(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The body with halves of characters replaced: a model may write one as an escape, and UTF-8 has none."""
    text = json.dumps(body, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        whole: dict[str, Any] = json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
        return whole
    return body


def _delay(attempt: int, after: float | None) -> float:
    if after is not None:
        return after
    delay: float = min(_FIRST_DELAY * 2**attempt, _MOST_DELAY) * random.uniform(0.5, 1)
    return delay


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that ``Retry-After`` asks for: a number, or a date."""
    from email.utils import parsedate_to_datetime

    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            seconds = float(value) * unit
        except ValueError:
            continue
        return seconds if 0 <= seconds < float("inf") else None
    try:
        return max(parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time(), 0)
    except ValueError:
        return None


def _text(error: Any) -> str:
    """The body of an error, whatever the client made of it."""
    try:
        text: str = error.response.text
    except Exception:  # noqa: BLE001  # the body may be unread or gone; then its parsed form has to do
        text = ""
    return text or json.dumps(error.body, ensure_ascii=False, default=str)


def _unreachable(where: Where, why: str) -> Failure:
    default = f"start the server ({where.server}), or correct the base URL"
    return Failure(ModelUnavailableError(f"{where} cannot be reached: {why}", hint=default), retry=True)


def _cut_off(where: Where, how: str) -> Failure:
    error = ModelError(f"the stream of {where} {how}", hint="look at the server's log, and at proxies in between")
    return Failure(error, retry=True)


def key_of(names: tuple[str, ...]) -> str | None:
    """The first key that the environment holds."""
    return next((key for name in names if (key := os.environ.get(name))), None)
