"""Whether models may be asked at all: tests forbid it, so that none reaches a real model unnoticed."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from hermes_agent.errors import ConfigurationError

__all__ = ["RequestsForbiddenError", "check_requests_allowed", "forbid_model_requests", "is_for_tests"]


class RequestsForbiddenError(ConfigurationError):
    """A real model was asked while `forbid_model_requests` was in force."""


class _Named(Protocol):
    @property
    def name(self) -> str: ...


class forbid_model_requests:  # noqa: N801  # called like a function, as `with forbid_model_requests():`
    """From now on no real model writes, loads or is sent anything; it raises `RequestsForbiddenError` instead.

    It holds in the whole process: in every thread, task and event loop. Called plainly it holds for good, or until
    `end`; as a context manager, to the end of the block. Several may be in force; models write again when the last one
    has ended.

    Models with an attribute ``for_tests`` that is true still write: `ScriptedModel`, `FillingModel`, `Replay`, a
    `Fallback` or a `Recorder` of such, and your own if you give them one.

    Example:
        >>> from hermes_agent import Agent
        >>> with forbid_model_requests():
        ...     Agent("embedded").run_sync("Hi")
        Traceback (most recent call last):
        hermes_agent.models.permission.RequestsForbiddenError: the model 'embedded' may not be asked: ...
    """

    def __init__(self) -> None:
        _in_force.add(self)

    def end(self) -> None:
        """Forbid no longer. Once is enough; again changes nothing."""
        _in_force.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()


_in_force: set[forbid_model_requests] = set()
"""Of the process and not of a context: models load and write in threads of their own."""


def is_for_tests(model: object) -> bool:
    """Whether a model is made for tests, and so may always write."""
    return getattr(model, "for_tests", False) is True


def check_requests_allowed(model: _Named) -> None:
    """What a real model calls before it loads, sends or writes anything.

    Raises:
        RequestsForbiddenError: `forbid_model_requests` is in force, and the model is not one for tests.
    """
    if _in_force and not is_for_tests(model):
        raise RequestsForbiddenError(
            f"the model {model.name!r} may not be asked: model requests are forbidden here",
            hint="give the agent a ScriptedModel or a FillingModel of hermes_agent.testing, for a while with "
            "agent.override(model=...); or ask it outside of forbid_model_requests()",
        )
