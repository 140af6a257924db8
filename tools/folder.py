"""Reading, listing and searching the files of one folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from hermes_agent.errors import ConfigurationError
from hermes_agent.toolbox.rooted import Kind, Root

__all__ = ["Files"]

LINE_CHARS: Final = 240  # of a line that was found
MAX_QUERY_CHARS: Final = 500
MAX_DEPTH: Final = 40
_BINARY_SAMPLE: Final = 8192


@dataclass(frozen=True, slots=True)
class Files:
    r"""The text files below one folder; its three methods are the tools.

    Nothing outside the folder can be reached: not by ``..``, not by an absolute path, not through symbolic links, which
    are never followed, wherever they lead. A hard link cannot be told from a file: who can make one inside the
    folder can show its target. Pipes, sockets and devices are never opened.

    Example:
        >>> import tempfile, pathlib
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (root / "notes.txt").write_text("buy tea\nbuy cake\n")
        >>> files = Files(root)
        >>> files.search_files("CAKE")
        'notes.txt:2: buy cake'

    Attributes:
        root: The folder; must exist.
        hidden: Whether files and folders that begin with a dot can be seen: they often hold keys.
        max_bytes: Bytes read of one file; what lies beyond is not seen, and said.
        max_chars: Characters given back by one call.
        max_files: Files and folders one listing or search looks at.
        seconds: Wall clock of one listing or search.
    """

    root: str | os.PathLike[str]
    hidden: bool = field(default=False, kw_only=True)
    max_bytes: int = field(default=4_000_000, kw_only=True)
    max_chars: int = field(default=16_000, kw_only=True)
    max_files: int = field(default=5_000, kw_only=True)
    seconds: float = field(default=10.0, kw_only=True)
    _root: Root = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        folder = Path(self.root)
        if not folder.is_dir():
            raise ConfigurationError(f"Files({str(folder)!r}): there is no such folder", hint="create it first")
        for name in ("max_bytes", "max_chars", "max_files", "seconds"):
            if getattr(self, name) <= 0:
                raise ConfigurationError(
                    f"Files({name}={getattr(self, name)!r}) allows nothing", hint="use more than 0"
                )
        object.__setattr__(self, "_root", Root(folder.resolve(), self.hidden))

    def read_file(self, path: str, start_line: int = 1, end_line: int | None = None) -> str:
        """Read a text file, or some of its lines.

        Args:
            path: Path of the file below the root folder, such as "notes/today.txt".
            start_line: First line to read; lines count from 1.
            end_line: Last line to read; leave it out to read on to the end.
        """
        if start_line < 1:
            raise ValueError(f"start_line={start_line!r}: lines count from 1")
        if end_line is not None and end_line < start_line:
            raise ValueError(f"end_line={end_line!r} is before start_line={start_line!r}")
        text, size = self._text(path)
        lines = text.split("\n")
        if lines[-1] == "":
            lines.pop()
        cut = f"[cut: the file has {size} bytes, and only its first {self.max_bytes} are read]"
        if start_line > max(1, len(lines)):
            raise ValueError(f"start_line={start_line!r} is behind the end of {path!r}, which has {len(lines)} lines")
        chosen = lines[start_line - 1 : end_line]
        shown, last = _fit(chosen, self.max_chars)
        if last < len(chosen):
            reached = start_line + last - 1
            shown += f"\n[cut: lines {start_line} to {reached} of {len(lines)}; go on with start_line={reached + 1}]"
        return f"{shown}\n{cut}" if size > self.max_bytes else shown

    def list_files(self, folder: str = ".", pattern: str = "*", recursive: bool = False) -> str:
        """List the files and folders in a folder, one a line; folders end with a slash.

        Args:
            folder: Path of the folder below the root folder; "." is the root folder itself.
            pattern: Only names like this, where * stands for anything, such as "*.md".
            recursive: Also list what is in the folders below.
        """
        lines: list[str] = []
        walk = _Walk(self._root, self.max_files, self.seconds)
        for path, kind, size in walk.below(folder, recursive=recursive):
            if fnmatchcase(path.rpartition("/")[2], _checked(pattern)):
                lines.append(_listed(path, kind, size))
        shown, last = _fit(lines, self.max_chars)
        if last < len(lines):
            shown += f"\n[cut: {last} of {len(lines)} names; list one of the folders, or narrow the pattern]"
        return f"{shown}{walk.cut}" if lines else f"nothing in {folder!r} is named like {pattern!r}{walk.cut}"

    def search_files(self, query: str, folder: str = ".", pattern: str = "*") -> str:
        """Find the lines that contain a text, in all files of a folder and the folders below.

        Upper and lower case are the same; the text is taken literally, it is not a regular expression.

        Args:
            query: The text to look for, within one line.
            folder: Path of the folder below the root folder; "." is the root folder itself.
            pattern: Only files named like this, where * stands for anything, such as "*.py".
        """
        wanted = query.casefold()
        if not wanted.strip() or "\n" in query or len(query) > MAX_QUERY_CHARS:
            raise ValueError(f"query={query[:100]!r} must be one line of 1 to {MAX_QUERY_CHARS} characters")
        found: list[str] = []
        total = 0
        walk = _Walk(self._root, self.max_files, self.seconds)
        for path, kind, _ in walk.below(folder, recursive=True):
            if kind != "file" or not fnmatchcase(path.rpartition("/")[2], _checked(pattern)):
                continue
            try:
                text, size = self._text(path, strict=False)
            except (OSError, ValueError):
                continue  # binary, gone, or not ours to read: not a file in which text can be found
            if size > self.max_bytes:
                walk.note(f"{_shown(path)} has {size} bytes, and only its first {self.max_bytes} were searched")
            for number, line in _matches(text, wanted):
                found.append(f"{_shown(path)}:{number}: {line}")
                total += len(found[-1])
                if total > self.max_chars:
                    break
            if total > self.max_chars:
                walk.note("there are more lines like this; look for something rarer, or in one folder")
                break
        shown, last = _fit(found, self.max_chars)
        if last < len(found):
            shown += f"\n[cut: {last} of {len(found)} lines found]"
        return f"{shown}{walk.cut}" if found else f"no line contains {query!r}{walk.cut}"

    def _text(self, path: str, *, strict: bool = True) -> tuple[str, int]:
        """The text of a file within ``max_bytes``, and the size of the whole file in bytes.

        Raises:
            OSError: It cannot be opened.
            ValueError: It is not text.
        """
        with self._root.file(path) as descriptor:
            size = os.fstat(descriptor).st_size
            with os.fdopen(os.dup(descriptor), "rb") as file:
                data = file.read(self.max_bytes + 1)
        # Files of /proc have a size of 0 and yet have bytes.
        size = max(size, len(data))
        return _decoded(data[: self.max_bytes], path, whole=size <= self.max_bytes, strict=strict), size


class _Walk:
    """A walk over a folder that ends after so many names and so many seconds, and says so in ``cut``."""

    def __init__(self, root: Root, most: int, seconds: float) -> None:
        self._root = root
        self._left = most
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self.cut = ""

    def note(self, what: str) -> None:
        self.cut += f"\n[cut: {what}]"

    def below(self, folder: str, *, recursive: bool) -> Iterator[tuple[str, Kind, int]]:
        """Path, kind and size of each entry, a folder before what is in it."""
        start = "/".join(self._root.parts(folder))
        waiting = [(start, 0)]
        while waiting:
            path, depth = waiting.pop()
            try:
                entries = self._root.entries(path, self._left + 1)
            except (OSError, ValueError):
                if path == start:
                    raise
                continue  # gone or replaced since it was listed, or too deep for a path
            inner: list[tuple[str, int]] = []
            for entry in entries:
                if self._left <= 0:
                    return self.note("there are more files than one call looks at; choose one folder")
                if time.monotonic() > self._end:
                    return self.note(f"stopped after {self._seconds:g} seconds; choose one folder")
                self._left -= 1
                at = f"{path}/{entry.name}" if path else entry.name
                yield at, entry.kind, entry.size
                if entry.kind == "folder" and recursive and depth < MAX_DEPTH:
                    inner.append((at, depth + 1))
            waiting.extend(reversed(inner))
        return None


def _listed(path: str, kind: Kind, size: int) -> str:
    if kind == "folder":
        return f"{_shown(path)}/"
    return f"{_shown(path)} ({size} bytes)" if kind == "file" else f"{_shown(path)} (not readable: a link or no file)"


def _checked(pattern: str) -> str:
    if len(pattern) > 200:
        raise ValueError(f"pattern={pattern[:50]!r}... has {len(pattern)} characters, and 200 is the most")
    return pattern


def _decoded(data: bytes, path: str, *, whole: bool, strict: bool) -> str:
    import codecs

    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    if encoding != "utf-16" and b"\0" in data[:_BINARY_SAMPLE]:
        raise ValueError(f"{path!r} is a binary file, and only text can be read")
    decoder = codecs.getincrementaldecoder(encoding)("strict" if strict else "replace")
    try:
        # A file that was cut may end in half a character, which is then left away.
        return decoder.decode(data, final=whole).replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path!r} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}"
        ) from None


def _matches(text: str, wanted: str) -> Iterator[tuple[int, str]]:
    if wanted not in text.casefold():
        return
    for number, line in enumerate(text.split("\n"), 1):
        folded = line.casefold()
        at = folded.find(wanted)
        if at < 0:
            continue
        if len(line) > LINE_CHARS:
            begin = max(0, min(at, len(line) - LINE_CHARS // 2) - LINE_CHARS // 2)
            yield number, f"...{line[begin : begin + LINE_CHARS]}..."
        else:
            yield number, line.strip()


def _fit(lines: list[str], most: int) -> tuple[str, int]:
    """As many whole lines as fit, and how many those are; a first line that is too long is cut, and says so."""
    if lines and len(lines[0]) > most:
        return f"{lines[0][:most]}\n[cut: this line has {len(lines[0])} characters]", 1
    used = 0
    for count, line in enumerate(lines):
        used += len(line) + 1
        if used > most + 1:
            return "\n".join(lines[:count]), count
    return "\n".join(lines), len(lines)


def _shown(path: str) -> str:
    """A path as one printable line: names may hold line breaks, and bytes that are no text."""
    clean = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return clean if clean.isprintable() else ascii(clean)[1:-1]
