from __future__ import annotations

from pathlib import Path

import pytest

from hermes_agent import Conversation
from tests.command import hermes, tools_file


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tools_file(tmp_path)


def test_questions_are_answered_with_what_was_said_before(mine: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    ran = hermes("chat", "-m", f"{mine}:greets", stdin=f"Hi\n\nAgain\n/save {kept}\n")
    assert ran.code == 0
    assert ran.out.index("Hello.") < ran.out.index("Hello again.")
    assert [m.text for m in Conversation.from_json(kept.read_text()) if m.role == "user"] == ["Hi", "Again"]


def test_tools_are_called(mine: Path) -> None:
    ran = hermes("chat", "-m", f"{mine}:adds", "-t", f"{mine}:add", stdin="1 + 2?\n")
    assert "→ add(a=1, b=2)\n" in ran.out
    assert "The sum is 3." in ran.out


def test_reset_forgets_and_history_remembers(mine: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    hermes("chat", "-m", f"{mine}:greets", stdin=f"Hi\n/save {first}\n/reset\nNew\n/save {second}\n")
    assert len(Conversation.from_json(first.read_text())) == 2
    said = Conversation.from_json(second.read_text())
    assert [m.text for m in said if m.role != "tool"] == ["New", "Hello again."]
    hermes("chat", "-m", f"{mine}:greets", "--history", first, stdin=f"Go on\n/save {second}\n")
    assert [m.role for m in Conversation.from_json(second.read_text())] == ["user", "assistant"] * 2


def test_an_error_leaves_the_chat_and_the_conversation_as_they_were(mine: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    questions = "".join(f"q{i}\n" for i in range(5))
    ran = hermes("chat", "-m", f"{mine}:greets", stdin=f"{questions}/save {kept}\n")
    assert ran.code == 0
    assert "error: the script has ended: it has 3 turns" in ran.err
    assert len(Conversation.from_json(kept.read_text())) == 6


def test_commands(mine: Path, tmp_path: Path) -> None:
    ran = hermes("chat", "-m", f"{mine}:greets", stdin="/help\n/frob [red]\n/save\n/quit\nnever asked\n")
    assert ran.code == 0
    assert ran.out.count("/reset") == 3
    assert "'/frob [red]' is no command" in ran.out
    assert "Hello" not in ran.out
    ran = hermes("chat", "-m", f"{mine}:greets", stdin=f"/save {tmp_path}/no/such.json\nHi\n")
    assert "such.json" in ran.err
    assert "Hello." in ran.out


def test_wrong_settings_end_it_before_the_first_question(mine: Path) -> None:
    ran = hermes("chat", "-m", f"{mine}:greets", "--tool-choice", "required", stdin="Hi\n")
    assert ran.code == 1
    assert "'required'" in ran.err
