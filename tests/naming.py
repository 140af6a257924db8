"""Names of parametrised tests."""

from __future__ import annotations

import re

__all__ = ["label"]


def label(value: object) -> str:
    """The value as text, without addresses: they differ from process to process, which parallel runs refuse."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
