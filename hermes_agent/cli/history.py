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

__all__ = ["check_writable", "load", "save", "write"]


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
        ConfigurationError: There is no such folder, or it may not be written.
    """
    if file is None:
        return
    folder = Path(file).absolute().parent
    if Path(file).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigurationError(
            f"cannot write {file!r}", hint="name a file in a folder that exists and may be written"
        )


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
