"""Functions that check a run's answer beyond its type, or improve it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hermes_agent.context import RunContext
from hermes_agent.errors import ConfigurationError
from hermes_agent.signature import context_parameter, is_async

__all__ = ["OutputValidator", "Validator"]

OutputValidator = Callable[..., Any]
"""Takes the answer, behind a `RunContext` if its first parameter is annotated as one, and returns it, changed or not
(``None`` leaves it as it is). ``Retry`` and ``ValueError`` tell the model what is wrong. ``def`` runs in a worker
thread. One with a parameter ``partial: bool`` is shown the partial values of a stream as well."""


@dataclass(frozen=True, slots=True)
class Validator:
    """A function that checks answers, and how to call it."""

    function: OutputValidator
    context: str | None
    asynchronous: bool
    partial: bool

    @classmethod
    def of(cls, function: OutputValidator) -> Validator:
        """Read a function's signature, once.

        Raises:
            ConfigurationError: It cannot be called with an answer.
        """
        if not callable(function):
            raise ConfigurationError(f"validators holds {function!r}, which is no function", hint="give functions")
        try:
            names = inspect.signature(function).parameters
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"validator {function!r} has no signature: {error}", hint="wrap it") from error
        context = context_parameter(function)
        if len([name for name in names if name not in (context, "partial")]) < 1:
            raise ConfigurationError(
                f"validator {function!r} takes no answer", hint="let it take the answer, behind a RunContext if any"
            )
        return cls(function, context, is_async(function), "partial" in names)

    async def check(self, value: Any, context: RunContext[Any], *, partial: bool = False) -> Any:
        """The answer after this validator.

        Raises:
            Exception: Whatever the function raises; `Retry` and ``ValueError`` are meant for the model.
        """
        call = functools.partial(self.function, *([context] if self.context is not None else []), value)
        if self.partial:
            call = functools.partial(call, partial=partial)
        if self.asynchronous:
            checked = call()
        else:
            from hermes_agent.threads import in_thread

            checked = await in_thread(call)
        if inspect.isawaitable(checked):
            checked = await checked
        return value if checked is None else checked
