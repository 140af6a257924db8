"""Text that comes in pieces, and what is known about the part of it not yet dealt with."""

from __future__ import annotations

from hermes_agent.formats.assembly import TurnBuilder

__all__ = ["Pieces", "Thought"]


class Pieces:
    """The text not yet dealt with begins at ``_buf[_pos]``, and ``_buf[0]`` stands at ``_base`` in the turn.

    The buffer holds one piece as it came, plus the few characters before it that may begin a tag, so that
    reading is linear for every size of pieces. A construct whose text is wanted whole, such as a block of
    calls, is kept as a list of pieces from ``_at`` on.
    """

    def __init__(self) -> None:
        self._buf, self._pos, self._base = "", 0, 0
        self._final = False
        self._at = 0
        self._from: int | None = None
        self._kept: list[str] = []

    def _take(self, chunk: str) -> None:
        """Add a piece."""
        if self._from is not None:
            self._kept.append(self._buf[self._from : self._pos])
            self._from = 0
        self._base += self._pos
        self._buf = self._buf[self._pos :] + chunk
        self._pos = 0

    def _keep(self, start: int) -> None:
        """From ``_buf[start]`` on the text is wanted whole."""
        self._at = self._base + start
        self._from = start
        self._kept = []

    def _whole(self) -> str:
        """The text since `_keep`, up to here."""
        text = self._buf[self._from or 0 : self._pos]
        if self._kept:
            text = "".join(self._kept) + text
        self._from = None
        return text

    def _rewind(self, raw: str) -> None:
        """Go back to where ``raw`` began, which `_whole` just gave."""
        if self._kept:
            self._buf = raw + self._buf[self._pos :]
            self._base, self._pos, self._kept = self._at, 0, []
        else:
            self._pos = self._at - self._base

    def _replace(self, text: str, at: int) -> None:
        """Go on with ``text``, which stands at ``at`` in the turn, and nothing else."""
        self._buf, self._pos, self._base = text, 0, at


class Thought:
    """A thinking block under way.

    Attributes:
        closing: The tag that will end it, folded.
        end: How far in the turn it is read.
        calls_at: Where in the turn the first call in it begins.
        held_at: Where the first call begins that stands at the beginning of a line: from there on the text is
            held back, as it is no thinking if the block is never closed.
        answer_at: Where the last closing tag of a call ended.
        tries: How often what is held may still be read to see whether it can be let go; each try reads all of it.
        tried_at: The `answer_at` of the last try; one each, so that pieces of any size do the same.
    """

    __slots__ = ("_calls", "answer_at", "calls_at", "closing", "end", "held_at", "tried_at", "tries")

    def __init__(self, closing: str) -> None:
        self.closing = closing
        self.end = 0
        self.calls_at: int | None = None
        self.held_at: int | None = None
        self.answer_at = -1
        self.tries = 8
        self.tried_at = -1
        self._calls: list[str] = []

    def add(self, text: str, builder: TurnBuilder) -> None:
        """Add what was read."""
        if self.calls_at is not None:
            self._calls.append(text)
        if self.held_at is None:
            builder.think(text)
        elif text:
            builder.note_line(text)

    @property
    def calls(self) -> str:
        """The text from the first call on."""
        return "".join(self._calls)

    @property
    def held(self) -> str:
        """The text that was held back."""
        return "" if self.held_at is None else self.calls[self.held_at - (self.calls_at or 0) :]
