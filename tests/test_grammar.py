from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from llguidance import LLMatcher, LLTokenizer, hf
from pydantic import BaseModel
from transformers import PreTrainedTokenizerFast

from hermes_agent.errors import ConfigurationError, GrammarError
from hermes_agent.formats.dialects import dialect
from hermes_agent.formats.engine import compiled
from hermes_agent.formats.grammar import Tags, TurnGrammar
from hermes_agent.formats.schema import Bounds
from hermes_agent.formats.tags import FORBIDDEN_IN_TEXT
from hermes_agent.formats.wire import serialise_calls
from hermes_agent.output import JsonSchema, Regex
from hermes_agent.tool import Tool
from tests.naming import label


def get_weather(city: str, unit: Literal["celsius", "fahrenheit"] = "celsius") -> str:
    """Current weather.

    Args:
        city: City name.
        unit: Unit of the temperature.
    """
    return f"{city} {unit}"


def now() -> str:
    """The time."""
    return ""


class Report(BaseModel):
    coat: bool
    why: str = ""


PARIS = serialise_calls([("get_weather", {"city": "Paris"})])
NOW = serialise_calls([("now", {})])
THOUGHT = "<think>\nhm, 1 < 2\n</think>\n"
TOOLS = (get_weather, now)


@pytest.mark.parametrize(
    ("settings", "accepted", "refused"),
    [
        ({}, ["hi", PARIS, f"Let me see.\n{PARIS}", f"{PARIS}\n{NOW}"], ["", " \n", f"{THOUGHT}hi", f"{PARIS}\nDone."]),
        ({"tool_choice": "required"}, [PARIS, f"{NOW}\n{NOW}"], ["hi", f"hi\n{PARIS}"]),
        ({"tool_choice": "now"}, [NOW], ["hi", PARIS, f"{NOW}\n{PARIS}"]),
        ({"tool_choice": "none"}, ["hi"], [PARIS, f"hi\n{NOW}"]),
        ({"parallel": False}, [PARIS, f"hi\n{PARIS}"], [f"{PARIS}\n{NOW}"]),
        ({"parallel": 2}, [PARIS, f"{PARIS}\n{NOW}"], [f"{NOW}\n{NOW}\n{NOW}"]),
        ({"reasoning": "on"}, [f"{THOUGHT}hi", f"{THOUGHT}{NOW}", "<think></think>hi"], ["hi", NOW, THOUGHT]),
        ({"reasoning": "auto"}, [f"{THOUGHT}hi", f"{THOUGHT}\n{NOW}", "hi", NOW], [f"hi {THOUGHT}", THOUGHT]),
        (
            {"output": Report},
            ['{"coat": true}', '{"coat": false, "why": "sun"}', PARIS],
            ["yes", f"hi\n{PARIS}", '{"why": "", "coat": true}', '{"coat":true}', '{"coat": true, "x": 1}'],
        ),
        ({"output": Literal["yes", "no"]}, ['"yes"', NOW], ["yes", '"maybe"']),
        ({"output": list[int], "reasoning": "on"}, [f"{THOUGHT}[1, 2]", f"{THOUGHT}{NOW}"], ["[1]", f"{THOUGHT}1"]),
        ({"output": Regex(r"\d{2}/[a-z]+\Z")}, ["12/ab", NOW], ["12/", "x12/ab", "12/ab "]),
    ],
    ids=label,
)
def test_which_turns_are_allowed(settings: dict[str, Any], accepted: Sequence[str], refused: Sequence[str]) -> None:
    grammar = TurnGrammar(TOOLS, **settings)
    assert [text for text in accepted if not grammar.accepts(text)] == []
    assert [text for text in refused if grammar.accepts(text)] == []


def test_without_tools_there_is_only_the_answer() -> None:
    grammar = TurnGrammar()
    assert grammar.accepts("hello")
    assert not grammar.accepts(NOW)


@pytest.mark.parametrize(
    "arguments",
    [
        '{"city": "Paris", "unit": "kelvin"}',
        '{"unit": "celsius"}',
        '{"unit": "celsius", "city": "Paris"}',
        '{"city": "Paris", "city": "Rome"}',
        '{"city": "Paris", "country": "France"}',
        '{"city": 7}',
        '{"city": "Paris",}',
        "{}",
        "null",
    ],
)
def test_a_call_with_other_arguments_is_not_allowed(arguments: str) -> None:
    text = f'<tool_call>\n{{"name": "get_weather", "arguments": {arguments}}}\n</tool_call>'
    assert not TurnGrammar(TOOLS).accepts(text)


@pytest.mark.parametrize("literal", FORBIDDEN_IN_TEXT)
def test_free_text_holds_no_markup_in_any_letter_case(literal: str) -> None:
    grammar = TurnGrammar(TOOLS)
    assert not grammar.accepts(f"a {literal} b")
    assert not grammar.accepts(f"a {literal.upper()} b {NOW}")


