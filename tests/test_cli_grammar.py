from __future__ import annotations

from pathlib import Path

import pytest

from hermes_agent.formats.grammar import TurnGrammar
from tests.command import hermes, tools_file

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tools_file(tmp_path)


def test_prints_the_grammar_that_runs(mine: Path) -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    ran = hermes("grammar", "-t", f"{mine}:add", "--tool-choice", "required", "--parallel", "2", "--thinking", "auto")
    assert ran.code == 0
    assert ran.out == TurnGrammar([add], str, "required", 2, "auto").lark()


@pytest.mark.parametrize(
    ("text", "options", "accepted"),
    [
        (CALL, [], True),
        (CALL + "\n", [], True),  # an editor's newline at the end of the file
        (CALL + "\n" + CALL, [], True),
        (CALL + "\n" + CALL, ["--parallel", "off"], False),
        ("Plain text.", [], True),
        ("Plain text.", ["--tool-choice", "add"], False),
        ("<think>\nHm.\n</think>\n" + CALL, [], False),
        ("<think>\nHm.\n</think>\n" + CALL, ["--thinking", "on"], True),
        (CALL.replace("1", '"one"'), [], False),
    ],
)
def test_check_says_whether_a_turn_is_accepted(mine: Path, text: str, options: list[str], accepted: bool) -> None:
    ran = hermes("grammar", "-t", f"{mine}:add", *options, "--check", "-", stdin=text)
    assert (ran.code, ran.out) == ((0, "accepted\n") if accepted else (1, "not accepted\n"))


def test_typed_output(mine: Path, tmp_path: Path) -> None:
    file = tmp_path / "answer.txt"
    file.write_text('{"total": 3}')
    assert hermes("grammar", "--output", f"{mine}:Sum", "--check", file).code == 0
    assert hermes("grammar", "--output", "bool", "--check", file).code == 1


def test_warnings_go_to_stderr(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "array", "items": {"type": "integer"}, "uniqueItems": true}')
    ran = hermes("grammar", "--schema", schema)
    assert ran.code == 0
    assert ran.err.startswith("warning: ")
    assert "warning" not in ran.out


def test_what_cannot_be_is_said() -> None:
    ran = hermes("grammar", "--tool-choice", "required")
    assert ran.code == 1
    assert "'required'" in ran.err
