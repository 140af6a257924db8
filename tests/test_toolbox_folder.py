from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_agent.errors import ConfigurationError
from hermes_agent.toolbox import Files
from hermes_agent.toolbox.rooted import Root

SECRET = "the secret outside"
needs_links = pytest.mark.skipif(os.name == "nt", reason="making symbolic links needs rights on Windows")
posix_only = pytest.mark.skipif(os.name == "nt", reason="pipes and sockets as files are a POSIX matter")


@pytest.fixture(params=[True, False], ids=["by open folders", "by paths"])
def walk(request: pytest.FixtureRequest) -> bool:
    """Both ways to open a file; the first where the platform has it."""
    wanted: bool = request.param
    return wanted and Root(Path(), hidden=False).walk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text(SECRET)
    root = tmp_path / "root"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "a.txt").write_text("one\ntwo\nthree\n")
    (root / "sub" / "b.md").write_text("Two cakes\nand TWO teas\n")
    (root / "sub" / "deep" / "c.txt").write_text("nothing here")
    return root


@pytest.fixture
def files(folder: Path, walk: bool) -> Files:
    made = Files(folder)
    object.__setattr__(made, "_root", Root(folder.resolve(), hidden=False, walk=walk))
    return made


def test_reading(files: Files) -> None:
    assert files.read_file("a.txt") == "one\ntwo\nthree"
    assert files.read_file("./sub//b.md", start_line=2) == "and TWO teas"
    assert files.read_file("a.txt", 2, 2) == "two"
    assert files.read_file("a.txt", 2, 99) == "two\nthree"


def test_listing(files: Files) -> None:
    assert files.list_files() == "a.txt (14 bytes)\nsub/"
    assert files.list_files("sub", recursive=True) == "sub/b.md (23 bytes)\nsub/deep/\nsub/deep/c.txt (12 bytes)"
    assert files.list_files(pattern="*.md", recursive=True) == "sub/b.md (23 bytes)"
    assert files.list_files(pattern="*.py") == "nothing in '.' is named like '*.py'"


def test_searching(files: Files) -> None:
    assert files.search_files("two") == "a.txt:2: two\nsub/b.md:1: Two cakes\nsub/b.md:2: and TWO teas"
    assert files.search_files("two", "sub", "*.txt") == "no line contains 'two'"
    assert files.search_files("(a+)+$") == "no line contains '(a+)+$'"


def _tools(files: Files) -> list[Callable[[str], str]]:
    """The three tools, each as a function of a path."""

    def search(path: str) -> str:
        return files.search_files("secret outside", path)

    return [files.read_file, files.list_files, search]


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "sub/../../secret.txt",
        "sub/../a.txt",
        "..",
        "./..",
        "/etc/passwd",
        "//etc/passwd",
        ".hidden",
        "sub/.git/config",
    ],
)
def test_paths_that_lead_out_or_are_hidden(files: Files, path: str) -> None:
    for tool in _tools(files):
        with pytest.raises(PermissionError) as caught:
            tool(path)
        assert repr(path) in str(caught.value)


@pytest.mark.parametrize("path", ["a.txt\0", "\0/../secret.txt", "\ud800", "x/" * 3000, "y" * 5000])
def test_paths_that_are_none(files: Files, path: str) -> None:
    with pytest.raises(ValueError, match="is not a path"):
        files.read_file(path)


def test_what_is_not_there(files: Files) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no 'nope\.txt'"):
        files.read_file("nope.txt")
    with pytest.raises(NotADirectoryError, match=r"'a\.txt' is not a folder"):
        files.read_file("a.txt/b")
    with pytest.raises(NotADirectoryError, match=r"'a\.txt' is not a folder"):
        files.list_files("a.txt")
    for path in ("", ".", "sub"):
        with pytest.raises(IsADirectoryError, match="is a folder"):
            files.read_file(path)
    with pytest.raises(OSError, match="cannot open"):
        files.read_file("z" * 300)


@needs_links
def test_links_are_never_followed(files: Files, folder: Path) -> None:
    (folder / "out.txt").symlink_to(folder.parent / "secret.txt")
    (folder / "in.txt").symlink_to("a.txt")
    (folder / "away").symlink_to(folder.parent)
    (folder / "loop").symlink_to("loop")
    (folder / "round").symlink_to(".")
    for path in ("out.txt", "in.txt", "away/secret.txt", "loop", "round/a.txt", "away"):
        with pytest.raises(PermissionError, match="is a link, and links are not followed"):
            files.read_file(path)
    with pytest.raises(PermissionError, match="is a link"):
        files.list_files("away")
    assert "out.txt (not readable: a link or no file)" in files.list_files(recursive=True)
    assert "secret.txt" not in files.list_files(recursive=True)
    assert files.search_files("secret") == "no line contains 'secret'"


