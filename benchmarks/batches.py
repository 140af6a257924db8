"""Rows of a job on the embedded model: one after the other, and as many together as the model writes.

python -m benchmarks.batches [--rows 48] [--json FILE]

Both ask the same rows, greedily, under one grammar; the script fails if a row comes out otherwise.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from pydantic import BaseModel, Field

from benchmarks.report import figure, machine, save, table
from hermes_agent.extract import Extractor
from hermes_agent.models.embedded import EmbeddedModel

VENDORS = ("Nordlys Optics", "Acme Tools", "Blue Sky Ltd", "Miller & Sons", "Old Mill Bakery")
THANKS = "Thank you for your order, we look forward to hearing from you again soon. "


class Invoice(BaseModel):
    """What is taken out of a text."""

    number: str = Field(max_length=12)
    vendor: str = Field(max_length=30)
    due: date
    total: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One pass over the rows.

    Attributes:
        rows: How many.
        seconds: Wall time.
        cpu: CPU seconds.
        read: Prompt tokens read.
        written: Tokens written.
    """

    rows: int
    seconds: float
    cpu: float
    read: int
    written: int


def texts(rows: int) -> list[str]:
    """Invoices of different lengths."""
    return [
        f"Invoice {chr(65 + i % 26)}-{1000 + 7 * i} of {VENDORS[i % 5]}. Please pay {100 + i * 3.25:.2f} EUR by "
        f"2026-{1 + i % 12:02d}-{1 + i % 28:02d}. {THANKS * (i % 3)}"
        for i in range(rows)
    ]


def measure(
    model: EmbeddedModel, extractor: Extractor[Invoice], rows: list[str], out: Path, concurrency: int | None
) -> Measured:
    read, written = model.prefilled_tokens, model.decoded_tokens
    began, worked = time.perf_counter(), time.process_time()
    extractor.map(rows, out=out, concurrency=concurrency, progress=False)
    return Measured(
        len(rows),
        time.perf_counter() - began,
        time.process_time() - worked,
        model.prefilled_tokens - read,
        model.decoded_tokens - written,
    )


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python -m benchmarks.batches"
    )
    options.add_argument("--rows", type=int, default=48)
    options.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = options.parse_args()
    model = EmbeddedModel()
    example = Invoice(number="K-3", vendor="Woods", due=date(2025, 12, 24), total=12.0)
    extractor = Extractor(
        Invoice, model, examples=[("Invoice K-3 of Woods, to be paid by 2025-12-24: 12.00 EUR", example)]
    )
    rows = texts(given.rows)
    extractor.extract(rows[0])  # what is done once stays outside the clock
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "alone.jsonl"), Path(folder, "together.jsonl")
        alone = measure(model, extractor, rows, files[0], 1)
        together = measure(model, extractor, rows, files[1], None)
        same = files[0].read_bytes() == files[1].read_bytes()
    print(
        table(
            "Rows of a job on the embedded model",
            ("rows", "rows/s", "CPU s a row", "tokens read", "written"),
            [
                (
                    name,
                    figure(found.rows / found.seconds, 2),
                    figure(found.cpu / found.rows, 3),
                    figure(found.read, 0),
                    figure(found.written, 0),
                )
                for name, found in (("one after the other", alone), ("together", together))
            ],
            f"{machine()}; {given.rows} rows, up to {model.batch_size} at a time.",
            f"Together / one after the other: {alone.seconds / together.seconds:.2f} times the rows/s, "
            f"{together.cpu / alone.cpu:.2f} times the CPU time. Target: 3 times the rows/s.",
        )
    )
    save(given.json, {"alone": asdict(alone), "together": asdict(together)})
    if not same:
        sys.exit("rows have come out otherwise together than one after the other")


if __name__ == "__main__":
    main()
