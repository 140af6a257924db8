"""Three questions to a real model through the command line; fails unless each led to the right tool.

The model decides which tool to call, and whether to call one; nothing here tells it. ``make demo`` runs this.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from hermes_agent.trace import Trace

HERE = Path(__file__).parent
QUESTIONS = {
    "What is 17 times 23?": "calculator",
    "What time is it now?": "clock",
    "When does the next train to Oslo leave?": "next_train",
}


def ask(question: str, saved: Path) -> list[str]:
    """Run ``hermes-sdk run`` and return the names of the tools that the model called."""
    command = [sys.executable, "-m", "hermes_agent.cli", "run", question, "--model", "embedded", "--temperature", "0"]
    for tool in ("hermes_agent.toolbox:calculator", "hermes_agent.toolbox:clock", str(HERE / "trains.py:next_train")):
        command += ["--tools", tool]
    command += ["--examples", str(HERE / "examples.json"), "--max-tokens", "200", "--trace", str(saved)]
    print(f"\n$ hermes-sdk run {question!r} ...", flush=True)
    saved.unlink(missing_ok=True)
    subprocess.run(command, check=False)  # a run whose answer went wrong has called its tools all the same
    return [call.name for step in Trace.load(saved).steps for call in step.calls]


def main() -> int:
    """Ask everything; the exit code is the number of questions that led to another tool, or to none."""
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for question, tool in QUESTIONS.items():
            called = ask(question, Path(folder) / "run.json")
            right = called[:1] == [tool]
            wrong += not right
            print(
                f"{'right' if right else 'WRONG'}: called {', '.join(called) or 'no tool'}, expected {tool}", flush=True
            )
    return wrong


if __name__ == "__main__":
    sys.exit(main())
