from __future__ import annotations

import io
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
from tests.command import hermes, tools_file


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


def test_a_question_mark_says_what_may_be_typed_and_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", Typist(["?", "?", "y"]))
    out = Console(file=io.StringIO())
    done = settled(paused("approval"), out)
    assert [r.decision for r in done.runs["r"] if isinstance(r, CallSettled)] == ["approved"]
    assert isinstance(out.file, io.StringIO)
    assert out.file.getvalue().count("y runs it") == 2
    monkeypatch.setattr("builtins.input", Typist(["?"]))
    assert not settled(paused("external"), out).pending  # a result may be any text


ASKS = """
from hermes_agent import tool
from hermes_agent.testing import ScriptedModel

@tool(approval=True)
def pay(n: int) -> str:
    '''Pay.'''
    return f"paid {n}"

def model() -> ScriptedModel:
    return ScriptedModel(['<tool_call>{"name": "pay", "arguments": {"n": 3}}</tool_call>'])
"""


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_without_a_terminal_the_run_waits_and_is_kept(as_json: list[str], tmp_path: Path) -> None:
    asks, kept = tools_file(tmp_path, ASKS), tmp_path / "run.json"
    ran = hermes("run", "Pay.", "-m", f"{asks}:model", "-t", f"{asks}:pay", "--trace", kept, *as_json)
    assert ran.code == 1
    said = " ".join((ran.out + ran.err).split())
    assert "run it on a terminal" in said
    assert "--trace FILE" in said
    assert ".resume(" not in said
    run = PausedRun.from_json(kept.read_text())
    assert [(pending.call.name, pending.reason) for pending in run.pending] == [("pay", "approval")]


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
