"""A run that is watched: its events as they happen, and views on them."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Generic, Literal, NoReturn, cast, overload

import anyio
from anyio.lowlevel import checkpoint
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from typing_extensions import TypeVar

from hermes_agent.context import Retry
from hermes_agent.errors import ConfigurationError, InvalidOutputError
from hermes_agent.events import (
    CallCompleted,
    CallStarted,
    Event,
    FaultFound,
    Final,
    PartialOutput,
    StepStarted,
    TextDelta,
    ToolFinished,
    ToolProgress,
    ToolStarted,
)
from hermes_agent.json_text import path_parts
from hermes_agent.messages import ToolCall
from hermes_agent.output import Output
from hermes_agent.partial import Partials
from hermes_agent.partial.items import Items, at_path
from hermes_agent.run import Run, RunResult
from hermes_agent.threads import loop_caller

__all__ = ["RunStream", "watch"]

OutputT = TypeVar("OutputT", default=str)
ItemT = TypeVar("ItemT")

# Unbounded: were the run to wait for its reader, a reader that asks the same model something else would wait for
# ever. What can pile up is bounded by the limits of the run.
_BUFFER = math.inf


class RunStream(Generic[OutputT]):
    """The events of one run, once; afterwards ``result`` holds what `Agent.run` would have returned.

    ``text()`` and ``partials()`` show a part of the same events: what one view has taken is gone for
    the others, and another view goes on where the first was left.
    """

    def __init__(self, receive: MemoryObjectReceiveStream[Event], output: Output[OutputT], run: Run) -> None:
        self._receive = receive
        self._output = output
        self._partials = Partials(output)
        self._run = run
        self._next: deque[Event] = deque()
        self._reading = False
        self._ended = False
        self._result: RunResult[OutputT] | None = None
        self._error: Exception | None = None

    @property
    def result(self) -> RunResult[OutputT]:
        """The result.

        Raises:
            ConfigurationError: The events were not read to the end.
            HermesError: The run failed; the same error that the iteration raised.
        """
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise ConfigurationError(
                "the run has no result yet", hint="read the stream to its end: `async for event in stream: ...`"
            )
        return self._result

    def text(self) -> AsyncIterator[str]:
        """Only the visible text, in pieces as they come: that of every turn, with no thinking and no calls.

        Raises:
            ConfigurationError: The stream was read to its end before.
        """
        self._check_unread("text()")
        return _Texts(self)

    def partials(self) -> AsyncIterator[OutputT]:
        """Only the typed answer: as far as it is written, again and again, and at last whole.

        A partial value is an object of the answer's own type, in which required fields are ``None`` until
        they are whole; `docs/streaming.md` says more. If a turn is not accepted as the answer, the values of
        the next turn begin anew.

        Raises:
            ConfigurationError: The answer has no type, or the stream was read to its end before.
        """
        self._check_typed("partial values")
        self._check_unread("partials()")
        return _PartialOutputs(self)

    @overload
    def items(self: RunStream[list[ItemT]], path: Literal[""] = "") -> AsyncIterator[ItemT]: ...
    @overload
    def items(self, path: str) -> AsyncIterator[Any]: ...
    def items(self, path: str = "") -> AsyncIterator[Any]:
        """Only the items of a list in the typed answer, each once, whole and validated, as soon as it is closed.

        What was yielded when the iteration ends is that list of the answer. A turn that is not accepted has perhaps
        yielded items by then: those that the next one writes again are not yielded again, and if it writes another
        in the place of one, that is an error, since a yielded item cannot be taken back.

        Args:
            path: Where the list is: a JSON pointer or a dotted path of names in the JSON; by default the answer itself.

        Raises:
            ConfigurationError: The answer has no type, or no list there, or the stream was read to its end before.
            InvalidOutputError: Out of the iteration: an item that was yielded is not in the answer after all.
        """
        self._check_typed("items")
        self._check_unread("items()")
        return _ItemsOfAnswer(self, Items(self._output, path_parts(path)), path)

    # An iterator, not a generator: a reader may `break`, and no half-read generator is left for the collector.
    def __aiter__(self) -> RunStream[OutputT]:
        return self

    async def __anext__(self) -> Event:
        return await self.take(partial_outputs=True)

    async def take(self, *, partial_outputs: bool) -> Event:
        """The next event.

        Args:
            partial_outputs: Whether partial outputs are wanted, which cost a reading of the answer so far.

        Raises:
            ConfigurationError: Another task is reading, or the stream's block was left.
            HermesError: The run failed.
            StopAsyncIteration: There are no more.
        """
        if self._next:
            return self._next.popleft()
        if self._reading:
            raise ConfigurationError(
                "the stream is being read by another task", hint="read it in one place, and hand its events on"
            )
        self._reading = True
        try:
            event = await self._receive.receive()
        except anyio.EndOfStream:
            self._ended = True
            if self._error is not None:
                raise self._error from None
            raise StopAsyncIteration from None
        except anyio.ClosedResourceError:
            raise ConfigurationError(
                "the stream was left, which ended the run", hint="read it inside of its `async with` block"
            ) from None
        finally:
            self._reading = False
        return await self._noted(event, partial_outputs)

    async def _noted(self, event: Event, partial_outputs: bool) -> Event:
        """Follow the answer; returns what comes first, the event or a partial output."""
        partials = self._partials
        match event:
            case StepStarted():
                partials.begin()
            case TextDelta(text):
                partials.feed(text)
                if partial_outputs and (value := partials.read()) and (checked := await self._passed(value[0])):
                    self._next.append(PartialOutput(checked[0]))
            case CallStarted() | CallCompleted() | FaultFound():
                partials.stop()
            case Final(output) if partial_outputs and self._output.kind == "json":
                self._next.append(event)
                return PartialOutput(output)
            case _:
                pass
        return event

    async def _passed(self, value: OutputT) -> tuple[OutputT] | None:
        """A partial value as validators leave it that are meant for such; ``None`` if one of them will not have it."""
        for validator in self._run.state.plan.validators:
            if validator.partial:
                try:
                    value = await validator.check(value, self._run.state.context(), partial=True)
                except (Retry, ValueError):
                    return None
                except Exception as error:
                    raise InvalidOutputError(
                        f"a validator of the output raised {error!r} on a partial value, {value!r}",
                        hint="fields of a partial value may be None; it says no with Retry or ValueError",
                    ) from error
        return (value,)

    @property
    def written(self) -> str | None:
        """The typed answer as it is written so far in this turn; ``None`` if the turn is none."""
        return self._partials.written

    def _check_typed(self, what: str) -> None:
        if self._output.kind != "json":
            raise ConfigurationError(
                f"an answer of type {self._output.name!r} has no {what}",
                hint="use stream.text(), or give the agent an output= type that is read from JSON",
            )

    def _check_unread(self, view: str) -> None:
        if self._ended:
            raise ConfigurationError(
                f"the stream was read to its end, so that {view} has nothing to show",
                hint="read events once; the whole answer is in stream.result.output",
            )

    async def drive(self, run: Run, send: MemoryObjectSendStream[Event]) -> None:
        """Run to the end, telling every event; `watch` starts this in its task group."""
        # The error is carried to the reader, who would otherwise get it wrapped in an exception group.
        with send:
            try:
                self._result = await run.go()
            except Exception as error:  # noqa: BLE001  # raised again where the stream is read
                self._error = error


class _Texts(AsyncIterator[str]):
    def __init__(self, stream: RunStream[Any]) -> None:
        self._stream = stream

    async def __anext__(self) -> str:
        while True:
            event = await self._stream.take(partial_outputs=False)
            if isinstance(event, TextDelta):
                return event.text


class _PartialOutputs(AsyncIterator[OutputT]):
    def __init__(self, stream: RunStream[OutputT]) -> None:
        self._stream = stream

    async def __anext__(self) -> OutputT:
        while True:
            event = await self._stream.take(partial_outputs=True)
            if isinstance(event, PartialOutput):
                output: OutputT = event.output
                return output


class _ItemsOfAnswer(AsyncIterator[Any]):
    def __init__(self, stream: RunStream[Any], items: Items, path: str) -> None:
        self._stream, self._items, self._path = stream, items, path
        self._told: list[Any] = []
        self._ready: deque[Any] = deque()
        self._at = 0
        if (written := stream.written) is None:
            items.stop()
        else:
            self._take(items.feed(written))

    async def __anext__(self) -> Any:
        while not self._ready:
            match await self._stream.take(partial_outputs=False):
                case StepStarted():
                    self._items.begin()
                    self._at = 0
                case TextDelta(text):
                    self._take(self._items.feed(text))
                case CallStarted() | CallCompleted() | FaultFound():
                    self._items.stop()
                case Final(output):
                    self._end(at_path(output, path_parts(self._path)))
                case _:
                    pass
        return self._ready.popleft()

    def _take(self, items: Iterable[Any]) -> None:
        """Have items ready that were not told yet."""
        for item in items:
            if self._at == len(self._told):
                self._told.append(item)
                self._ready.append(item)
            elif self._told[self._at] != item:
                self._take_back()
            self._at += 1

    def _end(self, found: Any) -> None:
        """Compare with the answer."""
        if found is not None and (isinstance(found, str | Mapping) or not isinstance(found, Iterable)):
            raise ConfigurationError(
                f"there is no list at {self._path!r} of the answer", hint="name a field that holds a list"
            )
        self._at = 0
        self._take(cast("Iterable[object]", found or ()))
        if self._at < len(self._told):
            self._take_back()

    def _take_back(self) -> NoReturn:
        raise InvalidOutputError(
            f"item {self._at} was told as {self._told[self._at]!r}, which is not in the answer after all",
            hint="use stream.partials(), which begins anew with each turn, or look only at stream.result",
        )


class _Progress:
    """Takes what tools say of themselves, from the loop's thread and from others, and tells it on the loop."""

    def __init__(self, send: MemoryObjectSendStream[Event]) -> None:
        self._send = send
        self._thread = threading.get_ident()
        self._soon = loop_caller()
        self.running: set[str] = set()

    def report(self, call: ToolCall, message: str, done: float | None, total: float | None) -> None:
        event = ToolProgress(call, message, done, total)
        if threading.get_ident() == self._thread:
            self._tell(event)
        else:
            # Nobody waits: a thread that was left behind must come to its end, whatever became of the loop.
            self._soon(partial(self._tell, event))

    def _tell(self, event: ToolProgress) -> None:
        if event.call.id in self.running:
            try:
                self._send.send_nowait(event)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                self.running.clear()  # the reader has left


