"""Conversations in files: ``--history``, ``--save`` and ``/save``."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hermes_agent.cli.terminal import read_text
from hermes_agent.errors import ConfigurationError

if TYPE_CHECKING:
    from hermes_agent.messages import Conversation

__all__ = ["check_apart", "check_page", "check_writable", "load", "save", "write"]

_DATABASE = b"SQLite format 3\0"  # how a journal begins


def load(file: str | None) -> Conversation:
    """The conversation in a file; an empty one without.

    Raises:
        ConfigurationError: The file cannot be read, or holds something else.
    """
    from hermes_agent.messages import Conversation

    if file is None:
        return Conversation()
    text = read_text(file)
    try:
        return Conversation.from_json(text)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{file!r} is {error.message}", hint="give a file that --save or /save wrote"
        ) from error


def check_writable(file: str | None) -> None:
    """Find out before a long run, not after it, that its conversation cannot be saved.

    Raises:
        ConfigurationError: There is no such folder, or it may not be written; or a journal or a device is there.
    """
    if file is None:
        return
    there = Path(file)
    folder = there.absolute().parent
    if (there.exists() and not there.is_file()) or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigurationError(
            f"cannot write {file!r}", hint="name a file in a folder that exists and may be written"
        )
    if _begins(there, len(_DATABASE)) == _DATABASE:
        raise ConfigurationError(f"{file!r} is a database, perhaps a journal", hint="name another file")


def check_page(file: str | None, source: str) -> None:
    """Find out whether a page may be written there.

    Raises:
        ConfigurationError: It would overwrite the saved run it shows, or a file that is no page.
    """
    check_writable(file)
    if file is None:
        return
    if _same_file(file, source):
        raise ConfigurationError(
            f"--html {file!r} is the saved run itself, which the page would overwrite", hint="name another file"
        )
    start = _begins(Path(file), 1024).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start and not start.startswith((b"<!doctype html", b"<html")):
        raise ConfigurationError(
            f"{file!r} is there already, and is no HTML", hint="name another file, or remove that one first"
        )


def check_apart(first: tuple[str, str | None], second: tuple[str, str | None]) -> None:
    """Check that two options name two files.

    Args:
        first: An option and its value.
        second: Another.

    Raises:
        ConfigurationError: They name the same.
    """
    (option, file), (other, there) = first, second
    if file is not None and there is not None and _same_file(file, there):
        raise ConfigurationError(
            f"{option} {file!r} and {other} {there!r} are the same file, which would be overwritten",
            hint="give each a file of its own",
        )


def _same_file(first: str, second: str) -> bool:
    """Whether two names are of one file, which need not exist yet."""
    try:
        return Path(first).samefile(second)
    except OSError:  # one of them is not there
        return Path(first).resolve() == Path(second).resolve()


def _begins(file: Path, length: int) -> bytes:
    """The first bytes of a file; none where it is not there."""
    try:
        with file.open("rb") as opened:
            return opened.read(length)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {str(file)!r}, which would be overwritten: {error.strerror or error}",
            hint="name another file",
        ) from error


def save(conversation: Conversation, file: str) -> None:
    """Write a conversation.

    Raises:
        ConfigurationError: It cannot be written.
    """
    write(conversation.to_json(), file)


def write(text: str, file: str) -> None:
    """Write a file; whoever reads it meanwhile sees the old one or the new one, whole.

    Raises:
        ConfigurationError: It cannot be written.
    """
    try:
        handle, part = tempfile.mkstemp(prefix=f".{Path(file).name}.", dir=Path(file).absolute().parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as out:
                out.write(text)
            Path(part).replace(file)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {file!r}: {error.strerror or error}", hint="name a file in a folder that may be written"
        ) from error
