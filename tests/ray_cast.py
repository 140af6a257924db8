"""A type and models that travel to workers of Ray."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

from pydantic import BaseModel

from hermes_agent.errors import ModelUnavailableError
from hermes_agent.formats.dialects import dialect
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.messages import UserMessage
from hermes_agent.models.base import Chunk, Guarantee, Request


class Invoice(BaseModel):
    name: str
    total: int


class Counted:
    """Writes an invoice for a text such as ``"n7 7"``, and notes in a folder who asked for what.

    Args:
        folder: Where the notes are: a file for each process, with a line for each text.
        deadly: The process that is asked for this text kills itself; once, unless ``always``.
    """

    name = "counted"
    for_tests = True
    dialect = dialect("chatml")

    def __init__(self, folder: Path, deadly: str = "", *, always: bool = False) -> None:
        self.folder, self.deadly, self.always = folder, deadly, always

    async def guarantee(self, grammar: TurnGrammar, *, prove: bool = False) -> Guarantee:
        return "checked"

    async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        text = next(message.text for message in request.messages if isinstance(message, UserMessage))
        with (self.folder / f"{os.getpid()}.asked").open("a") as file:
            file.write(f"{text}\n")
        if text == self.deadly and (self.always or self._first()):
            os.kill(os.getpid(), signal.SIGKILL)
        if text.startswith("gone") and (self.folder / "gone").exists():
            raise ModelUnavailableError("the model is gone", hint="bring it back")
        name, _, total = text.partition(" ")
        yield Chunk(f'{{"name": "{name}", "total": {total}}}', "stop", 5, 5)

    def _first(self) -> bool:
        try:
            (self.folder / "killed").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True
