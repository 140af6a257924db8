from __future__ import annotations

import csv
import gzip
import io
import json
import os
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_agent import ConfigurationError
from hermes_agent.extract.inputs import Rows, is_text_file, piped_rows, read_rows
from hermes_agent.extract.inputs.pipe import Pipe
from hermes_agent.extract.row import Row

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(
    lambda text: bool(text.strip())
)
ROWS = st.lists(st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), TEXTS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all examples that hypothesis draws."""
    return tmp_path_factory.mktemp("inputs")


def read(data: bytes | str, path: Path, **options: Any) -> list[Row]:
    """The rows of a file that is written for it; there are as many as were announced."""
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    rows = read_rows(path, **options)
    found = list(rows)
    assert rows.total == len(found)
    assert [row.position for row in found] == list(range(len(found)))
    return found


def told(rows: list[Row]) -> list[str]:
    """What stands in rows that can be used, and what is wrong with the others."""
    assert all(len(row.text) <= 1000 and "\n" not in row.problem for row in rows if row.problem)
    return [f"! {row.problem}" if row.problem else row.text for row in rows]


# --- what was written is what is read


@given(ROWS)
@settings(deadline=None)
def test_json_lines_read_back_equal(folder: Path, rows: list[tuple[str, str]]) -> None:
    data = "".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in rows)
    assert [(row.id, row.text) for row in read(data, folder / "a.jsonl")] == rows
    packed = folder / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(data.encode(), 1))
    assert [(row.id, row.text) for row in read_rows(packed)] == rows


@pytest.mark.parametrize(("name", "dialect"), [("a.csv", "excel"), ("a.csv", "unix"), ("a.tsv", "excel-tab")])
@given(rows=ROWS, bom=st.booleans())
@settings(deadline=None)
def test_csv_reads_back_equal(folder: Path, name: str, dialect: str, rows: list[tuple[str, str]], bom: bool) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, dialect).writerows([("id", "other", "text"), *((row[0], 'a "b" c', row[1]) for row in rows)])
    data = file.getvalue().encode("utf-8-sig" if bom else "utf-8")
    assert [(row.id, row.text) for row in read(data, folder / name)] == rows


@given(ROWS)
@settings(max_examples=25, deadline=None)
def test_parquet_reads_back_equal(folder: Path, rows: list[tuple[str, str]]) -> None:
    table = parquet_table({"id": [row[0] for row in rows], "text": [row[1] for row in rows]})
    found = list(read_rows(written(table, folder / "a.parquet")))
    assert [(row.id, row.text) for row in found] == rows


@given(st.lists(TEXTS))
@settings(deadline=None)
def test_texts_mappings_and_rows_of_a_program_are_the_same(texts: list[str]) -> None:
    expected = [Row(at, at, text) for at, text in enumerate(texts)]
    for given_ in (texts, [{"text": text} for text in texts], expected, [Row(7, at, t) for at, t in enumerate(texts)]):
        rows = read_rows(given_)
        assert rows.total == len(texts)
        assert list(rows) == expected == list(rows)


# --- whatever there is, it costs one row


@given(st.lists(st.binary() | st.sampled_from([b'{"text": "a"}', b'"a"', b"", b" \t", b"\xff", b"[", b"{}"])))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_one_row_a_line_that_is_not_blank(folder: Path, lines: list[bytes]) -> None:
    data = b"\n".join(lines)
    expected = sum(1 for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip(b" \t\n\r\x0b\x0c"))
    rows = read(data, folder / "any.jsonl")
    assert len(rows) == expected
    assert all(row.problem or row.text.strip() for row in rows)
    told(rows)
    for row in rows:
        assert row.digest


@given(st.lists(st.binary() | st.sampled_from([b"1,a", b'1,"a"', b'1,"a', b'1,"""a', b'x","y', b'"', b"1,a,b", b","])))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_records(folder: Path, lines: list[bytes]) -> None:
    told(read(b"id,text\n" + b"\n".join(lines), folder / "any.csv"))


