from __future__ import annotations

import json
from pathlib import Path

import pytest

from hermes_agent import Conversation
from tests.command import hermes, tools_file


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tools_file(tmp_path)


def test_away_from_a_terminal_stdout_is_the_answer_and_stderr_the_trace(mine: Path) -> None:
    ran = hermes("run", "What is 1 + 2?", "-m", f"{mine}:adds", "-t", f"{mine}:add")
    assert (ran.code, ran.out) == (0, "The sum is 3.\n")
    *trace, cost = (line for line in ran.err.splitlines() if line != "add was called")
    assert trace == ["→ add(a=1, b=2)", "← 3", "The sum is 3."]
    assert cost.startswith("2 steps, 1 call · 0 tokens in, ")
    assert cost.endswith("guarantee checked")


def test_quiet_leaves_the_answer_alone(mine: Path) -> None:
    ran = hermes("run", "q", "-m", f"{mine}:greets", "--quiet")
    assert (ran.code, ran.out, ran.err) == (0, "Hello.\n", "")


def test_json_is_one_object_whatever_tools_print(mine: Path) -> None:
    ran = hermes("run", "q", "-m", f"{mine}:adds", "-t", f"{mine}:add", "--json")
    assert ran.code == 0
    assert ran.err == "add was called\n"
    report = json.loads(ran.out)
    assert set(report) == {"output", "messages", "usage", "guarantee", "seconds"}
    assert report["output"] == "The sum is 3."
    assert report["guarantee"] == "checked"
    assert report["usage"]["steps"] == 2
    assert report["usage"]["tool_calls"] == 1
    assert [m["role"] for m in report["messages"]] == ["user", "assistant", "tool", "assistant"]


def test_a_typed_answer_is_a_value_in_json_and_a_line_in_text(mine: Path) -> None:
    options = ["run", "q", "-m", f"{mine}:sums", "--output", f"{mine}:Sum"]
    assert json.loads(hermes(*options, "--json").out)["output"] == {"total": 3}
    assert hermes(*options, "-q").out == '{"total": 3}\n'


