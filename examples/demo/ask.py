"""Three questions to a real model through the command line; fails unless each led to the right tool.

The model decides which tool to call, and whether to call one; nothing here tells it. ``make demo`` runs this.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from hermes_agent import Conversation
from hermes_agent.messages import AssistantMessage

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
    command += ["--examples", str(HERE / "examples.json"), "--max-tokens", "200", "--save", str(saved)]
    print(f"\n$ hermes-sdk run {question!r} ...", flush=True)
    subprocess.run(command, check=True)
    conversation = Conversation.from_json(saved.read_text(encoding="utf-8"))
    return [call.name for turn in conversation if isinstance(turn, AssistantMessage) for call in turn.tool_calls]


def main() -> int:
    """Ask everything; the exit code is the number of questions that led to another tool, or to none."""
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for question, tool in QUESTIONS.items():
            called = ask(question, Path(folder) / "conversation.json")
            right = called[:1] == [tool]
            wrong += not right
            print(
                f"{'right' if right else 'WRONG'}: called {', '.join(called) or 'no tool'}, expected {tool}", flush=True
            )
    return wrong


if __name__ == "__main__":
    sys.exit(main())
