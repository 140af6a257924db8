"""The thread of a loaded model: it writes one turn alone, or several together with one forward pass a token.

Only this thread runs the model, for as long as there is something to write. A turn alone is written behind its own
prompt, in the cache that the next prompt is compared with. When others come, each turn gets a slot; before every pass
new ones are taken in and those that have ended are let go, so that none waits for the longest.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import atexit
import threading
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

import anyio
import torch

from hermes_agent.errors import ModelError
from hermes_agent.models.decoding import Decoder
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
    """

    def __init__(self, decoder: Decoder, slots: Slots, most: int) -> None:
        self._decoder = decoder
        self._slots = slots
        self._most = most
        self._lock = threading.Lock()
        self._waiting: deque[_Turn] = deque()
        self._writing: list[_Turn] = []
        self._thread: threading.Thread | None = None
        self._over = False
        # A thread that is inside of torch when the interpreter ends takes the process down with it.
        stop = weakref.WeakMethod(self._stop)
        atexit.register(lambda: (own := stop()) and own())

    async def write(self, writer: Writer) -> AsyncGenerator[Written, None]:
        """Write one turn, perhaps among others. Closed or cancelled, it leaves before the next pass.

        Raises:
            ModelError: The model failed, at this turn or at the batch.
        """
        turn = _Turn(writer, loop_caller())
        with self._lock:
            self._waiting.append(turn)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hermes_agent model", daemon=True)
                self._thread.start()
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

    def _stop(self) -> None:
        self._over = True
        thread = self._thread
        if thread is not None:
            thread.join(_EXIT_SECONDS)

    @torch.inference_mode()  # for all of it: what was made in this mode cannot be changed outside of it
    def _run(self) -> None:
        """The thread: until nothing is left."""
        while not self._over:
            try:
                self._take_in()
                if self._writing:
                    self._pass()
                    continue
                with self._lock:
                    if not self._waiting:
                        self._thread = None
                        return
            except BaseException as error:  # noqa: BLE001  # raised again where the turns are awaited
                self._fail(error)

    def _take_in(self) -> None:
        """Let go who is gone, and fill the places."""
        for place in reversed(range(len(self._writing))):
            if self._writing[place].gone:
                self._leave(place)
        while len(self._writing) < self._most and not self._over:
            with self._lock:
                if not self._waiting:
                    return
                turn = self._waiting.popleft()
            if not turn.gone:
                self._begin(turn)

    def _begin(self, turn: _Turn) -> None:
        """Read a prompt and draw the first token. A turn that is alone stays in the decoder's cache."""
        if len(self._writing) == 1 and not self._slots:
            self._slots.join(self._decoder.cache)
        try:
            logits = self._read(turn)
            if logits is None:
                return
            self._draw(turn, logits)
        except Exception as error:  # noqa: BLE001  # raised again where the turn is awaited
            turn.tell(_as_model_error(error))
            return
        if not turn.writer.done:
            if self._writing:
                self._slots.join(self._decoder.cache)
            self._writing.append(turn)

    def _read(self, turn: _Turn) -> torch.Tensor | None:
        """The logits behind a prompt; ``None`` if the turn was given up meanwhile."""
        reading = self._decoder.read(turn.writer.prompt)
        while not turn.gone:
            try:
                next(reading)
            except StopIteration as end:
                logits: torch.Tensor = end.value
                return logits
        return None

    def _pass(self) -> None:
        """One token more for every turn."""
        if not self._slots:
            (turn,) = self._writing
            logits = self._decoder.forward(turn.pending)[None]
            turn.pending = []
        else:
            logits = self._slots.forward([turn.pending.pop(0) for turn in self._writing])
        over: list[int] = []
        for place, turn in enumerate(self._writing):
            if turn.pending:  # what a thought's budget has forced; nothing is drawn before it is read
                continue
            try:
                self._draw(turn, logits[place])
            except Exception as error:  # noqa: BLE001  # raised again where the turn is awaited
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
        self._slots.clear()
        turns, self._writing = self._writing, []
        for turn in turns:
            turn.tell(_as_model_error(error))


class _Turn:
    """One that is written, and who waits for it."""

    def __init__(self, writer: Writer, soon: Callable[[Callable[[], None]], None]) -> None:
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
            self._soon(lambda: self.news.set())


def _as_model_error(error: BaseException) -> ModelError:
    """Every turn gets an error of its own, as each will be raised with a traceback of its own."""
    if isinstance(error, ModelError):
        own: Any = type(error)(error.args[0], hint=error.hint, raw=error.raw)
        return own if isinstance(own, ModelError) else error
    found = ModelError(f"the model failed: {error}", hint=_FAILED)
    found.__cause__ = error
    return found
