"""How long a server may take: to connect, to its first text, and from one text to the next."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from hermes_agent.errors import ConfigurationError, ModelError, ModelUnavailableError
from hermes_agent.models.event import Event, finishes, speaks
from hermes_agent.models.refusals import Failure, Where

if TYPE_CHECKING:
    import httpx2

__all__ = ["Clock", "Timeouts", "cut_off"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a server may take, in seconds; ``None`` waits for ever.

    Attributes:
        connect: To take the connection.
        first_token: From the request to the first piece of text; the prompt is read in this time.
        between_tokens: From one piece of text to the next. Comments, pings and empty pieces are no text.
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


class Clock:
    """Times one attempt: everything up to the first text, then each silence.

    Only waiting for the server counts; a reader who takes time over a piece takes none of the server's.

    Attributes:
        finished: The model has said that it is at its end. What breaks behind that takes no text with it.
        foreign: There were events, and none of them was of this API.
    """

    def __init__(self, timeouts: Timeouts, where: Where) -> None:
        self.finished = self.foreign = False
        self._timeouts, self._where = timeouts, where
        self._spoke = self._known = False
        self._left = timeouts.first_token

    def heard(self, event: Event) -> None:
        """Take note of an event. Text alone gives the server time anew."""
        self._known = self._known or "choices" in event
        self.foreign = not self._known
        self.finished = self.finished or finishes(event)
        if speaks(event):
            self._spoke, self._left = True, self._timeouts.between_tokens

    async def first(self, opening: Awaitable[httpx2.Response]) -> httpx2.Response:
        """The head of the answer."""
        begun = time.monotonic()
        with anyio.move_on_after(self._left) as scope:
            response = await opening
            self._waited(begun)
            return response
        assert scope.cancelled_caught
        raise self._late()

    async def blocks(self, response: httpx2.Response) -> AsyncGenerator[bytes, None]:
        """The body, as it comes; it ends early if the server does not end it behind the model's end."""
        import httpx
        import httpx2

        # A connection that another event loop opened is told by a bare RuntimeError.
        broken = (httpx2.HTTPError, httpx2.StreamError, httpx.HTTPError, httpx.StreamError, RuntimeError)
        async with aclosing(response.aiter_bytes()) as blocks:
            while True:
                begun = time.monotonic()
                try:
                    block = b""
                    with anyio.move_on_after(self._left) as scope:
                        block = await anext(blocks)
                except StopAsyncIteration:
                    return
                except broken as error:
                    if self.finished:
                        return
                    raise cut_off(self._where, f"broke: {error!r}") from error
                if scope.cancelled_caught:
                    if self.finished:
                        return
                    raise self._late()
                self._waited(begun)
                yield block

    def _waited(self, begun: float) -> None:
        if self._left is not None:
            self._left = max(self._left - (time.monotonic() - begun), 0)

    def _late(self) -> Failure:
        name = "between_tokens" if self._spoke else "first_token"
        return Failure(
            ModelUnavailableError(
                f"{self._where} was silent for {name}={getattr(self._timeouts, name)!r} seconds",
                hint=f"raise Timeouts({name}=…), or look at the server's load",
            )
        )


def cut_off(where: Where, how: str) -> Failure:
    """The failure of a stream that stopped before its end."""
    error = ModelError(f"the stream of {where} {how}", hint="look at the server's log, and at proxies in between")
    return Failure(error, retry=True)
