"""What a docstring says about a function and its parameters, in Google, NumPy or Sphinx style."""

from __future__ import annotations

from dataclasses import dataclass, field
from inspect import cleandoc

__all__ = ["Docstring", "read_docstring"]

_SECTIONS = ("Args:", "Arguments:", "Parameters:", "Params:")
"""Heads whose lines keep their indentation even if the docstring begins with them."""


@dataclass(frozen=True, slots=True)
class Docstring:
    """A docstring, read.

    Attributes:
        description: Summary and body, without the sections on parameters, returns, errors and examples.
        parameters: What is said of each parameter, on one line, by name.
    """

    description: str = ""
    parameters: dict[str, str] = field(default_factory=dict[str, str])


def read_docstring(text: str | None) -> Docstring:
    """Read a docstring of any of the three styles; what cannot be read is description.

    Args:
        text: The docstring as ``__doc__`` holds it, indented or not.
    """
    if not text or not text.strip():
        return Docstring()
    from docstring_parser import ParseError, parse

    head = text.partition("\n")[0].strip()
    text = cleandoc(f"\n{text}" if head in _SECTIONS else text)
    try:
        read = parse(f"\n\n{text}")  # the parser finds a section only behind a line break
    except ParseError:
        return Docstring(text)
    parts = [part for part in (read.short_description, read.long_description) if part]
    return Docstring(
        "\n\n".join(parts) if read.blank_after_short_description else "\n".join(parts),
        {p.arg_name.lstrip("*"): " ".join((p.description or "").split()) for p in read.params if p.description},
    )
