from __future__ import annotations

import json
from pathlib import Path

import pytest

from hermes_agent.record import dump_runs
from hermes_agent.trace import Trace
from tests.command import hermes, tools_file
from tests.test_trace import journal_of
from tests.traced_runs import killed_run, waiting_run, whole_run


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    file = tmp_path / "run.json"
    file.write_text(dump_runs("run-1", whole_run()), encoding="utf-8")
    return file


def test_a_tree(saved: Path) -> None:
    ran = hermes("trace", saved)
    assert ran.code == 0
    assert ran.out.startswith("run run-1: answered\n")
    assert 'call weather(city="Oslo", unit="celsius")' in ran.out
    assert "run run-1/call_1_1: answered" in ran.out
    inner = hermes("trace", saved, "--run", "run-1/call_1_1")
    assert inner.out.startswith("run run-1/call_1_1: answered\n")
    assert "weather" not in inner.out


def test_a_page(saved: Path, tmp_path: Path) -> None:
    page = tmp_path / "run.html"
    ran = hermes("trace", saved, "--html", page)
    assert (ran.code, ran.out) == (0, "")
    assert page.read_text(encoding="utf-8") == Trace.load(saved).to_html()


def test_a_page_overwrites_no_run_and_nothing_but_pages(saved: Path, tmp_path: Path) -> None:
    link, journal, notes = tmp_path / "link.html", tmp_path / "runs.db", tmp_path / "notes.txt"
    link.symlink_to(saved)
    journal_of(journal, whole_run())
    notes.write_text("mine")
    for file, said in (
        (saved, "is the saved run itself"),
        (link, "is the saved run itself"),
        (notes, "is no HTML"),
        (journal, "is a database"),
        (Path("/dev/null"), "cannot write"),
    ):
        before = file.read_bytes()
        ran = hermes("trace", saved, "--html", file)
        assert (ran.code, file.read_bytes()) == (1, before)
        assert said in ran.err.replace("\n", " ")
        assert "hint:" in ran.err
    assert hermes("trace", journal, "--html", journal).code == 1
    page = tmp_path / "page.html"
    assert [hermes("trace", saved, "--html", page).code for _ in range(2)] == [0, 0]
    assert page.read_text(encoding="utf-8").startswith("<!")


@pytest.mark.parametrize("other", ["--history", "--save"])
def test_a_run_is_not_saved_over_its_conversation(other: str, tmp_path: Path) -> None:
    tools, file = tools_file(tmp_path), tmp_path / "talk.json"
    asks = ["run", "Add.", "--model", f"{tools}:adds", "--tools", f"{tools}:add"]
    assert hermes(*asks, "--save", file).code == 0
    assert hermes(*asks, "--save", file, "--history", file).code == 0
    before = file.read_bytes()
    ran = hermes(*asks, other, file, "--trace", tmp_path / "." / "talk.json")
    assert (ran.code, file.read_bytes()) == (1, before)
    assert "are the same file" in ran.err.replace("\n", " ")
    new = tmp_path / "new.json"
    assert hermes(*asks, "--save", new, "--trace", new).code == 1
    assert not new.exists()


def test_json(saved: Path) -> None:
    told = json.loads(hermes("trace", saved, "--json").out)
    assert [[call["state"] for call in step["calls"]] for step in told["steps"]] == [
        ["ran", "ran", "refused"],
        ["failed"],
        [],
        [],
    ]
    assert told["steps"][0]["calls"][1]["run"]["agent"] == "researcher"
    assert told["usage"]["input_tokens"] == 5002


def test_long_values(tmp_path: Path) -> None:
    from hermes_agent.record import RunBegan

    file = tmp_path / "long.json"
    file.write_text(dump_runs("r", {"r": [RunBegan("p" * 1000)]}))
    assert "[600 more characters]" in hermes("trace", file).out
    assert "p" * 1000 in hermes("trace", file, "--all").out


def test_a_journal(tmp_path: Path) -> None:
    file = tmp_path / "runs.db"
    journal_of(file, killed_run())
    assert "begun, no result recorded" in hermes("trace", file).out
    journal_of(file, waiting_run())
    ran = hermes("trace", file)
    assert ran.code == 1
    assert "'run-2'" in ran.err
    assert "'run-3'" in ran.err
    assert "waiting · for approval" in hermes("trace", file, "--run", "run-2").out


def test_wrong_files_are_named(saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("no run")
    bytes_ = tmp_path / "bytes"
    bytes_.write_bytes(b"\xff\xfe\x00")
    for arguments, said in (
        (["/no/such/file"], "/no/such/file"),
        ([str(tmp_path)], str(tmp_path)),
        ([str(other)], f"'{other}' is not a saved run"),
        ([str(bytes_)], f"'{bytes_}' is not a saved run"),
        ([str(saved), "--run", "x"], "there is no run 'x'"),
        ([str(saved), "--html", "/no/such/folder/x.html"], "/no/such/folder"),
    ):
        ran = hermes("trace", *arguments)
        assert ran.code == 1, ran
        assert said in ran.err
        assert "hint:" in ran.err


def test_a_run_is_saved_as_it_went(tmp_path: Path) -> None:
    tools, file = tools_file(tmp_path), tmp_path / "run.json"
    ran = hermes("run", "Add.", "--model", f"{tools}:adds", "--tools", f"{tools}:add", "--trace", file)
    assert ran.code == 0, ran
    trace = Trace.load(file)
    assert (trace.outcome, trace.answer) == ("answered", "The sum is 3.")
    assert [call.result for call in trace.steps[0].calls] == ["3"]


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_run_is_saved_also_when_it_fails(as_json: list[str], tmp_path: Path) -> None:
    tools, file = tools_file(tmp_path), tmp_path / "run.json"
    ran = hermes("run", "Sum?", "--model", f"{tools}:stubborn", "--output", f"{tools}:Sum", "--trace", file, *as_json)
    assert ran.code == 1
    trace = Trace.load(file)
    assert trace.outcome == "failed"
    assert "InvalidOutputError" in trace.error
    assert all(step.rejected for step in trace.steps)


def test_a_file_that_cannot_be_written_is_told_before_the_run(tmp_path: Path) -> None:
    tools = tools_file(tmp_path)
    ran = hermes("run", "Add.", "--model", f"{tools}:adds", "--tools", f"{tools}:add", "--trace", "/no/such/x.json")
    assert ran.code == 1
    assert "cannot write '/no/such/x.json'" in ran.err
