from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.command import hermes


def written(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def gold(tmp_path: Path) -> Path:
    rows: list[dict[str, Any]] = [
        {"id": "a", "gold": {"n": "x", "t": ["p", "q"]}},
        {"id": "b", "gold": {"n": "y"}},
        {"id": "c", "gold": {}},
    ]
    return written(tmp_path / "gold.jsonl", rows)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    rows: list[dict[str, Any]] = [
        {"id": "a", "output": {"n": "x", "t": ["p", "\x1b[2J"]}},
        {"id": "c", "error": {"type": "X"}},
        {"id": "z", "output": {}},
    ]
    return written(tmp_path / "out.jsonl", rows)


def test_a_table_with_what_does_not_pair(gold: Path, out: Path) -> None:
    ran = hermes("score", gold, out)
    assert ran.code == 0
    lines = [line.split() for line in ran.out.splitlines()]
    # hits x, p; gold x p q y; said x p and an escape
    assert lines[1][:8] == ["all", "values", "66.7", "%", "50.0", "%", "57.1", "%"]
    assert lines[1][-3:] == ["2", "4", "3"]
    assert "exact rows   0.0 %" in ran.out
    assert [line[:2] for line in lines if line and line[0] in ("missing", "failed", "unknown")] == [
        ["missing", "1"], ["failed", "1"], ["unknown", "1"],
    ]  # fmt: skip
    assert "'b'" in ran.out
    assert "\x1b" not in ran.out


def test_fields_and_worst_rows(gold: Path, out: Path) -> None:
    ran = hermes("score", gold, out)
    lines = [line.split() for line in ran.out.splitlines()]
    assert [line[0] for line in lines[2:4]] == ["t", "n"]
    assert "a  F1 66.7 %" in ran.out
    assert ["missed", "t:", "'q'"] in lines
    few = hermes("score", gold, out, "--no-by-field", "--worst", "0")
    assert "exact rows" in few.out
    assert not [line for line in few.out.splitlines() if line.startswith("t ")]
    assert "missed" not in few.out.partition("unknown")[2]
    assert "\x1b" not in ran.out


def test_json_tells_the_same(gold: Path, out: Path) -> None:
    told = json.loads(hermes("score", gold, out, "--json", "--worst", "1").out)
    assert (told["rows"], told["missing"], told["failed"], told["unknown"]) == (3, 1, 1, 1)
    assert told["overall"]["hits"] == 2
    assert told["overall"]["f1"]["low"] < told["overall"]["f1"]["value"] < told["overall"]["f1"]["high"]
    assert set(told["fields"]) == {"n", "t"}
    assert told["worst"] == [
        {"id": "a", "f1": pytest.approx(2 / 3), "missed": [["t", "q"]], "extra": [["t", "\x1b[2J"]]}
    ]


def test_the_right_answer_scores_one(gold: Path, tmp_path: Path) -> None:
    right = written(
        tmp_path / "o", [{**row, "output": row["gold"]} for row in map(json.loads, gold.read_text().splitlines())]
    )
    told = json.loads(hermes("score", gold, right, "--json").out)
    assert told["exact"]["value"] == told["overall"]["f1"]["value"] == told["macro_f1"] == 1


def test_case_and_the_name_of_the_right_answer(tmp_path: Path) -> None:
    gold = written(tmp_path / "g", [{"id": 1, "label": "A"}])
    out = written(tmp_path / "o", [{"id": 1, "output": "a"}])
    ran = hermes("score", gold, out)
    assert ran.code == 1
    assert "--gold-field" in ran.err
    assert "exact rows   100.0 %" in hermes("score", gold, out, "--gold-field", "label", "--casefold").out


def test_numbers_that_are_no_json(tmp_path: Path) -> None:
    gold = written(tmp_path / "g", [{"id": 1, "gold": float("inf")}])
    out = written(tmp_path / "o", [{"id": 1, "output": float("nan")}])
    (worst,) = json.loads(hermes("score", gold, out, "--json", "--worst", "1").out)["worst"]
    assert worst["missed"] == [["(value)", "inf"]]


@pytest.mark.parametrize("text", [None, "", "no json\n", "[]\n", '{"id": 1}\n'])
def test_files_that_are_no_such_thing_are_named(gold: Path, tmp_path: Path, text: str | None) -> None:
    bad = tmp_path / "bad"
    if text is not None:
        bad.write_text(text)
    for files in ([bad, gold], [gold, bad]):
        ran = hermes("score", *files)
        if text == "" and files[0] is gold:
            assert "missing      3" in ran.out, "an output that has just begun"
            continue
        assert ran.code == 1
        assert str(bad) in ran.err or "no 'output'" in ran.err