def test_schema_file(mine: Path, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"]}')
    ran = hermes("run", "q", "-m", f"{mine}:sums", "--schema", schema, "--json")
    assert json.loads(ran.out)["output"] == {"total": 3}


def test_a_failed_run_is_one_object_with_class_message_hint_and_history(mine: Path) -> None:
    ran = hermes("run", "q", "-m", f"{mine}:stubborn", "--output", f"{mine}:Sum", "--json")
    assert ran.code == 1
    assert ran.err == ""
    report = json.loads(ran.out)
    assert report["error"]["class"] == "InvalidOutputError"
    assert report["error"]["hint"]
    assert report["error"]["attempts"][0] == "no JSON"
    assert report["messages"][0] == {"role": "user", "text": "q"}
    assert report["usage"]["steps"] == 4


def test_a_failed_run_says_why_on_stderr(mine: Path) -> None:
    ran = hermes("run", "q", "-m", f"{mine}:stubborn", "--output", f"{mine}:Sum")
    assert ran.code == 1
    assert ran.out == ""
    assert "! the answer was not valid; the model is asked again" in ran.err
    assert "error: the answer kept failing validation" in ran.err
    assert "hint:  " in ran.err
    assert "Traceback" not in ran.err


def test_options_reach_the_run(mine: Path) -> None:
    ran = hermes("run", "q", "-m", f"{mine}:adds", "-t", f"{mine}:add", "--max-steps", "1")
    assert ran.code == 1
    assert "steps=1" in ran.err
    assert "--max-steps" in ran.err
    strict = hermes("run", "q", "-m", f"{mine}:adds", "--constrain", "strict")
    assert strict.code == 1
    assert "enforces nothing" in strict.err
    told = hermes("run", "q", "-m", f"{mine}:stubborn", "--output", "int")
    assert "--constrain auto" in told.err
    assert "--examples" in told.err


def test_the_question_may_come_from_stdin(mine: Path) -> None:
    ran = hermes("run", "-", "-m", f"{mine}:greets", "--json", stdin="Who are you?\n")
    assert json.loads(ran.out)["messages"][0]["text"] == "Who are you?"


@pytest.mark.parametrize(("question", "stdin"), [("", ""), (" \n\t", ""), ("-", ""), ("-", " \n")])
@pytest.mark.parametrize("options", [[], ["--json"], ["--quiet"]])
def test_a_question_that_asks_nothing_is_wrong_usage(mine: Path, question: str, stdin: str, options: list[str]) -> None:
    ran = hermes("run", question, "-m", f"{mine}:greets", *options, stdin=stdin)
    assert (ran.code, ran.out) == (2, "")
    assert f"{'' if question == '-' else question!r} asks nothing" in ran.err
    assert "QUESTION" in ran.err


def test_save_and_history_carry_a_conversation_on(mine: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    assert hermes("run", "First?", "-m", f"{mine}:greets", "--save", kept, "-q").code == 0
    assert [m.role for m in Conversation.from_json(kept.read_text())] == ["user", "assistant"]
    ran = hermes("run", "Second?", "-m", f"{mine}:greets", "--history", kept, "--save", kept, "-q")
    assert ran.code == 0
    saved = Conversation.from_json(kept.read_text())
    assert [m.text for m in saved if m.role == "user"] == ["First?", "Second?"]
    assert list(tmp_path.glob(".kept*")) == []


def test_a_place_that_cannot_be_written_is_told_before_the_run(mine: Path, tmp_path: Path) -> None:
    ran = hermes("run", "q", "-m", f"{mine}:greets", "--save", tmp_path / "no" / "such.json")
    assert ran.code == 1
    assert "such.json" in ran.err
    assert "Hello" not in ran.err


def test_examples_stand_before_the_question(mine: Path, tmp_path: Path) -> None:
    tools_file(
        tmp_path,
        """
from hermes_agent.testing import ScriptedModel

class Echo(ScriptedModel):
    async def generate(self, request):
        shown = [m for m in request.messages if m.role != "assistant"]
        self._turns = iter(["|".join(getattr(m, "text", None) or m.content for m in shown)])
        async for chunk in super().generate(request):
            yield chunk

def model():
    return Echo([])
""",
        "echo.py",
    )
    examples = tmp_path / "examples.json"
    examples.write_text(json.dumps([{"question": "1 + 1?", "calls": [["add", {"a": 1, "b": 1}, "2"]], "answer": "2"}]))
    ran = hermes(
        "run",
        "q?",
        "-m",
        f"{tmp_path / 'echo.py'}:model",
        "-t",
        f"{mine}:add",
        "--examples",
        examples,
        "-q",
        "-i",
        "Be brief.",
    )
    assert ran.out == "Be brief.|1 + 1?|2|q?\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "no list"),
        ("[", "not JSON"),
        ('[{"question": 1}]', "['question']"),
        ('[{"question": "q", "calls": [["add", {}]]}]', "['calls']"),
        ('[{"question": "q", "extra": 1}]', "['extra']"),
    ],
)
def test_examples_that_are_none_are_told_with_their_place(mine: Path, tmp_path: Path, text: str, told: str) -> None:
    examples = tmp_path / "examples.json"
    examples.write_text(text)
    ran = hermes("run", "q", "-m", f"{mine}:greets", "--examples", examples)
    assert ran.code == 1
    assert str(examples) in ran.err
    assert told in ran.err


def test_a_history_that_is_none_is_named(mine: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("[]")
    ran = hermes("run", "q", "-m", f"{mine}:greets", "--history", other)
    assert ran.code == 1
    assert str(other) in ran.err


@pytest.mark.parametrize(
    "options",
    [
        ["--thinking", "maybe"],
        ["--constrain", "hard"],
        ["--temperature", "-1"],
        ["--max-tokens", "0"],
        ["--parallel", "0"],
        ["--parallel", "many"],
        ["--frobnicate"],
    ],
)
def test_wrong_usage_is_exit_code_2(mine: Path, options: list[str]) -> None:
    ran = hermes("run", "q", "-m", f"{mine}:greets", *options)
    assert ran.code == 2
    assert ran.out == ""


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--model", "nope"], "'nope'"),
        (["--tool-choice", "required"], "'required'"),
        (["--output", "int", "--schema", "x.json"], "'x.json'"),
        (["--output", "frob"], "'frob'"),
        (["--tools", "frob"], "'frob'"),
        (["--history", "/no/such/file"], "'/no/such/file'"),
    ],
)
def test_bad_values_are_named(options: list[str], told: str) -> None:
    ran = hermes("run", "q", *options)
    assert ran.code == 1
    assert told in ran.err
    assert "hint:" in ran.err
    as_object = hermes("run", "q", *options, "--json")
    assert as_object.code == 1
    assert told in json.loads(as_object.out)["error"]["message"]
    assert as_object.err == ""
