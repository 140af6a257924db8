"""The 58 ways in which Hermes turns go wrong, each read right, whole and in pieces of any size.

The numbers are those of the project's failure catalogue; the names say what is wrong.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from hermes_agent.events import ArgumentsDelta, CallCompleted, CallStarted, TextDelta
from hermes_agent.formats.deltas import CallDeltas
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.formats.parser import TurnParser, parse
from hermes_agent.formats.prompt import render
from hermes_agent.formats.repair import ALL_REPAIRS, DEFAULT_REPAIRS
from hermes_agent.messages import AssistantMessage, Message, SystemMessage, ToolCall, ToolMessage, UserMessage
from hermes_agent.output import JsonSchema, Output
from hermes_agent.tool import Tool, ToolArgumentsError
from hermes_agent.turn import CallPart, Fault, TextPart, Turn
from tests.parsing import chunkings, read, stream


def only(turn: Turn) -> ToolCall:
    """The one call of a turn that has nothing else."""
    assert not turn.faults
    assert turn.text == ""
    (call,) = turn.tool_calls
    return call


def made(turn: Turn) -> list[tuple[str, dict[str, Any]]]:
    return [(call.name, call.arguments) for call in turn.tool_calls]


def kinds(turn: Turn) -> list[str]:
    return [fault.kind for fault in turn.faults]


def test_class_01_closing_tag_inside_a_string() -> None:
    text = '<tool_call>\n{"name": "edit", "arguments": {"content": "a </tool_call> b"}}\n</tool_call>'
    call = only(read(text))
    assert (call.name, call.arguments, call.repairs) == ("edit", {"content": "a </tool_call> b"}, ())


def test_class_02_opening_tag_inside_a_string() -> None:
    text = '<tool_call>\n{"name": "edit", "arguments": {"content": "see <tool_call> tag"}}\n</tool_call>'
    assert only(read(text)).arguments == {"content": "see <tool_call> tag"}


def test_class_03_arguments_before_name() -> None:
    text = '<tool_call>\n{"arguments": {"symbol": "TSLA"}, "name": "search"}\n</tool_call>'
    call = only(read(text))
    assert (call.name, call.arguments, call.repairs) == ("search", {"symbol": "TSLA"}, ())


def test_class_04_name_among_the_arguments() -> None:
    text = '<tool_call>\n{"arguments": {"name": "Bob"}, "name": "greet"}\n</tool_call>'
    call = only(read(text))
    assert (call.name, call.arguments) == ("greet", {"name": "Bob"})


def test_class_05_python_dict() -> None:
    text = "<tool_call>\n{'arguments': {'symbol': 'TSLA'}, 'name': 'search'}\n</tool_call>"
    call = only(read(text))
    assert (call.name, call.arguments, call.repairs) == ("search", {"symbol": "TSLA"}, ("python_literal",))
    turn = read(text, repairs=DEFAULT_REPAIRS - {"python_literal"})
    assert kinds(turn) == ["malformed"]
    assert turn.tool_calls == ()


def test_class_06_python_literals_and_apostrophe() -> None:
    text = "<tool_call>{'name': 'search', 'arguments': {'q': \"it's sunny\", 'active': True, 'n': None}}</tool_call>"
    call = only(read(text))
    assert call.arguments == {"q": "it's sunny", "active": True, "n": None}
    assert call.repairs == ("python_literal",)


def test_class_07_apostrophe_in_valid_json() -> None:
    call = only(read('<tool_call>{"name":"search","arguments":{"query":"what\'s the weather"}}</tool_call>'))
    assert (call.arguments, call.repairs) == ({"query": "what's the weather"}, ())


def test_class_08_arguments_are_a_string() -> None:
    text = r'<tool_call>{"name": "f", "arguments": "{\n  \"param\": \"max_connections\"\n}"}</tool_call>'
    call = only(read(text))
    assert (call.arguments, call.repairs) == ({"param": "max_connections"}, ("arguments_as_string",))
    assert kinds(read('<tool_call>{"name": "f", "arguments": "max_connections"}</tool_call>')) == ["malformed"]


def test_class_09_parameters_key() -> None:
    call = only(read('<tool_call>{"name": "f", "parameters": {"x": 1}}</tool_call>'))
    assert (call.arguments, call.repairs) == ({"x": 1}, ("parameters_key",))


def test_class_10_args_key() -> None:
    text = (
        '<tool_call>\n{"name": "ha_call_service", "args": {"action": "turn_off", "device_id": "light.salon"}}\n'
        "</tool_call>"
    )
    call = only(read(text))
    assert call.arguments == {"action": "turn_off", "device_id": "light.salon"}
    assert call.repairs == ("args_key",)
    turn = read(text, repairs=())
    assert (turn.tool_calls, kinds(turn), turn.faults[0].name) == ((), ["malformed"], "ha_call_service")


def test_class_11_no_arguments() -> None:
    call = only(read('<tool_call>{"name": "get_time"}</tool_call>'))
    assert (call.name, call.arguments, call.repairs) == ("get_time", {}, ("missing_arguments",))
    # Arguments beside the name are there, only not where they belong: running with none would be a guess.
    turn = read('<tool_call>{"name": "get_time", "tz": "B"}</tool_call>')
    assert (turn.tool_calls, kinds(turn)) == ((), ["malformed"])


def test_class_12_empty_object_in_a_stream() -> None:
    text = '<tool_call>\n{"name": "sql_db_list_tables", "arguments": {}}\n</tool_call>'
    assert only(read(text)).arguments == {}
    for chunks in chunkings(text):
        _, events = stream(chunks)
        told = "".join(e.text for e in events if isinstance(e, ArgumentsDelta))
        assert json.loads(told)["arguments"] == {}
    deltas = CallDeltas(["sql_db_list_tables"])
    deltas.add(0, id="call_1", name="sql_db_list_tables")
    assert deltas.finish("stop") == (
        ToolCall("sql_db_list_tables", {}, "call_1", "", ("missing_arguments",)),
    )  # fmt: skip
    # On a stream that did not finish they were perhaps still to come, whatever the tool takes.
    for reason in ("length", None):
        (fault,) = deltas.finish(reason)
        assert isinstance(fault, Fault)
        assert (fault.kind, fault.name, fault.raw) == ("truncated", "sql_db_list_tables", "")


def test_class_13_null_arguments() -> None:
    call = only(read('<tool_call>{"name": "get_time", "arguments": null}</tool_call>'))
    assert (call.arguments, call.repairs) == ({}, ("null_arguments",))


def test_class_14_outer_brace_missing() -> None:
    text = '<tool_call>{"name": "terminal", "arguments": {"command": "ls -la"}</tool_call>'
    call = only(read(text))
    assert (call.name, call.arguments, call.repairs) == ("terminal", {"command": "ls -la"}, ("missing_brace",))
    assert kinds(read(text, repairs=DEFAULT_REPAIRS - {"missing_brace"})) == ["malformed"]


def test_class_15_brace_too_many() -> None:
    call = only(read('<tool_call>{"name": "get_time", "arguments": {"tz": "B"}}}</tool_call>'))
    assert (call.arguments, call.repairs) == ({"tz": "B"}, ("extra_brace",))


@pytest.mark.parametrize("reason", ["stop", None])
def test_class_16_no_closing_tag_at_the_end(reason: str | None) -> None:
    text = '<tool_call>{"name": "get_weather", "arguments": {"location": "NYC"}}'
    call = only(read(text, reason))
    assert (call.arguments, call.repairs) == ({"location": "NYC"}, ("missing_close",))


def test_class_16_no_closing_tag_and_cut_off() -> None:
    turn = read('<tool_call>{"name": "get_weather", "arguments": {"location": "NYC"}}', "length")
    assert (turn.tool_calls, kinds(turn), turn.faults[0].name) == ((), ["truncated"], "get_weather")


@pytest.mark.parametrize("reason", ["stop", "length", None])
def test_class_17_cut_off_in_the_arguments(reason: str | None) -> None:
    turn = read('<tool_call>{"name": "get_weather", "arguments": {"loc', reason)
    assert (turn.tool_calls, turn.text, kinds(turn)) == ((), "", ["truncated"])
    assert turn.faults[0].name == "get_weather"


def test_class_18_second_call_cut_off() -> None:
    text = (
        'I\'ll start…!<tool_call>{"name": "get_weather", "arguments": {"location": "Boston"}}</tool_call>'
        '<tool_call>{"name": "get_weather", "arguments": {"location": "New York'
    )
    turn = read(text, "length")
    assert turn.text == "I'll start…!"
    assert made(turn) == [("get_weather", {"location": "Boston"})]
    assert kinds(turn) == ["truncated"]


def test_class_19_second_call_is_garbage() -> None:
    text = '<tool_call>{"name": "f", "arguments": {"location": "Boston"}}</tool_call>\n<tool_call>oops</tool_call>'
    turn = read(text)
    assert made(turn) == [("f", {"location": "Boston"})]
    assert kinds(turn) == ["malformed"]
    assert turn.text == ""


def test_class_20_no_opening_tag() -> None:
    text = '</think>{"name":"terminal","arguments":{"command":"ls"}}</tool_call>'
    turn = read(text, tools=["terminal"])
    call = only(turn)
    assert (call.name, call.arguments, call.repairs) == ("terminal", {"command": "ls"}, ("orphan_close",))
    assert (turn.reasoning, turn.repairs) == ("", ("orphan_think_close",))
    # Nothing is made of it where the tool is not known, but neither is it taken for a clean answer.
    for tools in (["other"], [], None):
        turn = read(text, tools=tools)
        assert (turn.tool_calls, kinds(turn)) == ((), ["malformed"])


def test_class_20_no_opening_tag_after_prose() -> None:
    turn = read('I look.\n{"name": "ls", "arguments": {}}\n</tool_call>', tools=["ls"])
    assert (turn.text, made(turn), turn.faults) == ("I look.", [("ls", {})], ())


def test_class_21_bare_json() -> None:
    one = '{"name": "search", "arguments": {"query": "北京今天的天气"}}'
    recover = DEFAULT_REPAIRS | {"bare_json"}
    call = only(read(one, tools=["search"], repairs=recover))
    assert (call.arguments, call.repairs) == ({"query": "北京今天的天气"}, ("bare_json",))
    turn = read(f"{one}\n{one}\n", tools=["search"], repairs=recover)
    assert [name for name, _ in made(turn)] == ["search", "search"]
    unwanted: list[dict[str, Any]] = [
        {}, {"tools": ["search"]}, {"tools": ["find"], "repairs": recover}, {"repairs": recover},
    ]  # fmt: skip
    for options in unwanted:
        turn = read(one, **options)
        assert (turn.tool_calls, turn.text, turn.faults) == ((), one, ())


def test_class_22_json_that_is_an_answer() -> None:
    answer = '{"name": "search", "arguments": {"date": "Friday"}}'
    typed = Output.of(JsonSchema({"type": "object"}))
    given: list[tuple[str, dict[str, Any]]] = [
        (answer, {"tools": []}),
        (answer, {"tools": ["search"], "output": typed}),
        (f"Use this:\n```json\n{answer}\n```", {"tools": ["search"]}),
        (f"{answer}\nThat is how.", {"tools": ["search"]}),
        (f"Like so:\n{answer}", {"tools": ["search"]}),
    ]
    for text, options in given:
        turn = read(text, repairs=ALL_REPAIRS, **options)
        assert (turn.tool_calls, turn.text, turn.faults) == ((), text, ())


def test_class_22_tags_in_a_typed_answer_are_characters() -> None:
    text = '{"about": "<tool_call>{\\"name\\": 1}</tool_call>, <think>, <tool_response> and <toolcall>"}'
    turn = read(text, tools=["search"], output=Output.of(JsonSchema({"type": "object"})))
    assert (turn.text, turn.faults, turn.reasoning) == (text, (), None)


def test_class_23_two_calls_in_one_pair() -> None:
    text = (
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n'
        '{"name": "get_time", "arguments": {}}\n</tool_call>'
    )
    turn = read(text)
    assert made(turn) == [("get_weather", {"city": "Rome"}), ("get_time", {})]
    assert {call.repairs for call in turn.tool_calls} == {("several_calls",)}
    assert turn.faults == ()
    assert kinds(read(text, repairs=DEFAULT_REPAIRS - {"several_calls"})) == ["malformed"]


def test_class_24_array_in_one_pair() -> None:
    text = '<tool_call>\n[{"name": "a", "arguments": {"x": [1]}}, {"name": "b", "arguments": {}}]\n</tool_call>'
    turn = read(text)
    assert made(turn) == [("a", {"x": [1]}), ("b", {})]
    assert turn.tool_calls[0].raw == '{"name": "a", "arguments": {"x": [1]}}'
    assert turn.tool_calls[0].repairs == ("call_array",)


def test_class_25_no_closing_tag_between_calls() -> None:
    text = '<tool_call>{"name": "a", "arguments": {}}<tool_call>{"name": "b", "arguments": {"x": 1}}</tool_call>'
    turn = read(text)
    assert made(turn) == [("a", {}), ("b", {"x": 1})]
    assert [call.repairs for call in turn.tool_calls] == [("missing_closer_between",), ()]


def test_class_26_tags_on_one_line() -> None:
    call = only(read('<tool_call>{"name":"f","arguments":{}}</tool_call>'))
    assert (call.name, call.repairs) == ("f", ())


def test_class_27_parallel_calls_in_a_stream() -> None:
    text = (
        '<tool_call>\n{"name": "a", "arguments": {"x": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "b", "arguments": {"x": 2}}\n</tool_call>'
    )
    assert made(read(text)) == [("a", {"x": 1}), ("b", {"x": 2})]
    for chunks in chunkings(text):
        turn, events = stream(chunks)
        assert [(e.index, e.name) for e in events if isinstance(e, CallStarted)] == [(0, "a"), (1, "b")]
        assert [e.index for e in events if isinstance(e, CallCompleted)] == [0, 1]
        for index, call in enumerate(turn.tool_calls):
            told = "".join(e.text for e in events if isinstance(e, ArgumentsDelta) and e.index == index)
            assert told == call.raw


def test_class_28_deltas_without_ids() -> None:
    deltas = CallDeltas(["a", "b"])
    deltas.add(0, id="call_0", name="a")
    deltas.add(1, id="call_1", name="b", arguments='{"y"')
    deltas.add(0, id=None, name="", arguments='{"x": ')
    deltas.add(1, arguments=": 2}")
    deltas.add(0, id=None, name="a", arguments="1}")
    assert deltas.finish("stop") == (
        ToolCall("a", {"x": 1}, "call_0", '{"x": 1}'),
        ToolCall("b", {"y": 2}, "call_1", '{"y": 2}'),
    )


def test_class_29_everything_sent_twice() -> None:
    deltas = CallDeltas(["skills_list"])
    deltas.add(0, name="skills_listskills_list", arguments='{"category":"research"}{"category":"research"}')
    (call,) = deltas.finish("stop")
    assert isinstance(call, ToolCall)
    assert (call.name, call.arguments, call.repairs) == (
        "skills_list", {"category": "research"}, ("repeated_delta",),
    )  # fmt: skip
    # In a turn's text nothing is folded: such a tool is unknown, and two equal calls are two calls.
    twice = '<tool_call>{"name": "skills_list", "arguments": {}}</tool_call>' * 2
    assert len(read(twice, tools=["skills_list"]).tool_calls) == 2
    doubled = twice.replace("skills_list", "skills_listskills_list")
    assert kinds(read(doubled, tools=["skills_list"])) == ["unknown_tool", "unknown_tool"]


def test_class_30_brace_inside_a_string() -> None:
    text = '<tool_call>{"name": "terminal", "arguments": {"command": "mkdir -p test/{test1,test2"}}</tool_call>'
    call = only(read(text))
    assert (call.arguments, call.repairs) == ({"command": "mkdir -p test/{test1,test2"}, ())


def test_class_31_brackets_are_closed_innermost_first() -> None:
    call = only(read('<tool_call>{"name": "f", "arguments": {"a": [1, 2</tool_call>'))
    assert (call.arguments, call.repairs) == ({"a": [1, 2]}, ("missing_brace",))
    # A string that never ends is not closed for the model: what it was going to hold is not known.
    for reason in ("stop", "length", None):
        turn = read('<tool_call>{"name": "f", "arguments": {"content": "hello } world</tool_call>', reason)
        assert (turn.tool_calls, kinds(turn)) == ((), ["truncated"])


def test_class_32_raw_newline_in_a_string() -> None:
    text = '<tool_call>{"name": "write_file", "arguments": {"content": "line1\nline2\tx"}}</tool_call>'
    call = only(read(text))
    assert (call.arguments, call.repairs) == ({"content": "line1\nline2\tx"}, ("control_characters",))
    assert kinds(read(text, repairs=())) == ["malformed"]


def test_class_33_unescaped_quotes() -> None:
    broken = (
        '<tool_call>{"name": "w", "arguments": {"path": "a.py", "content": "env.get("KEY", "default")"}}</tool_call>'
    )
    turn = read(f'{broken}\n<tool_call>{{"name": "ok", "arguments": {{}}}}</tool_call>', repairs=ALL_REPAIRS)
    assert kinds(turn) == ["malformed"]
    assert turn.faults[0].raw == broken
    assert made(turn) == [("ok", {})]


def test_class_34_trailing_comma() -> None:
    call = only(read('<tool_call>{"name": "f", "arguments": {"tz": "B",}}</tool_call>'))
    assert (call.arguments, call.repairs) == ({"tz": "B"}, ("trailing_comma",))
    for nothing in ('{"name": "f", "arguments": {,}}', '{"name": "f", "arguments": {"a": [,]}}'):
        assert kinds(read(f"<tool_call>{nothing}</tool_call>")) == ["malformed"]


def test_class_35_code_fence_inside_the_tags() -> None:
    call = only(read('<tool_call>\n```json\n{"name": "f", "arguments": {"x": 1}}\n```\n</tool_call>'))
    assert (call.arguments, call.repairs) == ({"x": 1}, ("code_fence",))


def test_class_36_openai_envelope() -> None:
    inner = '{"name": "f", "arguments": {"x": 1}}'
    call = only(read(f'<tool_call>{{"type": "function", "function": {inner}}}</tool_call>'))
    assert (call.name, call.arguments, call.repairs) == ("f", {"x": 1}, ("openai_envelope",))
    text = r'<tool_call>{"type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}</tool_call>'
    assert only(read(text)).repairs == ("openai_envelope", "arguments_as_string")


def test_class_37_call_in_the_thinking_and_again_outside() -> None:
    text = (
        '<think>let me call A <tool_call>{"name": "A", "arguments": {}}</tool_call></think>\n'
        '<tool_call>{"name": "A", "arguments": {}}</tool_call>'
    )
    for policy in ("ignore", "use"):
        turn = read(text, reasoning_calls=policy)
        assert made(turn) == [("A", {})]
        assert turn.reasoning == 'let me call A <tool_call>{"name": "A", "arguments": {}}</tool_call>'
        assert len(turn.reasoning_calls) == 1


def test_class_38_call_only_in_the_thinking() -> None:
    text = '<think>\nNow.\n<tool_call>\n{"name": "A", "arguments": {"x": 1}}\n</tool_call>\n</think>\n'
    turn = read(text)
    assert (turn.tool_calls, turn.text, turn.faults) == ((), "", ())
    assert [(call.name, call.arguments) for call in turn.reasoning_calls] == [("A", {"x": 1})]
    assert made(read(text, reasoning_calls="use")) == [("A", {"x": 1})]
    assert kinds(read(text, reasoning_calls="use", tools=["B"])) == ["unknown_tool"]


def test_class_39_call_closes_the_thinking() -> None:
    text = '<think>\nI should call it.\n<tool_call>\n{"name": "A", "arguments": {}}\n</tool_call>'
    turn = read(text)
    assert (turn.reasoning, made(turn), turn.faults) == ("I should call it.", [("A", {})], ())
    assert turn.repairs == ("unclosed_think",)
    # If the thinking goes on behind the call, the call was a thought.
    turn = read(f"{text}\nBut wait,")
    assert (turn.tool_calls, len(turn.reasoning_calls), kinds(turn)) == ((), 1, ["truncated"])


def test_class_40_reasoning_that_is_an_answer() -> None:
    # What a server's reasoning parser took for thinking holds no tags: read as a turn, it is an answer.
    turn = read('It is 12 °C.\n<tool_call>{"name": "A", "arguments": {}}</tool_call>')
    assert (turn.reasoning, turn.text, made(turn)) == (None, "It is 12 °C.", [("A", {})])
    # Where the prompt did open the block, everything up to the closing tag is thinking.
    turn = read("\nHm.\n</think>\n\nIt is 12 °C.", reasoning_open=True)
    assert (turn.reasoning, turn.text, turn.faults) == ("Hm.", "It is 12 °C.", ())
    turn = read("It is 12 °C.", reasoning_open=True)
    assert (turn.reasoning, turn.text, kinds(turn)) == ("It is 12 °C.", "", ["truncated"])


def test_class_41_thinking_in_the_content() -> None:
    turn = read("<think>\nHm.\n</think>\n\nI look it up.")
    assert (turn.reasoning, turn.text) == ("Hm.", "I look it up.")


def test_class_42_tags_stripped_by_the_server() -> None:
    text = '\n{"name": "f", "arguments": {"x": 1}}\n'
    turn = read(text, tools=["f"], repairs=DEFAULT_REPAIRS | {"bare_json"})
    assert made(turn) == [("f", {"x": 1})]
    assert read(text, tools=["f"]).text == text


def test_class_43_text_around_calls() -> None:
    text = 'Before.\n<tool_call>{"name": "f", "arguments": {}}</tool_call>\nAfter text.'
    turn = read(text)
    assert turn.text == "Before.\nAfter text."
    assert [type(part) for part in turn.parts] == [TextPart, CallPart, TextPart]
    assert [text[part.span[0] : part.span[1]] for part in turn.parts if isinstance(part, TextPart)] == [
        "Before.",
        "After text.",
    ]


def test_class_44_unknown_tool_among_others() -> None:
    text = (
        '<tool_call>\n{"name": "nope", "arguments": {}}\n</tool_call>\n'
        '<tool_call>\n{"name": "get_time", "arguments": {"tz": "B"}}\n</tool_call>'
    )
    turn = read(text, tools=["get_time"])
    assert made(turn) == [("nope", {}), ("get_time", {"tz": "B"})]
    assert [type(part) for part in turn.parts] == [CallPart, Fault, CallPart]
    assert (kinds(turn), turn.faults[0].name, turn.text) == (["unknown_tool"], "nope", "")
    assert read(text).faults == ()


@pytest.mark.parametrize(
    "arguments",
    [
        '{"search_request": {"query": "x", "retrieval_method": "rrf"}}',
        '{"numbers": [{"number": "1"}, {"number": "2"}]}',
        '{"a": {"b": {"c": [[], {}, [{}]]}}}',
    ],
)
def test_class_45_nested_arguments_in_chunks(arguments: str) -> None:
    text = f'<tool_call>\n{{"name": "f", "arguments": {arguments}}}\n</tool_call>'
    assert only(read(text)).arguments == json.loads(arguments)


def test_class_46_joined_deltas_are_the_arguments() -> None:
    text = '<tool_call>\n{"name": "f", "arguments": {"a": "x", "b": [1, {"c": null}]}}\n</tool_call>'
    whole = only(parse(text))
    for chunks in chunkings(text):
        turn, events = stream(chunks)
        assert "".join(e.text for e in events if isinstance(e, ArgumentsDelta)) == whole.raw == turn.tool_calls[0].raw


def test_class_47_no_part_of_a_tag_is_told_as_text() -> None:
    text = 'One moment. <tool_call>{"name": "f", "arguments": {}}</tool_call> Done <b>now</b>.'
    for chunks in chunkings(text):
        _, events = stream(chunks)
        assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "One moment.\nDone <b>now</b>."
    parser = TurnParser()
    assert parser.feed("Hello <tool_c") == [TextDelta("Hello")]
    assert parser.feed("ase>") == [TextDelta(" <tool_case>")]


def test_class_48_calls_in_plain_content() -> None:
    # A gateway returns the tags in ``content``; nothing but that text is needed to read them.
    assert only(read('<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>')).arguments == {"x": 1}


def test_class_49_unicode() -> None:
    text = (
        'Schon dabei: 東京\n<tool_call>{"name": "f", "arguments": {"location": "Tōkyō \\"central\\""}}</tool_call>\n'
        '<tool_call>{"name": "f", "arguments": {"q": "\\ud83d\\ude00 caf\\u00e9"}}</tool_call>'
    )
    turn = read(text)
    assert made(turn) == [("f", {"location": 'Tōkyō "central"'}), ("f", {"q": "😀 café"})]
    half = read('<tool_call>{"name": "f", "arguments": {"q": "\\ud83d"}}</tool_call>')
    assert (half.tool_calls, kinds(half)) == ((), ["malformed"])


def test_class_50_type_mismatch_is_not_a_parse_error() -> None:
    heater = Tool.from_schema(
        name="heat", description="", parameters={"type": "object", "properties": {"celsius": {"type": "integer"}}}
    )
    call = only(read('<tool_call>{"name": "heat", "arguments": {"celsius": "warm"}}</tool_call>', tools=[heater]))
    assert call.arguments == {"celsius": "warm"}
    with pytest.raises(ToolArgumentsError, match="celsius"):
        heater.validate(call.arguments)


@pytest.mark.parametrize(
    "body",
    [
        '{"name": "f", "arguments": {"x": NaN}}',
        '{"name": "f", "arguments": {"x": -Infinity}}',
        '{"name": "f", "arguments": {"x": 1e999}}',
        '{"name": "f", "name": "A", "arguments": {}}',
        '{"name": "f", "arguments": {"x": 1, "x": 2}}',
        "{'name': 'f', 'arguments': {'x': 1, 'x': 2}}",
        '{"name": "f", "arguments": {"x": ' + "9" * 5000 + "}}",
    ],
    ids=["NaN", "Infinity", "overflow", "two names", "two keys", "two python keys", "5000 digits"],
)
def test_class_51_numbers_and_keys_that_json_does_not_have(body: str) -> None:
    turn = read(f"<tool_call>{body}</tool_call>")
    assert (turn.tool_calls, kinds(turn)) == ((), ["malformed"])


def test_class_51_big_integers_are_exact() -> None:
    number = 2**200 + 1
    call = only(read(f'<tool_call>{{"name": "f", "arguments": {{"x": {number}, "y": 1.0}}}}</tool_call>'))
    assert call.arguments == {"x": number, "y": 1.0}
    assert [type(value) for value in call.arguments.values()] == [int, float]


@pytest.mark.parametrize(
    "text",
    [
        "<toolcall><shell>{}</shell></toolcall>",
        "<function><name>f</name><arguments>{}</arguments></function>",
        "<function=f><parameter=x>1</parameter></function>",
        "<tool_call>\n<function=f>\n<parameter=x>\n1\n</parameter>\n</function>\n</tool_call>",
        '[TOOL_CALL]{tool => "skills_list", args => {}}[/TOOL_CALL]',
        '<TOOL_CALL>{"name": "f", "arguments": {}}</TOOL_CALL>',
        '<tool_call id="1">{"name": "f", "arguments": {}}</tool_call>',
        '<tool_calls>{"name": "f", "arguments": {}}</tool_calls>',
        '<functioncall> {"name": "f", "arguments": {}}',
    ],
)
def test_class_52_tags_that_are_nearly_right(text: str) -> None:
    turn = read(f"Let me see.\n{text}", tools=["f"])
    assert (turn.tool_calls, turn.text, kinds(turn)) == ((), "Let me see.", ["unrecognised_tag"])
    assert turn.faults[0].raw == text


def test_class_52_function_tag_on_request() -> None:
    tool = Tool.from_schema(
        name="f",
        description="",
        parameters={"type": "object", "properties": {"n": {"type": "integer"}, "s": {"type": "string"}}},
    )
    inner = "<function=f>\n<parameter=n>\n1\n</parameter>\n<parameter=s>\n<b>\n2\n</parameter>\n</function>"
    for text in (inner, f"<tool_call>\n{inner}\n</tool_call>"):
        call = only(read(text, tools=[tool], repairs=ALL_REPAIRS))
        assert (call.name, call.arguments, call.repairs) == ("f", {"n": 1, "s": "<b>\n2"}, ("function_tag",))


def test_class_53_html_in_arguments() -> None:
    call = only(read('<tool_call>{"name":"edit","arguments":{"html":"<b>1 < 2 & 3</b>"}}</tool_call>'))
    assert call.arguments == {"html": "<b>1 < 2 & 3</b>"}


def test_class_54_arguments_by_name() -> None:
    def minus(a: int, b: int) -> int:
        return a - b

    call = only(read('<tool_call>{"name": "minus", "arguments": {"b": 1, "a": 2}}</tool_call>', tools=[minus]))
    tool = Tool.of(minus)
    assert minus(**tool.validate(call.arguments)) == 1
    with pytest.raises(ToolArgumentsError):
        tool.validate({"a": 1, "b": 2, "c": 3})


def test_class_55_made_up_tool_response() -> None:
    call = '<tool_call>\n{"name": "f", "arguments": {"x": "<tool_response>"}}\n</tool_call>'
    text = f"{call}\n<tool_response>\n42\n</tool_response>\nThe answer is 42."
    turn = read(text, tools=["f"])
    assert made(turn) == [("f", {"x": "<tool_response>"})]
    assert (turn.text, turn.repairs, turn.faults) == ("", ("tool_response",), ())
    # In an open thinking block as well: what was thought about a made-up result is not used.
    turn = read(f"<think>\n{text}\n</think>\nIt is 42.", tools=["f"])
    assert made(turn) == [("f", {"x": "<tool_response>"})]
    assert turn.text == ""


def test_class_56_history_renders_whatever_it_holds() -> None:
    messages: list[Message] = [
        UserMessage("Hi"),
        AssistantMessage(tool_calls=(ToolCall("f", {}),)),
        ToolMessage("ok", name="f"),
        AssistantMessage("Without any thinking."),
        UserMessage("And?"),
    ]
    for name in ("hermes-2-pro", "hermes-3", "hermes-4-14b", "hermes-4-70b"):
        prompt = render(messages, dialect=name, reasoning="on")
        assert "Without any thinking." in prompt
        assert "None" not in prompt


def test_class_57_thinking_before_a_typed_answer() -> None:
    schema = JsonSchema({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
    grammar = TurnGrammar(output=schema, reasoning="on")
    text = '<think>\nHm: {"n": "not yet"}\n</think>\n{"n": 1}'
    assert grammar.accepts(text)
    assert not grammar.accepts('{"n": 1}')
    turn = read(text, output=Output.of(schema))
    assert (turn.reasoning, turn.text, turn.faults) == ('Hm: {"n": "not yet"}', '{"n": 1}', ())


def test_class_58_tools_stand_in_our_own_prompt() -> None:
    tool = Tool.from_schema(
        name="get_time",
        description="The time.",
        parameters={"type": "object", "properties": {"tz": {"type": "string"}}},
    )
    prompt = render([SystemMessage("Be brief."), UserMessage("Hi")], dialect="hermes-4-14b", tools=[tool])
    assert '"name": "get_time"' in prompt
    assert "<tool_call>" in prompt


def test_the_catalogue_is_complete() -> None:
    numbers = {int(name.split("_")[2]) for name in globals() if name.startswith("test_class_")}
    assert numbers == set(range(1, 59))
