"""Automata hold the texts that their patterns match, and combine as sets do."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_agent.formats.automata import Automaton, TooLargeError
from hermes_agent.formats.patterns import searched, whole

PATTERNS = [
    "", "a", "^a|b$", "a*b+c?", "(ab|a)(c|bcd)", "[^a-c]x{2,3}", "(?:a{0,2}b){1,2}", "(?s:.)a", ".a", "^$", r"^a\Z|^b",
    "(a|b)*abb", "[ab]{3,}", "a|b", "a(?:^b|c)", "a+?b*?",
]  # fmt: skip
texts = st.text(alphabet="abcdx\né", max_size=7)
patterns = st.sampled_from(PATTERNS)


@settings(max_examples=300, deadline=None)
@given(patterns, texts)
def test_an_automaton_holds_what_its_pattern_matches(pattern: str, text: str) -> None:
    ends = pattern.replace("$", r"\Z")
    assert whole(pattern).accepts(text) == bool(re.fullmatch(ends, text))
    assert searched(pattern).accepts(text) == bool(re.search(ends, text))


@settings(max_examples=200, deadline=None)
@given(patterns, patterns, texts)
def test_automata_combine_as_sets_do(one: str, other: str, text: str) -> None:
    a, b = whole(one), searched(other)
    assert (a & b).accepts(text) == (a.accepts(text) and b.accepts(text))
    assert (b - a).accepts(text) == (b.accepts(text) and not a.accepts(text))


@settings(max_examples=200, deadline=None)
@given(patterns, patterns, texts)
def test_the_pattern_of_an_automaton_is_one_of_the_same_texts(one: str, other: str, text: str) -> None:
    both = searched(other) - whole(one)
    if both.ends and (written := both.pattern(5_000)):
        assert bool(re.fullmatch(written, text)) == both.accepts(text)


@settings(max_examples=200, deadline=None)
@given(st.lists(texts, max_size=5), texts)
def test_all_but_some_texts(forbidden: list[str], text: str) -> None:
    assert Automaton.all_but(forbidden).accepts(text) == (text not in forbidden)
    assert not any(Automaton.all_but(forbidden).accepts(other) for other in forbidden)


@given(st.integers(0, 5), st.integers(0, 5) | st.none(), texts)
def test_counting(least: int, further: int | None, text: str) -> None:
    most = None if further is None else least + further
    assert Automaton.counting(least, most).accepts(text) == (least <= len(text) and (most is None or len(text) <= most))


@pytest.mark.parametrize("pattern", ["a(?=b)", r"(a)\1", r"\ba", "(?i:a)", "(?im)a", "(?>a)", "(?:[a-c]x?){9000}"])
def test_what_no_automaton_can_say_is_an_error(pattern: str) -> None:
    with pytest.raises(TooLargeError):
        whole(pattern)


def test_automata_are_small() -> None:
    assert len(searched("abc|abd|xbc|xbd").moves) == 4
    assert len(whole("(?:a|b|c)*").moves) == 1
