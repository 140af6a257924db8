"""A model that writes down what another one writes. `Replay` plays it back."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from threading import RLock
from typing import Literal

from hermes_agent.errors import ConfigurationError
from hermes_agent.formats.dialects import Dialect
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.models import resolve
from hermes_agent.models.base import Chunk, Guarantee, ModelLike, Request
from hermes_agent.models.permission import check_requests_allowed, is_for_tests
from hermes_agent.redaction import Redaction
from hermes_agent.testing.tape import VERSION, Line, dump, error_fields, plain_chunk, plain_dialect, plain_request

__all__ = ["Recorder"]

_KEY_LENGTH = 16


class Recorder:
    """A model that writes down what another one is asked and what it writes, with the times.

    Everything is passed through as it comes. The tape is written as it goes, so that a run that is killed leaves a
    tape that can be read; what is replayed from it ends where the run did. Secrets never land on it: values of
    environment variables that hold keys, tokens or passwords, ``Authorization: Bearer …`` and ``sk-…``, in whatever
    field they stand, are replaced by ``[removed]``.

    Args:
        model: The model to listen to, or its name.
        path: The tape, a new file; folders above it are made.
        overwrite: Replace a tape that is there.

    Raises:
        ConfigurationError: There is a file at ``path``.

    Example:
        >>> import tempfile
        >>> from hermes_agent import Agent
        >>> from hermes_agent.testing import Replay, ScriptedModel
        >>> path = tempfile.mkdtemp() + "/hello.jsonl"
        >>> Agent(Recorder(ScriptedModel(["Hello."]), path)).run_sync("Hi").output
        'Hello.'
        >>> Agent(Replay(path)).run_sync("Hi").output
        'Hello.'
    """

    def __init__(self, model: ModelLike, path: str | Path, *, overwrite: bool = False) -> None:
        self.model = resolve(model)
        self.path = Path(path)
        if self.path.exists() and not overwrite:
            raise ConfigurationError(
                f"there is a file {str(path)!r} already", hint="replay it, delete it, or pass overwrite=True"
            )
        self._writing = RLock()
        self._requests = 0
        self._dialects: list[Dialect] = []
        self._grammars: set[str] = set()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(dump({"tape": VERSION, "model": Redaction().text(self.name)}) + "\n", encoding="utf-8")

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def dialect(self) -> Dialect:
        """The model's dialect."""
        return self.model.dialect

    @property
    def for_tests(self) -> bool:
        """Whether the model is made for tests."""
        return is_for_tests(self.model)

    async def guarantee(self, grammar: TurnGrammar, *, prove: bool = False) -> Guarantee:
        """What the model promises; it is written down, as is its refusal."""
        line: Line = {"guarantee": self._grammar(grammar, Redaction()), "prove": prove}
        try:
            promised = await self.model.guarantee(grammar, prove=prove)
        except Exception as error:
            self.write({**line, **error_fields(error, Redaction().text)})
            raise
        self.write({**line, "is": promised})
        return promised

    async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Write one turn, and write it down. Errors are those of the model."""
        check_requests_allowed(self)  # a refusal is nothing to record
        take = self._begin(request)
        try:
            async with aclosing(self.model.generate(request)) as chunks:
                async for chunk in chunks:
                    take.chunk(chunk)
                    yield chunk
        except Exception as error:
            take.close("error", error_fields(error, Redaction().text))
            raise
        except BaseException:  # cancelled, or closed by its reader
            take.close("left")
            raise
        take.close("end")

    def dialect_number(self, dialect: Dialect) -> int:
        """The number under which a dialect stands on the tape; it is put there if it is new."""
        with self._writing:
            if dialect not in self._dialects:
                self._dialects.append(dialect)
                clean = Redaction().text
                line = {key: clean(v) if isinstance(v, str) else v for key, v in plain_dialect(dialect).items()}
                self.write({"dialect": len(self._dialects), "is": line})
            return self._dialects.index(dialect) + 1

    def _begin(self, request: Request) -> _Take:
        redaction = Redaction()
        grammar = None if request.grammar is None else self._grammar(request.grammar, redaction)
        with self._writing:
            self._requests += 1
            number = self._requests
            self.write({"request": number, **plain_request(request, redaction.text, grammar)})
        return _Take(self, number, redaction)

    def _grammar(self, grammar: TurnGrammar, redaction: Redaction) -> str:
        """The name under which a grammar stands on the tape; it is put there if it is new."""
        key = grammar.key[:_KEY_LENGTH]
        with self._writing:
            if key not in self._grammars:
                self._grammars.add(key)
                self.write({"grammar": key, "lark": redaction.text(grammar.lark()).split("\n")})
        return key

    def write(self, *lines: Line) -> None:
        """Put lines on the tape."""
        # The file is opened each time: nobody has to close a recorder, and nothing is lost with the process.
        text = "".join(dump(line) + "\n" for line in lines)
        with self._writing, self.path.open("a", encoding="utf-8", errors="surrogatepass") as file:
            file.write(text)


class _Take:
    """One request while it is answered. A chunk is held back while what it ends in may be half of a secret."""

    def __init__(self, tape: Recorder, number: int, redaction: Redaction) -> None:
        self._tape, self._number, self._redaction = tape, number, redaction
        self._start = time.perf_counter()
        self._held: list[tuple[float, Chunk]] = []
        self._told_dialect = False
        # What is written already but needed to judge what is held, and where in the turn that text begins. It begins
        # at a place that no secret reaches over; ``_places`` are such places from there on.
        self._context, self._begin = "", 0
        self._places = [0]

    def chunk(self, chunk: Chunk) -> None:
        """Take in one chunk, as it passes."""
        if chunk.dialect is None and not self._told_dialect:
            self._tape.dialect_number(self._tape.dialect)  # not before: now the model is loaded
        self._told_dialect = True
        self._held.append((self._after(), chunk))
        self._flush(whole=False)

    def close(self, how: Literal["end", "left", "error"], more: Line | None = None) -> None:
        """Write what is held, and how it ended."""
        self._flush(whole=True)
        self._tape.write({how: self._number, "after": self._after(), **(more or {})})

    def _flush(self, *, whole: bool) -> None:
        """Write the chunks that can be judged; at the end, all of them."""
        texts = [self._context, *(chunk.text for _, chunk in self._held)]
        text = "".join(texts)
        settled = len(text) if whole else self._redaction.settled(text)
        count, written = 0, len(self._context)
        for _, chunk in self._held:
            if written + len(chunk.text) > settled:
                break
            count, written = count + 1, written + len(chunk.text)
        self._places.append(self._begin + settled)
        if not count:
            return
        lines: list[Line] = []
        for (after, chunk), cleaned in zip(self._held[:count], self._redaction.pieces(texts)[1:], strict=False):
            dialect = None if chunk.dialect is None else self._tape.dialect_number(chunk.dialect)
            lines.append({"chunk": self._number, "after": after, **plain_chunk(chunk, cleaned, dialect)})
        self._tape.write(*lines)
        self._held = self._held[count:]
        begin = max(place for place in self._places if place <= self._begin + written)
        self._context = text[begin - self._begin : written]
        self._begin, self._places = begin, [place for place in self._places if place >= begin]

    def _after(self) -> float:
        return round(time.perf_counter() - self._start, 6)