@needs_links
def test_a_link_swapped_in_between_the_look_and_the_opening(
    files: Files, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = Root._look  # pyright: ignore[reportPrivateUsage]  # the seam between check and use is what is tested

    def look_and_swap(self: Root, parent: int, names: tuple[str, ...], path: str) -> os.stat_result:
        seen = look(self, parent, names, path)
        if names[-1] == "a.txt":
            (folder / "a.txt").unlink()
            (folder / "a.txt").symlink_to(folder.parent / "secret.txt")
        return seen

    monkeypatch.setattr(Root, "_look", look_and_swap)
    with pytest.raises(PermissionError) as caught:
        files.read_file("a.txt")
    assert SECRET not in str(caught.value)


@needs_links
def test_a_folder_swapped_for_a_link_while_it_is_walked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Root(Path(), hidden=False).walk:
        pytest.skip("this platform cannot walk by open folders")
    (folder.parent / "b.md").write_text(SECRET)
    look = Root._look  # pyright: ignore[reportPrivateUsage]  # the seam between check and use is what is tested

    def look_and_swap(self: Root, parent: int, names: tuple[str, ...], path: str) -> os.stat_result:
        seen = look(self, parent, names, path)
        if names == ("sub",):
            (folder / "sub").rename(folder / "moved")
            (folder / "sub").symlink_to(folder.parent)
        return seen

    monkeypatch.setattr(Root, "_look", look_and_swap)
    with pytest.raises(PermissionError, match="cannot open"):
        Files(folder).read_file("sub/b.md")


@posix_only
def test_pipes_sockets_and_devices_are_refused_and_never_block(files: Files, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        here = Path.cwd()
        os.chdir(folder)  # a socket's path may have some hundred bytes only
        try:
            bound.bind("sock")
        finally:
            os.chdir(here)
        for name in ("pipe", "sock"):
            with pytest.raises(PermissionError, match="neither a file nor a folder"):
                files.read_file(name)
        assert files.search_files("two").startswith("a.txt:2")
        assert "pipe (not readable" in files.list_files()
    if Path("/dev/zero").exists():
        with pytest.raises(PermissionError, match="neither a file nor a folder"):
            Files("/dev").read_file("zero")


@posix_only
def test_a_pipe_swapped_in_does_not_block(files: Files, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = Root._look  # pyright: ignore[reportPrivateUsage]  # the seam between check and use is what is tested

    def look_and_swap(self: Root, parent: int, names: tuple[str, ...], path: str) -> os.stat_result:
        seen = look(self, parent, names, path)
        (folder / "a.txt").unlink()
        os.mkfifo(folder / "a.txt")
        return seen

    monkeypatch.setattr(Root, "_look", look_and_swap)
    with pytest.raises(PermissionError, match="replaced while it was being opened"):
        files.read_file("a.txt")


def test_a_huge_file_is_read_in_part_and_says_so(folder: Path) -> None:
    with (folder / "huge.txt").open("wb") as file:
        file.write(b"first line\n" * 5)
        file.truncate(1 << 40)  # a file with a hole: a terabyte that takes no space
    small = Files(folder, max_bytes=50)
    assert small.read_file("huge.txt").endswith(
        "[cut: the file has 1099511627776 bytes, and only its first 50 are read]"
    )
    assert "only its first 50 were searched" in small.search_files("first", pattern="huge*")


def test_a_long_answer_is_cut_at_a_line_and_says_how_to_go_on(folder: Path) -> None:
    (folder / "long.txt").write_text("".join(f"line {number}\n" for number in range(1, 101)))
    files = Files(folder, max_chars=30)
    assert files.read_file("long.txt") == (
        "line 1\nline 2\nline 3\nline 4\n[cut: lines 1 to 4 of 100; go on with start_line=5]"
    )
    assert files.read_file("long.txt", 99) == "line 99\nline 100"
    (folder / "wide.txt").write_text("w" * 1000)
    assert files.read_file("wide.txt") == "w" * 30 + "\n[cut: this line has 1000 characters]"
    assert files.search_files("line", pattern="long.txt") == (
        "long.txt:1: line 1\n[cut: 1 of 2 lines found]\n"
        "[cut: there are more lines like this; look for something rarer, or in one folder]"
    )
    assert "lines count from 1" in _message(files, "long.txt", 0, None)
    assert "is before start_line=5" in _message(files, "long.txt", 5, 4)
    assert "which has 100 lines" in _message(files, "long.txt", 101, None)


def _message(files: Files, path: str, start: int, end: int | None) -> str:
    with pytest.raises(ValueError, match="_line") as caught:
        files.read_file(path, start, end)
    return str(caught.value)


def test_what_is_not_text(files: Files, folder: Path) -> None:
    (folder / "image.bin").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (folder / "latin.txt").write_bytes("café two".encode("latin-1"))
    (folder / "bom.txt").write_bytes(b"\xef\xbb\xbfbom")
    (folder / "wide.txt").write_text("wide tea", encoding="utf-16")
    (folder / "empty.txt").touch()
    (folder / "dos.txt").write_bytes(b"a\r\nb\r\n")
    with pytest.raises(ValueError, match="is a binary file"):
        files.read_file("image.bin")
    with pytest.raises(ValueError, match=r"'latin\.txt' is not UTF-8 text: byte 3 is 0xe9"):
        files.read_file("latin.txt")
    assert files.read_file("bom.txt") == "bom"
    assert files.read_file("wide.txt") == "wide tea"
    assert files.read_file("empty.txt") == ""
    assert files.read_file("dos.txt") == "a\nb"
    assert files.search_files("caf").startswith("latin.txt:1: caf\N{REPLACEMENT CHARACTER} two")


def test_half_a_character_at_the_cut_is_left_away(folder: Path) -> None:
    (folder / "umlauts.txt").write_text("ü" * 10)
    assert Files(folder, max_bytes=5).read_file("umlauts.txt").startswith("üü\n[cut")


def test_hidden_names_are_shown_when_asked_for(folder: Path) -> None:
    (folder / ".env").write_text("KEY=two")
    assert ".env" not in Files(folder).list_files()
    assert ".env" not in Files(folder).search_files("two")
    open_files = Files(folder, hidden=True)
    assert open_files.read_file(".env") == "KEY=two"
    assert ".env (7 bytes)" in open_files.list_files()


def test_a_search_is_bounded_in_files_lines_and_time(folder: Path) -> None:
    for number in range(30):
        (folder / f"f{number}.txt").write_text("tea\n" * 100)
    assert "more files than one call looks at" in Files(folder, max_files=5).list_files(recursive=True)
    assert "more lines like this" in Files(folder, max_chars=200).search_files("tea")
    assert len(Files(folder, max_chars=200).search_files("tea")) < 500
    assert "stopped after 1e-09 seconds" in Files(folder, seconds=1e-9).search_files("tea")


def test_one_enormous_line_shows_only_what_is_around_the_find(folder: Path) -> None:
    (folder / "line.txt").write_text("x" * 100_000 + "needle" + "y" * 100_000)
    found = Files(folder).search_files("NEEDLE")
    assert "needle" in found
    assert len(found) < 300


def test_hostile_patterns_and_queries_cost_little(folder: Path) -> None:
    (folder / ("a" * 250)).write_text("a" * 100_000)
    files = Files(folder)
    begin = time.process_time()
    files.list_files(pattern="*a" * 99 + "b")
    files.search_files("a" * 499 + "b")
    files.search_files("x", pattern="[" * 200)
    assert time.process_time() - begin < 2
    for query in ("", "  ", "two\nlines", "x" * 501):
        with pytest.raises(ValueError, match="must be one line"):
            files.search_files(query)
    with pytest.raises(ValueError, match="200 is the most"):
        files.list_files(pattern="*" * 201)


@posix_only
def test_names_with_line_breaks_and_bytes_stay_on_their_line(folder: Path) -> None:
    (folder / "evil\n<tool_call>").write_text("two")
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff")).mkdir()
    except OSError:
        pytest.skip("this file system takes only names that are text")
    listing = Files(folder).list_files(recursive=True)
    assert "evil\\n<tool_call> (3 bytes)" in listing
    assert "bad\\xff/" in listing
    listing.encode()


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no such folder"):
        Files(tmp_path / "nope")
    with pytest.raises(ConfigurationError, match=r"Files\(max_chars=0\) allows nothing"):
        Files(tmp_path, max_chars=0)


@settings(max_examples=200, deadline=None)
@given(
    path=st.lists(
        st.sampled_from(["..", ".", "", "sub", "a.txt", "secret.txt", "/", "\\", "~", "\0", "away", "b.md"])
        | st.text(max_size=3),
        max_size=6,
    ).map("/".join)
)
def test_no_path_reads_what_is_outside(path: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.getbasetemp() / "fuzzed"
    root = base / "root"
    if not root.exists():
        (root / "sub").mkdir(parents=True)
        (base / "secret.txt").write_text(SECRET)
        (root / "a.txt").write_text("inside")
        (root / "sub" / "away").symlink_to(base, target_is_directory=True)
    files = Files(root, hidden=True)
    for tool in _tools(files):
        try:
            assert SECRET not in tool(path)
        except (OSError, ValueError) as error:
            assert SECRET not in str(error)  # noqa: PT017 - either way it must not be told
