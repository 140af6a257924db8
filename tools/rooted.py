"""Opening files below one folder, and never outside it: no ``..``, no links, no pipes or devices.

Where the platform can (Linux, macOS), a path is walked one name at a time from an open folder, refusing links at
each step (``openat`` with ``O_NOFOLLOW``), so that nothing swapped in while it is being opened leads outside. Elsewhere
(Windows) each step is looked at first and the opened file compared with what was seen, which leaves a narrow gap to
another process that can replace folders below the root at the right moment.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

__all__ = ["Entry", "Kind", "Root"]

Kind = Literal["file", "folder", "other"]

MAX_PATH_CHARS: Final = 4096
_WALKS: Final = {os.open, os.stat} <= os.supports_dir_fd and os.scandir in os.supports_fd and hasattr(os, "O_NOFOLLOW")
_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe swapped in must not block the open
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
_FOLDER_FLAGS: Final = _FLAGS | getattr(os, "O_DIRECTORY", 0)
_REPARSE_POINT: Final = 0x400  # stat.FILE_ATTRIBUTE_REPARSE_POINT: junctions, and links on Windows


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder.

    Attributes:
        name: The name as the system gives it.
        kind: What it is; "other" is a link, a pipe, a socket or a device, none of which is ever opened.
        size: Bytes of a file, 0 of everything else.
    """

    name: str
    kind: Kind
    size: int


@dataclass(frozen=True, slots=True)
class Root:
    """A folder, and whatever is really inside it.

    Attributes:
        path: The folder; links in this path itself are followed.
        hidden: Whether names that begin with a dot exist.
        walk: Whether to walk by open folders; only a test sets it.
    """

    path: Path
    hidden: bool
    walk: bool = _WALKS

    def parts(self, path: str) -> tuple[str, ...]:
        """The names on the way to a path below this root.

        Raises:
            PermissionError: It is absolute, climbs with ``..``, or has a hidden name.
            ValueError: It is no path.
        """
        if "\0" in path or len(path) > MAX_PATH_CHARS or not _encodes(path):
            raise ValueError(f"{path[:200]!r} is not a path")
        if path.startswith("/") or os.path.isabs(path) or (os.name == "nt" and ":" in path):  # noqa: PTH117 - a string from the model, not a path of ours
            raise PermissionError(f"{path!r} is refused: give a path below the root folder, such as 'notes/today.txt'")
        pieces = path.replace("\\", "/").split("/") if os.name == "nt" else path.split("/")
        names = tuple(name for name in pieces if name not in {"", "."})
        if ".." in names:
            raise PermissionError(f"{path!r} is refused: '..' may not be used")
        if not self.hidden and any(name.startswith(".") for name in names):
            raise PermissionError(f"{path!r} is refused: names that begin with a dot are not shown")
        return names

    @contextmanager
    def file(self, path: str) -> Generator[int, None, None]:
        """Open a regular file for reading; gives its descriptor.

        Raises:
            OSError: It is not there, not a regular file, or not to be opened.
        """
        names = self.parts(path)
        if not names:
            raise IsADirectoryError(f"{path!r} is a folder")
        with self._folder(names[:-1], path) as parent:
            seen = self._look(parent, names, path)
            if stat.S_ISDIR(seen.st_mode):
                raise IsADirectoryError(f"{path!r} is a folder; list_files shows what is in it")
            descriptor = self._open(parent, names, path, seen, _FLAGS)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def entries(self, path: str, most: int) -> list[Entry]:
        """What is in a folder, by name; at most ``most`` of them.

        Raises:
            OSError: It is not there, not a folder, or not to be opened.
        """
        names = self.parts(path)
        found: list[Entry] = []
        with (
            self._folder(names, path) as folder,
            os.scandir(folder if self.walk else self.path.joinpath(*names)) as rows,
        ):
            for row in rows:
                if row.name.startswith(".") and not self.hidden:
                    continue
                if len(found) >= most:
                    break
                found.append(_entry(row))
        return sorted(found, key=lambda entry: entry.name)

    @contextmanager
    def _folder(self, names: tuple[str, ...], path: str) -> Generator[int, None, None]:
        """Open a folder below the root; -1 where folders cannot be opened."""
        if not self.walk:
            for depth in range(1, len(names) + 1):
                seen = self._look(-1, names[:depth], path)
                if not stat.S_ISDIR(seen.st_mode):
                    raise NotADirectoryError(f"{'/'.join(names[:depth])!r} is not a folder")
            yield -1
            return
        descriptor = os.open(self.path, _FOLDER_FLAGS & ~os.O_NOFOLLOW)
        try:
            for depth in range(1, len(names) + 1):
                seen = self._look(descriptor, names[:depth], path)
                if not stat.S_ISDIR(seen.st_mode):
                    raise NotADirectoryError(f"{'/'.join(names[:depth])!r} is not a folder")
                inner = self._open(descriptor, names[:depth], path, seen, _FOLDER_FLAGS)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    def _look(self, parent: int, names: tuple[str, ...], path: str) -> os.stat_result:
        """Look at a name without following or opening it; devices act when they are opened."""
        try:
            if self.walk:
                seen = os.stat(names[-1], dir_fd=parent, follow_symlinks=False)
            else:
                seen = self.path.joinpath(*names).lstat()
        except FileNotFoundError:
            raise FileNotFoundError(f"there is no {path!r}; list_files shows what there is") from None
        except OSError as error:
            raise type(error)(f"cannot open {path!r}: {error.strerror or error}") from None
        if stat.S_ISLNK(seen.st_mode) or getattr(seen, "st_file_attributes", 0) & _REPARSE_POINT:
            raise PermissionError(f"{path!r} is refused: {names[-1]!r} is a link, and links are not followed")
        if not (stat.S_ISREG(seen.st_mode) or stat.S_ISDIR(seen.st_mode)):
            raise PermissionError(f"{path!r} is refused: it is neither a file nor a folder")
        return seen

    def _open(self, parent: int, names: tuple[str, ...], path: str, seen: os.stat_result, flags: int) -> int:
        """Open what was looked at, and make sure that it is still that."""
        try:
            if self.walk:
                descriptor = os.open(names[-1], flags, dir_fd=parent)
            else:
                descriptor = os.open(self.path.joinpath(*names), flags)
        except OSError as error:
            raise PermissionError(f"cannot open {path!r}: {error.strerror or error}") from None
        opened = os.fstat(descriptor)
        if (opened.st_dev, opened.st_ino, stat.S_IFMT(opened.st_mode)) != (
            seen.st_dev, seen.st_ino, stat.S_IFMT(seen.st_mode),
        ):  # fmt: skip
            os.close(descriptor)
            raise PermissionError(f"{path!r} is refused: it was replaced while it was being opened")
        return descriptor


def _entry(row: os.DirEntry[str]) -> Entry:
    try:
        seen = row.stat(follow_symlinks=False)
    except OSError:  # gone since the folder was read
        return Entry(row.name, "other", 0)
    if stat.S_ISREG(seen.st_mode):
        return Entry(row.name, "file", seen.st_size)
    junction = getattr(seen, "st_file_attributes", 0) & _REPARSE_POINT
    return Entry(row.name, "folder" if stat.S_ISDIR(seen.st_mode) and not junction else "other", 0)


def _encodes(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True
