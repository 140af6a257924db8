"""Objects out of texts with the embedded model: ours, unconstrained, Outlines and instructor, on sets of real rows.

python -m benchmarks.extraction --data FOLDER [--rows 5] [--out FOLDER] [--instructor PYTHON] [--json FILE]

FOLDER holds JSONL files of rows ``{"id", "text", "schema", "gold"}``. All contenders get the same messages, with the
same worked examples of rows that are not scored, write greedily, and take turns at a few rows each, so that a busy
moment hits each of them. With ``--out`` every output is kept there, and a later call goes on where this one ended.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.contenders import AT_ONCE, Contender, Instructor, Ours, Outlines, Task, Weights, problems, served
from benchmarks.report import figure, machine, save, table

ROOT = Path(__file__).resolve().parent.parent
SCORED = 200
WORKED = 2
SLOTS = 4
LABELS = {
    "hermes": "hermes_agent",
    "free": "the same, unconstrained",
    "outlines": "Outlines",
    "instructor": "instructor, llama.cpp",
    "hermes-server": "hermes_agent, llama.cpp",
}
NAMES = tuple(LABELS)


@dataclass(frozen=True, slots=True)
class Sample:
    """A row to score, and the task it belongs to."""

    id: str
    text: str
    gold: dict[str, Any]
    task: Task


def samples(file: Path) -> list[Sample]:
    """Up to 200 rows of a set, in a drawn order that is always the same; the worked examples are not among them."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in file.open(encoding="utf-8")]
    random.Random(0).shuffle(rows)
    left = rows[min(SCORED, len(rows) - WORKED) :]
    tasks: dict[str, Task] = {}
    found: list[Sample] = []
    for row in rows[: len(rows) - len(left)]:
        key = json.dumps(row["schema"], sort_keys=True)
        if key not in tasks:
            tasks[key] = Task(row["schema"], worked([other for other in left if other["schema"] == row["schema"]]))
        found.append(Sample(str(row["id"]), row["text"], in_order(row["gold"], row["schema"]), tasks[key]))
    return found


def worked(rows: Sequence[dict[str, Any]]) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Examples out of the shorter half: each the row that shows most fields that no example before it has shown."""
    pool = sorted(rows, key=lambda row: len(row["text"]))
    pool = pool[len(pool) // 8 : max(WORKED + len(pool) // 8, len(pool) // 2)]
    random.Random(1).shuffle(pool)
    found: list[dict[str, Any]] = []
    shown: set[str] = set()
    while pool and len(found) < WORKED:
        best = max(pool, key=lambda row: len(filled(row["gold"]) - shown))
        pool.remove(best)
        found.append(best)
        shown |= filled(best["gold"])
    return tuple((row["text"], in_order(row["gold"], row["schema"])) for row in found)


def filled(gold: Mapping[str, Any]) -> set[str]:
    return {key for key, value in gold.items() if value}


def in_order(gold: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Keys as the schema lists them, which is the order in which every grammar asks for them."""
    return {key: gold[key] for key in schema["properties"] if key in gold}


def contenders(names: Sequence[str], python: Path, tokens: int, closing: ExitStack) -> dict[str, Contender]:
    """Those asked for, by name."""
    weights = Weights()
    made: dict[str, Contender] = {}
    for name in names:
        match name:
            case "hermes":
                made[name] = Ours(weights.ours(), tokens)
            case "free":
                made[name] = Ours(weights.ours(), tokens, "off")
            case "outlines":
                made[name] = Outlines(weights, tokens)
            case "instructor":
                made[name] = asked = Instructor(python, server(closing), tokens, SLOTS)
                closing.callback(asked.close)
            case _:
                made[name] = served(server(closing), tokens)
    return made


def server(closing: ExitStack) -> str:
    """A llama.cpp server of one's own, so that nobody finds another's prompt in its cache."""
    from tests.llama_server import LlamaServer

    started = LlamaServer(slots=SLOTS, tokens=4096)
    closing.callback(lambda: started)  # it runs for as long as somebody holds it
    return started.url


