"""A model that writes what a `Recorder` wrote down."""

from __future__ import annotations

import difflib
import json
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, Literal, cast

import anyio
import anyio.lowlevel

from hermes_agent.errors import ConfigurationError, HermesError
from hermes_agent.formats.dialects import Dialect
from hermes_agent.formats.dialects import dialect as named_dialect
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.models.base import Chunk, Guarantee, Request
from hermes_agent.redaction import Redaction
from hermes_agent.testing.tape import Line, dump, plain_request, raised, read_chunk, read_dialect, read_lines

__all__ = ["Replay", "TapeMismatchError"]


class TapeMismatchError(AssertionError):
    """A run asks for something else than its tape holds; the message shows the difference."""


@dataclass(slots=True)
class _Recorded:
    """A request on a tape, and what came of it."""

    line: int
    number: int
    asked: Line
    chunks: list[tuple[float, Chunk]] = field(default_factory=list[tuple[float, Chunk]])
    error: Exception | None = None
    end: Literal["end", "left", "error"] | None = None


class Replay:
    """A model that writes what is on a tape: the same chunks for the same requests, byte for byte.

    A request is answered by the first one on the tape that is equal to it and was not used yet. So requests that run
    side by side may come in any order, and equal ones are answered in the order of the tape. A request that is not
    there fails, with its difference from the first one that was not used.

    Args:
        path: What a `Recorder` wrote.
        speed: How fast: 1.0 as it was recorded, 2.0 twice as fast; ``None`` does not wait.

    Raises:
        ConfigurationError: There is no tape, or it cannot be read.
    """

    for_tests = True

    def __init__(self, path: str | Path, *, speed: float | None = None) -> None:
        if speed is not None and not speed > 0:
            raise ConfigurationError(f"speed={speed!r} never ends", hint="use a number above 0, or None for no waiting")
        self.path = Path(path)
        self.name = ""
        self._speed = speed
        self._dialects: list[Dialect] = []
        self._larks: dict[str, list[str]] = {}
        self._promises: dict[tuple[str, bool], list[Guarantee | Exception]] = {}
        self._recorded: list[_Recorded] = []
        self._unused: dict[int, _Recorded] = {}
        self._alike: dict[str, deque[_Recorded]] = {}
        self._failures: list[str] = []
        self._matching = Lock()
        for number, line in read_lines(self.path):
            try:
                self._take_in(number, line)
            except (KeyError, IndexError, TypeError, HermesError) as error:
                raise ConfigurationError(
                    f"{path}:{number} is not the line of a tape: {error!r}", hint="record the tape again"
                ) from error
        for recorded in self._recorded:
            self._unused[recorded.number] = recorded
            self._alike.setdefault(_in_one(recorded.asked), deque()).append(recorded)

    @property
    def dialect(self) -> Dialect:
        """The dialect of the recorded model."""
        return self._dialects[0] if self._dialects else named_dialect("chatml")

    def _take_in(self, number: int, line: Line) -> None:
        """Put one line of the tape where it belongs; lines of later versions are left alone."""
        match next(iter(line), None):
            case "tape":
                self.name = line["model"]
            case "dialect":
                self._dialects.append(read_dialect(line["is"]))
            case "grammar":
                self._larks[line["grammar"]] = line["lark"]
            case "guarantee":
                key = "\n".join(self._larks[line["guarantee"]]), bool(line["prove"])
                self._promises.setdefault(key, []).append(line["is"] if "is" in line else raised(line))
            case "request":
                asked = {key: value for key, value in line.items() if key != "request"}
                if "grammar" in asked:
                    asked["grammar"] = self._larks[asked["grammar"]]
                self._recorded.append(_Recorded(number, line["request"], asked))
            case "chunk":
                self._find(line["chunk"]).chunks.append((line["after"], read_chunk(line, self._dialects)))
            case "end" | "left" | "error" as how:
                recorded = self._find(line[how])
                recorded.end, recorded.error = how, raised(line) if how == "error" else None
            case None:
                raise KeyError("what it is")
            case _:
                pass

    def _find(self, number: int) -> _Recorded:
        return self._recorded[number - 1]

    async def guarantee(self, grammar: TurnGrammar, *, prove: bool = False) -> Guarantee:
        """What the recorded model promised, or refused.

        Raises:
            TapeMismatchError: It was not asked that.
        """
        promises = self._promises.get((Redaction().text(grammar.lark()), prove))
        if not promises:
            raise self._failed(f"{self.path}: nobody asked for the guarantee of {grammar!r} with prove={prove!r}")
        promise = promises.pop(0) if len(promises) > 1 else promises[0]
        if isinstance(promise, Exception):
            raise promise
        return promise

    async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Write what was recorded for this request, and raise what was raised.

        Raises:
            TapeMismatchError: The tape holds no such request, or ends before the turn does.
        """
        recorded, start = self._match(request), time.perf_counter()
        for after, chunk in recorded.chunks:
            await self._wait(start, after)
            yield chunk
        if recorded.error is not None:
            raise recorded.error
        if recorded.end != "end":
            why = "its reader left there" if recorded.end == "left" else "the recording was broken off there"
            raise self._failed(
                f"{self.path}:{recorded.line}: request {recorded.number} has no more than {len(recorded.chunks)} "
                f"chunks, as {why}"
            )

    async def _wait(self, start: float, after: float) -> None:
        await anyio.lowlevel.checkpoint()  # so that runs side by side take turns, as with any model
        if self._speed is not None and (left := after / self._speed - (time.perf_counter() - start)) > 0:
            await anyio.sleep(left)

    def assert_complete(self) -> None:
        """Check that the run asked for everything on the tape, and for nothing else.

        Raises:
            AssertionError: Requests are left, or one was not on the tape.
        """
        if self._failures:
            raise TapeMismatchError(self._failures[0])
        left = list(self._unused.values())
        if left:
            raise TapeMismatchError(
                f"{len(left)} of {len(self._recorded)} requests on the tape were not asked for, the first at "
                f"{self.path}:{left[0].line}: its last message is {_last_message(left[0].asked)}"
            )

    def _match(self, request: Request) -> _Recorded:
        clean = Redaction().text
        asked = plain_request(request, clean, None if request.grammar is None else "")
        if request.grammar is not None:
            asked["grammar"] = clean(request.grammar.lark()).split("\n")
        with self._matching:
            if alike := self._alike.get(_in_one(asked)):
                return self._unused.pop(alike.popleft().number)
        raise self._failed(self._difference(asked))

    def _difference(self, asked: Line) -> str:
        first = next(iter(self._unused.values()), None)
        if first is None:
            return (
                f"{self.path}: the tape has {len(self._recorded)} requests, and this is one more; its last message is "
                f"{_last_message(asked)}"
            )
        where = f"{self.path}:{first.line}"
        diff = difflib.unified_diff(
            _spread(first.asked), _spread(asked), f"{where} (request {first.number})", "this run", lineterm=""
        )
        return "\n".join([f"the run asks for something else than stands at {where}:", *diff])

    def _failed(self, message: str) -> TapeMismatchError:
        self._failures.append(message)
        return TapeMismatchError(message)


def _in_one(asked: Line) -> str:
    """A request as one text, for comparing; fields in a fixed order, but objects inside as they are."""
    return dump({key: asked[key] for key in sorted(asked)})


def _spread(value: Line) -> list[str]:
    """JSON as lines that can be compared: a text of several lines takes several."""

    def lines(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: lines(item) for key, item in cast("dict[str, Any]", value).items()}
        if isinstance(value, list | tuple):
            return [lines(item) for item in cast("Sequence[Any]", value)]
        return value.split("\n") if isinstance(value, str) and "\n" in value else value

    return json.dumps(lines(value), ensure_ascii=False, indent=2).split("\n")


def _last_message(asked: Line) -> str:
    return dump(asked["messages"][-1]) if asked.get("messages") else "missing"