@given(st.lists(st.sampled_from(["1,a", '1,"a', '1,a"b', '1,"a"b', "1,a,b", "1", "\xff"]), min_size=1), st.booleans())
@settings(deadline=None)
def test_a_row_that_was_quoted_right_is_found_behind_any_dirt(folder: Path, dirt: list[str], quoted: bool) -> None:
    """A quote left open reaches to the next one at most, and there is told from a closing one."""
    good = '2,"well, quoted"' if quoted else "2,well quoted"
    rows = read("id,text\n" + "\n".join([*dirt, good, '3,"last, too"']) + "\n", folder / "dirt.csv")
    assert [row.text for row in rows if not row.problem][-2:] == [good[2:].strip('"'), "last, too"]


def test_dirty_json_lines(tmp_path: Path) -> None:
    lines: list[bytes] = [
        b'{"id": "a", "text": "good"}',
        b'{"id": "b", "text": "caf\xe9"}',
        b'{"id": "c", "text": ""}',
        b'{"id": "d", "text": " \\n "}',
        b"not JSON",
        b"",
        b"[1, 2]",
        b"12",
        b'{"id": 7, "txt": "x"}',
        b'{"id": 8, "text": 5}',
        b'{"id": 9, "text": null}',
        b'{"id": null, "text": "no id"}',
        b'{"id": "a", "text": "same id"}',
        b'{"text": "NUL \\u0000 escaped"}',
        b'{"text": "NUL \0"}',
        b'"a text alone"',
        b"[" * 100_000,
        b"1" * 5000,
        b'{"id": {"a": [1]}, "text": "\\ud800"}',
        b'{"id": true, "text": "cut',
    ]
    rows = read(b"\xef\xbb\xbf" + b"\r\n".join(lines), tmp_path / "dirty.jsonl")
    assert told(rows) == [
        "good",
        "! the line is not UTF-8: byte 0xe9 at offset 24 (line 2)",
        "! the text is empty",
        "! the text is blank",
        "! the line is not JSON: Expecting value at character 0 (line 5)",
        "! the line is no object but a list (line 7)",
        "! the line is no object but 12 (line 8)",
        "! there is no column 'text'; there are 'id', 'txt'",
        "! column 'text' holds no text but 5",
        "! column 'text' holds no text but null",
        "no id",
        "same id",
        "NUL \0 escaped",
        "! the line is not plain text: NUL at character 14 (line 15)",
        "a text alone",
        "! the line is not JSON that can be read: nested too deeply (line 17)",
        rows[16].problem and f"! {rows[16].problem}",
        "\ud800",
        "! the line is not JSON: Unterminated string starting at at character 21 (line 20)",
    ]
    assert "5000 digits" in rows[16].problem
    ids = [row.id for row in rows]
    assert ids == ["a", 1, "c", "d", 4, 5, 6, 7, 8, 9, 10, "a", 12, 13, 14, 15, 16, '{"a": [1]}', 18]
    assert rows[1].text == '{"id": "b", "text": "caf\ufffd"}'
    assert rows[7].text == '{"id": 7, "txt": "x"}'


def test_dirty_csv(tmp_path: Path) -> None:
    lines = [
        b"id,text,more",
        b"1,good,x",
        b'2,"two\nlines, and a ""quote""",x',
        b"",
        b"4,too few",
        b"5,too,many,columns",
        b'6,"never closed,x',
        b"7,in between,x",
        b'8,"good, quoted",x',
        b'9,"Big" Mac,x',
        b'10,5" pipe,x',
        b"11,caf\xe9,x",
        b"12,good though,caf\xe9",
        b"13,N\0L,x",
        b",no id,x",
        b"15,,x",
        b'16,"open to the end,x',
        b"17,the end,x",
    ]
    rows = read(b"\r\n".join(lines), tmp_path / "dirty.csv")
    assert told(rows) == [
        "good",
        'two\nlines, and a "quote"',
        "! the row has 2 columns, where the header has 3 (line 6)",
        "! the row has more than 3 columns, where the header has 3 (line 7)",
        "! text behind the closing quote of column 2 (line 8)",
        "in between",
        "good, quoted",
        "! text behind the closing quote of column 2 (line 11)",
        '5" pipe',
        "! column 'text' is not UTF-8: byte 0xe9 at offset 3 (line 13)",
        "good though",
        "! column 'text' is not plain text: NUL at character 1 (line 15)",
        "no id",
        "! the text is empty",
        "! the quote that opens column 2 is not closed (line 18)",
        "the end",
    ]
    assert rows[4].text == '6,"never closed,x'
    assert [row.id for row in rows][11:14] == ["13", 12, "15"]


