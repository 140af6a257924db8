from __future__ import annotations

import os
import pty
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from hermes_agent.cli.approvals import settled
from hermes_agent.messages import ToolCall
from hermes_agent.pause import PausedRun
from hermes_agent.record import CallSettled, PendingCall, RunBegan, RunWaited


class Typist:
    """Types one answer after the other."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    def __call__(self, _question: str) -> str:
        return self.words.pop(0)


def paused(*reasons: str) -> PausedRun:
    calls = [PendingCall(ToolCall("pay", {"n": i}, f"call_{i}"), reason, "r") for i, reason in enumerate(reasons)]  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # spelled out below
    return PausedRun("r", {"r": [RunBegan("Pay"), RunWaited(tuple(calls))]})


@pytest.mark.parametrize(
    ("reason", "typed", "decision", "text"),
    [
        ("approval", "y", "approved", ""),
        ("approval", " YES ", "approved", ""),
        ("approval", "", "denied", "The user did not allow it."),
        ("approval", "n", "denied", "The user did not allow it."),
        ("approval", "too dear", "denied", "too dear"),
        ("external", "42", "supplied", "42"),
        ("external", "y", "supplied", "y"),
        ("interrupted", "y", "approved", ""),
        ("interrupted", "paid 3", "supplied", "paid 3"),
        ("interrupted", "", "denied", "The user did not allow it."),
    ],
)
def test_what_is_typed_settles_the_call(
    monkeypatch: pytest.MonkeyPatch, reason: str, typed: str, decision: str, text: str
) -> None:
    monkeypatch.setattr("builtins.input", Typist([typed]))
    done = settled(paused(reason), Console(quiet=True))
    word = done.runs["r"][-1]
    assert isinstance(word, CallSettled)
    assert (word.call_id, word.decision, word.text) == ("call_0", decision, text)
    assert not done.pending


def test_each_call_is_asked_about_and_the_end_of_the_input_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", Typist(["y", "no"]))
    done = settled(paused("approval", "approval"), Console(quiet=True))
    assert [r.decision for r in done.runs["r"] if isinstance(r, CallSettled)] == ["approved", "denied"]

    def ended(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", ended)
    with pytest.raises(KeyboardInterrupt):
        settled(paused("approval"), Console(quiet=True))


TOOLS = """
from hermes_agent import tool

@tool(approval=True)
def open_door() -> str:
    '''Open the door.'''
    with open("opened", "a") as file:
        file.write("x")
    return "open"
"""
ASK = "-m hermes_agent.cli run Open --tools door.py:open_door --tool-choice open_door --max-steps 1 --parallel off"


@pytest.mark.parametrize(("typed", "opened"), [("y", "x"), ("n", "")])
def test_a_terminal_is_asked_before_a_real_models_call_is_run(tmp_path: Path, typed: str, opened: str) -> None:
    (tmp_path / "door.py").write_text(TOOLS)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, *ASK.split()])  # a program of ours, on its own terminal
    said, until = b"", time.monotonic() + 240
    answered = False
    while time.monotonic() < until:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # the other side has closed it
            break
        if not piece:
            break
        said += piece
        if b"run it?" in said and not answered:
            assert not (tmp_path / "opened").exists()
            os.write(terminal, f"{typed}\n".encode())
            answered = True
    os.waitpid(pid, 0)
    os.close(terminal)
    assert answered, said.decode(errors="replace")
    assert (tmp_path / "opened").exists() == bool(opened), said.decode(errors="replace")
    if opened:
        assert (tmp_path / "opened").read_text() == opened
