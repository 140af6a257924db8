"""What every benchmark does at its end: one table on stdout and, if asked, the figures as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path

__all__ = ["figure", "machine", "save", "table"]


def figure(value: float | None, digits: int = 2, unit: str = "") -> str:
    """A number as it stands in a table; a dash for what was not measured."""
    return "-" if value is None else f"{value:,.{digits}f}{unit}"


def table(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], *notes: str) -> str:
    """A Markdown table with aligned columns: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (headers, *rows)) for i in range(len(headers))]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join([first, *others])} |"

    rule = "|".join(["", "-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:]), ""])
    return "\n".join([f"## {title}", "", line(headers), rule, *map(line, rows), *("\n" + note for note in notes), ""])


def machine() -> str:
    """Where the figures were measured, and how busy the machine was: neighbours make CPU time dearer."""
    here = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"{here}, load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else here


def save(path: Path | None, figures: object) -> None:
    """Write the figures as JSON; ``None`` writes nothing."""
    if path is not None:
        path.write_text(json.dumps({"machine": machine(), "figures": figures}, indent=2) + "\n")