@asynccontextmanager
async def watch(run: Run, output: Output[OutputT]) -> AsyncGenerator[RunStream[OutputT]]:
    """Run beside the block, which reads the events; leaving the block ends the run."""
    send, receive = anyio.create_memory_object_stream[Event](_BUFFER)
    progress = _Progress(send)

    async def emit(event: Event) -> None:
        await checkpoint()  # let the reader run: a model may write without ever waiting for anything
        if isinstance(event, ToolStarted):
            progress.running.add(event.call.id)
        elif isinstance(event, ToolFinished):
            progress.running.discard(event.call.id)
        send.send_nowait(event)

    run.state.emit, run.state.report = emit, progress.report
    stream: RunStream[OutputT] = RunStream(receive, output, run)
    # What is carried past the task group, which would wrap it. Cancellation is not: the group knows it.
    broke: Exception | SystemExit | KeyboardInterrupt | None = None
    ending: SystemExit | KeyboardInterrupt | None = None
    async with anyio.create_task_group() as group:

        async def drive() -> None:
            nonlocal ending
            try:
                await stream.drive(run, send)
            except (SystemExit, KeyboardInterrupt) as error:
                ending = error
                group.cancel_scope.cancel()

        group.start_soon(drive)
        try:
            with receive:
                yield stream
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  # raised again below
            broke = error
        finally:
            group.cancel_scope.cancel()
    if ending is not None:
        raise ending
    if broke is not None:
        raise broke
