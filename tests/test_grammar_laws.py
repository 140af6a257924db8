"""What the grammar allows the parser reads and the validation passes; what the validation passes it allows."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hermes_agent.errors import GrammarError
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.formats.parser import parse
from hermes_agent.formats.schema import in_schema_order
from hermes_agent.formats.wire import dump_json, serialise_calls
from hermes_agent.output import JsonSchema, Output
from hermes_agent.json_schema import compile_schema
from hermes_agent.tool import Tool
from tests.schemas import Case, cases, object_cases
from tests.walks import walk

law = settings(
    max_examples=int(__import__("os").environ.get("N","60")), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
)


def _tool(case: Case) -> Tool:
    return Tool.from_schema(name="f", parameters=case[0])


@law
@given(cases, st.data())
def test_a_valid_value_is_accepted(case: Case, data: st.DataObject) -> None:
    schema, values = case
    value = data.draw(values)
    assume(not compile_schema(schema)(value))
    grammar = TurnGrammar((), JsonSchema(schema))
    assert grammar.accepts(dump_json(in_schema_order(value, schema)))


@law
@given(cases, st.data())
def test_ordering_a_value_keeps_it(case: Case, data: st.DataObject) -> None:
    schema, values = case
    value = data.draw(values)
    try:
        arranged = in_schema_order(value, schema)
    except GrammarError:
        assert compile_schema(schema)(value)
        return
    assert arranged == value


@law
@given(cases, st.randoms(use_true_random=False))
def test_an_accepted_answer_is_valid(case: Case, random: Random) -> None:
    output = Output.of(JsonSchema(case[0]))
    try:
        grammar = TurnGrammar((), output)
    except GrammarError:
        return
    text = walk(grammar.lark(), random)
    assume(text is not None)
    assert text is not None
    assert grammar.accepts(text)
    turn = parse(text, output=output)
    assert not turn.faults
    assert turn.text == text
    if not grammar.warnings and not _repeats_a_key(text):
        output.validate(text)


def _repeats_a_key(text: str) -> bool:
    """Whether an object has one key twice: the one thing the mask cannot see."""
    import json

    found = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal found
        found = found or len({key for key, _ in pairs}) != len(pairs)

    json.loads(text, object_pairs_hook=look)
    return found


turns = st.fixed_dictionaries(
    {
        "tool_choice": st.sampled_from(("auto", "required", "none", "f")),
        "parallel": st.sampled_from((True, False, 2)),
        "reasoning": st.sampled_from(("on", "off", "auto")),
        "output": st.sampled_from((str, bool, list[int])),
    }
)


@law
@given(object_cases, turns, st.randoms(use_true_random=False))
def test_an_accepted_turn_is_read_without_a_fault(case: Case, settings_: dict[str, Any], random: Random) -> None:
    tool = _tool(case)
    try:
        grammar = TurnGrammar([tool], **settings_)
    except GrammarError:
        return
    text = walk(grammar.lark(), random)
    assume(text is not None)
    assert text is not None
    turn = parse(text, tools=[tool], output=grammar.output)
    repeated = any(_repeats_a_key(call.raw) for call in turn.tool_calls) or "twice" in str(turn.faults)
    assume(not repeated)
    assert not turn.faults
    assert not turn.repairs
    for call in turn.tool_calls:
        assert not call.repairs
        if not grammar.warnings:
            tool.validate(call.arguments)
    if not turn.tool_calls:
        grammar.output.validate(turn.text)
    assert (turn.reasoning is not None) in {"on": (True,), "off": (False,), "auto": (True, False)}[grammar.reasoning]
    limit = {True: 99, False: 1, 2: 2}[settings_["parallel"]]
    assert len(turn.tool_calls) <= limit


@law
@given(object_cases, st.data())
def test_valid_calls_are_accepted_and_read_back(case: Case, data: st.DataObject) -> None:
    tool = _tool(case)
    values = data.draw(st.lists(case[1], min_size=1, max_size=3))
    assume(all(not compile_schema(tool.parameters)(value) for value in values))
    ordered = [in_schema_order(value, tool.parameters) for value in values]
    text = serialise_calls([("f", value) for value in ordered])
    assert TurnGrammar([tool]).accepts(text)
    turn = parse(text, tools=[tool])
    assert not turn.faults
    assert [call.arguments for call in turn.tool_calls] == values
