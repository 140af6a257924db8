from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command import hermes, tools_file

TURN = (
    "<think>\nHm.\n</think>\nFirst [red].\n"
    '<tool_call>\n{"name": "add", "arguments": {"a": 1,}}\n</tool_call>\n'
    '<tool_call>\n{"name": "bad" oops}\n</tool_call>\nlast'
)


def test_parts_with_spans_repairs_and_faults() -> None:
    ran = hermes("parse", "--tools", "add,sub", stdin=TURN)
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0].split() == ["thinking", "Hm."]
    start = TURN.index("First")
    assert lines[1].split(maxsplit=2) == ["text", f"{start}-{start + 12}", "First [red]."]
    assert lines[2].split(maxsplit=2)[2] == 'add {"a": 1}'
    assert lines[3].strip() == "repaired: trailing_comma"
    assert lines[4].split()[0] == "fault"
    assert "malformed" in lines[4]
    assert lines[-1].split() == ["text", f"{len(TURN) - 4}-{len(TURN)}", "last"]


def test_json_tells_the_same() -> None:
    ran = hermes("parse", "-", "--json", stdin=TURN)
    told = json.loads(ran.out)
    assert told["reasoning"] == "Hm."
    assert [part["kind"] for part in told["parts"]] == ["text", "call", "fault", "text"]
    assert all(0 <= a < b <= len(TURN) for a, b in (part["span"] for part in told["parts"]))
    assert told["parts"][1]["arguments"] == {"a": 1}
    assert told["parts"][1]["repairs"] == ["trailing_comma"]


def test_a_file_and_tools_of_a_file(tmp_path: Path) -> None:
    turn = tmp_path / "turn.txt"
    turn.write_text('<tool_call>\n{"name": "nope", "arguments": {}}\n</tool_call>')
    assert "unknown tool" not in hermes("parse", turn).out
    ran = hermes("parse", turn, "--tools", tools_file(tmp_path))
    assert "unknown tool (nope)" in ran.out
    assert "add" in ran.out


def test_truncated_and_dialect() -> None:
    cut = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}'
    faults = json.loads(hermes("parse", "--truncated", "--json", stdin=cut).out)["parts"]
    assert [part["fault"] for part in faults if part["kind"] == "fault"] == ["truncated"]
    pad = "<scratch_pad>\nHm.\n</scratch_pad>\nHi"
    told = json.loads(hermes("parse", "--json", "-d", "hermes-3-scratch-pad", stdin=pad).out)
    assert told["reasoning"] == "Hm."


def test_an_empty_turn_says_so() -> None:
    assert hermes("parse", stdin="").out.strip() == "empty"


def test_escapes_do_not_reach_the_terminal() -> None:
    ran = hermes("parse", stdin="a\x1b[2J\x07 [/red]")
    assert "\\x1b[2J\\x07 [/red]" in ran.out


@pytest.mark.parametrize("options", [["/no/such/file"], ["--dialect", "klingon"], ["--tools", "/no/such.py"]])
def test_bad_values_are_named(options: list[str]) -> None:
    ran = hermes("parse", *options, stdin="x")
    assert ran.code == 1
    assert options[-1] in ran.err
