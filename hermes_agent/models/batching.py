"""The thread of a loaded model: it writes one turn alone, or several together with one forward pass a token.

Only this thread runs the model, for as long as there is something to write. A turn alone is written behind its own
prompt, in the cache that the next prompt is compared with. When others come, each turn gets a slot; between two passes
some of a new prompt is read and those that have ended are let go, so that none waits for the longest.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any
from weakref import WeakSet

import anyio
import torch

from hermes_agent.errors import ModelError
from hermes_agent.models.decoding import BLOCK, Decoder
from hermes_agent.models.slots import Slots
from hermes_agent.models.writer import Writer, Written
from hermes_agent.threads import loop_caller

__all__ = ["Batch"]

_FAILED = "a smaller model, shorter prompts, fewer max_tokens or a smaller batch_size if memory ran out"
_EXIT_SECONDS = 30.0
"""How long the end of the process waits for the pass that is under way."""


class Batch:
    """Writes up to ``most`` turns at a time; the others wait, first come, first served. Safe from any thread and loop.

    Args:
        decoder: Reads the prompts; nobody else may use it.
        slots: Holds what the turns have read and written, where there are several.
        most: Turns at a time.
        writing_threads: How many threads torch may use for a pass over single tokens; ``None`` leaves it alone.
    """

    def __init__(self, decoder: Decoder, slots: Slots, most: int, *, writing_threads: int | None = None) -> None:
        self._decoder = decoder
        self._slots = slots
        self._most = most
        self._writing_threads = writing_threads
        self._over = False
        self._begin_anew()
        _batches.add(self)

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[_Turn] = deque()
        self._reading: tuple[_Turn, Generator[None, None, torch.Tensor]] | None = None
        self._writing: list[_Turn] = []
        self._thread: threading.Thread | None = None
        self._latest: threading.Thread | None = None
        """The one started last, which may be on its way out of torch when it is no longer `_thread`."""

    async def write(self, writer: Writer) -> AsyncGenerator[Written, None]:
        """Write one turn, perhaps among others. Closed or cancelled, it leaves before the next pass.

        Raises:
            ModelError: The model failed, at this turn or at the batch.
        """
        turn = _Turn(writer, loop_caller())
        self._queue(turn)
        try:
            while True:
                await turn.news.wait()
                turn.news = anyio.Event()
                turn.told = False
                while turn.steps:
                    step = turn.steps.popleft()
                    if isinstance(step, BaseException):
                        raise step
                    yield step
                    if step.finish_reason is not None:
                        return
        finally:
            turn.gone = True

    def _queue(self, turn: _Turn) -> None:
        with self._lock:
            if self._over:
                raise _ended()
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="hermes_agent model", daemon=True)
                try:
                    thread.start()  # it waits for the lock before it looks whether there is something to do
                except RuntimeError as error:
                    raise ModelError(f"the model got no thread: {error}", hint="raise the limit of threads") from error
                self._thread = self._latest = thread
            self._waiting.append(turn)

    @torch.inference_mode()  # for all of it: what was made in this mode cannot be changed outside of it
    def _run(self) -> None:
        """The thread: until nothing is left."""
        threads = _Threads(self._writing_threads)
        while not self._over:
            try:
                self._let_go()
                threads.read()
                self._read_on()
                if self._writing:
                    threads.write()
                    self._pass()
                elif self._reading is None:
                    with self._lock:
                        if not self._waiting:
                            self._thread = None
                            return
            except BaseException as error:  # noqa: BLE001  # raised again where the turns are awaited
                self._fail(error)
        self._fail(_ended())
        with self._lock:
            for turn in self._waiting:
                turn.tell(_ended())

    def _let_go(self) -> None:
        """Let go who is gone."""
        for place in reversed(range(len(self._writing))):
            if self._writing[place].gone:
                self._leave(place)
        if self._reading is not None and self._reading[0].gone:
            self._reading = None

    def _read_on(self) -> None:
        """Read prompts, no more than a block of tokens, so that the turns under way wait for no more than that."""
        end = self._decoder.prefilled + BLOCK
        while self._decoder.prefilled < end and (self._reading is not None or self._call_next()):
            assert self._reading is not None
            turn, blocks = self._reading
            try:
                next(blocks)
            except StopIteration as read:
                self._reading = None
                self._begin(turn, read.value)
            except BaseException as error:  # noqa: BLE001  # raised again where the turn is awaited
                self._reading = None
                turn.tell(_as_model_error(error))

    def _call_next(self) -> bool:
        """Whether there is one to be read, and a place for it."""
        with self._lock:
            if len(self._writing) >= self._most or not self._waiting:
                return False
            turn = self._waiting.popleft()
        self._reading = turn, self._blocks(turn)
        return True

    def _blocks(self, turn: _Turn) -> Generator[None, None, torch.Tensor]:
        """Read a prompt, pausing behind each block; returns the logits behind its last token."""
        if len(self._writing) == 1 and not self._slots:
            self._slots.join(self._decoder.cache)  # whoever was alone has to make room for the prompt
        return (yield from self._decoder.read(turn.writer.prompt))

    def _begin(self, turn: _Turn, logits: torch.Tensor) -> None:
        """Draw the first token behind a prompt. A turn that is alone stays in the decoder's cache."""
        try:
            self._draw(turn, logits)
            if self._writing and not turn.writer.done:
                self._slots.join(self._decoder.cache)
        except BaseException as error:  # noqa: BLE001  # raised again where the turn is awaited
            turn.tell(_as_model_error(error))
            return
        if not turn.writer.done:
            self._writing.append(turn)

    def _pass(self) -> None:
        """One token more for every turn; alone too one at a time, so that the arithmetic is the same."""
        tokens = [turn.pending.pop(0) for turn in self._writing]
        logits = self._slots.forward(tokens) if self._slots else self._decoder.forward(tokens)[None]
        over: list[int] = []
        for place, turn in enumerate(self._writing):
            if turn.pending:  # what a thought's budget has forced; nothing is drawn before it is read
                continue
            try:
                self._draw(turn, logits[place])
            except BaseException as error:  # noqa: BLE001  # raised again where the turn is awaited
                turn.tell(_as_model_error(error))
                over.append(place)
            else:
                if turn.writer.done:
                    over.append(place)
        for place in reversed(over):
            self._leave(place)

    def _draw(self, turn: _Turn, logits: torch.Tensor) -> None:
        before = turn.writer.count
        steps = turn.writer.write(logits)
        self._decoder.decoded += turn.writer.count - before
        turn.pending = [*turn.writer.new]
        turn.tell(*steps)

    def _leave(self, place: int) -> None:
        if self._slots:
            self._slots.leave(place)
        self._writing[place] = self._writing[-1]
        self._writing.pop()

    def _fail(self, error: BaseException) -> None:
        """The batch failed: all of its turns have, and those that wait go on."""
        turns = self._writing if self._reading is None else [*self._writing, self._reading[0]]
        self._writing, self._reading = [], None
        self._slots.clear()
        for turn in turns:
            turn.tell(_as_model_error(error))

    def stop(self) -> None:
        """End the thread, since the interpreter ends: inside of torch it would take the process down with it."""
        self._over = True
        thread = self._latest
        if thread is not None:
            thread.join(_EXIT_SECONDS)

    def forked(self) -> None:
        """Begin anew in a child process, where the thread is not."""
        self._slots.clear()
        self._decoder.forget()
        self._begin_anew()