def test_a_record_of_several_lines_says_which(tmp_path: Path) -> None:
    rows = read('id,text\n1,"a\nb"\n2,"a\nb\xff', tmp_path / "a.csv")
    assert told(rows)[0] == "a\nb"
    (row,) = read('id,text,c\n1,"a\nb"\n', tmp_path / "a.csv")
    assert row.problem == "the row has 2 columns, where the header has 3 (lines 2 to 3)"


def test_quotes_that_open_again_and_again_do_not_make_reading_quadratic(tmp_path: Path) -> None:
    began = time.process_time()
    rows = read(b"a,text\n" + b'b","x\n' * 50_000, tmp_path / "a.csv", max_size=20_000)
    assert len(rows) == 50_000
    rows = read(b"a,text\n" + b'b,"x""\n' * 50_000, tmp_path / "a.csv", max_size=20_000)
    assert all(row.problem for row in rows)
    assert time.process_time() - began < 20


def test_files_of_the_end_of_the_scale(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.csv", "a.tsv"):
        assert read("", tmp_path / name) == []
        assert read("\n \n" if name == "a.jsonl" else "\n\n", tmp_path / name) == []
    assert read("id,text", tmp_path / "a.csv") == []
    assert told(read("text", tmp_path / "a.txt")) == ["text"]
    assert told(read("", tmp_path / "a.txt")) == ["! the text is empty"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt"])
def test_a_row_of_50_megabytes_costs_itself(tmp_path: Path, name: str) -> None:
    huge = b"x" * 50_000_000
    wrap = {"a.jsonl": b'{"text": "b"}\n{"text": "%s"}\n{"text": "c"}', "a.csv": b"text\nb\n%s\nc\n", "a.txt": b"%s"}
    (tmp_path / name).write_bytes(wrap[name] % huge)
    del huge
    tracemalloc.start()
    began = time.process_time()
    try:
        rows = list(read_rows(tmp_path / name))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    bad = rows[0 if name == "a.txt" else 1]
    assert bad.problem.startswith("the row is too long: 50,000,")
    assert bad.text.endswith("x" * 500)
    assert len(bad.text) == 1000
    assert peak < 45_000_000
    assert time.process_time() - began < 5
    if name != "a.txt":
        assert [rows[0].text, rows[2].text] == ["b", "c"]


def test_how_long_a_row_may_be(tmp_path: Path) -> None:
    for end in ("", "\n", "\r\n"):
        sizes = {size: read(json.dumps("x" * (size - 2)) + end, tmp_path / "a.jsonl", max_size=12) for size in (12, 15)}
        assert not sizes[12][0].problem
        assert sizes[15][0].problem.startswith(f"the row is too long: {15 + len(end)} bytes")
    assert not next(iter(read_rows(["x" * 12], max_size=12))).problem
    assert next(iter(read_rows(["x" * 13], max_size=12))).problem


# --- columns


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    rows = read('{"n": 3, "body": "a", "text": "not this"}\n{"body": "b"}', tmp_path / "a.jsonl", text="body", id="n")
    assert [(row.id, row.text) for row in rows] == [(3, "a"), (1, '{"body": "b"}')]
    assert rows[1].problem == "there is no id in column 'n'; there are 'body'"
    rows = read("n;body\nx;a,b\n", tmp_path / "a.csv", text="body", id="n")
    assert [(row.id, row.text) for row in rows] == [("x", "a,b")]


def test_a_table_without_the_column_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no column 'text'; it has 'id', 'body'") as refused:
        read("id,body\n1,a\n", tmp_path / "a.csv")
    assert "text=" in refused.value.hint
    with pytest.raises(ConfigurationError, match="two columns 'text'"):
        read("text,text\n1,a\n", tmp_path / "a.csv")
    with pytest.raises(ConfigurationError, match="no column 'n'"):
        read("text\na\n", tmp_path / "a.csv", id="n")
    with pytest.raises(ConfigurationError, match="no header that can be read"):
        read(b"text,caf\xe9\na\n", tmp_path / "a.csv")
    with pytest.raises(ConfigurationError, match="no header that can be read"):
        read('text,"a\na\n', tmp_path / "a.csv")


# --- Parquet


def parquet_table(columns: dict[str, Any]) -> Any:
    pa: Any = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    return pa.table({name: pa.array(column or pa.array([], pa.string())) for name, column in columns.items()})


def written(table: Any, path: Path, **options: Any) -> Path:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    parquet.write_table(table, path, **options)
    return path


def test_dirty_parquet(tmp_path: Path) -> None:
    pa: Any = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    raw = pa.array([b"good", b"caf\xe9", b"", b"x" * 30, None, b"more"], pa.binary())
    invalid = pa.StringArray.from_buffers(len(raw), raw.buffers()[1], raw.buffers()[2], raw.buffers()[0])
    ids = pa.array([1, 2, 3, 4, 5, None])
    path = written(pa.table({"text": invalid, "id": ids}), tmp_path / "a.parquet", row_group_size=2)
    rows = read_rows(path, max_size=20)
    found = list(rows)
    assert rows.total == 6
    assert told(found) == [
        "good",
        "! column 'text' is not UTF-8: byte 0xe9 at offset 3",
        "! the text is empty",
        "! the row is too long: 30 characters, where 20 are allowed",
        "! column 'text' holds no text but null",
        "more",
    ]
    assert [row.id for row in found] == [1, 2, 3, 4, 5, 5]


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "dictionary"])
def test_strings_of_every_kind(tmp_path: Path, kind: str) -> None:
    pa: Any = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    array = pa.array(["a", "b", "a"])
    array = array.dictionary_encode() if kind == "dictionary" else array.cast(getattr(pa, kind)())
    path = written(pa.table({"text": array}), tmp_path / "a.parquet")
    assert told(list(read_rows(path))) == ["a", "b", "a"]


