"""JSONL: it grows as the rows from the first on are settled without a gap."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from hermes_agent.extract.outputs import Writer, foreign, part_of, replace_with, unwritten

if TYPE_CHECKING:
    from hermes_agent.extract.state import JobState

__all__ = ["JsonlWriter"]

_CHUNK = 1 << 20
_NOTE = "jsonl"


class JsonlWriter(Writer):
    """One line a row."""

    def __init__(self, out: Path, state: JobState) -> None:
        super().__init__(out, state)
        self._next = 0
        """The position whose line comes next."""
        self._size = 0
        self._marks: list[int] = []
        """Of the file as this job left it. It is read again when they are others: somebody has touched it."""
        self._stale = False
        """It holds lines that others have taken the place of."""

    def check(self) -> None:
        """See that the file is the beginning of what the state would write, and cut off an unfinished line."""
        try:
            self._make()
            note = json.loads(self.state.note(_NOTE) or "{}")
            marks = _marks(self.out.stat())
            if note and note["marks"] == marks and self.state.replaced_from() is None:
                self._next, self._size, self._stale = note["next"], self.out.stat().st_size, False
            else:
                self._compare()
            self._marks = _marks(self.out.stat())
        except OSError as error:
            raise unwritten(self.out, self.state, error) from error

    def _make(self) -> None:
        if self.state.anew and self.state.may_overwrite and not self._marks:
            self.out.open("wb").close()
        else:
            with suppress(FileExistsError):
                self.out.open("xb").close()

    def _compare(self) -> None:
        self._next, self._size, self._stale = 0, 0, False
        with self.out.open("r+b") as file:
            for position, line, _ in self.state.lines():
                there = self._compare_line(file, position, line)
                if not there:
                    break
                self._next, self._size = position + 1, self._size + there
            else:
                if file.read(1):
                    raise foreign(self.out, self.state)
            file.truncate(self._size)

    def _compare_line(self, file: BinaryIO, position: int, line: str) -> int:
        """How many bytes the file has of a row; 0 where it ends before that or with a piece of it."""
        wanted = _bytes(line)
        found = file.read(len(wanted))
        if found == wanted:
            return len(wanted)
        if wanted.startswith(found):
            return 0
        at = file.tell() - len(found)
        for before in map(_bytes, self.state.replaced_lines(position)):
            file.seek(at)
            found = file.read(len(before))
            if found == before:
                self._stale = True
                return len(before)
            if before.startswith(found):
                return 0
        raise foreign(self.out, self.state)

    def advance(self) -> None:
        """Append the rows that follow without a gap."""
        self._look_again()
        self._append(self._follows())

    def _follows(self) -> Iterator[tuple[int, str]]:
        following = self._next
        for position, line, _ in self.state.lines(following):
            if position != following:
                return
            yield position, line
            following += 1

    def finish(self, complete: bool) -> None:
        """Append what is left, or write the file anew where it holds rows that were asked again since."""
        self._look_again()
        if complete:
            self._append((position, line) for position, line, _ in self.state.lines(self._next))
        else:
            self._append(self._follows())
        replaced = self.state.replaced_from()
        try:
            if replaced is not None and (self._stale or replaced < self._next):
                self._rewrite()
            else:
                with self.out.open("rb") as file:
                    os.fsync(file.fileno())
            note = json.dumps({"marks": self._marks, "next": self._next})
        except OSError as error:
            raise unwritten(self.out, self.state, error) from error
        self.state.write_note(_NOTE, note, forget_replaced=True)

    def _append(self, rows: Iterable[tuple[int, str]]) -> None:
        chunk: list[bytes] = []
        length, following = 0, self._next
        for position, line in rows:
            chunk.append(_bytes(line))
            length, following = length + len(chunk[-1]), position + 1
            if length >= _CHUNK:
                self._write(chunk, following)
                chunk, length = [], 0
        if chunk:
            self._write(chunk, following)

    def _write(self, lines: list[bytes], following: int) -> None:
        try:
            if not self._untouched():
                raise foreign(self.out, self.state)
            with self.out.open("r+b", buffering=0) as file:
                file.seek(self._size)
                try:
                    _write_all(file.fileno(), b"".join(lines))
                except OSError:
                    file.truncate(self._size)
                    self._marks = _marks(os.fstat(file.fileno()))
                    raise
                marks = _marks(os.fstat(file.fileno()))
        except OSError as error:
            raise unwritten(self.out, self.state, error) from error
        self._next, self._size, self._marks = following, self._size + sum(map(len, lines)), marks

    def _look_again(self) -> None:
        """Somebody may have removed the file, or cut it: that is mended like what a killed process leaves."""
        if not self._untouched():
            self.check()

    def _untouched(self) -> bool:
        try:
            return _marks(self.out.stat()) == self._marks
        except FileNotFoundError:
            return False

    def _rewrite(self) -> None:
        part = part_of(self.out)
        try:
            with part.open("wb") as file:
                for position, line, _ in self.state.lines():
                    if position >= self._next:
                        break
                    file.write(_bytes(line))
            if not self._untouched():
                raise foreign(self.out, self.state)
            replace_with(part, self.out)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        found = self.out.stat()
        self._size, self._marks, self._stale = found.st_size, _marks(found), False


def _bytes(line: str) -> bytes:
    return line.encode() + b"\n"


def _marks(found: os.stat_result) -> list[int]:
    """What changes when somebody writes to a file, or puts another in its place."""
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def _write_all(handle: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]
