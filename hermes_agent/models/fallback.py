"""Several models behind one another: when one cannot write, the next one does."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from hermes_agent.errors import (
    ConfigurationError,
    ContextLengthError,
    GuaranteeError,
    ModelError,
    ModelUnavailableError,
)
from hermes_agent.formats.dialects import Dialect
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.models import resolve
from hermes_agent.models.address import masked
from hermes_agent.models.base import Chunk, Guarantee, Model, ModelLike, Request, weakest
from hermes_agent.models.permission import is_for_tests

__all__ = ["Fallback"]

_logger = logging.getLogger("hermes_agent.models")

_REMEMBERED = 256
"""Turns of which it is known who began them; only those being written now matter."""


@dataclass(frozen=True, slots=True)
class _Begun:
    """A turn, or its beginning: who wrote it, how long it is, a hash of its text, and which conversation it is in."""

    index: int
    length: int
    text: int
    conversation: int


class Fallback:
    """Has each turn written by the first of several models that can.

    A model that fails before it has written anything is passed over for this turn. Once text was given out an error
    is an error: nothing is ever written twice. Each turn is read in the dialect of the model that wrote it, and a turn
    that is taken up again goes on with the model that began it.

    Args:
        *models: Models or their names, the preferred one first.
        on: The errors that make it go on; every other one is raised at once. A prompt that is too long for one
            model may fit the next, so `ContextLengthError` is among the ``ModelError`` that do by default.
        cooldown: Seconds for which a model that failed is asked last; 0 always keeps the order. A prompt that was
            too long, or a guarantee that was too weak, says nothing about the next turn and is not counted.
        clock: Tells the time in seconds.

    Raises:
        ConfigurationError: No models, or a name that is not understood.

    Example:
        >>> from hermes_agent.testing import ScriptedModel
        >>> Fallback(ScriptedModel([]), ScriptedModel(["Hello."])).name
        'fallback(scripted, scripted)'
    """

    def __init__(
        self,
        *models: ModelLike,
        on: tuple[type[Exception], ...] = (ModelError,),
        cooldown: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not models:
            raise ConfigurationError("Fallback() has no models", hint="pass the models, the preferred one first")
        if cooldown < 0:
            raise ConfigurationError(f"cooldown={cooldown!r} is negative", hint="use a number of seconds, or 0")
        self.models: tuple[Model, ...] = tuple(resolve(model) for model in models)
        self._on = on
        self._cooldown = cooldown
        self._clock = clock
        self._failed_at: dict[int, float] = {}
        self._unproven: set[int] = set()
        self._begun: deque[_Begun] = deque(maxlen=_REMEMBERED)
        self._remembering = threading.Lock()

    def __repr__(self) -> str:
        return f"Fallback({', '.join(map(repr, self.models))})"

    @property
    def name(self) -> str:
        """The names of all models."""
        return f"fallback({', '.join(model.name for model in self.models)})"

    @property
    def dialect(self) -> Dialect:
        """That of the first model which can tell; whichever writes a turn names its own on the first chunk.

        Raises:
            ModelError: No model can tell.
        """
        for model in self.models[:-1]:
            try:
                return model.dialect
            except self._on:  # its tokenizer is not there, say; then it writes nothing either
                continue
        return self.models[-1].dialect

    @property
    def for_tests(self) -> bool:
        """Whether all models are made for tests."""
        return all(map(is_for_tests, self.models))

    async def guarantee(self, grammar: TurnGrammar, *, prove: bool = False) -> Guarantee:
        """The weakest of the models that can be asked.

        One that cannot be reached now has to prove itself before it writes its first turn.

        Raises:
            GuaranteeError: ``prove``, and one of the models does not enforce the grammar.
            ModelError: None of them can be asked.
        """
        found: list[Guarantee] = []
        errors: list[tuple[Model, Exception]] = []
        for index, model in enumerate(self.models):
            try:
                found.append(await model.guarantee(grammar, prove=prove))
            except GuaranteeError:
                raise
            except self._on as error:
                errors.append((model, error))
                if prove:
                    self._unproven.add(index)
            else:
                self._unproven.discard(index)
        if not found:
            raise _all_failed(errors)
        return weakest(found)

    async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Write one turn with the first model that can.

        Raises:
            ModelError: None could; the message names each model and its reason, and the errors themselves are the
                ``ExceptionGroup`` in ``__cause__``. It is a `ContextLengthError`, `GuaranteeError` or
                `ModelUnavailableError` where all of them were. The model that began a turn could not go on with it.
        """
        errors: list[tuple[Model, Exception]] = []
        beginner = self._beginner(request)
        for index in self._order() if beginner is None else [beginner]:
            model, given_out = self.models[index], False
            texts = [request.prefix]
            try:
                await self._prove(index, request)
                async with aclosing(model.generate(request)) as chunks:
                    async for chunk in chunks:
                        texts.append(chunk.text)
                        if given_out:
                            yield chunk
                        elif chunk.text or chunk.finish_reason is not None:
                            given_out = True
                            yield replace(chunk, dialect=chunk.dialect or model.dialect)
            except self._on as error:
                if not isinstance(error, ContextLengthError | GuaranteeError):
                    self._failed_at[index] = self._clock()
                if given_out or beginner is not None:
                    raise
                errors.append((model, error))
                # What the error says may quote the request, so only its kind is told above DEBUG.
                _logger.warning("%s could not write: %s", masked(model.name), type(error).__name__)
                _logger.debug("%s could not write", masked(model.name), exc_info=error)
            else:
                return
            finally:
                if given_out:
                    self._remember(index, "".join(texts), request)
        raise _all_failed(errors)

    def _remember(self, index: int, text: str, request: Request) -> None:
        """Note who wrote a turn so far."""
        if text:
            with self._remembering:
                self._begun.append(_Begun(index, len(text), hash(text), id(request.messages)))

    def _beginner(self, request: Request) -> int | None:
        """Who wrote the beginning of a turn; ``None`` if it has none, or none of the models wrote it.

        Two turns may begin alike: then that of the same conversation counts, and the latest.
        """
        prefix, conversation = request.prefix, id(request.messages)
        if not prefix:
            return None
        with self._remembering:
            begun = list(self._begun)
        found = [(b.conversation == conversation, b.length, at) for at, b in enumerate(begun) if _begins(prefix, b)]
        return begun[max(found)[-1]].index if found else None

    async def _prove(self, index: int, request: Request) -> None:
        """Ask a model what a run with ``constrain="strict"`` could not ask it, as it did not answer then."""
        if index in self._unproven and request.grammar is not None:
            await self.models[index].guarantee(request.grammar, prove=True)
            self._unproven.discard(index)

    def _order(self) -> list[int]:
        """The models as they stand, those that have just failed behind the others."""
        now = self._clock()

        def resting(index: int) -> bool:
            return index in self._failed_at and now - self._failed_at[index] < self._cooldown

        return sorted(range(len(self.models)), key=resting)


def _begins(prefix: str, begun: _Begun) -> bool:
    return begun.length <= len(prefix) and hash(prefix[: begun.length]) == begun.text


def _all_failed(errors: list[tuple[Model, Exception]]) -> ModelError:
    causes = [error for _, error in errors]
    kinds = (ContextLengthError, GuaranteeError, ModelUnavailableError)
    kind = next((kind for kind in kinds if all(isinstance(cause, kind) for cause in causes)), ModelError)
    lines = [f"{model.name}: {getattr(error, 'message', None) or repr(error)}" for model, error in errors]
    hints = dict.fromkeys(str(hint) for error in causes if (hint := getattr(error, "hint", "")))
    failure = kind(
        "\n  - ".join([f"none of {len(errors)} models could write:", *lines]),
        hint="; ".join(hints) or "look at __cause__, which holds the error of each model",
    )
    failure.__cause__ = ExceptionGroup("each model's error", causes)
    return failure
