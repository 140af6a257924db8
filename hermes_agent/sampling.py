"""How tokens are drawn."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

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

    def over(self, base: Sampling) -> Sampling:
        """These settings where they are set, those of ``base`` elsewhere."""
        return replace(base, **{f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None})
