"""What a job costs beside the model: rows a second through a scripted model, and memory, over a file of many rows.

One core: the model answers at once, so all that is measured is reading, asking, validating, writing and keeping.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import BaseModel

from benchmarks.report import figure, machine, save, table
from benchmarks.soak_watch import resident
from hermes_agent.extract import Extractor
from hermes_agent.formats import dialect
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.models.base import Chunk, Guarantee, Request

TARGET = 5000.0  # rows a second of CPU


class Invoice(BaseModel):
    """What is taken out of each row."""

    number: str
    total: float


class Quick:
    """A model that answers at once, and always the same."""

    name = "quick"
    dialect = dialect("chatml")

    async def guarantee(self, grammar: TurnGrammar, *, prove: bool = False) -> Guarantee:
        """Nothing is masked."""
        return "checked"

    async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """The one answer."""
        yield Chunk('{"number": "A-1042", "total": 1890.5}', "stop", 100, 20)


@dataclass(slots=True)
class Memory:
    """Bytes of the process, looked at as rows are settled: a progress that shows nothing.

    Attributes:
        settled: Rows so far.
        at: Bytes after each tenth of the rows.
    """

    rows: int
    settled: int = 0
    at: tuple[int, ...] = ()

    def begin(self, already: int) -> None:
        """Nothing is shown."""

    def advance(self, settled: int, failed: int, input_tokens: int, output_tokens: int) -> None:
        """Take note."""
        self.settled += settled
        if self.settled * 10 >= (len(self.at) + 1) * self.rows:
            self.at = (*self.at, resident())

    def close(self) -> None:
        """There is nothing to close."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One kind of output.

    Attributes:
        rows_per_second: Of CPU time of the whole process.
        again_per_second: Rows that are settled already, passed over by a second run.
        grown: Bytes that the process has grown by from three tenths of the rows to the end.
    """

    rows_per_second: float
    again_per_second: float
    grown: int


def measure(rows: int, suffix: str, folder: Path) -> Measured:
    """Run one job of so many rows, and once more when all is done."""
    given, out = folder / "in.jsonl", folder / f"out{suffix}"
    with given.open("w") as file:
        for number in range(rows):
            text = f"Invoice A-{number} of Nordlys Optics, to be paid by 2026-03-15: 1890.50 EUR"
            file.write(json.dumps({"id": f"row-{number}", "text": text}) + "\n")
    extractor, memory = Extractor(Invoice, Quick()), Memory(rows)
    began = time.process_time()
    summary = extractor.map(given, out=out, progress=memory)
    seconds = time.process_time() - began
    if (summary.rows, summary.failed) != (rows, 0):
        sys.exit(f"of {rows} rows {summary.rows} were settled, {summary.failed} of them failed")
    began = time.process_time()
    again = extractor.map(given, out=out, progress=False)
    if again.already != rows:
        sys.exit(f"of {rows} settled rows only {again.already} were known")
    return Measured(rows / seconds, rows / (time.process_time() - began), memory.at[-1] - memory.at[2])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=100_000)
    options.add_argument("--quick", action="store_true", help="2,000 rows")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    given = options.parse_args()
    rows = 2000 if given.quick else given.rows
    found: dict[str, Measured] = {}
    for suffix in (".jsonl", ".sqlite", ".parquet"):
        with tempfile.TemporaryDirectory() as folder:
            found[suffix] = measure(rows, suffix, Path(folder))
    lines = [
        [suffix, figure(m.rows_per_second, 0), figure(m.again_per_second, 0), figure(m.grown / 1e6, 1, " MB")]
        for suffix, m in found.items()
    ]
    headers = ["output", "rows/s of CPU", "settled rows/s, run again", "memory grown after 30 %"]
    note = f"{rows:,} rows; target: {TARGET:,.0f} rows/s. {machine()}"
    print(table("A job beside its model", headers, lines, note))
    save(given.json, {suffix: asdict(m) for suffix, m in found.items()})


if __name__ == "__main__":
    main()
