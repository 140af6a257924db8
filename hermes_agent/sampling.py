"""How tokens are drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from hermes_agent.errors import ConfigurationError

__all__ = ["Sampling"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling settings; ``None`` means "whatever the layer below prefers".

    Attributes:
        temperature: 0 is greedy: the most likely allowed token, always.
        top_p: Nucleus probability mass, in (0, 1].
        top_k: How many of the likeliest tokens stay in the draw; 0 keeps all.
        repetition_penalty: 1.0 is none.
        seed: Makes a draw repeatable on one machine and one thread count.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        def check(name: str, holds: Callable[[float], bool], wanted: str) -> None:
            value = getattr(self, name)
            if value is None:
                return
            if isinstance(value, bool) or not isinstance(value, int | float) or not holds(value):
                raise ConfigurationError(f"Sampling({name}={value!r})", hint=f"{name} must be {wanted}, or None")

        check("temperature", lambda t: 0 <= t < math.inf, "a number from 0 on")
        check("top_p", lambda p: 0 < p <= 1, "above 0 and at most 1")
        check("top_k", lambda k: k >= 0 and k == int(k), "a whole number from 0 on")
        check("repetition_penalty", lambda p: 0 < p < math.inf, "a number above 0; 1.0 is none")
        check("seed", lambda s: 0 <= s < 2**63 and s == int(s), "a whole number from 0 to 2**63 - 1")

    def over(self, base: Sampling) -> Sampling:
        """These settings where they are set, those of ``base`` elsewhere."""
        return replace(base, **{f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None})
