"""Right answers held against the grammar: each must be what a model under the mask may write, and valid.

    python -m benchmarks.gold --data extraction

FOLDER holds JSONL files of rows ``{"schema", "gold"}``, as for `benchmarks.extraction`. Fields are put in the order of
the schema, the only one that a mask lets a model write; that changes no value.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.report import figure, machine, table
from hermes_agent.extract.coverage import coverage
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.formats.schema import in_schema_order
from hermes_agent.json_text import dump_json
from hermes_agent.output import JsonSchema, Output, OutputError


@dataclass(slots=True)
class Held:
    """What became of the right answers of one file.

    Attributes:
        name: Of the file.
        rows: How many there are.
        accepted: Those that the grammar allows.
        valid: Those that the validator lets pass, as the value they were.
        left: Keywords that the mask leaves to the validator, over all schemas.
        failures: What was not accepted or not valid.
    """

    name: str
    rows: int = 0
    accepted: int = 0
    valid: int = 0
    left: int = 0
    failures: list[str] = field(default_factory=list[str])


def hold(name: str, lines: Iterable[str]) -> Held:
    """Hold the right answers of a file against the grammars of their schemas."""
    held, known = Held(name), dict[str, tuple[Output[Any], TurnGrammar]]()
    for line in lines:
        row = json.loads(line)
        schema, gold = row["schema"], row["gold"]
        key = json.dumps(schema)
        if key not in known:
            output = Output.of(JsonSchema(schema))
            known[key] = output, TurnGrammar((), output)
            held.left += len(coverage(schema).left)
        output, grammar = known[key]
        text = dump_json(in_schema_order(gold, schema))
        accepted, valid = grammar.accepts(text), _reads_back(output, text, gold)
        held.rows, held.accepted, held.valid = held.rows + 1, held.accepted + accepted, held.valid + valid
        if not (accepted and valid):
            held.failures.append(f"{row.get('id', held.rows)}: accepted={accepted} valid={valid}: {text[:200]}")
    return held


def _reads_back(output: Output[Any], text: str, gold: object) -> bool:
    try:
        return bool(output.validate(text) == gold)
    except OutputError:
        return False


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True, help="folder of JSONL files of rows with schema and gold")
    arguments = options.parse_args()
    files = sorted(arguments.data.glob("*.jsonl"))
    if not files:
        sys.exit(f"{str(arguments.data)!r} holds no .jsonl files: give the folder of the sets with --data")
    found = [hold(file.stem, file.read_text(encoding="utf-8").splitlines()) for file in files]
    headers = ["set", "rows", "accepted", "valid", "keywords left to the validator"]
    lines = [[h.name, *(figure(n, 0) for n in (h.rows, h.accepted, h.valid, h.left))] for h in found]
    print(table("Right answers under the grammar", headers, lines, machine()))
    failures = [f"{held.name} {failure}" for held in found for failure in held.failures]
    if failures:
        sys.exit("\n".join(failures[:20]))


if __name__ == "__main__":
    main()
