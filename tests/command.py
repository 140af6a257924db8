"""The command ``hermes-sdk`` as tests run it: in this process, or as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from typer.testing import CliRunner

from hermes_agent.cli import app

# Tools, an answer's type and scripted models, as a user would keep them in a file.
TOOLS = '''
from pydantic import BaseModel

from hermes_agent.testing import ScriptedModel


class Sum(BaseModel):
    total: int


def add(a: int, b: int) -> int:
    """Add two numbers."""
    print("add was called")
    return a + b


def hostile() -> str:
    """Return what could steer a terminal."""
    return "\\x1b[2J[red]red[/] [/nope] \\x9b31m \\u202eabc\\r\\nsecond line"


def long() -> str:
    """Return a hundred lines."""
    return "\\n".join(f"line {i}" for i in range(100))


def fails() -> str:
    """Raise."""
    raise ValueError("no such thing")


def call(name: str, arguments: str = "{}") -> str:
    return f'<tool_call>\\n{{"name": "{name}", "arguments": {arguments}}}\\n</tool_call>'


def adds() -> ScriptedModel:
    return ScriptedModel([call("add", '{"a": 1, "b": 2}'), "The sum is 3."], chunk_size=5)


def thinks() -> ScriptedModel:
    thought = "<think>\\nOne and two.\\n</think>\\n"
    return ScriptedModel([thought + "I will add.\\n" + call("add", '{"a": 1, "b": 2}'), "3 it is."])


def several() -> ScriptedModel:
    return ScriptedModel([call("add", '{"a": 1, "b": 2}') + "\\n" + call("add", '{"a": 3, "b": 4}'), "3 and 7."])


def sums() -> ScriptedModel:
    return ScriptedModel(['{"total": 3}'])


def stubborn() -> ScriptedModel:
    return ScriptedModel(["no JSON"] * 9)


def greets() -> ScriptedModel:
    return ScriptedModel(["Hello.", "Hello again.", "And again."])


def meets_hostility() -> ScriptedModel:
    return ScriptedModel([call("hostile"), "\\x1b]0;title\\x07 [bold]done[/bold] [/x]"])


def reads_long() -> ScriptedModel:
    return ScriptedModel([call("long"), "Long."])


def meets_failure() -> ScriptedModel:
    return ScriptedModel([call("fails"), "It failed."])


def mistaken() -> ScriptedModel:
    return ScriptedModel([call("nope"), "<tool_call>{oops}</tool_call>", "I give up."])
'''


class Outcome:
    """What a command did: exit code, and what it wrote."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __repr__(self) -> str:
        return f"exit code {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


def hermes(*arguments: str | Path, stdin: str = "") -> Outcome:
    """Run the command in this process; errors that are not the command's own come out."""
    path = list(sys.path)
    try:
        result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin, catch_exceptions=False)
    finally:
        sys.path[:] = path
    return Outcome(result.exit_code, result.stdout, result.stderr)


def tools_file(folder: Path, text: str = TOOLS, name: str = "mine.py") -> Path:
    """A user's Python file."""
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def environment(**more: str) -> dict[str, str]:
    """The environment for a process that must find this checkout."""
    root = str(Path(__file__).parent.parent)
    known = os.environ.get("PYTHONPATH")
    return {
        **{name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")},
        "PYTHONPATH": os.pathsep.join([root, known] if known else [root]),
        "PYTHONUNBUFFERED": "1",
        **more,
    }


def process(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    terminal: int | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.PIPE,
) -> subprocess.Popen[str]:
    """Start the command as a process of its own.

    Its outputs are piped, unless all three streams are a terminal, whose descriptor is given.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "hermes_agent.cli", *map(str, arguments)],
        env=environment() if env is None else dict(env),
        text=True,
        encoding="utf-8",
        stdin=stdin if terminal is None else terminal,
        stdout=stdout if terminal is None else terminal,
        stderr=subprocess.PIPE if terminal is None else terminal,
        start_new_session=terminal is not None,
    )
