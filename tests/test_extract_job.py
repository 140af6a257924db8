"""Jobs: every row once; what is settled is not asked again; what changed is noticed."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import BaseModel, field_validator

from hermes_agent.errors import ConfigurationError, JobError, ModelError, ModelUnavailableError
from hermes_agent.extract import Extractor, engine
from hermes_agent.extract.inputs import piped_rows, read_rows
from hermes_agent.extract.inputs.folder import DATA
from hermes_agent.extract.one import Settings
from hermes_agent.extract.pace import Pace
from hermes_agent.formats import dialect
from hermes_agent.formats.dialects import Dialect
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.messages import AssistantMessage, UserMessage
from hermes_agent.models.base import Chunk, Guarantee, Request
from hermes_agent.testing import ScriptedModel


class Word(BaseModel):
    first: str
    length: int


class Reader:
    """A model that answers from the text, and remembers what it was asked.

    Args:
        broken: Texts that it never answers rightly.
        before: Awaited before each answer.
    """

    name = "reader"
    dialect: Dialect = dialect("chatml")

    def __init__(self, *broken: str, before: Callable[[str], Any] | None = None) -> None:
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0
        self.broken, self._before = set(broken), before

    async def guarantee(self, grammar: TurnGrammar, *, prove: bool = False) -> Guarantee:
        return "checked"

    async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        text = next(m.text for m in reversed(request.messages) if isinstance(m, UserMessage))
        self.asked.append(text)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self._before is not None:
                await self._before(text)
            value = {"first": text[0], "length": len(text)}
            yield Chunk("no" if text in self.broken else json.dumps(value), "stop", 7, 3)
        finally:
            self.at_once -= 1


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


TEXTS = [f"text number {i}" for i in range(40)]


def test_each_row_is_in_the_output_once_and_in_order(tmp_path: Path) -> None:
    model, out = Reader("text number 3"), tmp_path / "out.jsonl"
    summary = Extractor(Word, model).map(TEXTS, out=out, progress=False)
    rows = lines(out)
    assert [row["id"] for row in rows] == list(range(40))
    assert [row.get("output") for row in rows if row["id"] != 3] == [
        {"first": "t", "length": len(text)} for i, text in enumerate(TEXTS) if i != 3
    ]
    assert rows[3]["error"]["type"] == "InvalidOutputError"
    assert rows[3]["error"]["attempts"] == ["no"] * 3
    assert rows[3]["error"]["raw"] == "no"
    assert (summary.rows, summary.failed, summary.already) == (40, 1, 0)
    assert summary.causes == {"InvalidOutputError": 1}
    assert summary.usage.input_tokens == 7 * 42
    assert sorted(set(model.asked)) == sorted(TEXTS)


def test_a_job_writes_the_values_that_extract_returns(tmp_path: Path) -> None:
    """A validator that changes what it reads has done so once."""

    class Invoice(BaseModel):
        number: str
        total: float

        @field_validator("number")
        @classmethod
        def _with_its_kind(cls, value: str) -> str:
            return f"INV-{value}"

        @field_validator("total")
        @classmethod
        def _in_whole(cls, value: float) -> float:
            return value / 100

    model = ScriptedModel(['{"number": "7", "total": 1250}'] * 2)
    extractor = Extractor(Invoice, model, examples=[("Invoice 8 of 900 cents", {"number": "8", "total": 900})])
    value = extractor.extract("Invoice 7 of 1250 cents").output
    assert (value.number, value.total) == ("INV-7", 12.5)
    extractor.map(["Invoice 7 of 1250 cents"], out=tmp_path / "out.jsonl")
    assert lines(tmp_path / "out.jsonl") == [{"id": 0, "output": {"number": "INV-7", "total": 12.5}}]
    shown = [m.text for m in model.requests[0].messages if isinstance(m, AssistantMessage)]
    assert shown[0] == '{"number": "8", "total": 900}', "an example is shown as it was given"


@pytest.mark.parametrize("name", ["out.jsonl", "out.sqlite", "out.parquet"])
def test_what_is_settled_is_not_asked_again(tmp_path: Path, name: str) -> None:
    model, out = Reader(), tmp_path / name
    Extractor(Word, model).map(TEXTS[:25], out=out, progress=False)
    summary = Extractor(Word, model).map(TEXTS, out=out, progress=False)
    assert sorted(model.asked) == sorted(TEXTS)
    assert (summary.rows, summary.already) == (40, 25)


def test_only_failures_are_asked_again_on_request(tmp_path: Path) -> None:
    model, out = Reader(TEXTS[3], TEXTS[30]), tmp_path / "out.jsonl"
    extractor = Extractor(Word, model)
    extractor.map(TEXTS, out=out, progress=False)
    model.asked.clear()
    extractor.map(TEXTS, out=out, progress=False)
    assert model.asked == []
    model.broken.clear()
    summary = extractor.map(TEXTS, out=out, retry=True, progress=False)
    assert sorted(model.asked) == sorted([TEXTS[3], TEXTS[30]])
    assert (summary.rows, summary.failed, summary.already) == (40, 0, 38)
    assert [row["output"]["length"] for row in lines(out)] == [len(text) for text in TEXTS]


def test_a_failed_row_that_was_put_right_in_the_input_is_asked_as_it_is_now(tmp_path: Path) -> None:
    out, extractor = tmp_path / "out.jsonl", Extractor(Word, Reader("bad"))
    rows: list[Any] = [{"text": "good"}, {"body": "no text"}, {"text": "bad"}]
    extractor.map(rows, out=out, progress=False)
    rows[1:] = [{"text": "now a text"}, {"text": "put right"}]
    with pytest.raises(JobError, match="row 1 of the input, 1, is another one than when it failed") as refused:
        extractor.map(rows, out=out, progress=False)
    assert "--retry" in refused.value.hint
    summary = extractor.map(rows, out=out, retry=True, progress=False)
    assert (summary.rows, summary.failed, summary.already) == (3, 0, 1)
    assert [row["output"]["length"] for row in lines(out)] == [4, 10, 9]
    assert extractor.map(rows, out=out, progress=False).already == 3
    with pytest.raises(JobError, match="row 0 of the input"):  # what had not failed is held to what it was
        extractor.map([{"text": "other"}, *rows[1:]], out=out, retry=True, progress=False)


class Another(BaseModel):
    first: str


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Another, {}),
        (Word, {"instructions": "Otherwise."}),
        (Word, {"examples": [("ab", Word(first="a", length=2))]}),
        (Word, {"reasoning": "on"}),
        (Word, {"evidence": True}),
    ],
)
def test_another_schema_prompt_or_setting_is_refused_or_begun_anew(
    tmp_path: Path, kind: type[BaseModel], settings: Settings
) -> None:
    model, out = Reader(), tmp_path / "out.jsonl"
    Extractor(Word, model).map(TEXTS, out=out, progress=False)
    before = out.read_text()
    model.asked.clear()
    with pytest.raises(JobError, match=r"schema|prompt|output"):
        Extractor(kind, model, **settings).map(TEXTS, out=out, progress=False)
    assert model.asked == []
    assert out.read_text() == before
    Extractor(kind, model, **settings).map(TEXTS, out=out, on_change="restart", progress=False)
    assert sorted(set(model.asked)) == sorted(TEXTS)
    assert len(lines(out)) == 40


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet", "out.sqlite"])
def test_a_job_of_which_nothing_is_settled_binds_nobody(tmp_path: Path, name: str) -> None:
    async def gone(text: str) -> None:
        raise ModelUnavailableError("the server is gone")

    model, out = Reader(before=gone), tmp_path / name
    model.name = "gone"
    with pytest.raises(ModelUnavailableError):
        Extractor(Word, model).map(TEXTS, out=out, progress=False)
    assert Extractor(Another, Reader()).map(TEXTS, out=out, progress=False).rows == 40
    with pytest.raises(JobError, match="another schema"):
        Extractor(Word, Reader()).map(TEXTS, out=out, progress=False)


def test_another_model_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    Extractor(Word, Reader()).map(TEXTS, out=out, progress=False)
    other = Reader()
    other.name = "another"
    with pytest.raises(JobError, match="another"):
        Extractor(Word, other).map(TEXTS, out=out, progress=False)


def test_an_input_that_changed_is_noticed(tmp_path: Path) -> None:
    out, extractor = tmp_path / "out.jsonl", Extractor(Word, Reader())
    extractor.map(TEXTS, out=out, progress=False)
    with pytest.raises(JobError, match="row 5 of the input"):
        extractor.map([*TEXTS[:5], "something else", *TEXTS[6:]], out=out, progress=False)
    with pytest.raises(JobError, match="input has 10 rows"):
        extractor.map(TEXTS[:10], out=out, progress=False)
    with pytest.raises(JobError, match="input has 0 rows"):
        extractor.map([], out=out, progress=False)
    assert len(lines(out)) == 40


def test_a_job_begun_anew_forgets(tmp_path: Path) -> None:
    model, out = Reader(), tmp_path / "out.jsonl"
    Extractor(Word, model).map(TEXTS, out=out, progress=False)
    Extractor(Word, model).map(TEXTS[:3], out=out, resume=False, progress=False)
    assert len(lines(out)) == 3
    assert len(model.asked) == 43


def test_a_bad_row_costs_one_row(tmp_path: Path) -> None:
    given = tmp_path / "in.jsonl"
    given.write_bytes(b'{"text": "one"}\n{"text": \xff}\nnot json\n{"other": 1}\n{"text": ""}\n{"text": "a\\u0000b"}\n')
    out = tmp_path / "out.jsonl"
    summary = Extractor(Word, Reader()).map(given, out=out, progress=False)
    rows = lines(out)
    assert len(rows) == 6
    assert [("output" in row) for row in rows] == [True, False, False, False, False, True]
    assert all(row["error"]["message"] for row in rows if "error" in row)
    assert (summary.rows, summary.failed) == (6, 4)


def test_ids_may_occur_twice(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    Extractor(Word, Reader()).map([{"id": 1, "text": "a"}, {"id": 1, "text": "bc"}], out=out, progress=False)
    assert [(row["id"], row["output"]["length"]) for row in lines(out)] == [(1, 1), (1, 2)]


def test_what_a_validator_raises_costs_the_row(tmp_path: Path) -> None:
    def check(word: Word) -> Word:
        if word.length == len("text number 7"):
            raise KeyError("seven")
        return word

    out = tmp_path / "out.jsonl"
    summary = Extractor(Word, Reader(), validators=[check]).map([*TEXTS[7:12]], out=out, progress=False)
    assert summary.rows == 5
    assert summary.failed == 3
    assert "KeyError" in lines(out)[0]["error"]["message"]


def test_a_model_that_is_gone_ends_the_job_and_loses_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"

    async def gone(text: str) -> None:
        if text == TEXTS[20] or len(model.asked) > 21:
            raise ModelUnavailableError("the server is gone")

    model = Reader(before=gone)
    with pytest.raises(ModelUnavailableError, match="gone"):
        Extractor(Word, model).map(TEXTS, out=out, concurrency=1, progress=False)
    assert len(lines(out)) == 20
    again = Reader()
    Extractor(Word, again).map(TEXTS, out=out, progress=False)
    assert sorted(again.asked) == sorted(TEXTS[20:])
    assert len(lines(out)) == 40


def fails_over(*texts: str) -> Callable[[str], Any]:
    async def answer(text: str) -> None:
        if text in texts:
            raise ModelUnavailableError("answered 500", raw="internal error")

    return answer


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("bad", [(0,), (0, 1), (7,), (39,), (10, 11, 12, 13, 14)])
def test_a_row_over_which_the_server_fails_costs_that_row(
    tmp_path: Path, bad: tuple[int, ...], concurrency: int
) -> None:
    out, model = tmp_path / "out.jsonl", Reader(before=fails_over(*(TEXTS[at] for at in bad)))
    summary = Extractor(Word, model).map(TEXTS, out=out, concurrency=concurrency, progress=False)
    assert (summary.rows, summary.causes) == (40, {"ModelUnavailableError": len(bad)})
    assert {line["id"] for line in lines(out) if "error" in line} == set(bad)


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("rows", [1, 2, 40])
def test_a_server_that_fails_over_every_row_ends_the_job(tmp_path: Path, rows: int, concurrency: int) -> None:
    out, model = tmp_path / "out.jsonl", Reader(before=fails_over(*TEXTS))
    with pytest.raises(ModelUnavailableError, match="answered 500"):
        Extractor(Word, model).map(TEXTS[:rows], out=out, concurrency=concurrency, progress=False)
    assert len(model.asked) <= concurrency + 2
    assert lines(out) == []


class Busy(Reader):
    """A server with a quota: it turns rows away, each as often as it is told to."""

    def __init__(self, times: float) -> None:
        super().__init__(before=self._turn_away)
        self.times, self.turned_away = times, 0
        self._so_far: dict[str, int] = {}

    async def _turn_away(self, text: str) -> None:
        self._so_far[text] = self._so_far.get(text, 0) + 1
        if self._so_far[text] <= self.times:
            self.turned_away += 1
            raise ModelUnavailableError("answered 429")


def test_a_server_that_is_too_busy_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_RESTS", (0.001, 0.002))
    model, out = Busy(3), tmp_path / "out.jsonl"
    summary = Extractor(Word, model).map(TEXTS, out=out, progress=False)
    assert (summary.rows, summary.failed) == (40, 0)
    assert model.turned_away == 120
    assert len(model.asked) == 160


def test_a_server_that_stays_too_busy_ends_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_RESTS", (0.001, 0.002))
    monkeypatch.setattr(engine, "_PATIENCE", 0.1)
    out = tmp_path / "out.jsonl"
    with pytest.raises(ModelUnavailableError, match="answered 429"):
        Extractor(Word, Busy(float("inf"))).map(TEXTS, out=out, progress=False)
    assert lines(out) == []
    assert Extractor(Word, Reader()).map(TEXTS, out=out, progress=False).rows == 40


def test_a_model_that_fails_every_time_ends_the_job(tmp_path: Path) -> None:
    async def fails(text: str) -> None:
        raise ModelError(f"no {text}")

    with pytest.raises(ModelError, match="rows in a row"):
        Extractor(Word, Reader(before=fails)).map(TEXTS * 10, out=tmp_path / "out.jsonl", progress=False)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_job_that_is_cancelled_keeps_what_is_settled(tmp_path: Path, backend: str) -> None:
    out = tmp_path / "out.jsonl"

    async def cancelled() -> None:
        async def stop(text: str) -> None:
            if text == TEXTS[11]:
                scope.cancel()
            await anyio.lowlevel.checkpoint()

        with anyio.CancelScope() as scope:
            await Extractor(Word, Reader(before=stop)).map_async(TEXTS, out=out, concurrency=1, progress=False)

    anyio.run(cancelled, backend=backend)
    assert len(lines(out)) == 11
    model = Reader()
    Extractor(Word, model).map(TEXTS, out=out, progress=False)
    assert sorted(model.asked) == sorted(TEXTS[11:])


@pytest.mark.parametrize("name", ["in.jsonl", "./in.jsonl", "link.jsonl"])
def test_the_input_is_never_the_output(tmp_path: Path, name: str) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "one"}\n')
    (tmp_path / "link.jsonl").symlink_to(source)
    for resume in (True, False):
        with pytest.raises(ConfigurationError, match=r"in\.jsonl', which would be overwritten"):
            Extractor(Word, Reader()).map(source, out=tmp_path / name, resume=resume, on_change="restart")
    assert source.read_text() == '{"text": "one"}\n'


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet", "out.sqlite"])
def test_an_output_among_the_texts_is_none_of_them(tmp_path: Path, name: str) -> None:
    seen: set[str] = set()

    async def look(text: str) -> None:
        seen.update(os.listdir(tmp_path))  # noqa: PTH208  # names, while nobody waits

    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "z.txt").write_text("two")
    extractor = Extractor(Word, Reader("two", before=look))
    assert extractor.map(tmp_path, out=tmp_path / name, progress=False).rows == 2
    assert any(found.endswith("-lock") for found in seen)
    assert extractor.map(tmp_path, out=tmp_path / name, retry=True, progress=False).rows == 2
    assert read_rows(tmp_path).total == 2
    for found in seen:
        assert found in ("a.txt", "z.txt") or DATA.search(found), found


def test_so_many_rows_are_asked_for_at_once(tmp_path: Path) -> None:
    async def wait(_: str) -> None:
        await anyio.sleep(0.001)

    model = Reader(before=wait)
    Extractor(Word, model).map(TEXTS, out=tmp_path / "out.jsonl", concurrency=5, progress=False)
    assert model.most_at_once == 5


def test_rows_are_read_as_they_are_needed(tmp_path: Path) -> None:
    read = 0
    model = Reader()

    def rows() -> Iterator[str]:
        nonlocal read
        for i in range(3000):
            read += 1
            assert read - len(model.asked) <= 70
            yield f"text {i}"

    Extractor(Word, model).map(rows(), out=tmp_path / "out.sqlite", progress=False)
    with sqlite3.connect(tmp_path / "out.sqlite") as connection:
        assert connection.execute("SELECT count(*), max(position) FROM rows WHERE output IS NOT NULL").fetchone() == (
            3000,
            2999,
        )
    connection.close()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_while_rows_of_a_pipe_are_waited_for_all_else_goes_on(tmp_path: Path, backend: str) -> None:
    """What is settled is on disk, and what was asked before the wait is answered in it."""
    out = tmp_path / "out.jsonl"

    async def slowly(text: str) -> None:
        await anyio.sleep(0.01)

    async def go() -> None:
        reading, writing = os.pipe()
        extractor = Extractor(Word, Reader(before=slowly))
        with os.fdopen(reading, "rb") as end:
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: extractor.map_async(piped_rows(end), out=out, progress=False))
                for upto in (3, 9, 10):
                    written = len(lines(out)) if out.exists() else 0
                    os.write(writing, b"".join(b'"text %d"\n' % n for n in range(written, upto)))
                    with anyio.fail_after(20):
                        while not out.exists() or len(lines(out)) < upto:  # noqa: ASYNC110  # a file tells nobody
                            await anyio.sleep(0.01)
                os.close(writing)

    anyio.run(go, backend=backend)
    assert [line["id"] for line in lines(out)] == list(range(10))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"concurrency": 0}, "concurrency=0"), ({"engine": "spark"}, "spark"), ({"on_change": "ask"}, "ask")],
)
def test_what_cannot_be_is_said_before_anything_is_asked(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    model = Reader()
    with pytest.raises(ConfigurationError, match=said):
        Extractor(Word, model).map(TEXTS, out=tmp_path / "out.jsonl", progress=False, **wrong)
    with pytest.raises(ConfigurationError, match=r"out\.txt"):
        Extractor(Word, model).map(TEXTS, out=tmp_path / "out.txt", progress=False)
    assert model.asked == []


def test_the_pace_grows_while_that_helps_and_halves_when_turned_away() -> None:
    pace, now = Pace(64), 0.0
    for _ in range(400):  # a server that does not mind
        now += 0.1 / pace.bound
        pace.settled(0.1, now, 0)
    grown = pace.bound
    assert grown > 8
    pace.settled(0.1, now, 1)
    assert pace.bound == grown // 2
    halved = pace.bound
    for _ in range(2 * halved):
        now += 0.1 / pace.bound
        pace.settled(0.1, now, 1)
    assert pace.bound == halved, "it does not come back at once"


def test_the_pace_stays_where_more_rows_at_once_only_wait_longer() -> None:
    pace, now, most = Pace(64), 0.0, 0
    for _ in range(4000):  # a server that serves eight at once
        now += 0.1 / min(pace.bound, 8)
        pace.settled(0.1 * max(1.0, pace.bound / 8), now, 0)
        most = max(most, pace.bound)
    assert 6 <= pace.bound <= 24
    assert most <= 32
