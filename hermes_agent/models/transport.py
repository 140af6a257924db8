"""Requests to one server: a client for each event loop, streams, timeouts, retries, and how many at once.

The openai client sends the requests. What it does not do is done here: it retries by its own count before a stream
begins and never after, waits for a first token as long as for any other, and takes a stream that just stops for one
that ended. So its retries are off, and there is one budget for all of them.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import anyio

from hermes_agent.errors import ModelUnavailableError
from hermes_agent.models.address import masked
from hermes_agent.models.clock import Clock, Timeouts, cut_off
from hermes_agent.models.connection import Connections
from hermes_agent.models.event import Event, read_event, speaks
from hermes_agent.models.pace import Gate, Pace
from hermes_agent.models.refusals import Failure, Where, refusal
from hermes_agent.models.sse import EventReader

if TYPE_CHECKING:
    import httpx2

__all__ = ["Event", "Timeouts", "Transport"]

_logger = logging.getLogger("hermes_agent.models")

_FIRST_DELAY, _MOST_DELAY, _MOST_RETRY_AFTER = 0.5, 8.0, 120.0
_DRAIN_SECONDS = 0.2
_ASIDE_SECONDS = 10.0


class Transport:
    """The way to one server.

    Args:
        base_url: With ``/v1``.
        connections: What requests go over.
        timeouts: How long to wait.
        max_retries: How often a request is sent again before its first text.
        max_in_flight: Requests at once, in one event loop.
        requests_per_minute: At most so many are begun within any 60 seconds, in the whole process.

    Attributes:
        turned_away: Requests that the server was too busy for (HTTP 429 and 503), those sent again included.
    """

    def __init__(
        self,
        base_url: str,
        connections: Connections,
        *,
        timeouts: Timeouts,
        max_retries: int = 2,
        max_in_flight: int = 16,
        requests_per_minute: int | None = None,
    ) -> None:
        self.timeouts = timeouts
        self.max_retries = max_retries
        self.turned_away = 0
        self._root = base_url.removesuffix("/").removesuffix("/v1")
        self._connections = connections
        self._gate = Gate(max_in_flight)
        self._pace = None if requests_per_minute is None else Pace(requests_per_minute)

    async def events(self, path: str, body: Mapping[str, Any], where: Where) -> AsyncGenerator[Event, None]:
        """Post a request and read the events of its stream. Closing closes the response at once.

        Raises:
            Failure: It failed for good; nothing is sent again once there was text.
        """
        for attempt in range(self.max_retries + 1):
            spoke = False
            try:
                async with self._gate.slot(), aclosing(self._stream(path, body, where)) as events:
                    async for event in events:
                        spoke = spoke or speaks(event)
                        yield event
            except Failure as failure:
                self._keep_secrets(failure)
                delay = _delay(attempt, failure.after)
                if spoke or not failure.retry or attempt == self.max_retries or delay > _MOST_RETRY_AFTER:
                    raise
                _logger.info("%s is asked again in %.1f s: %s", where, delay, type(failure.error).__name__)
            else:
                return
            await anyio.sleep(delay)  # the place is free meanwhile

    async def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """A small JSON answer from beside the API, for what is good to know; ``None`` if there is none.

        Args:
            path: Below the server's root, which is the base URL without ``/v1``.
            body: What to post; without, it is fetched.

        Raises:
            ConnectionError: The server cannot be reached.
            TimeoutError: It did not answer within 10 seconds, or its time for a first token.
        """
        import httpx
        import httpx2
        from openai import APIConnectionError, APITimeoutError, OpenAIError

        client = await self._connections.client()
        url, shown = self._root + path, masked(self._root + path)
        options: Any = {
            "max_retries": 0,
            "timeout": min(_ASIDE_SECONDS, self.timeouts.first_token or _ASIDE_SECONDS),
            "headers": self._connections.headers,
        }
        try:
            if body is None:
                return await client.get(url, cast_to=object, options=options)
            return await client.post(url, cast_to=object, body=body, options=options)
        except APITimeoutError as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout | httpx.ConnectTimeout):
                raise ConnectionError(f"{shown!r} did not answer") from error
            raise TimeoutError(f"{shown!r} did not answer in time") from error
        except APIConnectionError as error:
            raise ConnectionError(f"{shown!r} did not answer") from error
        except (OpenAIError, ValueError):
            return None
        except RuntimeError as error:  # from a client that is not ours; the turn itself will tell
            raise ConnectionError(f"{shown!r} was not asked: {error!r}") from error

    async def aclose(self) -> None:
        """Close the connections of this event loop. The next request opens new ones."""
        await self._connections.aclose()

    def _keep_secrets(self, failure: Failure) -> None:
        """Take key and password out of what will be shown, taped and logged."""
        error, hide = failure.error, self._connections.hide
        error.message, error.hint, error.raw = hide(error.message), hide(error.hint), hide(error.raw)
        error.args, failure.args = (error.message,), (str(error),)
        if failure.__cause__ is not None and hide(str(failure.__cause__)) != str(failure.__cause__):
            failure.__cause__ = None

    async def _stream(self, path: str, body: Mapping[str, Any], where: Where) -> AsyncGenerator[Event, None]:
        """One attempt."""
        if self._pace is not None:
            await self._pace.wait()
        clock = Clock(self.timeouts, where)
        response = await clock.first(self._open(path, body, where))
        try:
            async with aclosing(self._events(response, clock, where)) as events:
                async for event in events:
                    yield event
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    async def _open(self, path: str, body: Mapping[str, Any], where: Where) -> httpx2.Response:
        import httpx2
        from openai import APIConnectionError, APIStatusError, APITimeoutError, AsyncStream

        client = await self._connections.client()
        body = _sendable(body)
        # Only connecting is timed by the HTTP client; what comes after is timed by what it is.
        timeout = httpx2.Timeout(None, connect=self.timeouts.connect)
        try:
            stream = await client.post(
                path,
                cast_to=object,
                body=body,
                options={"max_retries": 0, "timeout": timeout, "headers": self._connections.headers},
                stream=True,
                stream_cls=AsyncStream[object],
            )
        except APIStatusError as error:
            self.turned_away += error.status_code in (429, 503)
            said, after = self._connections.hide(_text(error)), _retry_after(error.response.headers)
            raise refusal(where, error.status_code, said, after=after) from error
        except APITimeoutError as error:
            raise _unreachable(where, f"no connection within {self.timeouts.connect} s") from error
        except APIConnectionError as error:
            raise _unreachable(where, repr(error.__cause__ or error)) from error
        except (RuntimeError, ValueError) as error:  # as of a pool whose connections another event loop opened
            if not self._connections.borrowed:
                raise
            raise _unusable(where, error) from error
        return stream.response

    async def _events(self, response: httpx2.Response, clock: Clock, where: Where) -> AsyncGenerator[Event, None]:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        reader = EventReader()
        async with aclosing(clock.blocks(response)) as blocks:
            head = b"" if kind == "text/event-stream" else await _head(blocks)
            if kind != "text/event-stream" and not head.lstrip().startswith(_STREAM_BEGINS):
                body = head + b"".join([block async for block in blocks])
                yield self._whole(body.decode("utf-8", "replace"), kind, where)
                return
            block: bytes | None = head.lstrip()
            while block is not None:
                for data in reader.feed(block):
                    if data.strip() == "[DONE]":
                        if not clock.finished:
                            raise _not_finished(clock, where, "told its end, but no finish_reason")
                        # Read to its end, a connection can be used again.
                        with anyio.move_on_after(_DRAIN_SECONDS):
                            async for _ in blocks:
                                pass
                        return
                    event = self._read(data, where)
                    clock.heard(event)
                    yield event
                block = await anext(blocks, None)
        if not clock.finished:
            raise _not_finished(clock, where, "ended before its end")

    def _read(self, data: str, where: Where) -> Event:
        try:
            return read_event(data, where)
        except Failure:
            # Once more without the key, which a cut through the text could leave half of.
            return read_event(self._connections.hide(data), where)

    def _whole(self, body: str, kind: str, where: Where) -> Event:
        """A reply that did not come as a stream although one was asked for."""
        if "json" in kind:
            event = self._read(body, where)
            if event.get("choices"):
                return event
        body = self._connections.hide(body)
        said = " ".join(body[:200].split())
        raise Failure(
            ModelUnavailableError(
                f"{where} answered with {kind or 'nothing that has a type'} instead of a stream: {said!r}",
                hint="this is no OpenAI-compatible API: check the base URL, its /v1, and what stands between",
                raw=body,
            )
        )


_STREAM_BEGINS = (b"data:", b"event:", b"id:", b":")


async def _head(blocks: AsyncGenerator[bytes, None]) -> bytes:
    """As much as tells whether it is a stream of events, for servers that do not say so."""
    head = b""
    async for block in blocks:
        head += block
        if len(head.lstrip()) >= max(map(len, _STREAM_BEGINS)):
            break
    return head


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


def _unusable(where: Where, error: Exception) -> Failure:
    return Failure(
        ModelUnavailableError(
            f"{where} cannot be asked over the client that was passed in: {error!r}",
            hint="a client's connections belong to one event loop, and a closed client has none: make the client in "
            "the loop that uses it and run with `await agent.run(...)`, or leave it out",
        ),
        retry=True,
    )


def _not_finished(clock: Clock, where: Where, how: str) -> Failure:
    if not clock.foreign:
        return cut_off(where, how)
    error = ModelUnavailableError(
        f"{where} sent a stream in which no event has 'choices'",
        hint="this is not OpenAI's API: does the base URL end in /v1?",
    )
    return Failure(error)