class Log:
    """The outputs of every contender on every set, kept in a folder: ``<set>.<contender>.jsonl``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def file(self, of: str, name: str) -> Path:
        """Where the outputs of a contender on a set are."""
        return self._folder / f"{of}.{name}.jsonl"

    def lines(self, of: str, name: str) -> list[dict[str, Any]]:
        """What it holds, whole lines only."""
        file = self.file(of, name)
        return [json.loads(line) for line in _whole(file).splitlines()] if file.exists() else []

    def mend(self, of: str, name: str) -> None:
        """Take off a torn last line, which a run that was killed may leave."""
        file = self.file(of, name)
        if file.exists() and (whole := _whole(file)) != file.read_text("utf-8"):
            file.write_text(whole, "utf-8")

    def add(self, of: str, name: str, line: Mapping[str, Any]) -> None:
        """Keep one more."""
        with self.file(of, name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=True) + "\n")


def _whole(file: Path) -> str:
    text = file.read_text("utf-8")
    return text[: text.rfind("\n") + 1]


def run(sets: Mapping[str, list[Sample]], made: Mapping[str, Contender], log: Log) -> None:
    """Everybody's turn at every row; sets take turns too, so that a run cut short has rows of each."""
    for of in sets:
        for name in made:
            log.mend(of, name)
    done = {(of, name): {line["id"] for line in log.lines(of, name)} for of in sets for name in made}
    names = list(made)
    for at, (of, together) in enumerate(interleaved(sets)):
        for name in names if at % 2 else reversed(names):
            left = [sample for sample in together if sample.id not in done[of, name]]
            if not left:
                continue
            began, worked_before = time.perf_counter(), time.process_time()
            lines = made[name].take(left[0].task, [sample.text for sample in left])
            seconds, cpu = time.perf_counter() - began, time.process_time() - worked_before
            cost = {"seconds": round(seconds / len(left), 4), "cpu": round(cpu / len(left), 4)}
            for sample, line in zip(left, lines, strict=True):
                log.add(of, name, {"id": sample.id, **line, **cost})
        print(f"{at + 1} {of} {len(together)} rows", file=sys.stderr, flush=True)


def interleaved(sets: Mapping[str, list[Sample]]) -> Iterator[tuple[str, list[Sample]]]:
    """A few rows of a set that have one schema, as those of a job have, then of the next set."""
    blocks = {of: list(_blocks(found)) for of, found in sets.items()}
    for place in range(max(map(len, blocks.values()))):
        for of, found in blocks.items():
            yield from ((of, together) for together in found[place : place + 1])


def _blocks(found: Sequence[Sample]) -> Iterator[list[Sample]]:
    left = list(found)
    while left:
        together = [sample for sample in left if sample.task is left[0].task][:AT_ONCE]
        left = [sample for sample in left if sample not in together]
        yield together


def warm_up(sets: Mapping[str, list[Sample]], made: Mapping[str, Contender], log: Log) -> None:
    """What is done once a schema (grammars compiled, examples read) stays outside the clock."""
    for of, found in sets.items():
        for task in {id(sample.task): sample.task for sample in found}.values():
            for name, contender in made.items():
                if len(log.lines(of, name)) < len(found):
                    contender.take(task, [task.examples[0][0] if task.examples else "Nothing."])


def measure(sets: Mapping[str, Sequence[Sample]], name: str, log: Log) -> dict[str, Any]:
    """The figures of one contender on one set, or on several as if they were one."""
    from hermes_agent.extract.scoring import score

    gold, judged, lines, refused = [], [], [], 0
    for of, found in sets.items():
        by_id = {sample.id: sample for sample in found}
        gold += [{"id": f"{of} {sample.id}", "gold": {of: sample.gold}} for sample in found]
        for line in log.lines(of, name):
            if line["id"] in by_id:
                wrong = problems(by_id[line["id"]].task.schema, line)
                refused += bool(wrong)
                lines.append(line)
                # An output that its schema forbids is an error row, whoever held it for valid.
                right = "output" in line and not wrong
                judged.append(
                    {"id": f"{of} {line['id']}", **({"output": {of: line["output"]}} if right else {"error": {}})}
                )
    scored = score(gold, judged)
    return {
        "rows": len(lines),
        "valid": sum("output" in line for line in judged),
        "taken_for_valid_but_are_not": refused,
        "exact": scored.exact.value,
        "precision": scored.overall.precision.value,
        "recall": scored.overall.recall.value,
        "f1": [scored.overall.f1.value, scored.overall.f1.low, scored.overall.f1.high],
        "seconds": sum(line["seconds"] for line in lines),
        "cpu": sum(line["cpu"] for line in lines),
    }


