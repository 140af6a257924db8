"""Install the built wheel and sdist into empty environments and import from them; run by ``make package``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

PROGRAM = """
import importlib.resources, importlib.util, sys
from hermes_agent import Agent
from hermes_agent.toolbox import calculator
import hermes_agent.grammars
from hermes_agent.formats import TurnGrammar
assert str(calculator("17 * 23")) == "391", calculator("17 * 23")
assert importlib.resources.files("hermes_agent.grammars").joinpath("turn.lark").is_file()
call = '<tool_call>\\n{"name": "calculator", "arguments": {"expression": "1"}}\\n</tool_call>'
assert TurnGrammar([calculator]).accepts(call)
assert importlib.util.find_spec("tools") is None, "a top-level package called tools was installed"
assert importlib.util.find_spec("grammars") is None
Agent(tools=[calculator])
assert not {"torch", "transformers", "outlines", "openai", "mcp"} & set(sys.modules)
"""


def check(archive: Path) -> None:
    """Install one archive into an environment of its own and run the program there, away from the checkout."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        constraints = Path(__file__).parent.parent / "constraints.txt"
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--constraint", constraints, archive.resolve()], check=True
        )
        subprocess.run([python, "-W", "error", "-c", PROGRAM], check=True, cwd=folder)
        subprocess.run([Path(folder) / "bin" / "hermes-sdk", "--version"], check=True, cwd=folder)
    print(f"{archive.name}: installs, imports and runs")


def main() -> None:
    """Check every archive of the folder given."""
    archives = sorted(Path(sys.argv[1]).glob("hermes_agent_sdk-*"))
    assert {a.suffix for a in archives} == {".whl", ".gz"}, archives
    for archive in archives:
        check(archive)


if __name__ == "__main__":
    main()
