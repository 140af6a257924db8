"""Answers that are still being written, as objects that are valid as far as they go.

The text of a typed answer is read again when it has grown by a sixteenth, so that the whole work grows with its
length and no faster. Finished items of the outermost list are read once, and what is behind them is followed as an
answer of its own: a finished item is shown at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, cast

from typing_extensions import TypeVar

from hermes_agent.output import Output
from hermes_agent.partial.text import GrowingJson, Hidden, Invalid, Level

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from hermes_agent.partial.schema import SchemaGrowth
    from hermes_agent.partial.types import TypeGrowth

__all__ = ["GROWTH", "Partials"]

T = TypeVar("T", default=Any)

GROWTH: Final = 16
"""An answer of n characters is read again after n / GROWTH more: all readings together read it about GROWTH times."""


class Partials(Generic[T]):
    """Partial values of the answers of one run.

    Attributes:
        parsed: Characters that were given to a JSON reader so far, for judging the cost.

    Example:
        >>> partials = Partials(Output.of(list[int]))
        >>> partials.feed("[1, 2, 3")
        >>> partials.read()
        ([1, 2],)
    """

    def __init__(self, output: Output[T]) -> None:
        self._output = output
        self._growth: SchemaGrowth | TypeGrowth | None = None
        self.parsed = 0
        self.begin()

    def begin(self) -> None:
        """A new turn begins, and with it perhaps a new answer."""
        self._text = GrowingJson()
        self._read_at = 0
        self._steps = 0
        self._list: Level | None = None
        self._extra = 0
        self._last: tuple[T] | None = None
        self._over = self._output.kind != "json"

    def stop(self) -> None:
        """This turn turns out to be no answer."""
        self._over = True

    @property
    def written(self) -> str | None:
        """The answer as it is written so far; ``None`` if this turn is none."""
        return None if self._over else self._text.text

    def feed(self, text: str) -> None:
        """More of the visible text."""
        if not self._over:
            self._text.feed(text)

    def read(self) -> tuple[T] | None:
        """The answer as far as it goes; ``None`` if there is nothing new to show, or it is too early to look."""
        text = self._text
        if self._over or text.steps == self._steps or not self._is_due(text):
            return None
        self._read_at, self._steps, self._list = len(text), text.steps, text.outermost_list()
        if text.over or not (text.levels or text.string is not None):
            return None  # what is whole is judged by the run
        value = self._value(text)
        if value is None or (self._last is not None and _same(value[0], self._last[0])):
            return None
        self._last = value
        return value

    def _is_due(self, text: GrowingJson) -> bool:
        """Whether reading again now keeps the whole work in bounds."""
        outermost = text.outermost_list()
        settled = 0
        if self._growth is not None and outermost is not None and self._growth.follows(outermost):
            settled = outermost.whole
        if len(text) - self._read_at >= (self._read_at - settled) / GROWTH:
            return True
        # A list that is new, or has ended, is read at once while all such readings together cost twice the length.
        begun = outermost is not None and outermost.whole > outermost.start + 1
        if outermost is not self._list and (begun or outermost is None) and self._extra <= len(text):
            self._extra += len(text)
            return True
        return False

    def _value(self, text: GrowingJson) -> tuple[T] | None:
        before = text.parsed
        try:
            return (cast("T", self._reader().value(text)),)
        except Hidden:
            return None
        except Invalid:
            self._over = True
            return None
        finally:
            self.parsed += text.parsed - before

    def _reader(self) -> SchemaGrowth | TypeGrowth:
        if self._growth is None:
            source = self._output.source
            if isinstance(source, Mapping):
                from hermes_agent.partial.schema import SchemaGrowth

                self._growth = SchemaGrowth(cast("Mapping[str, Any]", source))
            else:
                from hermes_agent.partial.types import TypeGrowth

                self._growth = TypeGrowth(cast("TypeAdapter[Any]", source))
        return self._growth


def _same(one: object, other: object) -> bool:
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001  # a comparison of the user's own; showing a value twice does no harm
        return False