def test_markup_inside_arguments_and_typed_answers_is_text() -> None:
    call = serialise_calls([("get_weather", {"city": "</tool_call><tool_call> <|im_end|> <think>"})])
    assert TurnGrammar(TOOLS).accepts(call)
    assert TurnGrammar((), JsonSchema({"type": "string"})).accepts('"<tool_call>"')


def test_stops_end_thoughts_and_text() -> None:
    grammar = TurnGrammar(reasoning="on")
    assert not grammar.accepts("<think>a<|im_end|>b</think>c")
    assert not grammar.accepts("<think>a</think>c<|im_end|>")


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        (((), str, "required"), ConfigurationError, "'required'"),
        (((), str, "now"), ConfigurationError, "'now'"),
        ((TOOLS, str, "later"), ConfigurationError, "'later' names no tool; there are 'get_weather', 'now'"),
        (((now, now),), ConfigurationError, "'now'"),
        ((TOOLS, str, "auto", 0), ConfigurationError, "parallel=0"),
        ((TOOLS, str, "auto", -1), ConfigurationError, "parallel=-1"),
        ((TOOLS, str, "auto", True, "sometimes"), ConfigurationError, "'sometimes'"),
        (((), JsonSchema({"enum": []})), GrammarError, "nothing satisfies the schema of the output"),
        (((), JsonSchema({"type": "integer", "minimum": 3, "maximum": 2})), GrammarError, "at least 3 and at most 2"),
    ],
    ids=label,
)
def test_impossible_turns_are_errors_at_once(
    arguments: tuple[Any, ...], error: type[ConfigurationError], named: str
) -> None:
    with pytest.raises(error) as caught:
        TurnGrammar(*arguments)
    assert named in caught.value.message
    assert caught.value.hint


def test_a_tool_nobody_can_call_is_named() -> None:
    tool = Tool.from_schema(name="f", parameters={"properties": {"a": False}, "required": ["a"]})
    with pytest.raises(GrammarError, match="the parameters of tool 'f'") as caught:
        TurnGrammar([tool])
    assert "'a'" in caught.value.message


@pytest.mark.parametrize("pattern", ["a(?=b)", r"(a)\1"])
def test_a_pattern_the_engine_cannot_read_is_an_error_with_a_way_out(pattern: str) -> None:
    with pytest.raises(GrammarError) as caught:
        TurnGrammar((), Regex(pattern)).accepts("ab")
    assert re.search("a lookahead|a backreference", caught.value.message)
    assert "spell out the texts that may match" in caught.value.hint


def test_the_arguments_are_positional() -> None:
    grammar = TurnGrammar([now], bool, "required", 3, "auto")
    assert (grammar.output.kind, grammar.tool_choice, grammar.parallel, grammar.reasoning) == (
        "json",
        "required",
        3,
        "auto",
    )


def test_grammars_are_values() -> None:
    one, two = TurnGrammar(TOOLS, Report), TurnGrammar(list(TOOLS), Report, "auto")
    assert one == two
    assert hash(one) == hash(two)
    assert one.key == two.key
    assert one != TurnGrammar(TOOLS, Report, parallel=False)
    assert one != TurnGrammar(TOOLS)
    assert one != "grammar"
    assert len({one, two, TurnGrammar(TOOLS)}) == 2
    with pytest.raises(AttributeError, match="frozen"):
        one.tool_choice = "none"


def test_a_thought_can_be_bounded_and_then_only_its_end_is_left() -> None:
    grammar = TurnGrammar((), bool, reasoning="on", bounds=Bounds(thought=20))
    assert grammar.accepts("<think>\nshort\n</think>\ntrue")
    assert not grammar.accepts("<think>\n" + "long " * 10 + "\n</think>\ntrue")
    assert grammar != TurnGrammar((), bool, reasoning="on")


def test_a_grammar_is_compiled_once_for_all_equal_ones() -> None:
    tools = [
        Tool.from_schema(name=f"tool_{i}", parameters={"properties": {"a": {"type": "integer"}, f"b{i}": {}}})
        for i in range(500)
    ]
    text = serialise_calls([("tool_499", {"a": 1})])
    assert TurnGrammar(tools).accepts(text)
    before = compiled.cache_info().misses
    assert TurnGrammar(tools).accepts(text)
    assert not TurnGrammar(tools).accepts(text.replace("499", "500"))
    assert compiled.cache_info().misses == before


def test_accepts_may_be_asked_from_several_threads() -> None:
    grammar = TurnGrammar(TOOLS)
    wrong: list[bool] = []

    def ask() -> None:
        wrong.extend(not grammar.accepts(PARIS) or grammar.accepts(PARIS + "x") for _ in range(50))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 200
    assert not any(wrong)


