"""The rows of a job: as they come in, and what becomes of them."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

__all__ = ["Row", "Settled", "Upcoming"]


@dataclass(frozen=True, slots=True)
class Row:
    """One text of a job's input.

    Attributes:
        position: Which row of the input it is, from 0.
        id: What it is called in the output: its id column, else its position. May occur twice.
        text: What is to be extracted from.
        problem: Why the input holds no such text there; then ``text`` is as much as could be read of the row, cut.
    """

    position: int
    id: str | int
    text: str
    problem: str = ""

    @property
    def digest(self) -> bytes:
        """Eight bytes that tell this row's content from another's."""
        content = f"{self.id}\0{self.problem}\0{self.text}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(content, digest_size=8).digest()


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a row.

    Attributes:
        position: Which row.
        digest: Of what content.
        line: What stands in the output, as one line of JSON: an object with ``id`` and ``output``, or ``id`` and
            ``error``, which holds ``type``, ``message``, ``raw`` and ``attempts``.
        failed: There is no valid value.
        input_tokens: Tokens read for it, over all attempts.
        output_tokens: Tokens written for it, likewise.
    """

    position: int
    digest: bytes
    line: str
    failed: bool
    input_tokens: int = 0
    output_tokens: int = 0


class Upcoming(Iterator[Row]):
    """Rows of a source that may have to wait for them.

    Args:
        rows: The rows.
        ready: Waits until the next one can be had without a wait.
    """

    def __init__(self, rows: Iterator[Row], ready: Callable[[], Awaitable[None]]) -> None:
        self._rows, self.ready = rows, ready

    def __next__(self) -> Row:
        return next(self._rows)
