from __future__ import annotations

import re
import warnings
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hermes_agent.errors import GrammarError
from hermes_agent.formats.engine import compiled
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.formats.parser import parse
from hermes_agent.output import Output, OutputError, Regex
from hermes_agent.python_regex import PatternError, compile_quietly, spell_for_engine
from hermes_agent.reasoning import Mode

# Patterns, put together from what Python's re knows; what the two dialects disagree on is there on purpose.

_LETTERS = "aBk-&~[] \n/éſ\u212a1٣²_^$"
_ATOMS = (
    *"aBk &~-/é1_\u017f<\"']}{",
    "\\w", "\\W", "\\d", "\\D", "\\s", "\\S", ".", "\\.", "\\[", "\\x41", "\\u00e9", "\\101", "\\0", "\\n", "\\-",
    "\\ ",
    "[[a]", "[a&&k]", "[a~~k]", "[a||k]", "[!--]", "[--a]", "[]a]", "[^]a]", "[^a]", "[\\w-]", "[^\\W\\d]", "[a-k]",
    "[\\]\\\\]", "[\\d٣-]", "[^\\s\\S]", "[/]", "{}", "{,", "{a}", "#", "\n",
)  # fmt: skip
_TIMES = ("*", "+", "?", "{2}", "{,2}", "{1,}", "{1,2}", "{,}", "*?", "+?", "??", "{0}", "{1,2}?")
_GROUPS = ("(", "(?:", "(?i:", "(?a:", "(?s:", "(?x:", "(?-i:", "(?u:", "(?ai-s:")


def _joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    sequences = st.lists(inner, max_size=3).map("".join)
    choices = st.lists(sequences, min_size=1, max_size=3).map("|".join)
    groups = st.tuples(st.sampled_from(_GROUPS), choices).map(lambda pair: f"{pair[0]}{pair[1]})")
    named = choices.map(lambda text: f"(?:(?P<n>{text})|(?#note))")
    return st.tuples(groups | named, st.sampled_from(("", *_TIMES))).map("".join)


_pieces = st.recursive(
    st.tuples(st.sampled_from(_ATOMS), st.sampled_from(("", "", *_TIMES))).map("".join), _joined, max_leaves=6
)
_flags = st.sampled_from(("", "", "(?i)", "(?a)", "(?s)", "(?x)", "(?m)", "(?aisx)"))
patterns = st.tuples(
    _flags, st.sampled_from(("", "^", "\\A")), st.lists(_pieces, max_size=3).map("".join), st.sampled_from(("", "$"))
).map("".join)
texts = st.text(alphabet=_LETTERS, max_size=5)
modes: st.SearchStrategy[Mode] = st.sampled_from(("off", "on", "auto"))
_PLAIN = frozenset(_LETTERS.encode())


def _grammar(pattern: str) -> str:
    return f"%llguidance {{}}\nstart: A\nA: /{spell_for_engine(pattern)}/"


def held(pattern: str, text: str) -> bool:
    """Whether the engine takes the text for the pattern as it is spelled for it."""
    matcher = compiled(_grammar(pattern)).deep_copy()
    data = text.encode()
    return bool(matcher.try_consume_tokens(list(data)) == len(data) and matcher.is_accepting())


def walk(pattern: str, random: Random) -> str | None:
    """A text that the engine takes for the pattern, made byte by byte; ``None`` if there was none so soon."""
    matcher = compiled(_grammar(pattern)).deep_copy()
    written = bytearray()
    while len(written) < 9:  # Python's matcher takes exponential time for repeats of repeats
        mask = matcher.compute_bitmask()
        allowed = [byte for byte in range(256) if mask[byte >> 3] >> (byte & 7) & 1]
        if matcher.is_accepting() and (not allowed or random.random() < 0.3):
            return written.decode()
        if not allowed:
            return None
        plain = [byte for byte in allowed if byte in _PLAIN]
        written.append(random.choice(plain if plain and random.random() < 0.7 else allowed))
        assert matcher.consume_token(written[-1])
    return None


def _is_pattern(pattern: str) -> bool:
    try:
        compile_quietly(pattern)
    except re.error:
        return False
    return True


