"""A turn that is taken up in its thought, or behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer, hf
from transformers import PreTrainedTokenizerFast

from hermes_agent.errors import ConfigurationError
from hermes_agent.formats.grammar import Tags, TurnGrammar
from hermes_agent.formats.parser import parse
from hermes_agent.formats.schema import Bounds
from hermes_agent.formats.wire import serialise_calls
from hermes_agent.output import Regex
from tests.naming import label


def now(zone: str = "") -> str:
    """The time."""
    return zone


def later() -> str:
    """Wait."""
    return ""


NOW = serialise_calls([("now", {})])
ZONED = serialise_calls([("now", {"zone": "</think>"})])
TOOLS = (now, later)

SETTINGS: list[dict[str, Any]] = [
    {},
    {"tool_choice": "required"},
    {"tool_choice": "later", "inline": True},
    {"output": bool},
    {"output": bool, "inline": True},
    {"output": Regex("[a-c]+"), "parallel": 2},
    {"inline": True},
    {"inline": True, "bounds": Bounds(thought=30)},
]
RESTS = [NOW, ZONED, f"{NOW}\n{NOW}", "true", "abc", f"Well.\n{NOW}", "", "\n", "</think>", NOW[:-1]]
THOUGHTS = [
    "",
    "\n",
    "\nhm, 1 < 2\n",
    "a <think> b",
    "<tool_call>",
    f"\nhm\n{NOW}\n",
    f"{NOW}<tool_response>\n",
    "so long that a short budget ends it",
]


@pytest.mark.parametrize("settings_", SETTINGS, ids=label)
@pytest.mark.parametrize("thought", THOUGHTS, ids=repr)
def test_a_turn_can_be_taken_up_where_it_was_split(settings_: dict[str, Any], thought: str) -> None:
    """What follows a tag is allowed by the rest of the grammar exactly if the whole is allowed by all of it."""
    grammar = TurnGrammar(TOOLS, reasoning="on", **settings_)
    for rest in RESTS:
        for gap in ("", "\n", "\n\n\n\n", "\n\n\n\n\n"):
            behind = f"{thought}</think>{gap}{rest}"
            whole = grammar.accepts(f"<think>{behind}")
            assert grammar.in_thought().accepts(behind) == whole
            if grammar.accepts(f"<think>a</think>{gap}{rest}"):
                assert grammar.after_thought().accepts(f"{gap}{rest}")
            else:
                assert not grammar.after_thought().accepts(f"{gap}{rest}")


@pytest.mark.parametrize("mode", ["on", "off", "auto"])
def test_what_the_mode_said_before_does_not_count_any_more(mode: Any) -> None:
    grammar = TurnGrammar(TOOLS, reasoning=mode)
    assert grammar.in_thought() == TurnGrammar(TOOLS, reasoning="on").in_thought()
    assert grammar.after_thought() == TurnGrammar(TOOLS, reasoning="on", inline=True).after_thought()
    assert grammar.in_thought().accepts(f"hm</think>{NOW}")
    assert grammar.after_thought().accepts(NOW)
    assert not grammar.after_thought().accepts("<think>hm</think>\na")


def test_derived_grammars_are_kept_and_have_keys_of_their_own() -> None:
    grammar = TurnGrammar(TOOLS, reasoning="on")
    rest, behind = grammar.in_thought(), grammar.after_thought()
    assert rest is grammar.in_thought()
    assert rest is rest.in_thought()
    assert behind is grammar.after_thought()
    assert behind == rest.after_thought()
    assert len({grammar.key, rest.key, behind.key}) == 3
    assert (rest.place, rest.tools, rest.output) == ("in_thought", grammar.tools, grammar.output)
    assert rest.warnings == ()
    with pytest.raises(ConfigurationError, match="behind the thoughts"):
        behind.in_thought()


def test_a_thought_may_end_with_a_call_that_is_run_inside_of_it() -> None:
    grammar = TurnGrammar(TOOLS, reasoning="on", inline=True)
    assert grammar.accepts(f"<think>\nWhat time is it?\n{NOW}")
    assert grammar.in_thought().accepts(f"So.\n{NOW}")
    assert grammar.in_thought().accepts("So.\n</think>\nNoon.")
    for wrong in (f"<think>a{NOW}", f"<think>\n{NOW}\n", f"<think>\n{NOW}\n{NOW}", f"<think>\n{NOW}</think>a"):
        assert not grammar.accepts(wrong)
    assert not TurnGrammar(TOOLS, reasoning="on").accepts(f"<think>\n{NOW}")
    assert not grammar.after_thought().accepts(f"hm\n{NOW}\n</think>a")
    assert TurnGrammar(TOOLS, reasoning="auto", inline=True).accepts("Noon.")


def test_inline_says_nothing_where_nothing_may_be_called() -> None:
    assert TurnGrammar(reasoning="on", inline=True) == TurnGrammar(reasoning="on")
    assert TurnGrammar(TOOLS, tool_choice="none", inline=True) == TurnGrammar()
    assert TurnGrammar(TOOLS, reasoning="on", inline=True) != TurnGrammar(TOOLS, reasoning="on")


def test_a_budget_of_thoughts_holds_in_the_rest_as_well() -> None:
    rest = TurnGrammar(TOOLS, reasoning="on", inline=True, bounds=Bounds(thought=10)).in_thought()
    assert rest.accepts("short</think>a")
    assert not rest.accepts("far too long</think>a")
    assert not rest.accepts(f"far too long\n{NOW}")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(("\n", " ", "a", NOW, "<tool_call>", "<Tool_Call", "</tool_call>")), max_size=4))
def test_a_thought_that_ends_with_a_call_is_read_as_one(thought: list[str]) -> None:
    text = f"<think>{''.join(thought)}{NOW}"
    if TurnGrammar(TOOLS, reasoning="on", inline=True).accepts(text):
        turn = parse(f"{text}\n</think>\nb", tools=TOOLS)
        assert [call.name for call in turn.reasoning_calls] == ["now"]
        assert not turn.faults
    else:
        assert not thought or thought[-1] != "\n" or len(thought) > 1


# Real vocabularies.


def _engine(folder: Path, eos: str) -> tuple[Any, LLTokenizer]:
    make: Any = PreTrainedTokenizerFast  # transformers types neither its making nor its methods in full
    tokenizer = make(tokenizer_file=str(folder / "tokenizer.json"), eos_token=eos)
    return tokenizer, hf.from_tokenizer(tokenizer)


@pytest.fixture(scope="module", params=["qwen3", "llama3"])
def vocabulary(request: pytest.FixtureRequest) -> tuple[Any, LLTokenizer]:
    """Tags as one token each, and as ordinary text."""
    eos = {"qwen3": "<|im_end|>", "llama3": "<|eot_id|>"}
    return _engine(request.getfixturevalue(f"{request.param}_folder"), eos[request.param])


@pytest.mark.parametrize("settings_", SETTINGS, ids=label)
def test_each_spelling_of_the_tags_says_the_same(
    settings_: dict[str, Any], vocabulary: tuple[Any, LLTokenizer]
) -> None:
    tokenizer, engine = vocabulary
    tags = Tags.of(tokenizer)
    whole = TurnGrammar(TOOLS, reasoning="auto", **settings_)
    texts = [NOW, "true", f"hm\n{NOW}", f"hm\n</think>\n{NOW}", "hm</think>true", "\ntrue"]
    for grammar in (whole, whole.in_thought(), whole.after_thought()):
        for text in (*texts, *(f"<think>\n{text}" for text in texts if grammar is whole)):
            matcher = LLMatcher(engine, grammar.lark(tags), log_level=0)
            assert not matcher.is_error(), matcher.get_error()
            ids = tokenizer.encode(text, add_special_tokens=False)
            read = matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()
            assert read == grammar.accepts(text), text
