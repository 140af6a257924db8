"""What became of one text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, cast

from typing_extensions import TypeVar

from hermes_agent.errors import HermesError
from hermes_agent.limits import Usage
from hermes_agent.models.base import Guarantee

__all__ = ["Extraction", "Span"]

T_co = TypeVar("T_co", covariant=True)

Span = tuple[int, int]
"""Where a value stands in the text: first character, and the one behind the last."""


@dataclass(frozen=True, slots=True)
class Extraction(Generic[T_co]):
    """What became of one text.

    Attributes:
        error: Why there is no value; ``None`` if there is one. ``error.attempts`` are the model's answers.
        usage: Tokens and turns, those of failed attempts included.
        guarantee: The weakest enforcement any turn had; ``None`` where no turn was written.
        attempts: How often the model wrote an answer.
        evidence: Where in the text values were found, by JSON pointer (RFC 6901) into the value as JSON; empty
            unless it was asked for. What stands nowhere in the text word for word is not in it.
    """

    _output: T_co | None = field(repr=True)
    error: HermesError | None
    usage: Usage
    guarantee: Guarantee | None
    attempts: int
    evidence: Mapping[str, Span] = field(default_factory=dict[str, Span])

    @property
    def output(self) -> T_co:
        """The validated value.

        Raises:
            HermesError: There is none; the same as ``error``.
        """
        if self.error is not None:
            raise self.error
        return cast("T_co", self._output)
