"""The structural tag says what the Lark form says, less what it lists, read by xgrammar's own matcher."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hermes_agent.errors import GrammarError
from hermes_agent.formats.dialects import dialect
from hermes_agent.formats.grammar import Tags, TurnGrammar
from hermes_agent.formats.parser import parse
from hermes_agent.formats.schema import Bounds, in_schema_order
from hermes_agent.formats.wire import dump_json, serialise_calls
from hermes_agent.json_schema import compile_schema
from hermes_agent.output import JsonSchema
from hermes_agent.reasoning import Mode
from hermes_agent.tool import Tool
from tests.naming import label
from tests.test_gbnf import ANSWERS, BEGINNINGS, CALLS, MARKUP, NOW, PARIS, SETTINGS, TOOLS, fewer, now
from tests.test_grammar_laws import UNBOUNDED, Case, cases, object_cases, pieced, repeats_a_key, turns
from tests.xgrammar_engine import accepts, compiled, walk, xgrammar


@pytest.mark.parametrize("settings_", SETTINGS, ids=label)
def test_the_tag_allows_the_same_turns_as_lark(settings_: dict[str, Any]) -> None:
    whole = TurnGrammar(TOOLS, **settings_)
    for grammar in (whole, whole.in_thought(), whole.after_thought()):
        engine = compiled(grammar.structural_tag())
        for text in (begin + rest for begin in BEGINNINGS for rest in (*ANSWERS, *CALLS, *MARKUP)):
            allowed = accepts(engine, text)
            if allowed != grammar.accepts(text):
                turn = parse(text, tools=TOOLS, reasoning_open=grammar.place == "in_thought")
                assert allowed, text
                assert not turn.text.strip(), text  # a blank answer, which is listed
                assert not turn.faults, text


@fewer
@given(cases, st.data())
def test_a_valid_value_is_accepted(case: Case, data: st.DataObject) -> None:
    schema, values = case
    value = data.draw(values)
    assume(not compile_schema(schema)(value))
    grammar = TurnGrammar((), JsonSchema(schema), bounds=UNBOUNDED)
    assert accepts(compiled(grammar.structural_tag()), dump_json(in_schema_order(value, schema)))


@fewer
@given(object_cases, turns, st.randoms(use_true_random=False))
def test_an_accepted_turn_is_read_without_a_fault(case: Case, settings_: dict[str, Any], random: Random) -> None:
    tool = Tool.from_schema(name="f", parameters=case[0])
    try:
        grammar = TurnGrammar([tool], **settings_, bounds=UNBOUNDED)
    except GrammarError:
        return
    # Free text may hold bytes that are no UTF-8, which servers write as U+FFFD.
    text = walk(compiled(grammar.structural_tag()), random, errors="replace")
    assume(text is not None)
    assert text is not None
    turn = parse(text, tools=[tool], output=grammar.output)
    repeated = any(repeats_a_key(call.raw) for call in turn.tool_calls) or "twice" in str(turn.faults)
    assume(not repeated)
    assert not turn.faults
    assert not turn.repairs
    for call in turn.tool_calls:
        assert not call.repairs
        if not _left(grammar):
            tool.validate(call.arguments)
    if not turn.tool_calls and not grammar.left_to_validation("structural_tag"):
        grammar.output.validate(turn.text)


def _left(grammar: TurnGrammar) -> list[str]:
    """What the tag does not say of arguments."""
    return [w for w in grammar.left_to_validation("structural_tag") if "markup" not in w and "blank" not in w]


@fewer
@given(object_cases, st.data())
def test_valid_calls_are_accepted(case: Case, data: st.DataObject) -> None:
    tool = Tool.from_schema(name="f", parameters=case[0])
    values = data.draw(st.lists(case[1], min_size=1, max_size=3))
    assume(all(not compile_schema(tool.parameters)(value) for value in values))
    text = serialise_calls([("f", in_schema_order(value, tool.parameters)) for value in values])
    assert accepts(compiled(TurnGrammar([tool], bounds=UNBOUNDED).structural_tag()), text)


_CALLS = TurnGrammar([now], reasoning="on", inline=True)
_ENGINE = compiled(_CALLS.structural_tag())


@settings(fewer, max_examples=200)
@given(pieced, st.sampled_from(("{}", "<think>{}</think>\nb", f"<think>\n{{}}{NOW}", f"<think>x</think>{{}}{NOW}")))
def test_what_lark_allows_as_text_and_thought_the_tag_allows(text: str, around: str) -> None:
    whole = around.replace("{}", text, 1)
    if _CALLS.accepts(whole):
        assert accepts(_ENGINE, whole)


def test_a_thought_can_be_bounded_in_characters_and_in_tokens() -> None:
    bounded = compiled(TurnGrammar(reasoning="on", bounds=Bounds(thought=20)).structural_tag())
    assert accepts(bounded, "<think>\nshort\n</think>\nb")
    assert not accepts(bounded, f"<think>{'long ' * 10}</think>\nb")
    matcher = xgrammar.GrammarMatcher(compiled(TurnGrammar(reasoning="on").structural_tag(thought_tokens=3)))
    allowed = [len(_allowed(matcher)) for byte in b"<think>abc" if matcher.accept_token(byte)]
    assert allowed[6:] == [256, 256, 256, 1]  # any byte, then that of the closing tag only
    assert _allowed(matcher) == [ord("<")]


def _allowed(matcher: Any) -> list[int]:
    mask = xgrammar.allocate_token_bitmask(1, 257)
    matcher.fill_next_token_bitmask(mask)
    return [code for code in range(257) if int(mask[0][code >> 5]) >> (code & 31) & 1]


def test_a_dialect_names_its_thinking_tags_and_stops() -> None:
    tags = Tags.text(dialect("hermes-3", think_open="<reflect>", think_close="</reflect>", stops=("STOP",)))
    engine = compiled(TurnGrammar(reasoning="on").structural_tag(tags))
    assert accepts(engine, "<reflect>a</reflect>b")
    assert not accepts(engine, "<reflect>a</reflect>STOP")
    assert not accepts(engine, "<think>a</think>b")


def test_the_tag_is_json() -> None:
    tag = TurnGrammar(TOOLS, reasoning="auto", inline=True).structural_tag()
    assert json.loads(json.dumps(tag)) == tag
    assert tag["type"] == "structural_tag"


# xgrammar's own form.

_CHOICES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"tool_choice": "required"}, {"tool_choice": "required"}),
    ({"parallel": False}, {"parallel_tool_calls": False}),
    ({"tool_choice": "required", "parallel": False}, {"tool_choice": "required", "parallel_tool_calls": False}),
    ({"tool_choice": "now"}, {"tool_choice": {"type": "function", "function": {"name": "now"}}}),
    ({"tool_choice": "none"}, {"tool_choice": "none"}),
]


@pytest.mark.parametrize("thinking", ["enabled", "disabled", "auto"])
@pytest.mark.parametrize(("ours", "theirs"), _CHOICES, ids=label)
def test_the_qwen_3_style_is_what_xgrammar_makes(ours: dict[str, Any], theirs: dict[str, Any], thinking: Any) -> None:
    tools = [Tool.of(tool) for tool in TOOLS]
    described = [{"type": "function", "function": {"name": t.name, "parameters": dict(t.parameters)}} for t in tools]
    made = xgrammar.get_model_structural_tag("qwen_3", tools=described, reasoning=thinking, **theirs)
    modes: dict[str, Mode] = {"enabled": "on", "disabled": "off", "auto": "auto"}
    grammar = TurnGrammar(tools, **ours, reasoning=modes[thinking])
    if thinking == "enabled":
        grammar = grammar.in_thought()
    tag = grammar.structural_tag(style="qwen_3")
    assert xgrammar.StructuralTag.from_json(tag) == made


def test_the_qwen_3_style_allows_what_the_own_allows() -> None:
    several: list[dict[str, Any]] = [{}, {"tool_choice": "required"}, {"parallel": False}, {"reasoning": "auto"}]
    for settings_ in several:
        grammar = TurnGrammar(TOOLS, **settings_)
        engine = compiled(grammar.structural_tag(style="qwen_3"))
        for text in ("hi", PARIS.replace("\x7f", ""), f"well\n{NOW}", f"{NOW}\n{NOW}", f"<think>a</think>\n\n{NOW}"):
            if grammar.accepts(text):
                assert accepts(engine, text), text


@pytest.mark.parametrize(
    ("settings_", "why"),
    [({"output": bool}, "typed answers"), ({"parallel": 2}, "any number"), ({"inline": True}, "inside of thoughts")],
)
def test_what_the_qwen_3_style_cannot_say_is_an_error(settings_: dict[str, Any], why: str) -> None:
    with pytest.raises(GrammarError, match=why):
        TurnGrammar(TOOLS, **settings_).structural_tag(style="qwen_3")
