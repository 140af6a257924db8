"""A pipe, read by a thread of its own: who waits for what others have yet to write holds nobody up meanwhile."""

from __future__ import annotations

import io
import threading
from collections import deque
from typing import IO

import anyio

__all__ = ["Pipe"]

_PIECE = 1 << 16
_AHEAD = 16
"""Pieces that are read ahead."""

_LOOKS = (0.001, 0.05)
"""Seconds between looks whether something has come: the first, and the most."""


class Pipe:
    """Lines of a pipe, read ahead a little.

    Args:
        file: What is read. If it is a file of the operating system, that is read, and nothing that ``file`` has read
            ahead itself.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._pieces: deque[bytes] = deque()
        self._begun = self._ended = False
        self._error: OSError | None = None
        self._news = threading.Condition()
        self._line = bytearray()
        """What was read of the line that is not whole yet."""

    async def ready(self) -> None:
        """Wait until a line is there, or the end, or so much of a line that more will not be long."""
        pause = _LOOKS[0]
        while not self._is_ready():
            await anyio.sleep(pause)
            pause = min(2 * pause, _LOOKS[1])

    def readline(self, size: int = -1, /) -> bytes:
        """A line, or so many bytes of it; nothing at the end.

        Raises:
            OSError: It cannot be read.
        """
        searched = 0
        while (found := self._line.find(b"\n", searched)) < 0 and not 0 <= size <= len(self._line):
            searched = len(self._line)
            if not self._take(wait=True):
                found = len(self._line) - 1
                break
        end = found + 1 if found >= 0 else len(self._line)
        end = min(end, size) if size >= 0 else end
        line = bytes(self._line[:end])
        del self._line[:end]
        return line

    def _is_ready(self) -> bool:
        while b"\n" not in self._line and len(self._line) < _AHEAD * _PIECE:
            if not self._take(wait=False):
                with self._news:
                    return self._ended and not self._pieces
        return True

    def _take(self, *, wait: bool) -> bool:
        """Add a piece to the line, if there is one or will be."""
        with self._news:
            self._begin()
            while wait and not self._pieces and not self._ended:
                self._news.wait()
            if self._pieces:
                self._line += self._pieces.popleft()
                self._news.notify_all()
                return True
            if self._error is not None:
                raise self._error
            return False

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            # It may wait for ever, so nobody waits for it in the end.
            threading.Thread(target=self._read, name="pipe", daemon=True).start()

    def _read(self) -> None:
        error: OSError | None = None
        try:
            file = _own(self._file)
            while piece := file.read1(_PIECE) if isinstance(file, io.BufferedReader | io.BytesIO) else file.readline():
                with self._news:
                    while len(self._pieces) >= _AHEAD:
                        self._news.wait()
                    self._pieces.append(piece)
                    self._news.notify_all()
        except OSError as failed:
            error = failed
        with self._news:
            self._ended, self._error = True, error
            self._news.notify_all()


def _own(file: IO[bytes]) -> IO[bytes]:
    """A reader that nobody else has: the interpreter would wait for that of ``sys.stdin`` when it ends."""
    try:
        number = file.fileno()
    except (OSError, AttributeError):  # of a program, not of the operating system
        return file
    return open(number, "rb", closefd=False)  # a number, and read until the process ends
