"""The laws as figures: how many failure classes are read right, how many laws of parser, prompt and grammar hold."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

from benchmarks.report import table

ROOT = Path(__file__).resolve().parent.parent
FILES = {
    "test_parser_classes.py": "known failures of other parsers, each in one piece and in random chunks",
    "test_parser.py": "any chunking gives the same turn; hostile text",
    "test_grammar_laws.py": "what the grammar accepts is read and validates, and the other way round",
    "test_prompt.py": "prompts are prefix stable; data never becomes markup; the published Qwen3 template",
    "test_messages.py": "a saved conversation loads equal",
}


def outcomes(names: list[str]) -> dict[str, Counter[str]]:
    """Run test files and count what became of their tests, by file."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", "-p", "no:cacheprovider"]
        subprocess.run(
            [*command, *(f"tests/{name}" for name in names)], cwd=ROOT, check=False, stdout=subprocess.DEVNULL
        )
        cases = ET.parse(report).iter("testcase")
        counts: dict[str, Counter[str]] = {name: Counter() for name in names}
        for case in cases:
            file = case.attrib["classname"].rpartition(".")[2] + ".py"
            failed = case.find("failure") is not None or case.find("error") is not None
            outcome = "failed" if failed else "skipped" if case.find("skipped") is not None else "passed"
            counts[file][outcome] += 1
            if number := re.match(r"test_class_(\d\d)", case.attrib["name"]):
                counts.setdefault(f"classes {outcome}", Counter())[number[1]] += 1
        return counts


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    counts = outcomes(list(FILES))
    rows = [
        [name, *(str(counts[name][outcome]) for outcome in ("passed", "failed", "skipped")), about]
        for name, about in FILES.items()
    ]
    broken = set(counts.get("classes failed", ()))
    right = set(counts.get("classes passed", ())) - broken
    note = f"Failure classes read right: {len(right)} of 58."
    print(table("Laws", ["tests", "passed", "failed", "skipped", "law"], rows, note))
    if len(right) != 58 or any(counts[name]["failed"] for name in FILES):
        sys.exit(1)


if __name__ == "__main__":
    main()
