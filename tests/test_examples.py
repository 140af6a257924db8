"""Every example in examples/, README.md and docs/ runs, on the real embedded model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="session")
def embedded_folder() -> Path:
    from hermes_agent.models.embedded import ensure

    return ensure()


def run(*arguments: str, folder: Path = ROOT) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HERMES_SDK_MODEL": "embedded", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_there_are_examples_to_start_from() -> None:
    assert len(SCRIPTS) >= 6


@pytest.mark.parametrize("script", SCRIPTS)
def test_example_runs(script: str, embedded_folder: Path) -> None:
    arguments = [str(embedded_folder)] if script == "own_model.py" else []
    out = run(f"examples/{script}", *arguments)
    assert out.strip()


def test_the_extraction_example_finds_what_is_there(embedded_folder: Path) -> None:
    """The one example with a right answer that this small model is sure of."""
    invoice = json.loads(run("examples/extraction.py"))
    assert invoice["number"] == "A-1042"
    assert invoice["due"] == "2026-03-15"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_python_of_a_page_runs(page: Path, embedded_folder: Path, tmp_path: Path) -> None:
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    if page.name == "README.md":
        assert blocks
    # One program a page, as a reader would type it; line numbers in a traceback are those of the blocks joined.
    run("-W", "error::DeprecationWarning:hermes_agent", "-c", "\n".join(blocks) or "pass", folder=tmp_path)
