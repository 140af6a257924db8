"""What a filling model decides by: always the first, or by a seed."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

__all__ = ["Whim"]

T = TypeVar("T")


class Whim:
    """Decides between possibilities: without a seed for the plainest one, with one at random, the same each time.

    Args:
        seed: Whatever names the choices; ``None`` takes the first and the least of everything.

    Example:
        >>> Whim().one_of("abc"), Whim().chance(0.9)
        ('a', False)
        >>> Whim("x").one_of(range(100)) == Whim("x").one_of(range(100))
        True
    """

    def __init__(self, seed: str | None = None) -> None:
        self._random = None if seed is None else Random(seed)  # nothing secret

    @property
    def plain(self) -> bool:
        """Whether there is no seed."""
        return self._random is None

    def one_of(self, options: Sequence[T]) -> T:
        """One of several, of which there is at least one."""
        return options[0] if self._random is None else self._random.choice(options)

    def chance(self, share: float) -> bool:
        """True in so many of all cases; without a seed never."""
        return self._random is not None and self._random.random() < share

    def up_to(self, most: int) -> int:
        """A whole number from 0 on; without a seed 0."""
        return 0 if self._random is None else self._random.randint(0, max(most, 0))