def test_warnings_say_what_the_mask_leaves_to_the_validation() -> None:
    assert TurnGrammar(TOOLS).warnings == ()
    unique = JsonSchema({"type": "array", "uniqueItems": True, "items": {"type": "string"}})
    assert any("uniqueItems" in warning for warning in TurnGrammar((), unique).warnings)


def test_bounds_keep_strings_and_arrays_finite_and_can_be_lifted() -> None:
    tight = TurnGrammar((), list[str], bounds=Bounds(string=3, array=2))
    assert tight.accepts('["abc", "d"]')
    assert not tight.accepts('["abcd"]')
    assert not tight.accepts('["a", "b", "c"]')
    free = TurnGrammar((), list[str], bounds=Bounds(None, None, None))
    assert free.accepts(f'["{"a" * 20_000}"]')


def test_lone_surrogates_are_not_text() -> None:
    assert not TurnGrammar().accepts("\ud800")


def test_a_dialect_names_its_thinking_tags() -> None:
    tags = Tags.text(dialect("hermes-3", think_open="<reflect>", think_close="</reflect>"))
    lark = TurnGrammar(reasoning="on").lark(tags)
    matcher = LLMatcher(LLTokenizer("byte"), lark, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    assert matcher.consume_tokens(list(b"<reflect>a</reflect>b"))


# Real vocabularies.


def _tokenizer(folder: Path, eos: str) -> tuple[Any, LLTokenizer]:
    make: Any = PreTrainedTokenizerFast  # transformers types neither its making nor its methods in full
    tokenizer = make(tokenizer_file=str(folder / "tokenizer.json"), eos_token=eos)
    return tokenizer, hf.from_tokenizer(tokenizer)


@pytest.fixture(scope="module")
def qwen3(qwen3_folder: Path) -> tuple[Any, LLTokenizer]:
    return _tokenizer(qwen3_folder, "<|im_end|>")


@pytest.fixture(scope="module")
def llama3(llama3_folder: Path) -> tuple[Any, LLTokenizer]:
    return _tokenizer(llama3_folder, "<|eot_id|>")


def _reads(grammar: TurnGrammar, tags: Tags, tokenizer: LLTokenizer, ids: list[int]) -> bool:
    matcher = LLMatcher(tokenizer, grammar.lark(tags), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


SETTINGS: list[dict[str, Any]] = [
    {},
    {"tool_choice": "required"},
    {"output": bool, "reasoning": "on"},
    {"parallel": 2, "reasoning": "auto"},
]
TEXTS = ["Hi <there>.", PARIS, f"Well:\n{NOW}\n{NOW}", f"{THOUGHT}{NOW}", f"{THOUGHT}true", "true"]


@pytest.mark.parametrize("settings", SETTINGS, ids=label)
def test_qwen3_writes_its_tags_as_one_token(qwen3: tuple[Any, LLTokenizer], settings: dict[str, Any]) -> None:
    tokenizer, engine = qwen3
    tags = Tags.of(tokenizer)
    assert (tags.call_open, tags.call_close, tags.think_open, tags.think_close) == (151657, 151658, 151667, 151668)
    grammar = TurnGrammar(TOOLS, **settings)
    for text in TEXTS:
        assert _reads(grammar, tags, engine, tokenizer.encode(text, add_special_tokens=False)) == grammar.accepts(text)
        if "_call>" in text or "think>" in text:  # the same text, its tags in ordinary pieces
            spelled = [i for char in text for i in tokenizer.encode(char, add_special_tokens=False)]
            assert not _reads(grammar, tags, engine, spelled)


def test_qwen3_goes_on_with_a_call_behind_the_opening_token(
    qwen3: tuple[Any, LLTokenizer],
) -> None:
    tokenizer, engine = qwen3
    matcher = LLMatcher(engine, TurnGrammar(TOOLS).lark(Tags.of(tokenizer)), log_level=0)
    assert matcher.consume_tokens([*tokenizer.encode("Wait. "), 151657])
    assert not matcher.is_accepting()
    assert matcher.compute_ff_bytes().startswith(b'\n{"name": "')


@pytest.mark.parametrize("settings", SETTINGS, ids=label)
def test_llama3_writes_its_tags_as_text(llama3: tuple[Any, LLTokenizer], settings: dict[str, Any]) -> None:
    tokenizer, engine = llama3
    tags = Tags.of(tokenizer)
    assert tags == Tags.text()
    grammar = TurnGrammar(TOOLS, **settings)
    for text in TEXTS:
        assert _reads(grammar, tags, engine, tokenizer.encode(text, add_special_tokens=False)) == grammar.accepts(text)


def test_a_dialect_with_tags_of_its_own_is_asked_with_them() -> None:
    scratch = Tags.text(dialect("hermes-3-scratch-pad"))
    grammar = TurnGrammar((), bool, reasoning="on")
    text = "<scratch_pad>\nGoal: tell.\n</scratch_pad>\ntrue"
    assert grammar.accepts(text, scratch)
    assert not grammar.accepts(text)
