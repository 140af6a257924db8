"""Every gold call of the Berkeley Function Calling Leaderboard, through the grammar, the parser and the validation.

    python benchmarks/bfcl.py --data bfcl/

The folder holds ``BFCL_v4_*.json`` and ``possible_answer/``. Gold answers name several permitted values for each
argument; the call taken is the one of the first permitted values, where the empty string means that an optional
argument is left out. Objects are closed, optional arguments stay optional.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.formats.parser import parse
from hermes_agent.formats.schema import in_schema_order
from hermes_agent.formats.wire import serialise_calls
from hermes_agent.tool import Tool, ToolArgumentsError

CATEGORIES = ("simple_python", "multiple", "parallel", "parallel_multiple")
KINDS = {"dict": "object", "float": "number", "tuple": "array"}
STANDARD = frozenset(("array", "boolean", "integer", "null", "number", "object", "string"))
KEPT = frozenset(("description", "enum", "items", "properties", "required", "type", "minimum", "maximum", "format"))


def json_schema(spec: dict[str, Any]) -> dict[str, Any]:
    """BFCL's dialect of parameter descriptions as JSON schema."""
    schema: dict[str, Any] = {key: value for key, value in spec.items() if key in KEPT}
    kind = KINDS.get(spec.get("type", "any"), spec.get("type", "any"))
    if kind == "any":
        schema.pop("type", None)
    else:
        schema["type"] = kind if kind in STANDARD else "string"
    if "properties" in spec:
        schema["properties"] = {name: json_schema(part) for name, part in spec["properties"].items()}
        schema["additionalProperties"] = False
    if isinstance(spec.get("items"), dict):
        schema["items"] = json_schema(spec["items"])
    return schema


def first_choice(permitted: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the first permitted values; ``""`` for an optional one leaves it out."""
    chosen: dict[str, Any] = {}
    for name, options in permitted.items():
        options = options if isinstance(options, list) else [options]
        if options[0] != "" or name in schema.get("required", ()):
            chosen[name] = plain(options[0], schema.get("properties", {}).get(name, {}))
    return chosen


def plain(value: Any, schema: dict[str, Any]) -> Any:
    """A permitted value; inside an object each value is a list of permitted ones again."""
    if isinstance(value, dict):
        return first_choice(value, schema)
    if isinstance(value, list):
        return [plain(item, schema.get("items", {})) for item in value]
    return value


@dataclass
class Tally:
    """Counts over gold calls."""

    calls: int = 0
    accepted: int = 0
    allowed: int = 0
    allowed_and_held: int = 0
    failures: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    seconds: float = 0.0


def entries(folder: Path, category: str) -> Iterator[tuple[str, list[dict[str, Any]], list[dict[str, Any]]]]:
    name = f"BFCL_v4_{category}.json"
    questions = (folder / name).read_text(encoding="utf-8").splitlines()
    answers = (folder / "possible_answer" / name).read_text(encoding="utf-8").splitlines()
    for question, answer in zip(map(json.loads, questions), map(json.loads, answers), strict=True):
        yield question["id"], question["function"], answer["ground_truth"]


def measure(folder: Path, category: str, tally: Tally) -> None:
    for entry, functions, truth in entries(folder, category):
        tools = {
            spec["name"]: Tool.from_schema(
                name=spec["name"], description=spec["description"], parameters=json_schema(spec["parameters"])
            )
            for spec in functions
        }
        start = time.perf_counter()
        grammar = TurnGrammar(tools.values(), tool_choice="required")
        for gold in truth:
            ((name, permitted),) = gold.items()
            check(entry, tools, grammar, name, first_choice(permitted, tools[name].parameters), tally)
        tally.seconds += time.perf_counter() - start


def check(
    entry: str, tools: dict[str, Tool], grammar: TurnGrammar, name: str, arguments: dict[str, Any], tally: Tally
) -> None:
    tally.calls += 1
    tool = tools[name]
    text = serialise_calls([(name, in_schema_order(arguments, tool.parameters))])
    accepted = grammar.accepts(text)
    tally.accepted += accepted
    try:
        tool.validate(arguments)
    except ToolArgumentsError as error:
        tally.refused.append(f"{entry}: {error.problems[0]}")
        if accepted:
            tally.failures.append(f"{entry}: accepted, but {error.problems[0]}")
        return
    tally.allowed += 1
    turn = parse(text, tools=list(tools.values()))
    same = [(call.name, call.arguments) for call in turn.tool_calls] == [(name, arguments)]
    held = accepted and same and not turn.faults
    tally.allowed_and_held += held
    if not held:
        tally.failures.append(f"{entry}: {text} accepted={accepted} same={same} faults={turn.faults}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder with BFCL_v4_*.json and possible_answer/")
    parser.add_argument("--failures", action="store_true", help="list the calls that fail, and those not allowed")
    arguments = parser.parse_args()
    if not (arguments.data / "possible_answer").exists():
        sys.exit(f"{str(arguments.data)!r} holds no possible_answer/: give BFCL's data folder with --data")
    tally = Tally()
    for category in CATEGORIES:
        measure(arguments.data, category, tally)
    print(f"gold calls                               {tally.calls:>6}")
    print(f"accepted, of all                         {100 * tally.accepted / tally.calls:>6.2f} %")
    print(f"allowed by their own schema              {tally.allowed:>6}")
    print(f"of these accepted, read back, validated  {100 * tally.allowed_and_held / tally.allowed:>6.2f} %")
    print(f"time per call, compiling included        {1000 * tally.seconds / tally.calls:>6.1f} ms")
    if arguments.failures:
        print("\n".join([*(f"FAIL {line}" for line in tally.failures), *(f"not allowed {r}" for r in tally.refused)]))
    if tally.failures:
        sys.exit(1)


if __name__ == "__main__":
    main()