def report(figures: Mapping[str, Mapping[str, dict[str, Any]]], tokens: int) -> str:
    rows = [
        (
            f"{of}: {LABELS[name]}",
            figure(found["rows"], 0),
            figure(100 * found["valid"] / found["rows"], 1),
            figure(100 * found["f1"][0], 1),
            f"{100 * found['f1'][1]:.1f} to {100 * found['f1'][2]:.1f}",
            figure(100 * found["exact"], 1),
            figure(found["rows"] / found["seconds"], 3),
            figure(found["cpu"] / found["rows"], 1),
        )
        for of, all_ in figures.items()
        for name, found in all_.items()
    ]
    headers = ("set: contender", "rows", "valid %", "F1 %", "95 % interval", "exact %", "rows/s", "CPU s a row")
    refused = sum(found["taken_for_valid_but_are_not"] for all_ in figures.values() for found in all_.values())
    return table(
        "Extraction, embedded model (SmolLM2-135M)",
        headers,
        rows,
        f"{machine()}; one thread each; greedy, up to {tokens} tokens, {WORKED} worked examples, no corrections.",
        f"Outputs that a contender held for valid and jsonschema does not: {refused}. They count as errors.",
    )


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m benchmarks.extraction",
    )
    options.add_argument(
        "--data", type=Path, required=True, help="folder of JSONL files of rows with text, schema, gold"
    )
    options.add_argument(
        "--sets", nargs="+", metavar="NAME", help="files by the beginning of their names; default: all"
    )
    options.add_argument("--rows", type=int, default=5, help=f"rows of each set, up to {SCORED}")
    options.add_argument("--tokens", type=int, default=160, help="most tokens of an answer")
    options.add_argument("--contenders", nargs="+", choices=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)}")
    options.add_argument("--instructor", type=Path, metavar="PYTHON", help="an interpreter that has instructor")
    options.add_argument("--out", type=Path, metavar="FOLDER", help="keep outputs there, and go on from those there")
    options.add_argument("--report", action="store_true", help="only make the table of what --out holds")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = options.parse_args()
    default = [name for name in NAMES[:4] if name != "instructor" or given.instructor]
    names: list[str] = given.contenders or default
    files = sorted(given.data.glob("*.jsonl"))
    chosen = [f for f in files if not given.sets or any(f.name.startswith(name) for name in given.sets)]
    if not chosen:
        sys.exit(f"{str(given.data)!r} holds no such sets: give the folder of their JSONL files with --data")
    if "instructor" in names and not given.report and given.instructor is None:
        sys.exit("instructor needs --instructor PYTHON, an interpreter that has it")
    sets = {file.stem: samples(file)[: given.rows] for file in chosen}
    with ExitStack() as closing:
        scratch = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        log = Log(given.out or scratch)
        if not given.report:
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
            import torch

            torch.set_num_threads(1)
            made = contenders(names, given.instructor, given.tokens, closing)
            warm_up(sets, made, log)
            run(sets, made, log)
        names = [name for name in names if any(log.lines(of, name) for of in sets)]
        shared = {of: in_all(found, names, of, log) for of, found in sets.items()}
        groups = {of: {of: found} for of, found in shared.items() if found} | {"all sets": shared}
        figures = {label: {name: measure(group, name, log) for name in names} for label, group in groups.items()}
    print(report(figures, given.tokens))
    save(given.json, figures)


def in_all(found: Sequence[Sample], names: Sequence[str], of: str, log: Log) -> list[Sample]:
    """The rows that every contender has had its turn at."""
    done = [{line["id"] for line in log.lines(of, name)} for name in names]
    return [sample for sample in found if all(sample.id in ids for ids in done)]


if __name__ == "__main__":
    main()
