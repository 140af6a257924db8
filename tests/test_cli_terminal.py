from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_agent import ConfigurationError
from hermes_agent.cli.terminal import console, json_line, read_text, safe

ANYTHING = st.text(st.characters() | st.sampled_from("\x1b\x9b\r\n\t\x07\ud800\udfff\u202e\u2066[]"))


@given(ANYTHING)
def test_safe_text_holds_nothing_a_terminal_obeys(text: str) -> None:
    shown = safe(text)
    assert all(c in "\n\t" or (c.isprintable() or ord(c) > 0x9F) for c in shown)
    assert not set(shown) & set("\x1b\x9b\r\x07\x7f\u202e\u2066\u200e")
    shown.encode()  # no lone surrogates


@given(st.text(st.characters(codec="ascii", min_codepoint=0x20, max_codepoint=0x7E)))
def test_safe_leaves_printable_text_alone(text: str) -> None:
    assert safe(text) == text


@given(ANYTHING)
def test_a_json_line_is_safe_and_loses_nothing(text: str) -> None:
    line = json_line({"text": text})
    assert json.loads(line) == {"text": text}
    assert safe(line) == line
    assert "\n" not in line


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("[]:/")))
def test_a_console_prints_text_as_it_is(text: str) -> None:
    file = io.StringIO()
    console(file).print(text, end="")
    assert file.getvalue() == text


def test_read_text_names_what_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no_such"):
        read_text(str(tmp_path / "no_such"))
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"caf\xe9")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        read_text(str(latin))
    with pytest.raises(ConfigurationError):
        read_text(str(tmp_path))


def test_read_text_reads_stdin_for_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("piped"))
    assert read_text("-") == "piped"