def test_parquet_that_cannot_be_used_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = written(parquet_table({"text": [1, 2]}), tmp_path / "numbers.pq")
    with pytest.raises(ConfigurationError, match="holds no strings but int64"):
        list(read_rows(numbers))
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(ConfigurationError, match="no Parquet file"):
        list(read_rows(tmp_path / "text.parquet"))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigurationError, match="needs pyarrow") as refused:
        list(read_rows(numbers))
    assert "pip install" in refused.value.hint


# --- folders


def test_a_folder_is_its_texts_by_name(tmp_path: Path) -> None:
    for name in ("b.txt", "a/c.md", "a/b.txt", "B.txt", "noext", ".hidden", ".git/x", "out.jsonl", "out.jsonl.job-wal"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    rows = read_rows(tmp_path)
    found = list(rows)
    assert rows.total == len(found)
    assert [row.id for row in found] == ["B.txt", "a/b.txt", "a/c.md", "b.txt", "gone.txt", "image.png", "noext"]
    assert found[1].text == "text of a/b.txt"
    assert found[4].problem == "the link leads nowhere"
    assert found[5].problem == "the file is not UTF-8: byte 0x89 at offset 0"
    assert list(rows) == found


def test_a_folder_of_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\na\n")
    with pytest.raises(ConfigurationError, match="only files of data"):
        list(read_rows(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are any bytes on Linux")
def test_a_name_that_is_no_unicode_is_an_id_that_can_be_written(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")).write_text("text")
    (row,) = read_rows(tmp_path)
    assert row == Row(0, "caf\\udce9.txt", "text")


# --- what is no input


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.jsonl", "cannot read 'nowhere.jsonl': No such file"),
        ("a\0b", "cannot read"),
        (5, "neither a path nor an iterable"),
        (b"text", "neither a path nor an iterable"),
        ({"text": "a"}, "neither a path nor an iterable"),
        ({"a", "b"}, "a set has no order"),
    ],
)
def test_what_is_no_input_is_refused(source: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        read_rows(source)
    assert refused.value.hint


def test_formats_that_are_not_known_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    with pytest.raises(ConfigurationError, match="no format that is known") as refused:
        read_rows(tmp_path / "a.pdf")
    assert ".jsonl" in refused.value.hint
    (tmp_path / "a.json").write_text(' \n[{"text": "a"}]')
    with pytest.raises(ConfigurationError, match="one JSON list") as refused:
        read_rows(str(tmp_path / "a.json"))
    assert "jq -c" in refused.value.hint
    assert told(read('{"text": "a"}', tmp_path / "a.json")) == ["a"]


def test_a_frame_would_iterate_over_its_columns() -> None:
    class Frame(list[str]):
        columns = dtypes = ("text",)

    with pytest.raises(ConfigurationError, match="does not iterate over its rows"):
        read_rows(Frame(["text"]))


def test_items_that_are_no_rows() -> None:
    items: Any = ["a", 5, None, b"bytes", object(), {"text": 5, "more": "x" * 5000}, {}, {"id": object(), "text": "b"}]
    rows = list(read_rows(items))
    assert told(rows) == [
        "a",
        "! the row is neither text nor mapping but 5",
        "! the row is neither text nor mapping but null",
        "! the row is neither text nor mapping but bytes",
        "! the row is neither text nor mapping but object",
        "! column 'text' holds no text but 5",
        "! there is no column 'text'; there are none",
        "b",
    ]
    assert rows[5].text.startswith("{'text': 5, 'more': 'xxx")


def test_an_iterator_gives_its_rows_once() -> None:
    def texts() -> Iterator[str]:
        yield "a"

    rows = read_rows(texts())
    assert rows.total is None
    assert told(list(rows)) == ["a"]
    with pytest.raises(ConfigurationError, match="have been read"):
        list(rows)


def test_a_pipe_is_json_lines() -> None:
    rows = piped_rows(io.BytesIO(b'{"text": "a"}\n\n"b"'))
    assert isinstance(rows, Rows)
    assert rows.total is None
    assert told(list(rows)) == ["a", "b"]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.binary(max_size=40) | st.just(b"\n") | st.integers(1, 200_000), max_size=8), st.sampled_from([-1, 1000])
)
def test_a_pipe_gives_the_lines_of_a_file_however_it_is_written(drawn: list[bytes | int], size: int) -> None:
    pieces = [b"x" * piece if isinstance(piece, int) else piece for piece in drawn]
    file = io.BytesIO(b"".join(pieces))
    lines = list(iter(lambda: file.readline(size), b""))
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb", buffering=0) as end:
            for piece in pieces:
                end.write(piece)

    with os.fdopen(reading, "rb") as end:
        thread = threading.Thread(target=write)
        thread.start()
        pipe = Pipe(end)
        assert list(iter(lambda: pipe.readline(size), b"")) == lines
        assert pipe.readline(size) == b""
        thread.join()


def test_a_pipe_that_breaks_says_so() -> None:
    class Broken(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            raise OSError("the other end is gone")

    with pytest.raises(OSError, match="the other end is gone"):
        list(piped_rows(Broken()))


def test_a_packed_file_that_is_damaged_is_told_behind_the_rows_it_still_gives(tmp_path: Path) -> None:
    lines = b"".join(b'"text %d %d"\n' % (at, hash(str(at))) for at in range(50_000))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines)[:-5000])
    rows = read_rows(tmp_path / "a.jsonl.gz")
    assert rows.total is None
    assert next(iter(rows)).text.startswith("text 0")
    with pytest.raises(ConfigurationError, match="is damaged"):
        list(rows)


def test_what_a_file_cannot_be_read_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('"a"')

    def refuse(self: Path, *arguments: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigurationError, match=r"cannot read .*a\.jsonl.*: Permission denied"):
        list(read_rows(path))


def test_which_paths_are_single_texts() -> None:
    assert is_text_file("a/invoice.TXT")
    assert not is_text_file("a.jsonl")


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    peaks: list[int] = []
    for count in (2_000, 20_000):
        for name in ("a.jsonl", "a.csv"):
            line = '{"text": "abcdefgh"}\n' if name == "a.jsonl" else 'abcdefgh,"x, y"\n'
            (tmp_path / name).write_text(("text,more\n" if name == "a.csv" else "") + line * count)
            tracemalloc.start()
            try:
                assert sum(1 for _ in read_rows(tmp_path / name)) == count
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
    assert peaks[2] < peaks[0] + 100_000
    assert peaks[3] < peaks[1] + 100_000
