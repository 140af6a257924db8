from __future__ import annotations

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "toolbox.md"
HEAVY = ("httpx", "anyio", "sqlite3", "ssl", "zoneinfo", "html.parser")


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 8
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)


@pytest.mark.parametrize("module", ["addresses", "folder", "page_text", "times", "web"])
def test_the_examples_in_docstrings_run(module: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(f"hermes_agent.toolbox.{module}"))
    assert tried > 0
    assert failed == 0


def test_importing_the_toolbox_loads_nothing_heavy() -> None:
    code = (
        "import sys, hermes_agent; before = set(sys.modules); import hermes_agent.toolbox; "
        f"print([name for name in {HEAVY!r} if name in sys.modules and name not in before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
