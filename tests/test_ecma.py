from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_agent.ecma import compile_pattern, foreign_part


def found(pattern: str, text: str) -> bool:
    return compile_pattern(pattern).search(text) is not None


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("^a$", ["a"], ["a\n", "ba"]),
        (r"^\d+$", ["12"], ["\u0661\u0662", "a", ""]),
        (r"^\w+$", ["a_1"], ["é", "-"]),
        (r"^\W+$", ["é-"], ["a"]),
        (r"^\s$", [" ", "\u00a0", "\ufeff", "\u3000"], ["\x1c", "a"]),
        (r"^\S$", ["\x1c", "a"], ["\ufeff"]),
        (r"^[\w\s]+$", ["a b"], ["a-b"]),
        (r"^[^\d]$", ["a", "\u0661"], ["1"]),
        (r"^[\D]$", ["a", "\u0661"], ["1"]),
        (r"^[\W_]+$", ["_-é"], ["a"]),
        ("^.$", ["a", "\x85"], ["\n", "\r", "\u2028"]),
        (r"^\p{Lu}\p{L}*$", ["Été"], ["été", "A1"]),
        (r"^[\p{Zs}a]+$", ["a\u00a0 "], ["b"]),
        (r"^\P{L}$", ["1"], ["a"]),
        (r"^[^\p{General_Category=Nd}]$", ["a"], ["\u0663"]),
        (r"^(?<year>\d{4})-\k<year>$", ["1999-1999"], ["1999-2000"]),
        (r"^(a)\1$", ["aa"], ["a"]),
        (r"^(?<=x)a|(?<!y)b$", ["b"], ["yb"]),
        (r"^\/\-\.\#\@$", ["/-.#@"], ["/"]),
        (r"^\A\Z\a$", ["AZa"], [""]),
        (r"^\u0041\x42\u{1F600}\cJ\0$", ["AB😀\n\0"], ["AB"]),
        (r"^[\b]$", ["\b"], ["b"]),
        (r"^[[&&~~||]$", ["[", "&", "~", "|"], ["a"]),
        (r"^[a$.]$", ["$", "."], ["b"]),
        (r"^[!--]$", ["!", "-", "+"], ["."]),
        (r"^[--/]$", ["-", ".", "/"], ["0"]),
        (r"^[a-]$", ["a", "-"], ["b"]),
        (r"^[-a]$", ["a", "-"], ["b"]),
        (r"^[\d-x]$", ["1", "-", "x"], ["a"]),
        (r"^[a-c-e]$", ["b", "-", "e"], ["d"]),
        ("[]", [], ["", "a", "]"]),
        ("^[^]$", ["\n", "]"], [""]),
        (r"^a{2}(?:b|c)?$", ["aa", "aab"], ["aabb"]),
        (r"\bfoo\b", ["a foo b"], ["afoo"]),
        ("", ["", "a"], []),
    ],
)
def test_ecma_meaning(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [text for text in yes if not found(pattern, text)] == []
    assert [text for text in no if found(pattern, text)] == []


REFUSED = ["(", "[a", "*", r"\p{Script=Greek}", r"\p{Xx}", "a\\", "(?<n>a)(?<n>b)", "a{99999999999}", "[b-a]"]


@pytest.mark.parametrize("pattern", REFUSED)
def test_what_cannot_be_checked_is_refused_with_the_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(pattern))):
        compile_pattern(pattern)


@settings(deadline=None)  # the first use imports or compiles
@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_escaped_text_matches_itself_alone(text: str) -> None:
    pattern = "^" + "".join(f"\\u{{{ord(c):x}}}" for c in text) + "$"
    assert found(pattern, text)
    assert not found(pattern, text + "\n")


@settings(deadline=None)  # the first use imports or compiles
@given(st.text(alphabet=r"ab\dwpsDWS[]()^$.*+?{}1,|-&~:<>=!k\/\\", max_size=12))
def test_any_pattern_compiles_or_is_refused(pattern: str) -> None:
    with contextlib.suppress(ValueError):
        assert compile_pattern(pattern).flags & re.UNICODE


@pytest.mark.parametrize(
    ("pattern", "part"),
    [
        (r"^[^\]a-z\[]+\.(?:b|c)(?P<n>d)\d\x41(?i:k)$", ""),
        ("[]a]&&--~~", ""),
        ("[a-z&&[^b]]", "&&"),
        ("[[:alpha:]]", "["),
        ("[^]a--b]", "--"),
        ("[a~~b]", "~~"),
        (r"\Aa", r"\A"),
        (r"a\z", r"\z"),
        (r"\\a[\x{61}]", r"\x{"),
        ("(?s).", "(?s)"),
        ("(?im:^a)", "(?im:"),
    ],
)
def test_what_means_something_else_in_other_languages_is_named(pattern: str, part: str) -> None:
    assert foreign_part(pattern) == part
