"""What runs through a faulty proxy come to, and answers that a server may give instead of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio

from hermes_agent.errors import HermesError
from hermes_agent.run import RunResult
from tests.faulty_proxy import FaultyProxy

__all__ = ["HTML", "JSON", "PAGE", "REFUSED", "Came", "until"]

JSON = (("content-type", "application/json"),)
HTML = (("content-type", "text/html; charset=utf-8"),)
REFUSED = '{"error": {"message": "slow down"}}'
PAGE = "<html><body><h1>502 Bad Gateway</h1></body></html>"


@dataclass(frozen=True, slots=True)
class Came:
    """What a run came to.

    Attributes:
        result: Its result, or its error.
        runs: The arguments of every run of the tool.
        proxy: What stood between.
    """

    result: RunResult[Any] | HermesError
    runs: list[int]
    proxy: FaultyProxy

    @property
    def output(self) -> Any:
        if isinstance(self.result, HermesError):
            raise self.result
        return self.result.output

    def failed(self, kind: type[HermesError], *words: str) -> None:
        """It failed so, and the message and the hint say these words."""
        assert type(self.result) is kind, self.result
        for word in words:
            assert word in str(self.result), word
        assert isinstance(self.result, HermesError)
        assert self.result.hint


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something in the proxy's thread."""
    while not holds():  # noqa: ASYNC110  # another thread's state has no event of this loop
        await anyio.sleep(0.005)
