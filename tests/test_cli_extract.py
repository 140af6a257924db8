from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.command import environment, hermes, process, tools_file

MINE = '''
import sys

from anyio import sleep_forever
from pydantic import BaseModel

from hermes_agent.models.base import Chunk
from hermes_agent.testing import ScriptedModel


class Invoice(BaseModel):
    total: float


class Reads(ScriptedModel):
    """Answers with the number at the end of the text; gets stuck on some, as often as it is told to."""

    stuck = ()

    def __init__(self) -> None:
        super().__init__([])

    async def generate(self, request):
        text = next(message.text for message in reversed(request.messages) if type(message).__name__ == "UserMessage")
        word = text.split()[-1]
        if word in self.stuck:
            print("stuck", file=sys.stderr, flush=True)
            await sleep_forever()
        yield Chunk(f'{{"total": {word}}}', input_tokens=10, output_tokens=5, finish_reason="stop")


def reads():
    return Reads()


def gets_stuck():
    model = Reads()
    model.stuck = ("7",)
    return model
'''


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tools_file(tmp_path, MINE)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return jsonl(tmp_path / "in.jsonl", [{"id": f"r{at}", "text": f"Total due: {at}"} for at in range(12)])


def jsonl(path: Path, values: list[Any]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_rows_of_a_file(mine: Path, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    ran = hermes("extract", f"{mine}:Invoice", rows, "-o", out, "-m", f"{mine}:reads")
    assert (ran.code, ran.out) == (0, "")
    assert lines(out) == [{"id": f"r{at}", "output": {"total": float(at)}} for at in range(12)]
    told = ran.err.splitlines()
    assert told[0].startswith("12/12 rows · ")
    assert told[1:3] == ["rows     12", "failed   0"]
    assert told[3].startswith("tokens   120 in, 60 out")
    assert told[5] == f"written  {out}"
    again = hermes("extract", f"{mine}:Invoice", rows, "-o", out, "-m", f"{mine}:reads")
    assert again.code == 0
    assert "rows     12, 12 of them before" in again.err
    assert "tokens   0 in" in again.err
    quiet = hermes("extract", f"{mine}:Invoice", rows, "-o", out, "-m", f"{mine}:reads", "-q", "--restart")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


def test_rows_that_fail_are_told_and_asked_again(mine: Path, tmp_path: Path) -> None:
    rows = jsonl(tmp_path / "in.jsonl", [{"text": "Total 1"}, {"text": "no number"}, {"txt": "Total 3"}])
    out = tmp_path / "out.jsonl"
    ran = hermes("extract", f"{mine}:Invoice", rows, "-o", out, "-m", f"{mine}:reads")
    assert ran.code == 0
    assert "failed   2: 1 " in ran.err
    assert "--retry" in ran.err
    assert [list(line) for line in lines(out)] == [["id", "output"], ["id", "error"], ["id", "error"]]
    assert "no column 'text'" in lines(out)[2]["error"]["message"]
    again = hermes("extract", f"{mine}:Invoice", rows, "-o", out, "-m", f"{mine}:reads", "--retry")
    assert "rows     3, 1 of them before" in again.err
    assert len(lines(out)) == 3


def test_a_job_in_which_every_row_fails_is_an_error(mine: Path, tmp_path: Path) -> None:
    rows = jsonl(tmp_path / "in.jsonl", [{"body": "Total 1"}])
    assert hermes("extract", f"{mine}:Invoice", rows, "-o", tmp_path / "o.jsonl", "-m", f"{mine}:reads").code == 1


def test_one_text_is_printed(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "invoice.txt").write_text("Total due: 5")
    command = ["extract", f"{mine}:Invoice", "-m", f"{mine}:reads"]
    ran = hermes(*command, tmp_path / "invoice.txt")
    assert (ran.code, ran.out, ran.err) == (0, '{"total": 5.0}\n', "")
    assert hermes(*command, "-", stdin="Total due: 6").out == '{"total": 6.0}\n'
    (tmp_path / "invoice.txt").write_bytes(b"caf\xe9")
    assert "not UTF-8: byte 0xe9" in hermes(*command, tmp_path / "invoice.txt").err
    (tmp_path / "in.jsonl").write_text('"Total 5"')
    refused = hermes(*command, tmp_path / "in.jsonl")
    assert refused.code == 1
    assert "say with -o where the rows go" in refused.err


def test_columns_schemas_and_samples(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("number,body\na,Total 1\nb,Total 2\n")
    (tmp_path / "schema.json").write_text(
        '{"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"]}'
    )
    jsonl(tmp_path / "samples.jsonl", [{"total": 3}])
    jsonl(tmp_path / "examples.jsonl", [{"text": "Total 4", "output": {"total": 4}}])
    options = ["--text", "body", "--id", "number", "-m", f"{mine}:reads"]
    options += ["--examples", str(tmp_path / "examples.jsonl"), "-i", "Take the total.", "--max-tokens", "50"]
    schemas = [str(tmp_path / "schema.json")], ["--like", str(tmp_path / "samples.jsonl")], [f"{mine}:Invoice"]
    for number, schema in enumerate(schemas):
        out = tmp_path / f"out{number}.jsonl"
        ran = hermes("extract", *schema, tmp_path / "in.csv", "-o", out, *options)
        assert ran.code == 0, ran
        assert lines(out) == [{"id": "a", "output": {"total": 1}}, {"id": "b", "output": {"total": 2}}]


def test_rows_from_a_pipe(mine: Path, tmp_path: Path, rows: Path) -> None:
    out = tmp_path / "out.jsonl"
    ran = hermes("extract", f"{mine}:Invoice", "-", "-o", out, "-m", f"{mine}:reads", stdin=rows.read_text())
    assert ran.code == 0, ran
    assert len(lines(out)) == 12


def test_another_schema_is_refused_unless_it_is_begun_anew(mine: Path, rows: Path, tmp_path: Path) -> None:
    command = ["extract", f"{mine}:Invoice", str(rows), "-o", str(tmp_path / "out.jsonl"), "-m", f"{mine}:reads"]
    assert hermes(*command).code == 0
    refused = hermes(*command, "-i", "Otherwise.")
    assert refused.code == 1
    assert "--restart" in refused.err
    assert "on_change" not in refused.err
    assert hermes(*command, "-i", "Otherwise.", "--restart").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["{mine}:Invoice"], 2, "give a schema and an input"),
        (["--like", "samples.jsonl", "{mine}:Invoice", "in.jsonl"], 2, "give a schema and an input"),
        (["{mine}:Invoice", "nowhere.jsonl", "-o", "{folder}/out.jsonl"], 1, "cannot read 'nowhere.jsonl'"),
        (["{mine}:Nothing", "in.jsonl", "-o", "{folder}/out.jsonl"], 1, "there is no 'Nothing'"),
        (["{mine}:Invoice", "{folder}/in.jsonl", "-o", "{folder}/out.xls"], 1, "out.xls"),
        (["{mine}:Invoice", "{folder}/in.jsonl", "-o", "{folder}/in.jsonl"], 1, "are the same file"),
        (["{mine}:Invoice", "{folder}/in.csv", "-o", "{folder}/out.jsonl"], 1, "name a column of it with --text"),
        (["{folder}/list.json", "{folder}/in.jsonl", "-o", "{folder}/out.jsonl"], 1, "holds no JSON schema"),
        (["{folder}/in.csv", "{folder}/in.jsonl", "-o", "{folder}/out.jsonl"], 1, "names no object"),
        (["--like", "{folder}/list.json", "{folder}/in.jsonl", "-o", "{folder}/o.jsonl"], 1, "is no object but [1]"),
        (["--like", "{folder}/in.csv", "{folder}/in.jsonl", "-o", "{folder}/o.jsonl"], 1, "line 1 of "),
        (["{mine}:Invoice", "a.txt", "--examples", "{folder}/in.jsonl"], 1, "is no example but"),
    ],
)
def test_what_is_wrong_is_told(
    mine: Path, rows: Path, tmp_path: Path, arguments: list[str], code: int, told: str
) -> None:
    (tmp_path / "in.csv").write_text("a\nb\n")
    (tmp_path / "list.json").write_text("[1]")
    filled = [argument.format(mine=mine, folder=rows.parent) for argument in arguments]
    ran = hermes("extract", *filled, "-m", f"{mine}:reads")
    assert ran.code == code
    assert told in " ".join(ran.err.replace("│", " ").split())
    assert "Traceback" not in ran.err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(mine: Path, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    command = ["extract", f"{mine}:Invoice", str(rows), "-o", str(out), "--concurrency", "1"]
    with process(*command, "-m", f"{mine}:gets_stuck", env=environment()) as running:
        assert running.stderr is not None
        seen = ""
        while "stuck" not in seen:
            line = running.stderr.readline()
            assert line, seen
            seen += line
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
        assert running.wait() == 130
    assert "run the same command to go on" in rest
    assert "Traceback" not in rest
    assert [line["id"] for line in lines(out)] == [f"r{at}" for at in range(7)]
    ran = hermes(*command, "-m", f"{mine}:reads")
    assert ran.code == 0, ran
    assert "rows     12, 7 of them before" in ran.err
    assert [line["output"]["total"] for line in lines(out)] == [float(at) for at in range(12)]


@pytest.mark.skipif(os.name == "nt", reason="a shell that closes it")
@pytest.mark.parametrize("out", ["", "-o out.jsonl"])
def test_a_closed_standard_input_is_told(mine: Path, tmp_path: Path, out: str) -> None:
    command = f"{sys.executable} -m hermes_agent.cli extract {mine}:Invoice - {out} -m {mine}:reads <&-"
    ran = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: standard input is closed"), ran.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_while_rows_are_waited_for(mine: Path, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    command = ["extract", f"{mine}:Invoice", "-", "-o", str(out), "-m", f"{mine}:reads"]
    with process(*command, env=environment(), stdin=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stderr is not None
        running.stdin.write(rows.read_text())
        running.stdin.flush()
        while not out.exists() or out.read_bytes().count(b"\n") < 12:  # written while more is waited for
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
        assert running.wait() == 130
    assert "run the same command to go on" in rest
    assert "Traceback" not in rest
    again = hermes(*command, stdin=rows.read_text())
    assert again.code == 0, again
    assert "rows     12, 12 of them before" in again.err


def test_help_helps() -> None:
    ran = hermes("extract", "--help")
    assert "hermes-sdk extract schema.py:Invoice in.jsonl -o out.jsonl" in ran.out
    assert "--retry" in ran.out