@settings(max_examples=500, deadline=None)
@given(patterns.filter(_is_pattern), st.lists(texts, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_engine_reads_what_python_reads(pattern: str, some: list[str], random: Random) -> None:
    python = compile_quietly(pattern)
    for text in some:
        assert held(pattern, text) == bool(python.fullmatch(text)), text
    for made in (walk(pattern, random) for _ in range(4)):
        if made is not None:
            assert python.fullmatch(made), made
            for other in (made[:-1], made.swapcase(), made + "\n"):
                assert held(pattern, other) == bool(python.fullmatch(other)), other


@settings(max_examples=200, deadline=None)
@given(patterns.filter(_is_pattern), st.lists(texts, min_size=1, max_size=4), modes)
@example("[a-z ]+", ["   ", " a", "a "], "on")
@example("a\n|", ["\na\n", "\n"], "auto")
def test_what_the_grammar_accepts_is_valid_and_back(pattern: str, some: list[str], reasoning: Mode) -> None:
    output = Output.of(Regex(pattern))
    try:
        grammar = TurnGrammar((), output, reasoning=reasoning)
    except GrammarError as error:
        assert "no answer matches" in str(error)  # noqa: PT017  # both ends are allowed
        return
    for thought in {"off": ("",), "on": ("<think>x</think>\n",), "auto": ("", "<think>x</think>\n")}[reasoning]:
        for text in some:
            turn = parse(thought + text, output=output)
            if grammar.accepts(thought + text):
                assert not turn.faults
                assert turn.text == (text.lstrip("\n") if thought else text)
                assert output.validate(turn.text) in (text, text.lstrip("\n"))
            elif reasoning == "off" or not text[:1].isspace():
                with pytest.raises(OutputError):
                    output.dump(text)


@pytest.mark.parametrize(
    ("pattern", "spelled"),
    [
        (r"^\Aab\Z$", "ab"),
        ("(^a|b$)", "(?:a|b)"),
        ("(?:^a)?b", "(?:a)?b"),
        ("(?i)key", r"[Kk\x{212a}][Ee][Yy]"),
        (r"(?a)\w+", "[0-9A-Z_a-z]+"),
        ("(?x) a b # c [ d", "ab"),
        ("(?-i:a)(?#b)+?", "(?:a)+"),
        ("[[a]b]", r"[\x{5b}a]b\x{5d}"),
        ("[a&&b]", r"[\x{26}ab]"),
        ("(?s).", "(?s:.)"),
        ("a/b\n", r"a\x{2f}b\x{a}"),
        (r"\ud800", r"[^\x{0}-\x{10ffff}]"),
    ],
)
def test_spelling(pattern: str, spelled: str) -> None:
    assert spell_for_engine(pattern) == spelled


REFUSED = [
    ("a(?=b)", "a lookahead"),
    ("a(?!b)", "a negative lookahead"),
    ("(?<=b)a", "a lookbehind"),
    ("(?<!b)a", "a negative lookbehind"),
    (r"(a)\1", r"a backreference, '\\\\1'"),
    ("(?P<n>a)(?P=n)", "a backreference"),
    ("(a)?(?(1)b|c)", "a condition on a group"),
    ("(?>a|b)", "an atomic group"),
    ("a++", r"a possessive repeat, '\+\+'"),
    ("a{1,2}+", "a possessive repeat"),
    (r"\bfoo", r"'\\\\b', which looks at the characters"),
    (r"a\Bb", r"'\\\\B', which looks at the characters"),
    ("a$b", r"'\$' elsewhere than at an end"),
    ("a?^b", r"'\^' elsewhere than at an end"),
    ("(?:a$)*", r"'\$' elsewhere than at an end"),
    (r"(a\Z|b)c", r"elsewhere than at an end"),
]


@pytest.mark.parametrize(("pattern", "why"), REFUSED)
def test_what_no_mask_can_hold_is_refused_with_a_way_out(pattern: str, why: str) -> None:
    with pytest.raises(GrammarError, match=f"no mask can hold an answer to the pattern .*{why}") as caught:
        TurnGrammar((), Regex(pattern))
    assert caught.match("hint: .")
    with pytest.raises(PatternError):
        spell_for_engine(pattern)
    Output.of(Regex(pattern))  # which is no more than a check, without a mask


@pytest.mark.parametrize(
    ("pattern", "reasoning"),
    [(r"[^\s\S]", "off"), ("<think>a", "off"), (" a", "on"), (" a", "auto"), ("[ \\n]+", "on")],
)
def test_a_pattern_without_a_possible_answer_is_refused(pattern: str, reasoning: Mode) -> None:
    with pytest.raises(GrammarError, match="no answer matches the pattern"):
        TurnGrammar((), Regex(pattern), reasoning=reasoning)


@pytest.mark.parametrize("pattern", ["[[a]", "[a&&b]", "[a-c--]", "[a||b]", "[a~~b]"])
def test_no_warning_of_python_reaches_the_user(pattern: str) -> None:
    re.purge()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TurnGrammar((), Regex(pattern))
        Output.of(Regex(pattern)).dump("a")


def test_flags_of_a_compiled_pattern_count() -> None:
    output = Output.of(re.compile(r"\d k # two", re.ASCII | re.IGNORECASE | re.VERBOSE))
    grammar = TurnGrammar((), output)
    for text, good in (("1K", True), ("٣k", False), ("1 k", False), ("1\u212a", False)):
        assert grammar.accepts(text) == good
        assert bool(re.fullmatch(output.pattern or "", text)) == good