_batches: WeakSet[Batch] = WeakSet()


def _stop_all() -> None:
    for batch in list(_batches):
        batch.stop()


def _all_forked() -> None:
    for batch in list(_batches):
        batch.forked()


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_all_forked)


class _Turn:
    """One that is written, and who waits for it."""

    def __init__(self, writer: Writer, soon: Callable[[Callable[[], None]], bool]) -> None:
        self.writer = writer
        self.pending: list[int] = []
        self.steps: deque[Written | BaseException] = deque()
        self.news = anyio.Event()
        self.told = False
        self.gone = False
        self._soon = soon

    def tell(self, *steps: Written | BaseException) -> None:
        """Hand over what there is, from the thread."""
        self.steps.extend(steps)
        if not self.told:
            self.told = True
            if not self._soon(lambda: self.news.set()):
                self.gone = True  # its event loop has ended


class _Threads:
    """How many threads torch uses in this thread: fewer for single tokens than for prompts.

    Torch's setting is one of the calling thread and, at once, what every thread that is born later begins with. So
    another thread puts the latter back: nobody else's share is touched.

    Args:
        few: For single tokens; ``None`` leaves everything as it is.
    """

    def __init__(self, few: int | None) -> None:
        self._many = self._now = torch.get_num_threads()  # of a thread that was just born: what the user wants
        self._few = self._many if few is None else min(few, self._many)

    def read(self) -> None:
        """For prompts."""
        self._set(self._many)

    def write(self) -> None:
        """For single tokens."""
        self._set(self._few)

    def _set(self, count: int) -> None:
        if count != self._now:
            self._now = count
            torch.set_num_threads(count)
            if count != self._many:
                other = threading.Thread(target=torch.set_num_threads, args=(self._many,))
                other.start()
                other.join()


def _ended() -> ModelError:
    return ModelError("the process is about to end, and writes no turn any more", hint="ask before the program ends")


def _as_model_error(error: BaseException) -> ModelError:
    """Every turn gets an error of its own, as each will be raised with a traceback of its own."""
    if isinstance(error, ModelError):
        own: Any = type(error)(error.args[0], hint=error.hint, raw=error.raw)
        own.__cause__ = error.__cause__ or error
        return own if isinstance(own, ModelError) else error
    found = ModelError(f"the model failed: {error}", hint=_FAILED)
    found.__cause__ = error
    return found
