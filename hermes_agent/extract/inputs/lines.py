"""The lines of a file as bytes, each bounded: one that is endless is not held, and costs no more than itself."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Protocol, cast

from hermes_agent.errors import ConfigurationError

__all__ = ["Line", "Readable", "bounded_lines", "counted_lines", "opened", "unreadable"]

_BOM = b"\xef\xbb\xbf"
_PIECE = 1 << 20
_HEAD = 4096  # a thousand characters, whatever they are


@dataclass(frozen=True, slots=True)
class Line:
    """A line with its end.

    Attributes:
        number: Which line of the file, from 1.
        raw: Its bytes; of one that is too long, the first few.
        size: How many bytes it has.
        is_whole: It is not too long.
    """

    number: int
    raw: bytes
    size: int
    is_whole: bool = True

    @property
    def is_blank(self) -> bool:
        """Whether nothing stands on it."""
        return self.is_whole and _is_blank(self.raw)


@contextmanager
def opened(path: Path) -> Generator[IO[bytes]]:
    """A file to be read, unpacked if its name ends in ``.gz``.

    Raises:
        ConfigurationError: It cannot be read, or what is packed is damaged.
    """
    try:
        with path.open("rb", buffering=_PIECE >> 2) as file:
            if path.suffix.lower() != ".gz":
                yield file
                return
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield cast("IO[bytes]", unpacked)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ConfigurationError(
            f"{str(path)!r} is damaged: {error}", hint="pack or fetch it again; what a job has done by then is kept"
        ) from error
    except OSError as error:
        raise unreadable(str(path), error) from error


def unreadable(source: str, error: OSError) -> ConfigurationError:
    """What to say of a file or folder that cannot be read."""
    return ConfigurationError(
        f"cannot read {source!r}: {error.strerror or error}", hint="check the path, and who may read it"
    )


class Readable(Protocol):
    """A file or a pipe, as far as lines are read from it."""

    def readline(self, size: int = -1, /) -> bytes:
        """A line, or so many bytes of it; nothing at the end."""
        ...


def bounded_lines(file: Readable, most: int) -> Iterator[Line]:
    """The lines of a file; a byte-order mark at its beginning is left out.

    Args:
        file: The file, or a pipe.
        most: How many bytes of one line are held at once.
    """
    number, step = 0, most + 2  # with the end of the line
    while raw := file.readline(step):
        number += 1
        size = len(raw)
        is_whole = size < step or raw.endswith(b"\n")
        if not is_whole:
            raw = raw[:_HEAD]
            size += _skipped(file)
        if number == 1 and raw.startswith(_BOM):
            raw, size = raw[len(_BOM) :], size - len(_BOM)
        yield Line(number, raw, size, is_whole)


def _skipped(file: Readable) -> int:
    """How many bytes were left of a line, which now is behind us."""
    size = 0
    while piece := file.readline(_PIECE):
        size += len(piece)
        if piece.endswith(b"\n"):
            break
    return size


def counted_lines(file: IO[bytes]) -> int:
    """How many lines of a file are not blank."""
    found, begun = 0, False
    begin = file.read(_PIECE).removeprefix(_BOM)
    for piece in chain((begin,), iter(lambda: file.read(_PIECE), b"")):
        first, *others = piece.split(b"\n")
        begun = begun or not _is_blank(first)
        if others:
            last = others.pop()
            found += begun + len(others) - sum(map(_is_blank, others))
            begun = not _is_blank(last)
    return found + begun


def _is_blank(raw: bytes) -> bool:
    return not raw or raw.isspace()
