"""How exactly real JSON schemas are enforced: this grammar beside llguidance's own reading, in one run.

    python benchmarks/maskbench.py --data maskbench_sample.jsonl

Each line of the data is one schema with instances marked valid or not:
``{"id", "schema", "tests": [{"valid", "data"}]}``.
A schema passes if the mask allows each valid instance and no invalid one. Instances are serialised as the package
serialises them, with their keys in the order of the schema, since no engine here lets the order free.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hermes_agent.errors import GrammarError
from hermes_agent.formats.schema import ENGINE_OPTIONS, Bounds, prepare
from hermes_agent.formats.shapes.algebra import Algebra
from hermes_agent.formats.shapes.nodes import Array, Object, Shape, Union, lookup
from hermes_agent.formats.wire import dump_json


@dataclass
class Outcome:
    """What became of the schemas under one way of compiling."""

    name: str
    verdicts: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def row(self) -> str:
        """The line of the table."""
        total = len(self.seconds)
        shares = "".join(
            f"{100 * self.verdicts[verdict] / total:>12.2f} %" for verdict in ("pass", "loose", "tight", "refused")
        )
        ordered = sorted(self.seconds)
        p50, p99 = (1000 * ordered[int(q * (total - 1))] for q in (0.5, 0.99))
        return f"{self.name:<22}{shares}{p50:>12.1f} ms{p99:>9.1f} ms"


def lenient(schema: Any) -> str:
    """The schema as llguidance reads it by itself."""
    return json.dumps({"x-guidance": dict(ENGINE_OPTIONS), **schema})


def ours(schema: Any) -> str:
    """The schema as this package hands it to llguidance."""
    return prepare(schema, bounds=Bounds(None, None, None)).text


def verdict(grammar: str, tests: Iterable[tuple[bool, list[Any]]]) -> tuple[str, str, float]:
    """``pass``, ``loose``, ``tight`` or ``refused``; the instance to blame; seconds to compile."""
    from llguidance import LLMatcher, LLTokenizer

    start = time.perf_counter()
    matcher = LLMatcher(LLTokenizer("byte"), "%llguidance {}\nstart: %json " + grammar, log_level=0)
    seconds = time.perf_counter() - start
    if matcher.is_error():
        return "refused", matcher.get_error().splitlines()[0], seconds
    found, blame = "pass", ""
    for valid, spellings in tests:
        accepted, stuck = False, ""
        for data in spellings:
            text = dump_json(data).encode()
            copy = matcher.deep_copy()
            read = copy.try_consume_tokens(list(text))
            accepted = read == len(text) and copy.is_accepting()
            stuck = (
                stuck or f"{text[:read].decode(errors='replace')[-80:]} >< {text[read:].decode(errors='replace')[:60]}"
            )
            if accepted:
                break
        if accepted and not valid:
            return "loose", dump_json(spellings[0]), seconds  # looser is worse: nothing shows it
        if valid and not accepted:
            found, blame = "tight", stuck
    return found, blame, seconds


def spellings(schema: Any, data: Any, *, valid: bool) -> list[Any]:
    """The instance with its keys as the package would order them, and in other orders the schema may suggest.

    An invalid instance must not be refused for the order of its keys, so the orders of every branch are tried.
    """
    try:
        prepared = prepare(schema, bounds=Bounds(None, None, None))
    except GrammarError:
        return [data]
    first = [prepared.arrange(data)]
    if valid or prepared.shape is None:
        return first
    return [*first, *itertools.islice(_orders(prepared.algebra, prepared.shape, data), 60)]


def _orders(algebra: Algebra, shape: Shape, value: Any) -> Iterator[Any]:
    shape = algebra.resolve(shape)
    if isinstance(shape, Union):
        for option in shape.options:
            yield from _orders(algebra, option, value)
    elif isinstance(shape, Object) and isinstance(value, dict):
        known = [name for name, _ in shape.properties if name in value]
        names = [*known, *(name for name in value if name not in set(known))]
        for items in _product([_orders(algebra, lookup(shape, name), value[name]) for name in names]):
            yield dict(zip(names, items, strict=True))
    elif isinstance(shape, Array) and isinstance(value, list):
        at = itertools.chain(shape.prefix, itertools.repeat(shape.rest))
        yield from map(list, _product([_orders(algebra, part, item) for part, item in zip(at, value, strict=False)]))
    elif not isinstance(shape, (Object, Array)) or not isinstance(value, (dict, list)):
        yield value


def _product(parts: list[Iterator[Any]]) -> Iterator[tuple[Any, ...]]:
    """As ``itertools.product``, of at most four orders a part."""
    return itertools.product(*(list(itertools.islice(part, 4)) for part in parts))


def run(lines: Iterable[str], ways: dict[str, Callable[[Any], str]]) -> list[Outcome]:
    outcomes = [Outcome(name) for name in ways]
    for line in lines:
        row = json.loads(line)
        schema, tests = (
            row["schema"],
            [(test["valid"], spellings(row["schema"], test["data"], valid=test["valid"])) for test in row["tests"]],
        )
        for outcome, compile_ in zip(outcomes, ways.values(), strict=True):
            start = time.perf_counter()
            try:
                grammar = compile_(schema)
            except GrammarError as error:
                what, blame, seconds = "refused", error.message, 0.0
            else:
                lowering = time.perf_counter() - start
                what, blame, seconds = verdict(grammar, tests)
                seconds += lowering
            outcome.verdicts[what] += 1
            outcome.seconds.append(seconds)
            if what != "pass":
                outcome.failures.append(f"{row['id']}: {what}: {blame[:300]}")
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a file of schemas, one JSON object a line")
    parser.add_argument("--failures", action="store_true", help="say which schemas fail, and where")
    arguments = parser.parse_args()
    if not arguments.data.is_file():
        sys.exit(f"{str(arguments.data)!r} is no file: give the file of schemas with --data")
    with arguments.data.open(encoding="utf-8") as lines:
        outcomes = run(lines, {"llguidance, lenient": lenient, "hermes_agent": ours})
    head = "".join(f"{verdict:>14}" for verdict in ("pass", "too loose", "too tight", "refused"))
    print(f"{len(outcomes[0].seconds)} schemas{'':<11}{head}{'compile p50':>15}{'p99':>12}")
    for outcome in outcomes:
        print(outcome.row())
        if arguments.failures:
            print("".join(f"    {failure}\n" for failure in outcome.failures), end="")


if __name__ == "__main__":
    main()
